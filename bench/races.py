"""Executors against each other and against kill -9, on a real store: one call and one outcome each.

    python -m bench.races [--races 400] [--kills 500]

A race is one authorization that eight executors, each with a ledger of its own, see at the same moment. A
kill is an executor's process that dies by SIGKILL at a random moment of the milliseconds after an
authorization; what it left is finished by the next. Bars: one call a race, and no authorization without an
outcome.
"""

import argparse
import asyncio
import multiprocessing
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

from aiohttp import web

from bot.sandbox.loopback import serve
from detectors.policy import Policy
from detectors.verdict import Verdict
from handlers.adapters.webhook import HttpWebhook
from handlers.charter import Charter, parse
from handlers.execute import Executor
from handlers.ports import Call, PortError, Reply, Rulebook, Webhook
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Actor, Event, Reading, Ref
from ledger.ledger import Ledger
from ledger.machine import OUTCOMES, unsettled
from ledger.redis_store import RedisStore, connect
from ledger.view import epoch_ms, fold

EXECUTORS, A_LOG = 8, 50
"""A_LOG: so many authorizations a tenant, so that reading a log does not become what is measured."""
LOADED = ["handlers.execute", "handlers.adapters.webhook", "ledger.embedded", "bot.sandbox.loopback"]
MOST_DELAY_S, SETTLED_S, LOOK_S = 0.025, 90.0, 0.002
RUDO, POLICY, BOT = Actor.engineer("rudo", "telegram"), Actor.policy(), Actor.orchestrator("bench")
HEAD = """
[tenant]
id = "{tenant}"
allow_networks = ["127.0.0.0/8"]
[limits]
services = {count}
[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall"]
"""
SERVICE = """
[[services]]
id = "s{n}"
health_url = "http://127.0.0.1:9/health/alerts"
[[services.actions]]
id = "restart"
title = "Restart"
webhook = "{url}"
secret_env = "{prefix}_RECOVERY"
approve = "1 oncall"
idempotent = true
default = true
"""


class Blind:
    """A Watch that has seen nothing yet."""

    def verdict(self, tenant: str, service: str) -> Verdict | None:
        return None

    def reachable(self, tenant: str, service: str) -> bool:
        return True

    def deploy(self, tenant: str, service: str) -> str:
        return ""


class Purse:
    def get(self, name: str) -> bytes | None:
        return b"a secret of this measurement alone"


@dataclass
class Counting:
    """A webhook in memory that takes five milliseconds and counts."""

    calls: Counter[str] = field(default_factory=Counter)

    async def post(self, call: Call) -> Reply:
        self.calls[call.idempotency_key] += 1
        await asyncio.sleep(0.005)
        return Reply(200, b"{}", 5)


def charter(tenant: str, url: str) -> Charter:
    services = [SERVICE.format(n=n, url=url, prefix=tenant.upper()) for n in range(A_LOG)]
    return parse(HEAD.format(tenant=tenant, count=A_LOG) + "".join(services))


@dataclass
class Seat:
    """One executor with a ledger and a connection of its own."""

    store: RedisStore
    ledger: Ledger
    executor: Executor
    rules: Charter

    @classmethod
    async def take(cls, socket: str, rules: Charter, webhook: Webhook, name: str) -> "Seat":
        store, clock, book = RedisStore(connect(socket)), WallClock(), Rulebook()
        book.add(rules, Policy())
        ledger = Ledger(rules.tenant.id, store, clock, random.Random(name))
        await ledger.catch_up()
        await ledger.sweep()
        return cls(store, ledger, Executor(ledger, book, Blind(), Purse(), webhook, clock, name), rules)

    async def close(self) -> None:
        await self.ledger.close()
        await self.store.close()

    async def work(self) -> None:
        """Do what is due, as the loop would."""
        await self.ledger.catch_up()
        now_ms = epoch_ms(self.ledger.now())
        due = [one for one in self.executor.due(self.ledger.view, now_ms) if one.at_ms <= now_ms]
        for one in due:
            with suppress(PortError):
                await self.executor.do(one)

    async def write(self, actor: Actor, event: Event) -> Entry:
        made = await self.ledger.record(actor, lambda view, now: event)
        assert isinstance(made, Entry), made
        return made

    async def adopt(self) -> None:
        policy = Policy()
        adopted = ev.CharterAdopted(
            digest=self.rules.digest(), policy_digest=policy.digest(), policy_label=policy.label
        )
        await self.write(RUDO, adopted)

    async def authorize(self, n: int) -> str:
        """An incident of service *n*, and Rudo's tap on it. Returns the hash of the authorization."""
        name, action = f"s{n}-1", self.rules.services[n].actions[0]
        digest = action.digest(f"s{n}")
        option = ev.Option(key="1", action=action.id, approve=action.approve, digest=digest)
        sick = Reading(
            service=f"s{n}", rule="r", signal="errors", severity="critical", headline="x", explanation="x"
        )
        await self.write(POLICY, ev.Detected(incident_id=name, reading=sick))
        await self.write(BOT, ev.Proposed(incident_id=name, options=(option,)))
        deadline_ms = epoch_ms(self.ledger.now()) + 300_000
        asked = await self.write(
            POLICY, ev.Validated(incident_id=name, options=(option,), deadline_ms=deadline_ms)
        )
        authorized = ev.Authorized(
            incident_id=name,
            option="1",
            action=action.id,
            digest=digest,
            voters=("rudo",),
            ref=Ref(seq=asked.seq, hash=asked.hash),
        )
        return (await self.write(RUDO, authorized)).hash


@asynccontextmanager
async def a_server() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vk") as folder:
        server = EmbeddedValkey(Path(folder))
        await server.start()
        store = RedisStore(connect(server.url_of("deploy")))
        await store.load_functions()
        await store.close()
        try:
            yield server.url
        finally:
            await server.stop()


def of_tenants(count: int) -> list[tuple[str, int]]:
    """The tenants' names, and how many authorizations each has."""
    return [(f"t{n}", min(A_LOG, count - n * A_LOG)) for n in range(-(-count // A_LOG))]


# --- races ----------------------------------------------------------------------------------------------


async def races(count: int) -> Counter[int]:
    """How many authorizations were called so many times."""
    webhook, keys = Counting(), []
    async with a_server() as socket:
        for tenant, ours in of_tenants(count):
            rules = charter(tenant, "http://127.0.0.1:9/recover")
            seats = [await Seat.take(socket, rules, webhook, f"web.{n}") for n in range(EXECUTORS)]
            await seats[0].adopt()
            for n in range(ours):
                keys.append(await seats[0].authorize(n))
                await asyncio.gather(*(seat.work() for seat in seats))
            log = await seats[0].store.read(tenant, 0, 10_000)
            assert unsettled(fold(tenant, log).incidents.values()) == []
            for seat in seats:
                await seat.close()
    return Counter(webhook.calls[key] for key in keys)


# --- kill -9 --------------------------------------------------------------------------------------------


def execute(socket: str, tenant: str, url: str, name: str, ready: Connection) -> None:
    """A process that executes until it is killed."""
    asyncio.run(_execute(socket, tenant, url, name, ready))


async def _execute(socket: str, tenant: str, url: str, name: str, ready: Connection) -> None:
    seat = await Seat.take(socket, charter(tenant, url), HttpWebhook(), name)
    ready.send(True)
    while True:
        await seat.work()
        await asyncio.sleep(LOOK_S)


@dataclass
class Books:
    """What the receiver saw and what the ledgers say. `ran` counts by key, `tries` by key and attempt."""

    ran: set[str] = field(default_factory=set)
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    without: int = 0
    wrong: int = 0

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        key = request.headers["idempotency-key"]
        self.tries[key, request.headers["countersign-attempt"]] += 1
        await asyncio.sleep(0.004)
        self.ran.add(key)
        return web.json_response({"ok": True})

    def close(self, tenant: str, log: list[Entry]) -> None:
        """Add up one tenant's."""
        self.without += len(unsettled(fold(tenant, log).incidents.values()))
        names = {kind.__name__ for kind in OUTCOMES}
        for entry in log:
            if entry.event in names and entry.ref:
                self.outcomes[entry.event] += 1
                ran = entry.ref["hash"] in self.ran
                self.wrong += (entry.event == "Executed" and not ran) or (entry.event == "StoodDown" and ran)


async def kills(count: int) -> Books:
    """Kill *count* executors, then let one finish what is left of each tenant."""
    books, chance = Books(), random.Random(7)
    app = web.Application()
    app.router.add_post("/recover", books.take)
    served = await serve(app)
    url = f"{served.url}/recover"
    async with a_server() as socket:
        seats, finishing = {}, []
        for tenant, ours in of_tenants(count):
            seat = seats[tenant] = await Seat.take(socket, charter(tenant, url), Counting(), "tap")
            await seat.adopt()
            for n in range(ours):
                await _kill_one(seat, socket, url, n, chance.uniform(0, MOST_DELAY_S))
            finishing.append(asyncio.create_task(_finish(seat, socket, url)))
        await asyncio.gather(*finishing)
        for tenant, seat in seats.items():
            books.close(tenant, await seat.store.read(tenant, 0, 10_000))
            await seat.close()
    await served.close()
    return books


async def _kill_one(seat: Seat, socket: str, url: str, n: int, after_s: float) -> None:
    context = multiprocessing.get_context("forkserver")
    ready, told = context.Pipe(duplex=False)
    process = context.Process(
        target=execute, args=(socket, seat.ledger.tenant, url, f"web.{n}", told), daemon=True
    )
    process.start()
    told.close()
    try:
        await asyncio.to_thread(ready.recv)
        await seat.ledger.catch_up()
        await seat.authorize(n)
        await asyncio.sleep(after_s)
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        process.close()
        ready.close()


async def _finish(seat: Seat, socket: str, url: str) -> None:
    last = await Seat.take(socket, seat.rules, HttpWebhook(), "web.last")
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLED_S):
            while unsettled(last.ledger.view.incidents.values()):
                await last.work()
                await asyncio.sleep(0.05)
    await last.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--races", type=int, default=400)
    options.add_argument("--kills", type=int, default=500)
    asked = options.parse_args()
    began = perf_counter()
    found = asyncio.run(races(asked.races))
    met = "met" if found == {1: asked.races} else "MISSED"
    print(f"{asked.races} races of {EXECUTORS} executors: calls by race {dict(found)} (bar: one each, {met})")
    print(f"  in {perf_counter() - began:.0f} s")
    multiprocessing.set_forkserver_preload(LOADED)
    began = perf_counter()
    books = asyncio.run(kills(asked.kills))
    twice = sum(times > 1 for times in books.tries.values())
    met = "met" if not (books.without or books.wrong or twice) else "MISSED"
    print(
        f"{asked.kills} executors killed with SIGKILL: {books.without} authorizations without outcome ({met})"
    )
    calls = sum(books.tries.values())
    print(f"  {calls} calls for {len(books.ran)} that ran: {calls - len(books.ran)} were asked for again")
    print(f"  {dict(books.outcomes)}, {twice} tries called twice, {books.wrong} outcomes that are not true")
    print(f"  in {perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
