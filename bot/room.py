"""What belongs to one tenant in this process, and the one who finds the tenant that a message is for."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from zoneinfo import ZoneInfo

from bot.ports import Address
from bot.roster import Roster
from detectors.policy import Policy
from handlers.charter import Charter, Person
from handlers.ports import Rulebook
from handlers.rota import woken
from ledger.chain import Entry
from ledger.clock import Clock
from ledger.events import Act, Actor, Event
from ledger.ledger import Decide, Ledger, Refusal
from ledger.store import Store
from ledger.view import View, epoch_ms

COME_AGAIN = frozenset({"telegram", "whatsapp"})
"""Channels whose updates come again until they were handled. A link used twice is two acts."""


class Charters(Protocol):
    """Where the full charters that were adopted are kept, contacts included, by digest."""

    async def keep(self, charter: Charter) -> None: ...

    async def find(self, tenant: str, digest: str) -> Charter | None: ...


@dataclass
class Room:
    """One tenant: its ledger, rules and people. *proposed* is the charter in the file, adopted or not."""

    tenant: str
    ledger: Ledger
    rulebook: Rulebook
    roster: Roster
    store: Store
    clock: Clock
    proposed: Charter
    proposed_policy: Policy
    charters: Charters
    moved: Mapping[str, str] = field(default_factory=dict)
    off_box: Callable[[], str] = lambda: "There is no copy off the box."
    """How the copy off the box stands, in a sentence."""

    @property
    def charter(self) -> Charter | None:
        """The charter in force, or None before the first adoption."""
        return self.rulebook.charter(self.ledger.view)

    @property
    def people(self) -> Charter:
        """Whose people are asked: the charter in force, or the one proposed while there is none."""
        return self.charter or self.proposed

    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())

    def who(self, channel: str, vendor_id: str) -> Person | None:
        return self.roster.who(self.ledger.view, self.people, channel, vendor_id)

    def zone(self, person: Person | None) -> ZoneInfo:
        return ZoneInfo((person.timezone if person else None) or self.people.tenant.timezone)

    def local(self, at_ms: int, person: Person | None) -> datetime:
        """An instant on the reader's own clock."""
        return datetime.fromtimestamp(at_ms / 1000, self.zone(person))

    def addresses(self) -> list[Address]:
        """Where cards go: the charter's chats, then each person on call now, in private."""
        charter = self.charter
        if charter is None:
            return []
        chats = [
            Address(
                "telegram",
                self.moved.get(str(chat.telegram), str(chat.telegram)),
                f"chat{n}",
                topic=chat.topic,
            )
            for n, chat in enumerate(charter.chats, 1)
        ]
        on_call = woken(charter, self.ledger.view, self.now_ms())
        return chats + [a for p in on_call for a in self.private(p)]

    def private(self, person: Person) -> list[Address]:
        """Every way to reach *person* alone."""
        view = self.ledger.view
        found = ((channel, self.roster.reach(view, person, channel)) for channel in ("telegram", "whatsapp"))
        return [Address(channel, to, person.id, person.id) for channel, to in found if to]

    def address(self, channel: str, to: str) -> Address:
        """Whose chat that is, and in which topic; nobody's if it is no longer anybody's."""
        known = [*self.addresses(), *(one for p in self.people.people for one in self.private(p))]
        return next((a for a in known if (a.channel, a.to) == (channel, to)), Address(channel, to, ""))

    def reach(self, name: str) -> list[Address]:
        """Every way to reach the person whose charter id is *name* alone."""
        person = self.people.person(name)
        return self.private(person) if person else []

    async def record(self, person: Person, act: Act, decide: Decide) -> Entry | Refusal:
        """Append what *decide* makes of a person's *act*, or what it made before a crash, if it comes again.

        Raises StoreDown.
        """
        made = await self.ledger.record(Actor.engineer(person.id, act.channel), _once(act, decide))
        if isinstance(made, Refusal) and made.kind == "came_before":
            [made] = await self.store.read(self.tenant, self.ledger.view.acts[act.channel, act.update] - 1, 1)
        return made

    async def keep_rules(self) -> None:
        """Put the texts of the proposed charter and policy where their digests find them."""
        self.rulebook.add(self.proposed, self.proposed_policy)
        await self.charters.keep(self.proposed)
        await self.store.put_text(self.tenant, self.proposed.digest(), self.proposed.text())
        await self.store.put_text(
            self.tenant, self.proposed_policy.digest(), self.proposed_policy.canonical()
        )

    async def keep_words(self, words: str) -> str:
        """Put what a person typed into the vault. Returns its salted commitment, empty for no words."""
        if not words.strip():
            return ""
        salt, text = secrets.token_hex(16), words.strip()[:1000]
        found = sha256(f"{salt}:{text}".encode()).hexdigest()
        await self.store.put_secret_value(self.tenant, found, f"{salt}:{text}")
        return found

    async def words(self, found: str) -> str:
        """What was typed, or an empty text where it was erased."""
        kept = await self.store.get_secret_value(self.tenant, found) if found else None
        return kept.partition(":")[2] if kept else ""


def came_before(act: Act, view: View) -> bool:
    """Whether *act* made an entry already: its update has come again."""
    return act.channel in COME_AGAIN and (act.channel, act.update) in view.acts


def _once(act: Act, decide: Decide) -> Decide:
    def first(view: View, now: datetime) -> Event | Refusal:
        return Refusal("came_before") if came_before(act, view) else decide(view, now)

    return first


class House:
    """All tenants of this process."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.rooms: Mapping[str, Room] = {room.tenant: room for room in rooms}

    def of(self, channel: str, chat: str, vendor_id: str) -> list[Room]:
        """The tenants that a message may be for, the likeliest first: the chat's, then the person's."""
        by_chat = [r for r in self.rooms.values() if chat in _chats(r)]
        by_person = [r for r in self.rooms.values() if r not in by_chat and r.who(channel, vendor_id)]
        return by_chat or by_person


def _chats(room: Room) -> set[str]:
    return {room.moved.get(str(c.telegram), str(c.telegram)) for c in room.people.chats}
