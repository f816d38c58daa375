"""Opens the rooms: reads the charters, catches each ledger up, and finds what is in force in each."""

import random
from dataclasses import dataclass

from bot.room import Room
from bot.roster import Roster
from bot.settings import NAMES, Settings
from bot.state import RedisCharters, RedisLinks, salt
from detectors.policy import Policy
from handlers.charter import Charter, load_all
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.clock import Clock
from ledger.events import Actor, Event
from ledger.keys import seed_of
from ledger.ledger import Ledger, Refusal
from ledger.outside import NoteFile
from ledger.redis_store import Commands
from ledger.store import Store
from ledger.view import View


@dataclass(frozen=True, slots=True)
class Building:
    """What all rooms are made with."""

    settings: Settings
    store: Store
    commands: Commands
    links: RedisLinks
    clock: Clock
    process: str
    version: str


def read_charters(settings: Settings) -> dict[str, tuple[Charter, Policy]]:
    """The charters in the files, each with its effective policy. Raises CharterError, BadOverride."""
    found = load_all(settings.charter, NAMES)
    return {name: (charter, charter.effective_policy(settings.policy)) for name, charter in found.items()}


async def open_rooms(building: Building) -> list[Room]:
    """One room a charter. Raises CharterError and BadOverride before anything was written; StoreDown."""
    charters = read_charters(building.settings)
    return [await _open(building, charter, policy) for charter, policy in charters.values()]


async def _open(building: Building, charter: Charter, policy: Policy) -> Room:
    tenant = charter.tenant.id
    settings = building.settings
    ledger = Ledger(
        tenant,
        building.store,
        building.clock,
        random.Random(),
        signer=seed_of(settings.ledger_key),
        outside=NoteFile(settings.data_dir / "state", tenant),
    )
    await ledger.sweep()
    await building.links.refresh(tenant)
    rulebook = Rulebook()
    rulebook.add(charter, policy)
    room = Room(
        tenant=tenant,
        ledger=ledger,
        rulebook=rulebook,
        roster=Roster(tenant, await salt(building.commands, tenant), building.links),
        store=building.store,
        clock=building.clock,
        proposed=charter,
        proposed_policy=policy,
        charters=RedisCharters(building.commands),
    )
    await find_rules(room)
    if (charter.digest(), policy.digest()) == (ledger.view.rules.charter, ledger.view.rules.policy):
        await room.keep_rules()  # a ledger restored from the copy off the box came without texts
    await _say_started(room, building)
    return room


async def find_rules(room: Room) -> None:
    """Make sure that the charter and the policy in force are known here, also when the file holds others."""
    rules = room.ledger.view.rules
    if not rules.charter or room.rulebook.knows(rules.charter, rules.policy):
        return
    charter = await room.charters.find(room.tenant, rules.charter)
    text = await room.store.get_text(room.tenant, rules.policy)
    if charter and text:
        room.rulebook.add(charter, Policy.model_validate_json(text))


async def _say_started(room: Room, building: Building) -> None:
    def decide(view: View, now: object) -> Event | Refusal:
        return ev.Started(
            decision="start",
            reason=f"Process {building.process}",
            version=building.version,
            durability=room.ledger.durability.value,
            signer=room.ledger.notary.key,
        )

    await room.ledger.record(Actor.orchestrator(building.process), decide)
