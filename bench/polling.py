"""What it costs to look at many services, and for how long the loop ever stands still.

    python -m bench.polling                 both figures below
    python -m bench.polling pass [500]      one pass over so many services, as fast as it goes
    python -m bench.polling steady [5000]   so many services at five seconds each, half a minute long

The services answer slots over real HTTP from a process of their own; fetching, parsing, judging, keeping and
the ledger's view are the program's own. Beside each stands the floor: bare GETs of the same bodies with
aiohttp, nothing done with them. CPU is this process's, so it holds where others work too. A stall
is told twice: as CPU of ours, and as the clock saw it.
"""

import asyncio
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import batched
from multiprocessing.connection import Connection

import aiohttp

from bot.garbage import spare
from handlers.adapters.health import HttpHealth
from handlers.charter import Charter, Service, Tenant
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.clock import WallClock
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.store import MemoryStore

PASSES = 9
ROUTES = 8
INTERVAL_S = 5.0
WARM_S = 15.0
STEADY_S = 30.0
BAR_MS = 50
AT_ONCE = 128


# --- the services: a process of their own ------------------------------------------------------------


@lru_cache(maxsize=256)
def answer(since: int, second: int) -> bytes:
    """A healthy app's slots since *since*: 24 requests a second over eight routes, now faster, now slower."""
    newest = second - 1
    slots = [slot(t) for t in range(max(since + 1, newest - 5), newest + 1)]
    told = {"schema": "slots/1", "service": "s", "now_ms": second * 1000, "slots": slots, "inflight": 2}
    return json.dumps(told | {"saturation": [{"name": "db_pool", "used": 3, "limit": 20}]}).encode()


def slot(t: int) -> dict[str, object]:
    slow = 640 + t % 7
    routes = [{"route": f"GET /{n}", "n": 3, "errors": 0, "hist": [slow, 2, 660, 1]} for n in range(ROUTES)]
    return {"t": t, "n": 24, "errors": 0, "hist": [slow, 16, 660, 8], "routes": routes}


class Answering(asyncio.Protocol):
    """As little of HTTP/1.1 as a client that keeps its connections needs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        since = data.partition(b"since=")[2].partition(b" ")[0]
        body = answer(int(since), time.time_ns() // 1_000_000_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


def serve(port_to: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
        port_to.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


# --- the program's own parts -------------------------------------------------------------------------


class NoSecrets:
    def get(self, name: str) -> bytes | None:
        return None


class NoStates:
    """States are written down as in production, and then let go."""

    async def load(self, tenant: str, service: str) -> None:
        return None

    async def save(self, tenant: str, states: object) -> None:
        await asyncio.sleep(0)


async def adopted(charter: Charter) -> tuple[Ledger, Rulebook]:
    ledger, rules = Ledger("acme", MemoryStore(), WallClock(), random.Random(1)), Rulebook()
    policy = charter.effective_policy()
    rules.add(charter, policy)
    await ledger.record(
        Actor.engineer("rudo", "console"),
        lambda view, now: ev.CharterAdopted(
            digest=charter.digest(), policy_digest=policy.digest(), policy_label=policy.label
        ),
    )
    return ledger, rules


async def a_poller(port: int, count: int) -> tuple[Poller, Charter, HttpHealth]:
    services = tuple(
        Service(id=f"s{n}", health_url=f"http://127.0.0.1:{port}/s{n}/health/alerts") for n in range(count)
    )
    charter = Charter(tenant=Tenant(id="acme", allow_networks=("127.0.0.0/8",)), services=services)
    ledger, rules = await adopted(charter)
    detect, health = Detect(ledger, rules), HttpHealth(NoSecrets(), AT_ONCE)
    looks = asyncio.Semaphore(AT_ONCE)
    chance = random.Random(1)
    poller = Poller(ledger, rules, detect, health, NoStates(), WallClock(), chance, INTERVAL_S, looks)
    return poller, charter, health


# --- measuring ---------------------------------------------------------------------------------------


@dataclass
class Stalls:
    """How long the loop was away between two turns that asked for five ms: by the clock, and CPU of ours."""

    by_clock: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        while True:
            began, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.005)
            self.by_clock.append((time.perf_counter() - began - 0.005) * 1000)
            self.ours.append((time.thread_time() - cpu) * 1000)


@dataclass(frozen=True)
class Cost:
    """What some work came to."""

    wall_s: float
    cpu_s: float
    stalls: Stalls


async def cost(work: Callable[[], Awaitable[object]]) -> Cost:
    stalls = Stalls()
    task = asyncio.create_task(stalls.watch())
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    found = Cost(time.perf_counter() - wall, time.process_time() - cpu, stalls)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


class Bare:
    """The floor: the same addresses by the same client library, and nothing else."""

    def __init__(self, charter: Charter, session: aiohttp.ClientSession) -> None:
        self._urls = [service.health_url for service in charter.services]
        self._session = session
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(self, url: str) -> bytes:
        async with self._turns, self._session.get(f"{url}?format=slots&since={_since()}") as response:
            return await response.read()

    async def all(self) -> None:
        await asyncio.gather(*(self.get(url) for url in self._urls))

    async def steadily(self, seconds: float) -> int:
        """All addresses in each interval, evenly, for *seconds*. Returns how many."""
        pending: set[asyncio.Task[bytes]] = set()
        ends, made, few = time.perf_counter() + seconds, 0, 50
        while True:
            for urls in batched(self._urls, few):
                if time.perf_counter() >= ends:
                    await asyncio.gather(*pending)
                    return made
                pending = {task for task in pending if not task.done()}
                pending |= {asyncio.create_task(self.get(url)) for url in urls}
                made += len(urls)
                await asyncio.sleep(INTERVAL_S * few / len(self._urls))


def _since() -> int:
    return time.time_ns() // 1_000_000_000 - 6


async def passes(port: int, count: int) -> None:
    poller, charter, health = await a_poller(port, count)
    looks, floors = [], []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        bare = Bare(charter, session)

        async def looked() -> None:
            await asyncio.gather(*(poller.look(charter, service) for service in charter.services))

        for _ in range(PASSES):
            floors.append(await cost(bare.all))
            looks.append(await cost(looked))
            await asyncio.sleep(1.1)
    await health.close()
    print(f"{count} services in one pass, {PASSES - 1} passes after a first one{troubles(poller)}")
    row("", "wall, median", "best", "CPU a look", "longest stall (by clock)")
    for name, found in (("looked at", looks[1:]), ("bare GET", floors[1:])):
        row(
            name,
            f"{statistics.median(one.wall_s for one in found):.2f} s",
            f"{min(one.wall_s for one in found):.2f} s",
            f"{min(one.cpu_s for one in found) / count * 1e6:.0f} µs",
            f"{statistics.median(max(one.stalls.ours) for one in found):.0f} "
            f"({statistics.median(max(one.stalls.by_clock) for one in found):.0f}) ms",
        )


async def steady(port: int, count: int) -> None:
    poller, charter, health = await a_poller(port, count)
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(WARM_S)
    made = poller.made
    ours = await cost(lambda: asyncio.sleep(STEADY_S))
    made = poller.made - made
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await health.close()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        bare, gets = Bare(charter, session), []

        async def floor() -> None:
            gets.append(await bare.steadily(STEADY_S / 3))

        least = await cost(floor)
    print(f"{count} services at {INTERVAL_S:g} s for {STEADY_S:g} s, after {WARM_S:g} s{troubles(poller)}")
    row("", "looks a second", "of those due", "CPU of a core", f"> {BAR_MS} ms (by clock)")
    for name, n, found in (("looked at", made, ours), ("bare GET", gets[0], least)):
        per_s = n / found.wall_s
        row(
            name,
            f"{per_s:.0f}",
            f"{100 * per_s * INTERVAL_S / count:.0f} %",
            f"{100 * found.cpu_s / found.wall_s:.0f} %, {found.cpu_s / n * 1e6:.0f} µs each",
            f"{over(found.stalls.ours)} ({over(found.stalls.by_clock)})",
        )


def troubles(poller: Poller) -> str:
    """What went wrong, though each service is healthy and answers at once: a machine that was too busy."""
    opened = len(poller.ledger.view.incidents)
    return (
        f"; {poller.missed} looks had no answer, {opened} incidents opened" if poller.missed or opened else ""
    )


def over(stalls: list[float]) -> str:
    return f"{sum(one > BAR_MS for one in stalls)}, longest {max(stalls):.0f} ms"


def row(name: str, *cells: str) -> None:
    print(f"{name:10}" + "".join(f"{cell:>26}" for cell in cells))


def main() -> None:
    name, count = ([*sys.argv[1:3], "", ""])[:2]
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        port = mine.recv()
        spare()  # as in production
        print(
            f"{datetime.now(UTC):%Y-%m-%d}. Bars: 500 in one pass < 1 s; 5,000 at 5 s; no stall over 50 ms."
        )
        for one, measured, usual in (("pass", passes, 500), ("steady", steady, 5000)):
            if name in (one, ""):
                asyncio.run(measured(port, int(count or usual)))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
