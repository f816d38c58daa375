"""The law of merging: however requests are spread over workers, and words over time, they sum up as one."""

from hypothesis import given
from hypothesis import strategies as st

from sdk import wire
from sdk.together import STALE_S, Together, Word
from sdk.word import decode, encode
from tests.unit.sdk.test_window import SECOND_NS, Clocks

request = st.tuples(
    st.integers(0, 7),
    st.sampled_from(["GET /a", "POST /b"]),
    st.integers(32, 2**36),
    st.sampled_from(["", "", "TimeoutError", "OSError"]),
    st.integers(0, 3),
)


def count(window, clocks, route, ns, exception):
    window.turn_when_due()
    cell = window.cell(route)
    cell.times.append(ns)
    if exception:
        cell.errors += 1
        cell.blame(exception)
    window.call("db", ns, exception or None)


def word_of(window, clocks, **present):
    window.turn_when_due()
    kept, through = window.kept()
    now = wire.Snapshot("checkout", clocks.wall // 1_000_000, **present)
    return Word(now, through, {one.t: one for one in kept})


def by_name(parts):
    return {part.name: part for part in parts}


def exact(slots):
    return [
        (s.t, s.n, s.errors, s.client_errors, s.aborted, s.hist, by_name(s.routes), by_name(s.dependencies))
        for s in slots
    ]


def sums(minute):
    return {
        name: (one.n, one.errors, one.hist, one.exceptions)
        for name, one in {"": minute.total, **minute.routes}.items()
    }


@given(st.integers(1, 8), st.lists(request, max_size=40), st.integers(0, 7), st.data())
def test_any_partition_with_late_repeated_and_killed_words_is_one_worker_bit_for_bit(
    size, requests, victim, data
):
    clocks = Clocks()
    one, workers = clocks.window(), [clocks.window() for _ in range(size)]
    dies_after = data.draw(st.integers(0, len(requests)))
    heard, together = {}, Together()
    for i, (worker, route, ns, exception, wait) in enumerate(requests):
        living = [w for w in range(size) if size == 1 or w != victim or i < dies_after]
        count(one, clocks, route, ns, exception)
        count(workers[living[worker % len(living)]], clocks, route, ns, exception)
        clocks.forward(wait * SECOND_NS)
        if i + 1 == dies_after:
            clocks.forward(SECOND_NS)
            heard |= {str(w): word_of(window, clocks) for w, window in enumerate(workers)}
        for w in data.draw(st.lists(st.sampled_from(living), max_size=3)):
            heard[str(w)] = decode(encode(word_of(workers[w], clocks)), heard.get(str(w)))
            together.hear(heard)
    clocks.forward(SECOND_NS)
    for w in range(size):
        if size == 1 or w != victim:
            heard[str(w)] = decode(encode(word_of(workers[w], clocks)), heard.get(str(w)))
    if size > 1 and victim < size:
        heard.setdefault(str(victim), word_of(workers[victim], clocks))
        clocks.forward((STALE_S + 1) * SECOND_NS)
        heard |= {str(w): word_of(workers[w], clocks) for w in range(size) if w != victim}
    for _ in range(2):
        together.hear(heard)
    kept = one.closed()
    assert exact(together.snapshot().slots) == exact(slot.slot() for slot in kept)
    assert sums(together.minute) == sums(one.minute)


def test_a_second_is_told_when_every_worker_has_closed_it_and_never_changes():
    clocks = Clocks()
    quick, slow = clocks.window(), clocks.window()
    count(quick, clocks, "GET /", 100, "")
    count(slow, clocks, "GET /", 100, "")
    late = word_of(slow, clocks)
    clocks.forward(SECOND_NS)
    together = Together()
    together.hear({"quick": word_of(quick, clocks), "slow": late})
    told = together.snapshot()
    assert told.slots == ()
    assert told.now_ms // 1000 - 1 < clocks.wall // SECOND_NS - 1
    together.hear({"quick": word_of(quick, clocks), "slow": word_of(slow, clocks)})
    assert [s.n for s in together.snapshot().slots] == [2]


def test_a_worker_that_hangs_is_stale_and_holds_nobody_up():
    clocks = Clocks()
    well, hung = clocks.window(), clocks.window()
    count(well, clocks, "GET /", 100, "")
    last = word_of(hung, clocks, inflight=3)
    clocks.forward((STALE_S + 2) * SECOND_NS)
    together = Together()
    together.hear({"well": word_of(well, clocks, inflight=1), "hung": last})
    told = together.snapshot()
    assert (told.workers, told.workers_stale, told.inflight) == (1, 1, 1)
    assert [s.n for s in told.slots] == [1]


def test_pools_of_workers_add_up_and_the_oldest_request_is_anyones():
    clocks = Clocks()
    a, b = clocks.window(), clocks.window()
    together = Together()
    gauge = wire.Gauge("db_pool", 3, 10)
    together.hear(
        {
            "a": word_of(a, clocks, saturation=(gauge,), oldest_ms=5, inflight=2, faults=("slow",)),
            "b": word_of(b, clocks, saturation=(gauge,), oldest_ms=900, inflight=1, faults=("slow",)),
        }
    )
    told = together.snapshot()
    assert told.saturation == (wire.Gauge("db_pool", 6, 20),)
    assert (told.oldest_ms, told.inflight, told.faults, told.workers) == (900, 3, ("slow",), 2)


def test_a_host_whose_clock_is_ahead_is_stale_and_pushes_nobody_out_of_the_window():
    clocks, wrong = Clocks(), Clocks(1_764_000_000 + 3600)
    true, ahead = clocks.window(), wrong.window()
    for _ in range(2):
        count(true, clocks, "GET /", 100, "")
    count(ahead, wrong, "GET /", 100, "")
    for each in (clocks, wrong):
        each.forward(SECOND_NS)
    words = {"true": word_of(true, clocks), "ahead": word_of(ahead, wrong)}
    together = Together()
    together.hear(words, clocks.wall // SECOND_NS)
    told = together.snapshot()
    assert (told.workers, told.workers_stale, [s.n for s in told.slots]) == (1, 1, [2])
    together.hear({"ahead": words["ahead"]}, clocks.wall // SECOND_NS)
    assert (together.snapshot().workers, together.snapshot().workers_stale) == (1, 0)
