"""The journal of what was run: shared by processes, shortened without forgetting what may still come."""

import json
import multiprocessing

import pytest

from sdk import facts, journal
from sdk.journal import KEEP_MS, KEEP_RUNS, Begun, Done, Journal, Misused, Running

NOW = 1_764_000_000_000
DAY = 86_400_000


def receipt(n):
    return {"counter": n, "result": "ok"}


def run(book, n, now_ms=NOW):
    """Run key *n* to its end."""
    begun = book.begin(f"k{n}", f"m{n}", "restart", now_ms, now_ms + 8_000)
    assert isinstance(begun, Begun)
    book.finish(f"k{n}", receipt(begun.counter))
    return begun.counter


def lines(folder):
    return (folder / "journal.jsonl").read_bytes().splitlines()


@pytest.fixture
def short(monkeypatch):
    """A file is long at two kilobytes, and the disk is quick."""
    monkeypatch.setattr(journal, "LONG", 2048)
    monkeypatch.setattr("os.fsync", lambda fd: None)


def test_a_journal_that_is_used_for_ever_stays_short_and_counts_on(tmp_path, short):
    book, most = Journal(tmp_path), 0
    for n in range(2000):
        assert run(book, n, NOW + n * DAY // 10) == n + 1
        most = max(most, len(lines(tmp_path)))
    assert most < 12 * KEEP_RUNS
    assert run(Journal(tmp_path), 2000, NOW + 201 * DAY) == 2001
    assert not (tmp_path / "journal.new").exists()


def test_within_seven_days_no_key_runs_again_and_no_message_stands_for_another(tmp_path, short):
    book = Journal(tmp_path)
    for n in range(400):
        run(book, n, NOW + n * DAY // 20)
    last = NOW + 399 * DAY // 20
    book = Journal(tmp_path)
    book.begin("k399", "m399", "restart", last, last)
    assert len(lines(tmp_path)) < 3 * 400
    for n in range(400 - 7 * 20, 400):
        assert book.begin(f"k{n}", f"other{n}", "restart", last, last) == Done(receipt(n + 1))
        assert isinstance(book.begin(f"new{n}", f"m{n}", "restart", last, last), Misused)
    assert isinstance(book.begin("k399", "m399", "other", last, last), Misused)


def test_a_clock_that_leaps_ahead_forgets_nothing_of_the_newest_hundred(tmp_path, short):
    book = Journal(tmp_path)
    for n in range(300):
        run(book, n)
    running = book.begin("mine", "mm", "restart", NOW, NOW + 8_000)
    run(Journal(tmp_path), 301, NOW + 10 * 365 * DAY)
    assert len(lines(tmp_path)) < 3 * (KEEP_RUNS + 5)
    assert isinstance(book.begin("mine", "mm", "restart", NOW, NOW), Running)
    assert book.finish("mine", receipt(running.counter)) == receipt(running.counter)
    for n in range(300 - KEEP_RUNS + 2, 300):
        assert book.begin(f"k{n}", f"m{n}", "restart", NOW, NOW) == Done(receipt(n + 1))


def test_who_had_read_the_long_file_reads_the_short_one_and_writes_to_it(tmp_path, short):
    first, second = Journal(tmp_path), Journal(tmp_path)
    for n in range(300):
        run(first, n)
    assert isinstance(second.begin("k0", "m0", "restart", NOW, NOW), Done)
    later = NOW + KEEP_MS + DAY
    run(Journal(tmp_path), 300, later)
    assert len(lines(tmp_path)) < 3 * 150
    assert run(second, 301, later) == 302
    assert first.begin("k301", "m301", "restart", later, later) == Done(receipt(302))
    assert second.begin("k300", "m300", "restart", later, later) == Done(receipt(301))


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("at", ["fsync", "replace", "_sync"])
def test_a_power_cut_while_it_is_shortened_leaves_the_one_or_the_other_whole(
    tmp_path, short, monkeypatch, at
):
    book = Journal(tmp_path)
    for n in range(300):
        run(book, n)
    later = NOW + KEEP_MS + DAY

    def cut(*_):
        raise PowerCut

    with monkeypatch.context() as during:
        if at == "_sync":
            during.setattr(facts, "_sync", cut)
        else:
            during.setattr("os.fsync" if at == "fsync" else "pathlib.Path.replace", cut)
        with pytest.raises(PowerCut):
            Journal(tmp_path).begin("k300", "m300", "restart", later, later + 8_000)
    after = Journal(tmp_path)
    assert after.begin("k299", "m299", "restart", NOW, NOW) == Done(receipt(300))
    assert run(Journal(tmp_path), 300, later) == 301
    assert len(lines(tmp_path)) < 3 * 150
    assert all(json.loads(line) for line in lines(tmp_path))
    assert book.begin("k300", "m300", "restart", later, later) == Done(receipt(301))


def test_a_file_of_the_version_before_is_read_and_shortened(tmp_path, short):
    old = []
    for n in range(300):
        old += [
            {"message": f"m{n}", "key": f"k{n}"},
            {"begun": "restart", "key": f"k{n}", "counter": n + 1, "until_ms": NOW, "pid": 1},
            {"receipt": receipt(n + 1), "key": f"k{n}"},
        ]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    assert run(Journal(tmp_path), 300, NOW + KEEP_MS + DAY) == 301
    assert len(lines(tmp_path)) < 3 * 150


def many(folder, first, results):
    journal.LONG, journal.KEEP_RUNS, facts.os.fsync = 256, 3, lambda fd: None
    book = Journal(folder)
    results.put([run(book, n, NOW + (n - first) * DAY) for n in range(first, first + 400)])


def test_processes_that_shorten_it_at_the_same_time_never_count_twice(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=many, args=(tmp_path, first, results)) for first in (0, 1000, 2000)]
    for process in processes:
        process.start()
    counters = [counter for _ in processes for counter in results.get(timeout=60)]
    for process in processes:
        process.join(30)
        process.close()
    results.close()
    assert sorted(counters) == list(range(1, 1201))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
