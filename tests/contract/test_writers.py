"""Many writers on one tenant's log, whatever their clocks say, and readers who verify it meanwhile."""

import asyncio
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.__main__ import main
from ledger.chain import GENESIS, Entry
from ledger.clock import Clock, ManualClock, WallClock
from ledger.events import Actor, Started, Stopped
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.note import read_note
from ledger.outside import NoteFile
from ledger.rotation import rotate
from ledger.store import check_chain
from tests.appender import KEY, add
from tests.chains import NOON
from tests.servers import KINDS, Peopled, a_server, shorten_segments, verified

BOT = Actor.orchestrator("bot")
SEGMENT = 16
HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Place:
    server: Peopled
    folder: Path

    def ledger(self, signer: bytes = KEY, clock: Clock | None = None, seed: int = 1) -> Ledger:
        store = self.server.store(segment=SEGMENT)
        outside = NoteFile(self.folder / "state", "acme")
        made = Ledger(
            "acme", store, clock or WallClock(), random.Random(seed), signer=signer, outside=outside
        )
        self.server.stack.push_async_callback(made.close)
        return made

    async def begun(self) -> Ledger:
        """The first process, which says whose key it is."""
        ledger = self.ledger()
        made = await ledger.record(BOT, lambda view, now: Started(signer=ledger.notary.key))
        assert isinstance(made, Entry)
        return ledger

    async def entries(self) -> list[Entry]:
        return await self.server.store(segment=SEGMENT).read("acme", 0, 100_000)


@pytest.fixture(params=KINDS)
async def place(request, monkeypatch) -> AsyncIterator[Place]:
    shorten_segments(monkeypatch, SEGMENT)
    async with AsyncExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp"))
        server = await closing.enter_async_context(a_server(request.param))  # with it the ledgers are closed
        yield Place(server, Path(folder))


async def test_of_sixteen_writers_nothing_is_lost_nothing_twice_and_the_order_is_one(place):
    first = await place.begun()
    writers = {f"w{number}": place.ledger(seed=number) for number in range(16)}

    async def write(name: str, ledger: Ledger) -> list[tuple[int, str]]:
        made = [await add(ledger, number, name) for number in range(20)]
        return [(entry.seq, entry.hash) for entry in made if entry]

    confirmed = await asyncio.gather(*(write(name, ledger) for name, ledger in writers.items()))
    entries = await place.entries()
    check_chain(GENESIS, entries)
    assert len(entries) == 1 + 16 * 20
    acts = [(one.data["act"]["channel"], int(one.data["act"]["update"])) for one in entries[1:]]
    assert Counter(acts) == Counter((name, number) for name in writers for number in range(20))
    for name in writers:
        own = [number for writer, number in acts if writer == name]
        assert own == sorted(own), "each one's own order is kept"
    assert all(entries[seq - 1].hash == digest for told in confirmed for seq, digest in told)
    for ledger in writers.values():
        await ledger.catch_up()
        assert ledger.view.head == entries[-1].head
    calls = sum(ledger.calls for ledger in writers.values())
    assert calls <= 16 * 20 * 16, "each call that fails lets another stand"
    assert await asyncio.to_thread(verified, place.server.urls["app"], "acme", first.notary.vkey) == 0


@asynccontextmanager
async def writing(place: Place, count: int) -> AsyncIterator[Callable[[], int]]:
    """While *count* writers append; how many entries they have made so far."""
    ledgers = [place.ledger(seed=seed) for seed in range(count)]

    async def write(ledger: Ledger) -> None:
        while True:
            await ledger.record(BOT, lambda view, now: Stopped())

    tasks = [asyncio.create_task(write(ledger)) for ledger in ledgers]
    try:
        yield lambda: max(ledger.view.head.seq for ledger in ledgers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_log_is_intact_and_its_export_too_each_time_that_somebody_looks_while_it_grows(place):
    """After https://github.com/systemd/systemd/issues/27532, whose verifier fails while others write."""
    key = (await place.begun()).notary.vkey
    url, export = place.server.urls["app"], place.folder / "export"
    alone = [sys.executable, "-I", "-S", str(export / "verify.py"), str(export), "--key", key]
    async with writing(place, 8) as size:
        for _ in range(5):
            before = size()
            assert await asyncio.to_thread(verified, url, "acme", key) == 0
            arguments = ["export", "--redis", url, "--tenant", "acme", "--to", str(export)]
            assert await asyncio.to_thread(main, arguments) == 0
            said = await asyncio.to_thread(subprocess.run, alone, capture_output=True, text=True)
            assert said.returncode == 0, said.stdout
            assert size() > before, "they went on meanwhile"


async def test_a_log_whose_key_changes_while_somebody_looks_is_intact_before_and_after(place):
    """After https://github.com/aws/aws-cli/issues/10072: both sides of a rotation count."""
    first, new = await place.begun(), seed_of(b"n" * 32)
    key, url = first.notary.vkey, place.server.urls["app"]
    while (await place.entries())[-1].seq % SEGMENT != SEGMENT - 1:
        assert isinstance(await first.record(BOT, lambda view, now: Stopped()), Entry)
    await rotate(place.server.store(segment=SEGMENT), WallClock(), "acme", KEY, new)
    assert (await place.entries())[-1].event == "KeyRotated"
    assert (await place.entries())[-1].seq == SEGMENT, "it is the last of its segment"
    assert await asyncio.to_thread(verified, url, "acme", key) == 0
    second = place.ledger(new)
    assert isinstance(await second.record(BOT, lambda view, now: Stopped()), Entry)
    assert await asyncio.to_thread(verified, url, "acme", key) == 0
    await first.sweep()
    assert "the key was rotated" in first.sealed


async def test_a_process_killed_right_after_a_rotation_leaves_a_log_that_can_be_mended(place, monkeypatch):
    """Between the entry, with its note that both keys signed, and the copy of that note for good."""
    first, new = await place.begun(), seed_of(b"n" * 32)
    store, key, url = place.server.store(segment=SEGMENT), first.notary.vkey, place.server.urls["app"]
    with monkeypatch.context() as patched:
        patched.setattr(store, "keep_note", killed)
        with pytest.raises(KeyboardInterrupt):
            await rotate(store, WallClock(), "acme", KEY, new)
    assert await store.kept_notes("acme") == []
    assert await asyncio.to_thread(verified, url, "acme", key) == 0, "the last note is signed by both"
    went_on = place.ledger(new)
    assert isinstance(await went_on.record(BOT, lambda view, now: Stopped()), Entry)
    assert await asyncio.to_thread(verified, url, "acme", key) == 2, "nothing ties the new key to the old"
    await rotate(store, WallClock(), "acme", KEY, new)
    (kept,) = await store.kept_notes("acme")
    assert read_note(kept)[0].size == 2
    assert await asyncio.to_thread(verified, url, "acme", key) == 0


async def killed(*_: object) -> None:
    raise KeyboardInterrupt


async def test_a_clock_that_steps_back_an_hour_or_on_a_day_changes_no_order(place):
    clock, key = ManualClock(NOON), (await place.begun()).notary.vkey
    ledger, other = place.ledger(clock=clock), place.ledger(clock=ManualClock(NOON))
    for step in (0.0, -HOUR, DAY, -2 * DAY, HOUR):
        clock.advance(step)
        for writer in (ledger, other):
            assert isinstance(await writer.record(BOT, lambda view, now: Stopped()), Entry)
    entries = await place.entries()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    times = [entry.ts for entry in entries]
    assert times != sorted(times), "the times say what the clocks said"
    assert not ledger.sealed
    assert not other.sealed
    again = place.ledger(clock=ManualClock(NOON))
    await again.sweep()
    assert (again.sealed, again.view.head) == ("", entries[-1].head)
    assert await asyncio.to_thread(verified, place.server.urls["app"], "acme", key) == 0
