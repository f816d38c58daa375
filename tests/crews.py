"""A crew's board in memory, on a clock that a test moves, and pollers that share one tenant's services."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field

from detectors.window import Tick
from handlers.charter import Charter, parse
from handlers.crew import Crew, Post
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.ports import Polled, PortError
from ledger.clock import ManualClock
from ledger.ledger import Ledger
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.rooms import CHARTER, Tenant, tenant


@dataclass
class MemoryBoard:
    """A board whose clock may be another one than its readers'; it may be away."""

    clock: ManualClock
    away: bool = False
    posts: list[Post] = field(default_factory=list)
    ids: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def post(self, tenant, by, text, after, most):
        if self.away:
            raise StoreDown("The board is away.")
        self.posts.append(Post(by, epoch_ms(self.clock.now()), text, f"{next(self.ids):09}"))
        self.posts = self.posts[-most:]
        return [post for post in self.posts if post.id > after]


@dataclass
class KeptStates:
    """States that outlive processes, and in which order they were saved and loaded."""

    texts: dict[str, str] = field(default_factory=dict)
    done: list[tuple[str, str]] = field(default_factory=list)

    async def load(self, tenant, service):
        self.done.append(("load", service))
        return self.texts.get(service)

    async def save(self, tenant, states):
        self.done += [("save", service) for service in states]
        self.texts |= states


@dataclass
class Services:
    """Healthy services, but for those that are *down*; knows who looked at which, and when."""

    clock: ManualClock
    down: set[str] = field(default_factory=set)
    looks: list[tuple[float, str, str]] = field(default_factory=list)

    def seen_by(self, process):
        return Seen(self, process)

    def since(self, at):
        """By process: what it looked at from *at* on."""
        found: dict[str, set[str]] = {}
        for when, process, service in self.looks:
            if when >= at:
                found.setdefault(process, set()).add(service)
        return found


@dataclass
class Seen:
    services: Services
    process: str

    async def poll(self, charter, service, cursor, now_ms):
        self.services.looks.append((self.services.clock.now().timestamp(), self.process, service.id))
        if service.id in self.services.down:
            raise PortError("refused")
        return Polled(Tick(now_ms, 5000, 100, 0, 0, 0, {640: 100}, 1, 10), now_ms // 1000)


def many(count: int) -> Charter:
    """Acme's charter with *count* services more."""
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    lines = (
        f'[[services]]\nid = "s{n}"\nhealth_url = "http://127.0.0.1:9000/s{n}/health/alerts"\n'
        for n in range(count)
    )
    return parse(text + "\n[limits]\nservices = 100\n\n" + "\n".join(lines))


@dataclass
class Process:
    """One of the processes that watch acme: its own view of the ledger, its part of the services."""

    name: str
    poller: Poller
    crew: Crew
    paused_s: float = 0.0
    run: asyncio.Task | None = None

    @property
    def detect(self) -> Detect:
        return self.poller.detect

    def start(self) -> None:
        self.run = asyncio.create_task(self.poller.run())

    async def stop(self) -> None:
        """End as SIGTERM would: keep all, and leave."""
        if self.run:
            self.run.cancel()
            await asyncio.gather(self.run, return_exceptions=True)
            self.run = None


@dataclass
class Fleet:
    """Processes on one clock, one board, one store."""

    acme: Tenant
    board: MemoryBoard
    services: Services
    states: KeptStates = field(default_factory=KeptStates)
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def clock(self) -> ManualClock:
        return self.acme.clock

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    async def start(self, *names: str) -> None:
        for name in names:
            room = self.acme.room
            ledger = Ledger("acme", room.store, self.clock, random.Random(name))
            await ledger.sweep()
            crew = Crew(self.board, "acme", name, monotonic=lambda: self.now)
            detect, health = Detect(ledger, room.rulebook), self.services.seen_by(name)
            chance = random.Random(name)
            poller = Poller(
                ledger, room.rulebook, detect, health, self.states, self.clock, chance, share=crew
            )
            self.processes[name] = Process(name, poller, crew)
            self.processes[name].start()

    async def kill(self, name: str) -> None:
        """As kill -9 would: nothing is kept, nobody is told."""
        gone = self.processes.pop(name)
        gone.crew.holds = lambda: False
        await gone.stop()

    async def passes(self, seconds: float) -> None:
        """Time goes by; each process reads the ledger once a second, as the program does."""
        for tenth in range(round(seconds * 10)):
            self.clock.advance(0.1)
            for _ in range(12):
                await asyncio.sleep(0)
            if tenth % 10 == 9:
                for one in self.processes.values():
                    await one.poller.ledger.sweep()

    async def end(self) -> None:
        for one in self.processes.values():
            await one.stop()


async def a_fleet(services: int) -> Fleet:
    acme = await tenant(many(services))
    return Fleet(acme, MemoryBoard(acme.clock), Services(acme.clock))
