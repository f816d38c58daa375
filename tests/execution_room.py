"""An authorized action in memory: a store that outlives processes that die, and a receiver that counts."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from detectors.measured import Measured
from detectors.policy import Policy
from detectors.state import Sample
from detectors.verdict import Alarm, Verdict
from handlers.charter import Charter, parse
from handlers.execute import Executor
from handlers.ports import Call, PortError, Reply, Rulebook
from ledger import events as ev
from ledger.chain import Entry, Head
from ledger.clock import ManualClock
from ledger.events import Actor, Reading
from ledger.ledger import Ledger
from ledger.machine import OUTCOMES, Incident
from ledger.store import Conflict, MemoryStore, StoreDown
from ledger.view import epoch_ms, event_of
from sdk import histogram

START = datetime(2026, 6, 3, 1, 11, 52, tzinfo=UTC)
POLICY = Actor.policy()
BOT = Actor.orchestrator("web.1")
RUDO = Actor.engineer("rudo", "telegram")
SECRET = b"whsec_c2VjcmV0IG9mIGNoZWNrb3V0"
CHECKOUT = "checkout-1"

CHARTER = """
[tenant]
id = "acme"
allow_networks = ["127.0.0.0/8"]

[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "dev"]

[[people]]
id = "tendai"
name = "Tendai"
roles = ["oncall"]

[[people]]
id = "tariro"
name = "Tariro"
roles = ["admin"]

[[services]]
id = "checkout"
health_url = "http://127.0.0.1:9000/health/alerts"

[[services.actions]]
id = "restart_workers"
title = "Restart checkout workers"
webhook = "http://127.0.0.1:9000/recover/restart_workers"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
causes = ["database"]
idempotent = true
cooldown = "0s"
"""

MS = 1_000_000
SLOW = histogram.of([40 * MS] * 170 + [2_800 * MS] * 17)
SEEN = Measured((Sample(10_000, 10_000, 187, 36, SLOW, 4, 900, readings={}),), 0)
NOTHING = Measured((), 0)
ALARM = Alarm(
    rule="err_crit", signal="errors", severity="critical", headline="19 % of requests fail",
    explanation="36 of 187 requests failed in 10 s.", since_ms=0, k=36, n=187, window_ms=10_000,
    evidence_cn=2200, threshold_cn=1600,
)  # fmt: skip
SICK = Verdict(healthy=False, alarms=(ALARM,), quiet_ms=0, score=23, trend="falling", measured=SEEN)
READING = Reading(
    service="checkout", rule="err_crit", signal="errors", severity="critical", headline="19 % fail",
    explanation="36 of 187 requests failed in 10 s.", deploy="a1b2c3d",
)  # fmt: skip


def well(quiet_ms: int, n: int = 1204) -> Verdict:
    quick = histogram.of([30 * MS] * (n - n // 19) + [190 * MS] * (n // 19))
    seen = Measured((Sample(60_000, 60_000, n, 0, quick, 1, 20, readings={}),), 0)
    return Verdict(True, (), quiet_ms, 97, "rising", seen)


class Eyes:
    """A Watch that shows what the test sets."""

    def __init__(self) -> None:
        self.now: Verdict | None = SICK
        self.answers = True
        self.live = "a1b2c3d"

    def verdict(self, tenant: str, service: str) -> Verdict | None:
        return self.now

    def reachable(self, tenant: str, service: str) -> bool:
        return self.answers

    def deploy(self, tenant: str, service: str) -> str:
        return self.live


class Purse:
    def __init__(self) -> None:
        self.secrets = {"ACME_CHECKOUT_RECOVERY": SECRET}

    def get(self, name: str) -> bytes | None:
        return self.secrets.get(name)


class Life:
    """One process's life. At step *ends_at* it is killed: that step and all later ones never return."""

    def __init__(self, ends_at: int = -1) -> None:
        self.ends_at = ends_at
        self.steps = 0
        self.killed = asyncio.Event()

    async def step(self) -> None:
        if self.steps == self.ends_at or self.killed.is_set():
            self.killed.set()
            await asyncio.Event().wait()
        self.steps += 1


class Disk:
    """The store as one process reaches it. It can be away; the process can die before and after a call."""

    def __init__(self, store: MemoryStore, life: Life) -> None:
        self.store, self.life, self.away = store, life, False

    def __getattr__(self, name: str):
        return getattr(self.store, name)

    async def append(
        self, tenant: str, entries: Sequence[Entry], expected: Head, note: str = ""
    ) -> Conflict | None:
        await self.life.step()
        if self.away:
            raise StoreDown
        answer = await self.store.append(tenant, entries, expected, note)
        await self.life.step()
        return answer

    async def read(self, tenant: str, after: int, limit: int) -> list[Entry]:
        if self.away:
            raise StoreDown
        return await self.store.read(tenant, after, limit)

    async def head(self, tenant: str) -> Head:
        if self.away:
            raise StoreDown
        return await self.store.head(tenant)


class Receiver:
    """The app's end: runs each key once, answers as told (a status or a PortError), checks what came first.

    An answer with `unknown` or 2xx ran; all others did not.
    """

    def __init__(self, store: MemoryStore, answers: Sequence[int | PortError] = ()) -> None:
        self.store = store
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.ran: Counter[str] = Counter()
        self.most_at_once = 0
        self.under_way = 0
        self.gates: list[asyncio.Event] = []
        self.rung = asyncio.Condition()

    def port(self, life: Life) -> "Line":
        return Line(self, life)

    def hold(self) -> asyncio.Event:
        """The next call that nobody holds yet is answered once this is set."""
        self.gates.append(asyncio.Event())
        return self.gates[-1]

    async def called(self, times: int) -> None:
        """Returns once *times* calls have come."""
        async with self.rung:
            await self.rung.wait_for(lambda: len(self.calls) >= times)

    async def take(self, call: Call) -> Reply:
        log = await self.store.read("acme", 0, 10_000)
        events = [event_of(entry) for entry in log]
        assert any(e.event == "Authorized" and e.hash == call.idempotency_key for e in log)
        started = [
            e for e in events if isinstance(e, ev.ExecutionStarted) and e.ref.hash == call.idempotency_key
        ]
        self.calls.append(call)
        assert len(started) >= len([c for c in self.calls if c.idempotency_key == call.idempotency_key])
        async with self.rung:
            self.rung.notify_all()
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        gate = self.gates.pop(0) if self.gates else None
        try:
            answer = self.answers.pop(0) if self.answers else 200
            if gate:
                await gate.wait()
            return self._answer(call, answer)
        finally:
            self.under_way -= 1

    def _answer(self, call: Call, answer: int | PortError) -> Reply:
        if isinstance(answer, PortError):
            if answer.unknown:
                self.ran[call.idempotency_key] = 1
            raise answer
        if 200 <= answer < 300:
            self.ran[call.idempotency_key] = 1
        return Reply(answer, b"{}", 40)


class Line:
    """The receiver as one process reaches it."""

    def __init__(self, receiver: Receiver, life: Life) -> None:
        self.receiver, self.life = receiver, life

    async def post(self, call: Call) -> Reply:
        await self.life.step()
        try:
            answer: Reply | PortError = await self.receiver.take(call)
        except PortError as error:
            answer = error
        await self.life.step()
        if isinstance(answer, PortError):
            raise answer
        return answer


class Room:
    """A tenant, its store, its receiver, and one authorized action."""

    def __init__(self, answers: Sequence[int | PortError] = (), *, charter: str = CHARTER) -> None:
        self.clock = ManualClock(START)
        self.store = MemoryStore()
        self.receiver = Receiver(self.store, answers)
        self.eyes, self.purse, self.book = Eyes(), Purse(), Rulebook()
        self.charter: Charter = parse(charter)
        self.policy = Policy()
        self.book.add(self.charter, self.policy)

    @property
    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())

    async def process(self, name: str, ends_at: int = -1) -> "Process":
        process = Process(self, name, Life(ends_at))
        await process.ledger.catch_up()
        await process.ledger.sweep()
        return process

    async def adopt(self, charter: Charter, policy: Policy | None = None) -> None:
        policy = policy or self.policy
        self.book.add(charter, policy)
        event = ev.CharterAdopted(
            digest=charter.digest(), policy_digest=policy.digest(), policy_label=policy.label
        )
        await self.write(RUDO, event)

    async def write(self, actor: Actor, event: ev.Event) -> Entry:
        ledger = Ledger("acme", self.store, self.clock, random.Random(1))
        await ledger.catch_up()
        entry = await ledger.record(actor, lambda view, now: event)
        assert isinstance(entry, Entry), entry
        return entry

    async def detect(self, actor: Actor = POLICY) -> None:
        await self.adopt(self.charter)
        await self.write(actor, ev.Detected(incident_id=CHECKOUT, reading=READING))

    async def request(self, life_ms: int = 300_000, deploy: str = "") -> Entry:
        action = self.charter.services[0].actions[0]
        option = ev.Option(
            key="1",
            action=action.id,
            title=action.title,
            approve=action.approve,
            digest=action.digest("checkout"),
        )
        await self.write(BOT, ev.Proposed(incident_id=CHECKOUT, options=(option,)))
        validated = ev.Validated(
            incident_id=CHECKOUT,
            options=(option,),
            deadline_ms=self.now_ms + life_ms,
            deploy=deploy,
            policy_digest=self.policy.digest(),
        )
        return await self.write(POLICY, validated)

    async def authorize(self, *voters: str, deploy: str = "") -> Entry:
        request = await self.request(deploy=deploy)
        action = self.charter.services[0].actions[0]
        authorized = ev.Authorized(
            incident_id=CHECKOUT,
            option="1",
            action=action.id,
            digest=action.digest("checkout"),
            voters=voters or ("rudo",),
            ref=ev.Ref(seq=request.seq, hash=request.hash),
        )
        return await self.write(RUDO, authorized)

    async def told(self) -> list[str]:
        """The names of the facts so far, from Authorized on."""
        names = [entry.event for entry in await self.store.read("acme", 0, 10_000)]
        return names[names.index("Authorized") :] if "Authorized" in names else names

    async def outcomes(self) -> list[ev.Event]:
        events = [event_of(entry) for entry in await self.store.read("acme", 0, 10_000)]
        return [event for event in events if type(event) in OUTCOMES]


class Process:
    """One process of the program that runs the tenant's executor."""

    def __init__(self, room: Room, name: str, life: Life) -> None:
        self.room, self.life = room, life
        self.disk = Disk(room.store, life)
        self.ledger = Ledger("acme", self.disk, room.clock, random.Random(2))
        self.executor = Executor(
            self.ledger,
            room.book,
            room.eyes,
            room.purse,
            room.receiver.port(life),
            room.clock,
            name,
        )

    @property
    def incident(self) -> Incident:
        return self.ledger.view.incidents[CHECKOUT]

    def due(self):
        return self.executor.due(self.ledger.view, self.room.now_ms)

    async def step(self) -> bool:
        """Move the clock to the next thing that is due and do it. False when nothing is."""
        await self.ledger.catch_up()
        works = self.due()
        if not works:
            return False
        self.room.clock.advance(max(0, works[0].at_ms - self.room.now_ms) / 1000)
        try:
            await self.executor.do(works[0])
        except PortError:
            self.room.clock.advance(1)
        return True

    async def run(self) -> None:
        """Until nothing more is due, or this process is killed."""
        task, killed = asyncio.create_task(self._run()), asyncio.create_task(self.life.killed.wait())
        await asyncio.wait({task, killed}, return_when=asyncio.FIRST_COMPLETED)
        for one in (task, killed):
            one.cancel()
        for error in await asyncio.gather(task, killed, return_exceptions=True):
            if isinstance(error, Exception):
                raise error

    async def _run(self) -> None:
        for _ in range(40):
            if not await self.step():
                return
        raise AssertionError("It never comes to an end.")
