"""Segments leave the server once they are safe elsewhere, and the ledger is read across the seam."""

import asyncio
import contextlib
import gzip
import random
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import events as ev
from ledger.__main__ import main
from ledger.archive import Archive, digest_of
from ledger.chain import GENESIS, Entry, Frontier
from ledger.clock import ManualClock, WallClock
from ledger.events import Actor
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.note import Checkpoint, Signer, origin_of, signed
from ledger.redis_store import SEGMENT, RedisStore, connect
from ledger.retire import retire
from ledger.store import Conflict, Sealed, StoreDown
from ledger.view import fold
from tests.chains import NOON, chain
from tests.valkey import a_valkey

SMALL = 8
DAYS = timedelta(days=90)
BOT = Actor.orchestrator("bot.1")


@dataclass
class Place:
    """A server, a folder, and the stores of whoever works there."""

    url: str
    archiver_url: str
    folder: Path
    closing: contextlib.AsyncExitStack
    clock: ManualClock

    def store(self, *, archiver: bool = False, archive: bool = True) -> RedisStore:
        url = self.archiver_url if archiver else self.url
        made = RedisStore(connect(url), segment=SMALL, archive=self.folder if archive else None)
        self.closing.push_async_callback(made.close)
        return made

    async def ledger(self, store: RedisStore) -> Ledger:
        made = Ledger("acme", store, self.clock, random.Random(1))
        await made.catch_up()
        return made

    async def says(self, count: int) -> None:
        ledger = await self.ledger(self.store())
        for _ in range(count):
            assert isinstance(await ledger.record(BOT, lambda view, now: ev.Watched()), Entry)
        await ledger.close()

    async def retire(self, keep: timedelta = DAYS) -> int:
        store = self.store(archiver=True)
        return await retire(store, await self.ledger(store), Archive(self.folder), keep)

    async def entries(self, **how: bool) -> list[Entry]:
        store, found = self.store(**how), []
        while page := await store.read("acme", len(found), 5):
            found += page
        return found


@pytest.fixture
async def place():
    async with contextlib.AsyncExitStack() as closing:
        server = await closing.enter_async_context(a_valkey())
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-")))
        made = Place(server.url, server.url_of("archiver"), folder, closing, ManualClock(NOON))
        owner = RedisStore(connect(server.url_of("owner")))
        closing.push_async_callback(owner.close)
        await owner.load_functions()
        made.owner = owner
        yield made


async def test_full_segments_leave_but_the_last_and_all_is_read_as_before(place):
    await place.says(4 * SMALL + 3)
    before = await place.entries()
    place.clock.advance(DAYS.total_seconds() + 1)
    assert await place.retire() == 3
    after = await place.entries()
    assert after[: len(before)] == before
    archived = [one for one in after if one.event == "Archived"]
    assert [one.data["segment"] for one in archived] == [0, 1, 2]
    assert archived[1].data["digest"] == digest_of([one.line for one in before[SMALL : 2 * SMALL]])
    assert await place.owner._call("EXISTS", *(f"led:{{acme}}:log:0000{n}" for n in range(3))) == 0
    assert await place.owner._call("TTL", "led:{acme}:log:00003") == -1
    assert await place.owner._call("TTL", "led:{acme}:archived") == -1
    assert fold("acme", after).head == after[-1].head == await place.store().head("acme")
    assert await place.retire() == 0


async def test_the_ledger_goes_on_over_the_seam(place):
    for _ in range(3):
        await place.says(2 * SMALL)
        place.clock.advance(DAYS.total_seconds() + 1)
        await place.retire()
    await place.says(SMALL)
    entries = await place.entries()
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    assert fold("acme", entries).head.seq == len(entries)
    assert await place.store().read("acme", SMALL - 2, 4) == entries[SMALL - 2 : SMALL + 2]


async def test_what_is_young_stays(place):
    await place.says(2 * SMALL)
    place.clock.advance(DAYS.total_seconds() / 2)
    await place.says(2 * SMALL)
    assert await place.retire() == 0
    place.clock.advance(DAYS.total_seconds() / 2 + 60)
    assert await place.retire() == 2
    assert await place.store().archived("acme") == 2


@pytest.mark.parametrize("count", range(SMALL * 2 + 1))
async def test_two_full_segments_are_the_least(place, count):
    await place.says(count)
    assert await place.retire(timedelta(0)) == (1 if count == 2 * SMALL else 0)


SECRET = "k" * 43
WATCHED = {
    "event": "Watched", "incident_id": None, "stage": None, "ref": None, "confidence": None,
    "actor": {"kind": "orchestrator", "id": "bot.1", "via": ""}, "data": ev.Watched().data(),
}  # fmt: skip
STEPS = {
    "write": (Archive, "write"),
    "append": (Ledger, "record"),
    "say": (RedisStore, "set_archived"),
    "drop": (RedisStore, "drop_segment"),
}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_whatever_is_interrupted_is_done_again_and_nothing_twice(place, monkeypatch, step, done):
    """Killed *before* or *after* each step: all is readable at once, and the next run ends it."""
    await place.says(3 * SMALL + 1)
    before = await place.entries()
    place.clock.advance(DAYS.total_seconds() + 1)
    kind, name = STEPS[step]
    real = getattr(kind, name)

    def killed(*given):
        if done and step == "write":
            real(*given)
        raise KeyboardInterrupt

    async def killed_async(*given, **more):
        if done:
            await real(*given, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kind, name, killed if step == "write" else killed_async)
        with pytest.raises(KeyboardInterrupt):
            await place.retire()
    assert (await place.entries())[: len(before)] == before
    await place.says(1)
    await place.retire()
    after = await place.entries()
    assert after[: len(before)] == before
    said = [one.data["segment"] for one in after if one.event == "Archived"]
    assert said == [0, 1]
    assert await place.store().archived("acme") == 2
    assert await place.owner._call("EXISTS", "led:{acme}:log:00000", "led:{acme}:log:00001") == 0


async def test_without_its_folder_the_ledger_says_what_is_missing(place):
    await place.says(3 * SMALL)
    await place.retire(timedelta(0))
    with pytest.raises(Sealed, match="its entries up to 8 were archived"):
        await place.entries(archive=False)
    (place.folder / "acme" / "entries-00001.jsonl.gz").unlink()
    with pytest.raises(Sealed, match=r"segment 1 was archived, and .*entries-00001\.jsonl\.gz is not there"):
        await place.entries()
    assert (await place.store(archive=False).head("acme")).seq == 3 * SMALL + 2


@pytest.mark.parametrize("harm", ["bytes", "line", "short", "order", "empty", "other"])
async def test_a_changed_archive_is_seen_by_whoever_reads_it(place, harm):
    await place.says(3 * SMALL)
    await place.retire(timedelta(0))
    file = place.folder / "acme" / "entries-00000.jsonl.gz"
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    changed = {
        "bytes": file.read_bytes()[:-9],
        "line": gzip.compress(b"".join([*lines[:3], lines[3].replace(b'"due":0', b'"due":1'), *lines[4:]])),
        "short": gzip.compress(b"".join(lines[:-1])),
        "order": gzip.compress(b"".join([lines[1], lines[0], *lines[2:]])),
        "empty": b"",
        "other": gzip.compress(b"".join(one.line + b"\n" for one in chain(SMALL))),
    }[harm]
    file.write_bytes(changed)
    with pytest.raises(Sealed):
        await place.ledger(place.store())


@pytest.mark.parametrize("bomb", ["one line", "many lines"])
async def test_an_archive_that_would_fill_the_memory_does_not(place, bomb):
    await place.says(3 * SMALL)
    await place.retire(timedelta(0))
    file = place.folder / "acme" / "entries-00000.jsonl.gz"
    file.write_bytes(gzip.compress((b"x" if bomb == "one line" else b"x\n") * 20_000_000, 1))
    tracemalloc.start()
    try:
        with pytest.raises(Sealed, match=r"has (0|more) entries, not 8"):
            await place.entries()
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


async def test_a_writer_who_slept_through_the_archiving_misses_nothing(place):
    await place.says(3)
    sleeper = place.store()
    asleep = await place.ledger(sleeper)
    fresh = Ledger("acme", place.store(), place.clock, random.Random(2))
    await place.says(3 * SMALL)
    await place.retire(timedelta(0))
    assert isinstance(await sleeper.append("acme", chain(1, asleep.view.head), asleep.view.head), Conflict)
    assert isinstance(await sleeper.append("acme", chain(1), GENESIS), Conflict)
    for late in (asleep, fresh):
        made = await late.record(BOT, lambda view, now: ev.Watched())
        assert isinstance(made, Entry), made
    entries = await place.entries()
    assert fold("acme", entries).head == entries[-1].head
    assert len(entries) == 3 + 3 * SMALL + 2 + 2


async def test_only_an_archived_segment_can_be_dropped_and_only_by_the_archiver(place):
    await place.says(3 * SMALL)
    with pytest.raises(ValueError, match="Segment 0 of acme was not archived"):
        await place.store(archiver=True).drop_segment("acme", 0)
    for forbidden in ("set_archived", "drop_segment"):
        with pytest.raises((StoreDown, ValueError)):
            await getattr(place.store(), forbidden)("acme", 0)
    await place.owner._call("SET", "led:{acme}:archived", "many")
    with pytest.raises(Sealed, match="is no number"):
        await place.store().head("acme")


async def test_a_clock_that_stepped_back_does_not_make_a_young_segment_old(place):
    """Its last entry says an old time, and another in it a new one."""
    await place.says(SMALL - 1)
    place.clock.advance(-2 * DAYS.total_seconds())
    await place.says(2 * SMALL + 1)
    place.clock.advance(2 * DAYS.total_seconds())
    assert await place.retire() == 0
    place.clock.advance(DAYS.total_seconds() + 1)
    assert await place.retire() == 2


async def test_a_segment_that_somebody_shortens_meanwhile_is_said(place):
    await place.says(3 * SMALL)
    store = place.store(archiver=True)
    ledger = await place.ledger(store)
    await ledger.catch_up()
    await place.owner._call("DEL", "led:{acme}:log:00000")
    ledger.catch_up = nothing
    with pytest.raises(Sealed, match="segment 0 ends after 0 entries"):
        await retire(store, ledger, Archive(place.folder), timedelta(0))
    assert not (place.folder / "acme").exists()


async def nothing() -> None:
    pass


ARCHIVING = """
import os, signal, sys
from ledger.__main__ import main
from ledger.ledger import Ledger

async def record_and_die(*given):
    await record(*given)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "append":
    record, Ledger.record = Ledger.record, record_and_die
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("archive")
@pytest.mark.timeout(300)
async def test_segments_of_the_real_size_survive_kill_9_of_the_archiver(place):
    """65,536 entries each, signed, and the command itself: killed when the log says that one is archived,
    and the server does not yet."""
    key = await filled(place, 2 * SEGMENT + 3)
    (place.folder / "key").write_text(SECRET)
    command = ["archive", "--redis", place.archiver_url, "--tenant", "acme", "--keep-days", "0",
               "--to", str(place.folder / "archive"), "--key-file", str(place.folder / "key")]  # fmt: skip
    for step in ("append", "none"):
        run = [sys.executable, "-c", ARCHIVING, step, *command]
        ended = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True)
        assert ended.returncode == (0 if step == "none" else -signal.SIGKILL), ended
    assert "1 segments of 65536 entries were archived now, 1 in all" in ended.stdout
    owner = place.owner._call
    assert await owner("EXISTS", "led:{acme}:log:00000") == 0
    assert await owner("LLEN", "led:{acme}:log:00001") == SEGMENT
    assert await owner("LLEN", "led:{acme}:log:00002") == 4, "it was said once"
    check = ["verify", "--redis", place.url, "--tenant", "acme", "--key", key]
    assert await asyncio.to_thread(main, [*check, "--archive", str(place.folder / "archive")]) == 0
    assert await asyncio.to_thread(main, check) == 1, "without its folder it is not whole"


async def filled(place: Place, count: int) -> str:
    """Write a signed log of *count* entries, all of them a day old, and return the key that signed it."""
    store = RedisStore(connect(place.url))
    place.closing.push_async_callback(store.close)
    began, head, tree = WallClock().now() - timedelta(days=1), GENESIS, Frontier()
    while head.seq < count:
        batch = chain(min(4096, count - head.seq), head, ts=began, **WATCHED)
        origin = origin if head.seq else origin_of("acme", batch[0].hash)  # noqa: F821
        tree = tree.extend(bytes.fromhex(entry.hash) for entry in batch)
        signer = Signer(origin, seed_of(SECRET.encode()))
        note = signed(Checkpoint(origin, tree.size, tree.root()), signer)
        assert await store.append("acme", batch, head, note) is None
        head = batch[-1].head
    return signer.vkey
