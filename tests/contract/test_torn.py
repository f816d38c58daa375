"""A server whose last write was cut off, or spoiled, on its disk: the ledger has all of a batch or none."""

import asyncio
import collections
import os
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import pytest

from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.embedded import CannotStart, EmbeddedValkey, _command, _last_words
from ledger.events import Actor, Event, Started, Stopped
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.note import read_note
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from ledger.store import Sealed, StoreDown
from tests.servers import LONG_S, SMALL, shorten_segments, verified

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torn"), pytest.mark.timeout(600)]

KEY = seed_of(b"k" * 32)
BOT = Actor.orchestrator("b")
HANDS = 6
MEMORY = next(place for place in ("/dev/shm", "/tmp") if os.access(place, os.W_OK))
"""Where files are quick: what was torn is torn by us, and no disk is asked."""
EACH = 64
"""Of so many cuts the whole of `python -m ledger verify` is run on one."""
CONFIRMED, OLDER = "confirmed", "older"
"""Where a note outside the server lies that knows the last batch, and where one that does not."""


@dataclass(frozen=True)
class Written:
    """What a server left on its disk, and where in its log the last batch begins."""

    folder: Path
    content: bytes
    start: int
    entries: list[Entry]
    last: int
    """How many of the entries are the last batch."""

    @property
    def before(self) -> list[Entry]:
        return self.entries[: -self.last]


def log_of(folder: Path) -> Path:
    (log,) = (folder / "appendonlydir").glob("*.incr.aof")
    return log


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[RedisStore]:
    """A store on a server that starts on what is in *folder*, called as ours is. Raises CannotStart.

    Its supervisor is left out: it is tried elsewhere, and there are two thousand starts here.
    """
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.DEVNULL)
    server = EmbeddedValkey(folder)
    process = await asyncio.create_subprocess_exec(*_command(folder, server.socket), **quiet)
    store = RedisStore(connect(server.url), segment=SMALL)
    try:
        async with asyncio.timeout(LONG_S):
            while not await answers(store):
                if process.returncode is not None:
                    raise CannotStart(_last_words(folder))
                await asyncio.sleep(0.003)
        yield store
    finally:
        await store.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answers(store: RedisStore) -> bool:
    try:
        return bool(await store.commands("PING"))
    except StoreDown:
        return False


@asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[RedisStore]:
    server = EmbeddedValkey(folder)
    await server.start()
    store = RedisStore(connect(server.url), segment=SMALL)
    try:
        yield store
    finally:
        await store.close()
        await server.stop()


def a_ledger(store: RedisStore, state: Path | None = None, *, keeps: bool = False) -> Ledger:
    outside = NoteFile(state, "a", keeps=keeps) if state else None
    return Ledger("a", store, WallClock(), random.Random(1), signer=KEY, outside=outside)


async def say(ledger: Ledger, event: Event | None = None) -> Entry:
    made = await ledger.record(BOT, lambda view, now: event or Stopped())
    assert isinstance(made, Entry), made
    return made


async def written(folder: Path, last: int) -> Written:
    """A log of two entries, whose third batch is *last* entries: two of them go into two segments."""
    async with supervised(folder) as store:
        older = a_ledger(store, folder / OLDER, keeps=True)
        await say(older, Started(signer=older.notary.key))
        await say(older)
        await older.close()
        start = log_of(folder).stat().st_size
        ledger = a_ledger(store, folder / CONFIRMED, keeps=True)
        await ledger.catch_up()
        await asyncio.gather(*(say(ledger) for _ in range(last)))
        await ledger.close()
        assert ledger.calls == 1, "they went as one batch"
        entries = await store.read("a", 0, 100)
    return Written(folder, log_of(folder).read_bytes(), start, entries, last)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cs-", dir=MEMORY) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    shorten_segments(monkeypatch)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Two thousand servers start here: who waits for one is told that it is slow elsewhere."""
    monkeypatch.setattr("ledger.ledger.PATIENCE_S", float(LONG_S))


async def for_each(written: Written, count: int, judge: Callable[[Path, int], Awaitable[str]]) -> list[str]:
    """What *judge* says of each number below *count*; a few at a time, each in a folder of its own."""
    numbers, said = iter(range(count)), [""] * count

    async def hand() -> None:
        with tempfile.TemporaryDirectory(prefix="cs-", dir=MEMORY) as place:
            own = Path(place) / "f"
            await asyncio.to_thread(copytree, written.folder, own, ignore=lambda *_: {"valkey.sock"})
            for number in numbers:
                said[number] = await judge(own, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(HANDS):
            group.create_task(hand())
    return said


async def opens(store: RedisStore, state: Path | None = None) -> str:
    """Nothing if a process that begins takes the log for whole, or why it is sealed."""
    ledger = a_ledger(store, state)
    try:
        await ledger.catch_up()
    except Sealed:
        return ledger.sealed
    finally:
        await ledger.close()
    return ""


async def goes_on(store: RedisStore, found: list[Entry]) -> None:
    """A writer who was told of *found* goes on, and signs all of it."""
    ledger = a_ledger(store)
    more = await say(ledger)
    await ledger.close()
    assert await store.read("a", 0, 100) == [*found, more]
    assert read_note(await store.note("a"))[0].size == more.seq


async def verifies(store: RedisStore, url: str) -> None:
    ledger = a_ledger(store)
    await ledger.catch_up()
    assert await asyncio.to_thread(verified, url, "a", ledger.notary.vkey) == 0


async def test_a_batch_torn_at_any_byte_is_there_whole_or_not_at_all(folder):
    """A power cut in the middle of a write leaves a file that ends anywhere."""
    torn = await written(folder, 2)
    length = len(torn.content) - torn.start

    async def judge(own: Path, cut: int) -> str:
        log_of(own).write_bytes(torn.content[: torn.start + cut])
        async with running(own) as store:
            found = await store.read("a", 0, 100)
            assert found in (torn.before, torn.entries), cut
            whole = found == torn.entries
            sealed = await opens(store, own / CONFIRMED)
            assert sealed.startswith("rollback detected") is not whole, "who was told of the batch misses it"
            assert not await opens(store, own / OLDER), "who was not told of it misses nothing"
            await goes_on(store, found)
            if cut % EACH in {0, length % EACH}:
                await verifies(store, EmbeddedValkey(own).url)
        return "whole" if whole else "none"

    said = await for_each(torn, length + 1, judge)
    assert said == ["none"] * length + ["whole"]


async def test_a_spoiled_byte_of_a_batch_is_never_taken_for_what_was_written(folder):
    """One bit at each byte. Either the server says that its file is bad, or the ledger is as it was, or it
    lacks the batch, which who was told of it notices, or it is sealed. Never is another entry believed."""
    spoiled = await written(folder, 1)
    bits = random.Random(7)
    flips = [1 << bits.randrange(8) for _ in range(len(spoiled.content) - spoiled.start)]

    async def judge(own: Path, at: int) -> str:
        content = bytearray(spoiled.content)
        content[spoiled.start + at] ^= flips[at]
        log_of(own).write_bytes(content)
        try:
            async with running(own) as store:
                return await judged(store, own)
        except CannotStart as refused:
            return "refused" if "the append only file" in str(refused) else str(refused)

    async def judged(store: RedisStore, own: Path) -> str:
        sealed = await opens(store)
        noticed = await opens(store, own / CONFIRMED)
        if sealed:
            assert noticed
            return "sealed"
        found = await store.read("a", 0, 100)
        assert found in (spoiled.before, spoiled.entries)
        assert bool(noticed) is (found == spoiled.before)
        await goes_on(store, found)
        return "none" if noticed else "whole"

    said = collections.Counter(await for_each(spoiled, len(flips), judge))
    assert set(said) == {"refused", "sealed", "none", "whole"}
    assert said["sealed"] > len(spoiled.entries[-1].line), "each byte of the entry, and of its note"
