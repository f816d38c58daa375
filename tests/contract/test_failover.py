"""A replica takes over: what it confirmed is there, and what it never had is missed by who was told of it."""

import asyncio
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.events import Actor, Stopped
from ledger.ledger import AWAY, Ledger
from ledger.outside import NoteFile
from ledger.redis_store import Commands, RedisStore, connect
from tests.appender import KEY
from tests.servers import KINDS, LONG_S, bare, shorten_segments, url_of, verified

BOT = Actor.orchestrator("bot")
SEGMENT = 16


@dataclass
class Pair:
    """Two servers, each in a folder of its own, and what is kept of the log outside of both."""

    kind: str
    primary: Path
    replica: Path
    port: int
    stack: AsyncExitStack
    process: asyncio.subprocess.Process | None = None

    def store(self, folder: Path, user: str = "app") -> RedisStore:
        store = RedisStore(connect(url_of(folder, user)), segment=SEGMENT)
        self.stack.push_async_callback(store.close)
        return store

    def owner(self, folder: Path) -> Commands:
        return self.store(folder, "owner").commands

    def ledger(self, folder: Path) -> Ledger:
        outside = NoteFile(self.primary / "state", "acme")
        ledger = Ledger(
            "acme", self.store(folder), WallClock(), random.Random(1), signer=KEY, outside=outside
        )
        self.stack.push_async_callback(ledger.close)
        return ledger

    async def follow(self) -> None:
        """The replica follows, and has all that the primary has."""
        call = self.owner(self.replica)
        for name, value in {"masteruser": "owner", "masterauth": "owner's"}.items():
            await call("CONFIG", "SET", name, value)
        await call("REPLICAOF", "127.0.0.1", self.port)
        primary = self.owner(self.primary)

        async def caught_up() -> bool:
            _, offset, replicas = await primary("ROLE")
            return bool(replicas) and int(replicas[0][2]) == offset

        await until(caught_up)

    async def promote(self) -> None:
        await self.owner(self.replica)("REPLICAOF", "NO", "ONE")

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await holds():  # noqa: ASYNC110 (it waits for another process)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two(kind: str, **settings: object) -> AsyncIterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))) for _ in range(2)]
        settings |= {"port": port, "repl_diskless_sync_delay": 0}
        process = await stack.enter_async_context(bare(kind, folders[0], **settings))
        await stack.enter_async_context(bare(kind, folders[1]))
        pair = Pair(kind, *folders, port, stack, process)
        await pair.store(folders[0], "deploy").load_functions()
        yield pair


@pytest.fixture(params=KINDS)
async def pair(request, monkeypatch) -> AsyncIterator[Pair]:
    shorten_segments(monkeypatch, SEGMENT)
    async with two(request.param) as pair:
        yield pair


async def say(ledger: Ledger) -> Entry:
    made = await ledger.record(BOT, lambda view, now: Stopped())
    assert isinstance(made, Entry), made
    return made


async def test_what_a_replica_confirmed_is_on_the_server_that_takes_over(pair):
    """The primary is killed while four at once write."""
    await pair.follow()
    ledger = pair.ledger(pair.primary)
    confirmed: list[Entry] = []

    async def write() -> None:
        while isinstance(made := await ledger.record(BOT, lambda view, now: Stopped()), Entry):
            confirmed.append(made)

    writers = [asyncio.create_task(write()) for _ in range(4)]

    async def enough() -> bool:
        return len(confirmed) > 3 * SEGMENT

    await until(enough)
    await pair.kill()
    await asyncio.wait(writers)
    await ledger.close()
    await pair.promote()
    after = pair.ledger(pair.replica)
    await after.sweep()
    assert after.sealed == ""
    entries = await pair.store(pair.replica).read("acme", 0, 100_000)
    assert {entry.hash for entry in confirmed} <= {entry.hash for entry in entries}
    assert (await say(after)).seq == len(entries) + 1
    assert await asyncio.to_thread(verified, url_of(pair.replica, "app"), "acme", after.notary.vkey) == 0


async def test_what_no_replica_has_is_missed_when_it_takes_over(pair):
    """Who does not know of the replica goes on beside it; what he confirmed is lost, and noticed."""
    ledger = pair.ledger(pair.primary)
    await say(ledger)
    await pair.follow()
    await pair.promote()
    lost = await say(ledger)
    await ledger.close()
    await pair.kill()
    after = pair.ledger(pair.replica)
    await after.sweep()
    assert after.sealed.startswith(f"rollback detected: it has 1 entries, and the note in {pair.primary}")
    assert f"says {lost.seq}" in after.sealed
    assert len(await pair.store(pair.replica).read("acme", 0, 10)) == 1


async def test_the_wrong_half_of_a_split_confirms_nothing(pair):
    """Who has seen a replica does not count what none confirms."""
    await pair.follow()
    ledger = pair.ledger(pair.primary)
    await ledger.sweep()
    await say(ledger)
    await pair.promote()
    assert await ledger.record(BOT, lambda view, now: Stopped()) == AWAY
    assert not ledger.may_act()
    after = pair.ledger(pair.replica)
    await after.sweep()
    assert (after.sealed, after.view.head.seq) == ("", 1)


@pytest.mark.parametrize(
    ("setting", "on", "off"),
    [("min-replicas-to-write", 1, 0), ("maxmemory", 1, 0)],
    ids=["replicas", "memory"],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_refuses_writes_has_written_nothing_and_people_are_told_at_once(
    kind, setting, on, off
):
    """`min-replicas-to-write`, as a replicated server should have it; or a server that is full."""
    async with two(kind) as pair:
        ledger, owner = pair.ledger(pair.primary), pair.owner(pair.primary)
        await owner("CONFIG", "SET", setting, on)
        assert await ledger.record(BOT, lambda view, now: Stopped()) == AWAY
        assert ledger.calls == 1, "it does not ask again and again"
        assert not ledger.may_act()
        assert await owner("KEYS", "led:*") == []
        await owner("CONFIG", "SET", setting, off)
        assert (await say(ledger)).seq == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_was_demoted_takes_no_entry(kind):
    async with two(kind) as pair:
        ledger = pair.ledger(pair.primary)
        await say(ledger)
        await pair.follow()
        demoted = pair.ledger(pair.replica)
        assert await demoted.record(BOT, lambda view, now: Stopped()) == AWAY
        assert (await say(ledger)).seq == 2
