"""The whole deciding house in memory: two tenants, as many processes as one likes, and the world outside.

Each process runs production's own wiring (`bot.work.tenant_work`, `Desk`, `Commands`, `Outbox`, `Notify`).
What is not here is vendors and Redis. Time is the event loop's and leaps from timer to timer; the world's
chance is seeded. A process that is killed never gets past its next step outside, as with `kill -9`.
"""

import asyncio
import inspect
import random
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson

from bot import auditing_rows
from bot.adoption import Adoption
from bot.answer import Desk
from bot.auditing_scope import Scope
from bot.commands import Commands
from bot.conversation import MemoryConversations
from bot.lease import RENEW, Lease
from bot.notify import MemoryShown, Notify
from bot.opening import find_rules
from bot.outbox import Outbox
from bot.ports import Address, Answer, Card, Said, SendError, Tap, Verb
from bot.press import Press
from bot.room import House, Room
from bot.roster import MemoryLinks, Roster, console_code
from bot.tokens import MemoryCodes, Tokens
from bot.work import Tools, Work, tenant_work
from detectors.window import Tick
from handlers.charter import Charter, Person, Service, parse
from handlers.detect import Detect
from handlers.ports import Brief, Call, NoOpinion, Opinion, Outcome, Polled, PortError, Reply, Rulebook
from ledger.chain import Entry, Head
from ledger.events import Act, Cause
from ledger.ledger import Ledger
from ledger.machine import Incident
from ledger.store import Conflict, MemoryStore, StoreDown
from ledger.view import View, epoch_ms, fold
from sdk import histogram
from tests import rooms
from tests.council_room import opinion
from tests.execution_room import Life as Steps

SECRET = b"a secret of the operator, 32 bytes or more"
PEOPLE = {
    "rudo": "1001", "tendai": "1002", "tariro": "1003", "farai": "2001", "chipo": "2003", "stranger": "6666",
}  # fmt: skip
CHATS = {"acme": "-100200300", "beta": "-100200400"}
ONLY = {"acme": frozenset({"rudo", "tariro"}), "beta": frozenset({"farai", "chipo"})}
"""The people of one tenant alone. Tendai is of both; the stranger of none."""
ADMIN = {"acme": "rudo", "beta": "farai"}
KINDS = {"ok": 10, "error": 3, "gateway": 1, "slow": 2, "cut": 2, "refused": 1, "redirect": 1}
"""How a webhook answers, and how often."""
CALL_S = 10.0
HANG_S = 60.0
MOST_S = 7_200.0
FAST = histogram.index(50_000_000)

_MORE = """
[[services]]
id = "search"
health_url = "http://127.0.0.1:9000/search/health/alerts"

[[services.actions]]
id = "rebuild"
title = "Rebuild the index"
webhook = "http://127.0.0.1:9001/recover/rebuild"
secret_env = "ACME_SEARCH_RECOVERY"
approve = "{approve}"
default = true
cooldown = "20s"
expires = "60s"

[policy]
close_ms = 20000
reopen_ms = 120000
"""
_BETA = (
    ('"acme"', '"beta"'), ("ACME_", "BETA_"), ("rudo", "farai"), ("Rudo", "Farai"), ("1001", "2001"),
    ("tariro", "chipo"), ("Tariro", "Chipo"), ("1003", "2003"), (":9001/", ":9002/"), (":9000/", ":9003/"),
    (CHATS["acme"], CHATS["beta"]),
)  # fmt: skip


def charter(tenant: str, approve: str = "1 oncall", risk: str = "low", without: str = "") -> Charter:
    """A charter of *tenant*: two services of the same names in both, and brief lives for requests."""
    text = rooms.CHARTER + _MORE
    text = text.replace("idempotent = true", 'idempotent = true\ncooldown = "20s"\nexpires = "60s"')
    text = text.replace('causes = ["dependency", "network"]', 'causes = ["dependency"]\nexpires = "60s"')
    for old, new in _BETA if tenant == "beta" else ():
        text = text.replace(old, new)
    found = parse(text.replace("{approve}", approve).replace("{risk}", risk))
    return found.model_copy(update={"people": tuple(p for p in found.people if p.id != without)})


# --- time and death -----------------------------------------------------------------------------------


class _Leaps(selectors.SelectSelector):
    """Waits for nothing: as much time has passed as it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list:
        if timeout is None or self.now > MOST_S:
            raise RuntimeError("Somebody waits for ever.")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to the next timer, and which knows whose each task is."""

    def __init__(self) -> None:
        self._leaps = _Leaps()
        super().__init__(self._leaps)
        self.set_task_factory(_owned)

    def time(self) -> float:
        return self._leaps.now


class LoopClock:
    """The event loop's time, as a clock."""

    def now(self) -> datetime:
        return rooms.NOON + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Life(Steps):
    """One process's life and tasks. Once killed no step outside returns."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[asyncio.Task, None] = {}

    async def end(self) -> None:
        """Take away what is left of the process once it was killed."""
        await self.killed.wait()
        for task in list(self.tasks):
            task.cancel()


_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


def _owned(loop: asyncio.AbstractEventLoop, coro: Coroutine, **more: Any) -> asyncio.Task:
    context = more.get("context")
    life = context.get(_LIFE) if context is not None else _LIFE.get()
    task = asyncio.Task(coro, loop=loop, **more)
    if life is not None:
        life.tasks[task] = None
        task.add_done_callback(lambda done: life.tasks.pop(done, None))
    return task


class Died(Exception):
    """The process that was to do it is no more."""


# --- the store ----------------------------------------------------------------------------------------


@dataclass
class Weather:
    """How the store is: *away*, so slow, or *deaf*: what it did is done, and nobody hears so."""

    away: bool = False
    deaf: bool = False
    slow_s: float = 0.0
    away_since: list[tuple[float, float]] = field(default_factory=list)

    def reach(self) -> None:
        if self.away:
            raise StoreDown("It is away.")


class Kept:
    """Something that lies in the store, as one process reaches it."""

    def __init__(self, kept: Any, life: Life, weather: Weather) -> None:
        self.kept, self.life, self.weather = kept, life, weather

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.kept, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def asked(*given: Any, **named: Any) -> Any:
            await self.life.step()
            self.weather.reach()
            answer = await found(*given, **named)
            await self.life.step()
            return answer

        return asked


class Disk(Kept):
    async def append(
        self, tenant: str, entries: list[Entry], expected: Head, note: str = ""
    ) -> Conflict | None:
        await self.life.step()
        if self.weather.slow_s:
            await asyncio.sleep(self.weather.slow_s)
        self.weather.reach()
        answer = await self.kept.append(tenant, entries, expected, note)
        await self.life.step()
        if self.weather.deaf:
            raise StoreDown("The reply was lost.")
        return answer


class MemoryStates:
    def __init__(self) -> None:
        self.texts: dict[str, dict[str, str]] = {}

    async def load(self, tenant: str, service: str) -> str | None:
        return self.texts.get(tenant, {}).get(service)

    async def save(self, tenant: str, states: Mapping[str, str]) -> None:
        self.texts.setdefault(tenant, {}).update(states)


class MemoryCharters:
    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Charter] = {}

    async def keep(self, charter: Charter) -> None:
        self.known[charter.tenant.id, charter.digest()] = charter

    async def find(self, tenant: str, digest: str) -> Charter | None:
        return self.known.get((tenant, digest))


class NoLinkCodes:
    async def issue(self, tenant: str, person: str, channel: str, by: str) -> str:
        return "NONE"

    async def redeem(self, tenant: str, code: str) -> None:
        return None


# --- the world outside --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Came:
    """One webhook call as it arrived: when, from which process, and how long each log was then."""

    at_ms: int
    call: Call
    process: str
    heads: Mapping[str, int]
    away: bool

    @property
    def body(self) -> dict[str, Any]:
        return orjson.loads(self.call.body)


class Receiver:
    """The apps' end. Where an action is idempotent each key runs once; the others run each time they come."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: list[Came] = []
        self.ran: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.overlapped: list[str] = []
        self.well = False

    async def take(self, call: Call, process: str) -> Reply | PortError:
        world, key = self.world, call.idempotency_key
        heads = {tenant: world.length(tenant) for tenant in CHATS}
        self.calls.append(Came(world.now_ms(), call, process, heads, world.weather.away))
        if self.under_way[key]:
            self.overlapped.append(key)
        self.under_way[key] += 1
        try:
            return await self._answer(call, "ok" if self.well else self._kind())
        finally:
            self.under_way[key] -= 1

    def _kind(self) -> str:
        return self.world.chance.choices([*KINDS], [*KINDS.values()])[0]

    async def _answer(self, call: Call, kind: str) -> Reply | PortError:
        chance = self.world.chance
        await asyncio.sleep(15.0 if kind == "slow" else chance.choice([0.0, 0.05, 2.0]))
        if kind in {"ok", "slow"} or (kind in {"gateway", "cut"} and chance.random() < 0.5):
            once = "restart_workers" in call.url
            self.ran[call.idempotency_key] = 1 if once else self.ran[call.idempotency_key] + 1
        match kind:
            case "cut":
                return PortError("The connection was cut.", unknown=True)
            case "refused":
                return PortError("Nobody listens there.")
        status = {"error": 500, "gateway": 502, "redirect": 302}.get(kind, 200)
        return Reply(status, b"{}", 40)


class Line:
    """The way of one process to the receiver. What has arrived there goes on without it."""

    def __init__(self, process: "Process") -> None:
        self.process = process

    async def post(self, call: Call) -> Reply:
        process, world = self.process, self.process.world
        await process.life.step()
        take = world.receiver.take(call, process.name)
        asking = asyncio.create_task(take, context=world.context)
        try:
            async with asyncio.timeout(CALL_S):
                answer = await asyncio.shield(asking)
        except TimeoutError:
            answer = PortError("No answer in time.", unknown=True)
        await process.life.step()
        if isinstance(answer, PortError):
            raise answer
        return answer


class Mind:
    """A model that answers, errs, fails or hangs, as chance will have it."""

    def __init__(self, name: str, world: "World") -> None:
        self.name, self.world = name, world

    def prompt_digest(self, brief: Brief) -> str:
        return sha256(f"{self.name} {brief}".encode()).hexdigest()

    async def ask(self, brief: Brief) -> Opinion:
        chance = self.world.chance
        match chance.choice(["answers", "answers", "late", "hangs", "fails", "breaks"]):
            case "late":
                await asyncio.sleep(chance.uniform(1, 14))
            case "hangs":
                await asyncio.Event().wait()
            case "fails":
                raise NoOpinion(Outcome.OVERLOADED)
            case "breaks":
                raise PortError("It is away.")
        cause = chance.choice([Cause.DATABASE, Cause.DATABASE, Cause.DEPENDENCY, Cause.UNKNOWN])
        return opinion(cause, chance.choice([30, 70, 95]))


class Pulse:
    """What a poll brings, by how each service is."""

    def __init__(self, world: "World") -> None:
        self.world = world

    async def poll(self, charter: Charter, service: Service, cursor: int, now_ms: int) -> Polled:
        how = self.world.how[charter.tenant.id, service.id]
        await asyncio.sleep(0)
        if how == "silent":
            raise PortError("It does not answer.")
        errors = 30 if how == "sick" else 0
        return Polled(Tick(now_ms, 5000, 100, errors, 0, 0, {FAST: 100}, 1, 10), cursor + 1)


@dataclass(frozen=True)
class Sent:
    """One try to send something: when, whose, to whom, about which incident, by which process."""

    at_ms: int
    tenant: str
    to: Address
    incident: str
    process: str


@dataclass(frozen=True)
class Shown:
    """A button as somebody saw it once."""

    tenant: str
    chat: str
    verb: Verb
    data: str


class Phones:
    """The chats of all people, as one process reaches them through one channel."""

    def __init__(self, name: str, process: "Process", *, edits: bool) -> None:
        self.name, self.process, self.edits = name, process, edits
        self.world = process.world

    async def send(
        self, tenant: str, to: Address, card: Card, *, reply_to: str = "", silent: bool = False
    ) -> str:
        await self._reach(tenant, to, card.incident)
        return self._shows(tenant, to, card.rows)

    async def edit(self, tenant: str, to: Address, message: str, card: Card) -> None:
        await self._reach(tenant, to, "")
        self._shows(tenant, to, card.rows)

    async def retire(self, tenant: str, to: Address, message: str) -> None:
        await self._reach(tenant, to, "")

    async def say(self, tenant: str, to: Address, answer: Answer, *, reply_to: str = "") -> str:
        await self._reach(tenant, to, "")
        return self._shows(tenant, to, answer.rows)

    async def _reach(self, tenant: str, to: Address, incident: str) -> None:
        world = self.world
        await self.process.life.step()
        world.sent.append(Sent(world.now_ms(), tenant, to, incident, self.process.name))
        if to.to in world.hanging:
            await asyncio.sleep(HANG_S)
            raise SendError("No answer in time.", unknown=True)
        if world.chance.random() < world.bad_sends:
            raise SendError("It was not taken.", unknown=world.chance.random() < 0.3)

    def _shows(self, tenant: str, to: Address, rows: Any) -> str:
        world = self.world
        for button in (one for row in rows for one in row):
            data = world.mint(tenant, to.to, button.verb, button.option, button.anchor)
            world.shown.append(Shown(tenant, to.to, button.verb, data))
        world.messages += 1
        return str(world.messages)


# --- a process ----------------------------------------------------------------------------------------


class Process:
    """One process of the program. `granted` names the tenants whose lease it may hold."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name, self.life = world, name, Life()
        self.granted: set[str] = set()
        self.rooms: dict[str, Room] = {}
        self.works: list[Work] = []
        self.outbox = Outbox(world.clock)
        self.channels = {
            "telegram": Phones("telegram", self, edits=True),
            "whatsapp": Phones("whatsapp", self, edits=False),
        }

    def kept(self, what: Any) -> Any:
        return Kept(what, self.life, self.world.weather)

    def spawn(self, coro: Coroutine, name: str = "") -> asyncio.Task:
        """Let the process do it: it ends with it."""
        context = copy_context()
        context.run(_LIFE.set, self.life)
        return asyncio.create_task(coro, name=name or None, context=context)

    async def does(self, coro: Coroutine) -> Any:
        """What comes of it. Raises Died, and what it raises."""
        if self.life.killed.is_set():
            coro.close()
            raise Died
        task = self.spawn(coro)
        await asyncio.wait({task})
        if task.cancelled() or self.life.killed.is_set():
            if not task.cancelled():
                task.exception()
            raise Died
        return task.result()

    async def start(self) -> None:
        for tenant in CHATS:
            self.rooms[tenant] = await self._room(tenant)
        world = self.world
        self.house = House(self.rooms.values())
        desk = Desk(self.rooms, self.name, self._post, _audit)
        self.adoption = Adoption(SECRET, NoLinkCodes())
        self.commands = Commands(
            self.house,
            desk,
            self.adoption,
            self.kept(world.codes),
            self.kept(world.conversations),
            _condition,
            rooms.evidence(),
        )
        self.works = [self._work(room) for room in self.rooms.values()]
        for work in self.works:
            self.spawn(work.run(), f"{self.name}:work:{work.room.tenant}")
        self.spawn(self._sweep(), f"{self.name}:sweep")

    async def _room(self, tenant: str) -> Room:
        world = self.world
        disk = Disk(world.store, self.life, world.weather)
        ledger = Ledger(tenant, disk, world.clock, random.Random(f"{self.name}{tenant}"))
        await ledger.sweep()
        proposed = world.files[tenant]
        room = Room(
            tenant=tenant,
            ledger=ledger,
            rulebook=Rulebook(),
            roster=Roster(tenant, "salt", world.links),
            store=disk,
            clock=world.clock,
            proposed=proposed,
            proposed_policy=proposed.effective_policy(),
            charters=self.kept(world.charters),
        )
        room.rulebook.add(room.proposed, room.proposed_policy)
        with suppress(StoreDown):
            await find_rules(room)
        return room

    def _work(self, room: Room) -> Work:
        world = self.world
        tools = Tools(
            clock=world.clock,
            process=self.name,
            health=Pulse(world),
            models={"A": Mind("model-a", world), "B": Mind("model-b", world)} if world.minds else {},
            webhook=Line(self),
            secrets=world,
            states=self.kept(world.states),
            adoption=self.adoption,
            outbox=self.outbox,
            looks=asyncio.Semaphore(64),
            interval_s=5.0,
        )
        notify = Notify(
            room.ledger,
            self.outbox,
            self.kept(world.cards),
            room.rulebook,
            lambda charter, view: room.addresses(),
            Press(self.kept(world.codes)),
            self.channels,
            world.clock,
            self.name,
            lambda charter, view, name: room.reach(name),
        )
        lease = Lease(self._redis, world.clock, room.tenant, self.name)
        work = tenant_work(room, tools, Detect(room.ledger, room.rulebook), notify, lease)
        work.poller.jitter = random.Random(f"{self.name}{room.tenant}")
        return work

    async def _redis(self, *command: Any) -> int:
        """What the lease asks of Redis: whether it is ours."""
        await self.life.step()
        self.world.weather.reach()
        if command[0] == "SET":
            return int(command[1].removeprefix("bot:lease:") in self.granted)
        if command[1] == RENEW:
            return int(command[3].removeprefix("bot:lease:") in self.granted)
        return 0

    async def _sweep(self) -> None:
        while True:
            for room in self.rooms.values():
                await room.ledger.sweep()
                with suppress(StoreDown):
                    await find_rules(room)
            await asyncio.sleep(1.0)

    async def _post(self, room: Room, person: Person, answer: Answer) -> bool:
        for to in room.private(person):
            with suppress(SendError):
                await self.outbox.say(self.channels[to.channel], room.tenant, to, answer)
                return True
        return False

    def tap(self, chat: str, person: str, data: str, act: Act) -> tuple[str, Tap]:
        """What a button's data means where it was tapped, and for whom: as Telegram's receiver reads it."""
        tenants = [room.tenant for room in self.house.of("telegram", chat, person)] or [""]
        read = [(tenant, self.world.tokens.read(data, tenant, chat)) for tenant in tenants]
        tenant, choice = next((found for found in read if found[1].genuine), read[0])
        return tenant, Tap(
            "telegram", person, chat, choice.verb, choice.anchor, act, choice.option, choice.genuine,
            private=not chat.startswith("-"),
        )  # fmt: skip


async def _audit(room: Room, person: Person, incident: Incident, act: Act) -> Answer:
    return await auditing_rows.told(room, Scope(incident=incident.id), "UTC")


def _condition(room: Room) -> list[str]:
    return [f"Ledger: {room.ledger.view.head.seq} entries."]


# --- the world ----------------------------------------------------------------------------------------


@dataclass
class Asked:
    """Something that a person did: who, where, and what they were told. `tap`: a button, not words."""

    update: str
    who: str
    chat: str
    what: str
    tap: bool
    tenant: str = ""
    verb: str = ""
    answer: Answer | None = None
    answered: bool = False
    at_ms: int = 0


class World:
    """Everything that outlives a process, and everything outside. It is also every tenant's `Secrets`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = LoopClock()
        self.context = copy_context()
        self.store = MemoryStore()
        self.weather = Weather()
        self.tokens = Tokens(SECRET, self.clock)
        self.codes = MemoryCodes(self.clock, self.chance.randrange)
        self.links, self.cards = MemoryLinks(), MemoryShown()
        self.conversations = MemoryConversations(self.clock)
        self.states, self.charters = MemoryStates(), MemoryCharters()
        self.files = {tenant: charter(tenant, self._approve(), self._risk()) for tenant in CHATS}
        self.receiver = Receiver(self)
        self.how = {(tenant, s.id): "well" for tenant in CHATS for s in self.files[tenant].services}
        self.minds = self.chance.random() < 0.8
        self.hanging: set[str] = set()
        self.bad_sends = 0.0
        self.sent: list[Sent] = []
        self.shown: list[Shown] = []
        self.asked: list[Asked] = []
        self.treason: list[Entry] = []
        self.minted: set[tuple[str, str, str]] = set()
        self.messages = 0
        self.failures: list[tuple[int, int]] = []
        self.born = 0
        self.processes: list[Process] = []
        self.dead: list[Process] = []
        self.troubles: list[tuple[int, int]] = []
        self._people: list[asyncio.Task] = []

    def _approve(self) -> str:
        return self.chance.choice(["1 oncall", "1 oncall", "2 oncall", "2 oncall or 1 admin"])

    def _risk(self) -> str:
        return self.chance.choice(["low", "low", "high"])

    def now_ms(self) -> int:
        return epoch_ms(self.clock.now())

    def get(self, name: str) -> bytes:
        return b"whsec_c2VjcmV0IG9mIGNoZWNrb3V0" if name.startswith("ACME") else b"whsec_YmV0YSBiZXRhIGJldGE="

    def mint(self, tenant: str, chat: str, verb: Verb, option: str, anchor: str) -> str:
        """A button of ours, for this tenant and chat."""
        data = self.tokens.mint(tenant, chat, verb, option, anchor)
        self.minted.add((tenant, chat, data))
        return data

    def length(self, tenant: str) -> int:
        return len(self.store._logs[tenant])

    def log(self, tenant: str) -> list[Entry]:
        return list(self.store._logs[tenant])

    def view(self, tenant: str) -> View:
        return fold(tenant, self.log(tenant))

    async def born_again(self) -> Process:
        """A new process begins."""
        self.born += 1
        process = Process(self, f"web.{self.born}")
        asyncio.create_task(self._buries(process), context=self.context)  # noqa: RUF006  it holds itself
        with suppress(Died):
            await process.does(process.start())
            self.processes.append(process)
        return process

    async def _buries(self, process: Process) -> None:
        await process.life.end()
        self.troubled()
        self.dead.append(process)
        if process in self.processes:
            self.processes.remove(process)

    def lease(self, *lucky: Process) -> None:
        """These processes work from now on; others only take taps."""
        for process in self.processes:
            process.granted = set(CHATS) if process in lucky else set()
        self.troubled()

    def troubled(self, since_ms: int = 0) -> None:
        """From *since_ms*, or just now, nobody could be expected to be as quick as always."""
        self.troubles.append((since_ms or self.now_ms(), self.now_ms()))

    def acts(self, who: str, chat: str, what: str, *, tap: bool, update: str = "") -> None:
        """A person taps the button *what*, or types *what*. It comes again until a process handled it."""
        update = update or str(len(self.asked) + 1)
        asked = Asked(update, who, chat, what, tap, at_ms=self.now_ms())
        self.asked.append(asked)
        self._people.append(asyncio.create_task(self._arrives(asked), context=self.context))

    async def _arrives(self, asked: Asked) -> None:
        act = Act(channel="telegram", update=asked.update, digest="d" * 64, at_ms=asked.at_ms)
        while not asked.answered:
            process = self.chance.choice(self.processes) if self.processes else None
            if process:
                with suppress(Died, StoreDown):
                    asked.answer = await process.does(self._hears(process, asked, act))
                    asked.answered = True
                    return
            await asyncio.sleep(1.0)

    async def _hears(self, process: Process, asked: Asked, act: Act) -> Answer | None:
        await process.life.step()
        person, private = PEOPLE[asked.who], not asked.chat.startswith("-")
        if asked.tap:
            asked.tenant, tap = process.tap(asked.chat, person, asked.what, act)
            asked.verb = tap.verb.value
            answer = await process.commands.tapped(asked.tenant, tap)
        else:
            asked.tenant = next((r.tenant for r in process.house.of("telegram", asked.chat, person)), "")
            said = Said("telegram", person, asked.chat, asked.what, act, private)
            answer = await process.commands.said(asked.tenant, said)
        await process.life.step()
        return answer

    async def quiet(self) -> None:
        """Until everybody was answered."""
        await asyncio.gather(*self._people)

    async def opens(self) -> None:
        """The first process starts, and each tenant's admin adopts the charter with the console's code."""
        self.lease(await self.born_again())
        for tenant, admin in ADMIN.items():
            self.acts(admin, PEOPLE[admin], f"/start {console_code(SECRET, tenant)}", tap=False)
        await self.quiet()
        for tenant in CHATS:
            assert self.view(tenant).rules.charter, tenant


def under_virtual_time(make: Callable[[], Awaitable[Any]]) -> Any:
    """What comes of it, on a loop of its own whose time leaps."""

    async def run() -> Any:
        return await make()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())
