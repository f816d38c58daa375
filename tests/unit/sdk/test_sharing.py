import asyncio
import json
import os
import threading

import pytest

from sdk import instrument, wire
from sdk.files import FORGET_S, LEFT_S, Files, private_folder, sweep
from sdk.word import decode
from tests.unit.sdk.asgi_client import call, until
from tests.unit.sdk.test_middleware import ok
from tests.unit.sdk.test_together import Clocks, count, word_of


@pytest.fixture
def clocks():
    return Clocks()


def files(folder, worker, clocks):
    return Files(folder, worker, lambda: clocks.wall)


def at_ease(path, clocks):
    os.utime(path, ns=(clocks.wall, clocks.wall))


def test_what_a_worker_writes_the_others_read_and_it_does_not_read_itself(tmp_path, clocks):
    window = clocks.window()
    count(window, clocks, "GET /", 100, "OSError")
    clocks.forward(1_000_000_000)
    a, b = files(tmp_path, "a", clocks), files(tmp_path, "b", clocks)
    a.write(word_of(window, clocks))
    at_ease(tmp_path / "a", clocks)
    assert a.others() == {}
    (read,) = b.others().values()
    assert {t: one.slot() for t, one in read.seconds.items()} == {
        one.t: one.slot() for one in window.closed()
    }


def test_a_second_that_is_known_is_not_read_again(tmp_path, clocks):
    window = clocks.window()
    reader, writer = files(tmp_path, "reader", clocks), files(tmp_path, "w", clocks)
    known = []
    for i in range(2):
        count(window, clocks, "GET /", 100, "")
        clocks.forward(1_000_000_000)
        writer.write(word_of(window, clocks))
        at_ease(tmp_path / "w", clocks)
        known.append(reader.others()["w"].seconds)
        assert len(known[i]) == i + 1
    first = min(known[1])
    assert known[1][first] is known[0][first]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"\xff\xff", b"{" * 100_000, b'{"index":[1],"through":1,"peak":0,"streams":0}\n{}'],
)
def test_a_file_that_is_no_word_is_as_if_it_had_not_been_said(tmp_path, clocks, raw):
    (tmp_path / "w").write_bytes(raw)
    assert files(tmp_path, "reader", clocks).others() == {}
    with pytest.raises(wire.Malformed):
        decode(raw)


def test_what_the_dead_wrote_counts_for_a_minute_and_is_deleted_after_two(tmp_path, clocks):
    window = clocks.window()
    count(window, clocks, "GET /", 100, "")
    clocks.forward(1_000_000_000)
    files(tmp_path, "dead", clocks).write(word_of(window, clocks))
    at_ease(tmp_path / "dead", clocks)
    reader = files(tmp_path, "reader", clocks)
    clocks.forward(50 * 1_000_000_000)
    assert list(reader.others()) == ["dead"]
    clocks.forward(20 * 1_000_000_000)
    assert reader.others() == {}
    assert (tmp_path / "dead").exists()
    clocks.forward(FORGET_S * 1_000_000_000)
    assert reader.others() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    folder = private_folder(tmp_path, "check/out")
    assert folder.name == f"countersign-{os.getuid()}-check_out"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid)
    assert private_folder(tmp_path, "check/out") == folder


def test_what_a_server_left_behind_is_removed_and_what_one_still_writes_is_not(tmp_path, clocks):
    names = ["shop-99999991", "shop-99999992", "shop-99999993", "mail-99999992", f"shop-{os.getpid()}"]
    mine, left, other, mail, asleep = (private_folder(tmp_path, name) for name in names)
    for folder in (mine, left, other, mail, asleep):
        (folder / "worker").write_bytes(b"")
        os.utime(folder, ns=(clocks.wall, clocks.wall))
    clocks.forward((LEFT_S + 1) * 1_000_000_000)
    os.utime(other, ns=(clocks.wall, clocks.wall))
    sweep(mine, lambda: clocks.wall)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, mail, asleep])
    assert list(mine.iterdir())


async def ask(monitor, query=b""):
    _, _, body = await call(monitor.app, path="/health/alerts", query=query)
    return json.loads(body)


async def answer_where(monitor, condition, query=b""):
    """Return the first answer for which *condition* holds."""
    async with asyncio.timeout(30):
        while not condition(told := await ask(monitor, query)):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    return told


def counted(told):
    return sum(slot.n for slot in wire.parse(told).slots)


async def test_any_worker_answers_for_all(tmp_path):
    workers = [instrument(ok, service="shop", share=tmp_path) for _ in range(3)]
    try:
        for n, worker in enumerate(workers):
            worker.saturation("pool", lambda: (1, 10))
            for _ in range(n + 1):
                await call(worker.app)
        for worker in workers:
            told = await answer_where(worker, lambda told: told["metrics"]["workers"] == 3)
            assert told["saturation"] == [{"name": "pool", "used": 3, "limit": 30}]
            assert told["stale"] is False
            slots = await answer_where(worker, lambda told: counted(told) >= 6, b"format=slots")
            assert counted(slots) == 6
    finally:
        for worker in workers:
            worker.close()


async def test_two_threads_that_speak_for_one_worker_do_not_take_each_others_words_away(tmp_path):
    monitor = instrument(ok, share=tmp_path)
    try:
        await call(monitor.app)
        sharing = monitor._sharing
        for _ in range(20):
            await asyncio.gather(*(asyncio.to_thread(sharing.publish, monitor._worker) for _ in range(4)))
            assert not sharing.stale
    finally:
        monitor.close()


async def test_a_folder_that_cannot_be_written_fails_no_request_and_is_told_as_stale(tmp_path, caplog):
    gone = tmp_path / "gone"
    monitor = instrument(ok, share=gone)
    try:
        assert (await call(monitor.app))[0] == 200
        await until(lambda: monitor._sharing.stale)
        told = await ask(monitor)
        assert told["stale"] is True
        assert told["stale_reason"].startswith("FileNotFoundError: ")
        assert told["metrics"]["workers"] == 1
        assert "cannot tell each other" in caplog.text
    finally:
        monitor.close()


async def test_nothing_is_begun_before_the_first_request_and_nothing_without_other_workers(tmp_path):
    before = {t.name for t in threading.enumerate()}
    alone, monitor = instrument(ok), instrument(ok, share=tmp_path)
    await call(alone.app)
    assert list(tmp_path.iterdir()) == []
    assert {t.name for t in threading.enumerate()} <= before
    await call(monitor.app)
    await until(lambda: [p for p in tmp_path.iterdir() if not p.name.startswith(".")])
    monitor.close()
