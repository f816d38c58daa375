"""A tenant in memory: its room, its people, and incidents at any stage, without a vendor or a server."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bot.answer import Desk
from bot.erasing import Gone
from bot.errands import Errands, Post
from bot.evidence import Evidence
from bot.ports import Answer, Tap, Verb
from bot.room import Room
from bot.roster import MemoryLinks, Roster
from handlers.charter import Charter, Person, parse
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import ManualClock
from ledger.erasure import erase
from ledger.events import Act, Actor, Reading
from ledger.ledger import Decide, Ledger
from ledger.machine import Incident
from ledger.store import MemoryStore, Store
from ledger.view import epoch_ms

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)
BOT, POLICY = Actor.orchestrator("bot.1"), Actor.policy()
IDS = {"rudo": "1001", "tendai": "1002", "tariro": "1003", "stranger": "6666"}
GROUP = "-100200300"

CHARTER = """
[tenant]
id = "acme"
timezone = "Africa/Harare"
allow_networks = ["127.0.0.0/8"]

[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "dev", "admin"]
telegram = 1001

[[people]]
id = "tendai"
name = "Tendai"
roles = ["oncall"]
telegram = 1002
whatsapp = "+263770000002"

[[people]]
id = "tariro"
name = "Tariro"
roles = ["viewer"]
telegram = 1003

[[chats]]
telegram = -100200300

[[services]]
id = "checkout"
health_url = "http://127.0.0.1:9000/health/alerts"

[[services.actions]]
id = "restart_workers"
title = "Restart workers"
webhook = "http://127.0.0.1:9001/recover/restart_workers"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "{approve}"
risk = "{risk}"
causes = ["database", "capacity"]
default = true
idempotent = true

[[services.actions]]
id = "switch_payments"
title = "Switch to fallback"
webhook = "http://127.0.0.1:9001/recover/switch_payments"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "{approve}"
causes = ["dependency", "network"]
"""

READING = Reading(
    service="checkout",
    rule="err_crit",
    signal="errors",
    severity="critical",
    headline="19 % of requests fail",
    explanation="36 of 187 requests failed in 10 s.",
    error_permille=193,
    n=187,
    failed=36,
)


def charter(approve: str = "1 oncall", risk: str = "low") -> Charter:
    return parse(CHARTER.replace("{approve}", approve).replace("{risk}", risk))


class NoCharters:
    async def keep(self, charter: Charter) -> None:
        pass

    async def find(self, tenant: str, digest: str) -> Charter | None:
        return None


@dataclass
class Tenant:
    """The acme of a test. `desk` answers taps; `sent` holds what went to people in private."""

    room: Room
    clock: ManualClock
    desk: Desk
    sent: list[tuple[str, Answer]] = field(default_factory=list)
    taps: int = 0

    @property
    def incident(self) -> Incident:
        return self.room.ledger.view.incidents["checkout-1"]

    async def record(self, actor: Actor, decide: Decide) -> Entry:
        made = await self.room.ledger.record(actor, decide)
        assert isinstance(made, Entry), made
        return made

    async def adopt(self, rules: Charter | None = None) -> None:
        """Put the proposed charter, or *rules*, into force as the console's code would."""
        if rules is not None:
            self.room.proposed, self.room.proposed_policy = rules, rules.effective_policy()
        await self.room.keep_rules()
        digest, policy = self.room.proposed.digest(), self.room.proposed_policy
        await self.record(
            Actor.engineer(next(p.id for p in self.room.proposed.people if "admin" in p.roles), "telegram"),
            lambda v, n: ev.CharterAdopted(
                digest=digest, policy_digest=policy.digest(), policy_label=policy.label, by_console=True
            ),
        )

    async def opens(self, actor: Actor = POLICY) -> Entry:
        return await self.record(
            actor,
            lambda v, n: ev.Detected(incident_id=v.next_incident_id("checkout"), reading=READING),
        )

    async def asks(self, *options: ev.Option, life_ms: int = 300_000) -> Entry:
        """A request on the open incident, for *options* or one restart."""
        chosen = options or (self.option(),)
        name = self.room.ledger.view.open()[0].id
        await self.record(BOT, lambda v, n: ev.Proposed(incident_id=name, options=chosen))
        return await self.record(
            POLICY,
            lambda v, n: ev.Validated(
                incident_id=name,
                options=chosen,
                deadline_ms=epoch_ms(n) + life_ms,
                charter_digest=v.rules.charter,
                policy_digest=v.rules.policy,
            ),
        )

    def option(self, key: str = "1", action: str = "restart_workers", theory: str = "") -> ev.Option:
        found = self.room.people.action("checkout", action)
        return ev.Option(
            key=key,
            theory=theory,
            cause=ev.Cause.DATABASE,
            action=action if found else "",
            title=found.title if found else "run nothing",
            approve=found.approve if found else "",
            digest=found.digest("checkout") if found else "",
            risk=found.risk if found else "low",
        )

    def tap(self, who: str, verb: Verb, anchor: str, option: str = "", **more: object) -> Tap:
        self.taps += 1
        act = Act(channel="telegram", update=str(self.taps), digest="d" * 64, at_ms=self.room.now_ms())
        return Tap("telegram", IDS[who], GROUP, verb, anchor[:16], act, option, **more)  # type: ignore[arg-type]

    async def taps_on(self, who: str, verb: Verb, anchor: str, option: str = "1", **more: object) -> Answer:
        return await self.desk.tapped(self.room.tenant, self.tap(who, verb, anchor, option, **more))

    def events(self) -> list[str]:
        return [type(fact.event).__name__ for fact in self.incident.facts]


async def nowhere(room: Room, person: Person, answer: Answer) -> bool:
    return False


def evidence(post: Post = nowhere) -> Evidence:
    """What audits, reconciles, reviews and erases, for a front in memory."""

    async def eraser(room: Room, subject: str) -> Gone:
        return Gone(await erase(room.store, room.tenant, [subject]))

    return Evidence.of(Errands(post), "bot.1", b"s" * 32, eraser)


async def tenant(
    rules: Charter | None = None,
    store: Store | None = None,
    *,
    adopted: bool = True,
    signer: bytes | None = None,
    clock: ManualClock | None = None,
) -> Tenant:
    """The tenant of *rules*, or acme, on *store* (memory if none), its charter adopted. *signer* signs."""
    clock, kept, known = clock or ManualClock(NOON), store or MemoryStore(), rules or charter()
    name = known.tenant.id
    ledger = Ledger(name, kept, clock, random.Random(1), signer=signer)
    await ledger.sweep()
    room = Room(
        tenant=name,
        ledger=ledger,
        rulebook=Rulebook(),
        roster=Roster(name, "salt", MemoryLinks()),
        store=kept,
        clock=clock,
        proposed=known,
        proposed_policy=known.effective_policy(),
        charters=NoCharters(),
    )
    made = Tenant(room, clock, desk=None)  # type: ignore[arg-type]

    async def post(room: Room, person: Person, answer: Answer) -> bool:
        made.sent.append((person.id, answer))
        return True

    async def audit(room: Room, person: Person, incident: Incident, act: Act) -> Answer:
        return Answer(f"audit of {incident.id}")

    made.desk = Desk({name: room}, "bot.1", post, audit)
    if adopted:
        await made.adopt()
    return made
