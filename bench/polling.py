"""One poll pass over 500 healthy services, and the longest time for which the loop stood still.

    python -m bench.polling [SERVICES]

The services answer slots over real HTTP from a process of their own; fetching, parsing, judging and the
ledger's view are the program's own. Bars: under 1 s for 500, no stall over 50 ms.
"""

import asyncio
import json
import multiprocessing
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from aiohttp import web

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

PASSES = 7
ROUTES = 8


def answer(since: int) -> bytes:
    """A healthy app's slots since *since*: 20 requests a second over eight routes."""
    now_ms = time.time_ns() // 1_000_000
    newest = now_ms // 1000 - 1
    slots = [slot(t) for t in range(max(since + 1, newest - 5), newest + 1)]
    told = {"schema": "slots/1", "service": "s", "now_ms": now_ms, "slots": slots, "inflight": 2}
    return json.dumps(told | {"saturation": [{"name": "db_pool", "used": 3, "limit": 20}]}).encode()


def slot(t: int) -> dict[str, object]:
    routes = [{"route": f"GET /{n}", "n": 3, "errors": 0, "hist": [640, 2, 650, 1]} for n in range(ROUTES)]
    return {"t": t, "n": 24, "errors": 0, "hist": [640, 16, 650, 8], "routes": routes}


def serve(port_to: Connection) -> None:
    async def health(request: web.Request) -> web.Response:
        return web.Response(body=answer(int(request.query["since"])), content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{service}/health/alerts", health)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port_to.send(runner.addresses[0][1])
        await asyncio.sleep(300)

    asyncio.run(run())


class NoSecrets:
    def get(self, name: str) -> bytes | None:
        return None


class NoStates:
    async def load(self, tenant: str, service: str) -> None:
        return None

    async def save(self, tenant: str, states: object) -> None:
        pass


class Stalls:
    """How long the loop was away, at worst, between two turns that asked for a millisecond."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before - 0.001)


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


async def measure(port: int, count: int) -> tuple[list[float], list[float]]:
    services = tuple(
        Service(id=f"s{n}", health_url=f"http://127.0.0.1:{port}/s{n}/health/alerts") for n in range(count)
    )
    charter = Charter(tenant=Tenant(id="acme", allow_networks=("127.0.0.0/8",)), services=services)
    ledger, rules = await adopted(charter)
    detect, health = Detect(ledger, rules), HttpHealth(NoSecrets())
    poller = Poller(ledger, rules, detect, health, NoStates(), WallClock(), random.Random(1))
    passes, stalls = [], []
    for _ in range(PASSES):
        watcher = Stalls()
        task = asyncio.create_task(watcher.watch())
        began = time.perf_counter()
        answered = await asyncio.gather(*(poller.look(charter, service) for service in services))
        passes.append(time.perf_counter() - began)
        stalls.append(watcher.worst)
        task.cancel()
        assert all(answered), "a healthy service did not answer"
        await asyncio.sleep(1.1)
    await health.close()
    assert not ledger.view.incidents, "a healthy service opened an incident"
    return passes[1:], stalls[1:]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        passes, stalls = asyncio.run(measure(mine.recv(), count))
    finally:
        server.terminate()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {count} services, {len(passes)} passes after a first one")
    row("one pass", passes, 1, "s", "< 1 s for 500")
    row("longest stall", stalls, 1000, "ms", "50 ms")


def row(name: str, found: list[float], times: int, unit: str, bar: str) -> None:
    middle, worst = statistics.median(found) * times, max(found) * times
    print(f"{name:14} median {middle:.3g} {unit}, worst {worst:.3g} {unit}   (bar: {bar})")


if __name__ == "__main__":
    main()
