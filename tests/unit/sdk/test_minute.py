import gc
import time

from hypothesis import given
from hypothesis import strategies as st

from sdk import histogram, instrument, wire
from sdk.cell import Closed
from sdk.minute import Minute, Sum
from tests.unit.sdk.test_window import SECOND_NS, Clocks, record, slots

events = st.lists(
    st.tuples(
        st.sampled_from(["GET /a", "POST /b"]), st.integers(32, 2**36), st.booleans(), st.integers(0, 30)
    ),
    max_size=60,
)


def sums(minute):
    whole = {"": minute.total, **minute.routes}
    return {
        name: (
            s.n,
            s.errors,
            s.client_errors,
            s.aborted,
            s.hist,
            s.exceptions,
            s.curve().ns(0.5),
            s.mean_ms(),
        )
        for name, s in whole.items()
    }


def summed(seconds):
    minute = Minute()
    for one in seconds:
        minute.add(one)
    return sums(minute)


@given(events)
def test_running_sums_are_those_of_the_last_minute_bit_for_bit(events):
    clocks = Clocks()
    window = clocks.window()
    for route, ns, fails, seconds in events:
        record(window, clocks, route, ns)
        if fails:
            window.cell(route).errors += 1
            window.cell(route).blame("TimeoutError")
        clocks.forward(seconds * SECOND_NS)
        kept = window.closed()
        assert sums(window.minute) == summed(kept)
    clocks.forward(61 * SECOND_NS)
    assert window.closed() == ()
    assert sums(window.minute) == summed([])


@given(st.lists(st.integers(1, 2**36), max_size=50), st.floats(0.001, 1.0), st.integers(1, 2**36))
def test_a_curve_answers_as_the_histogram_does(latencies, q, ns):
    whole = Sum()
    for i, c in histogram.of(latencies).items():
        whole.counts[i] += c
        whole.n += c
    assert whole.hist == histogram.of(latencies)
    assert whole.curve().ns(q) == histogram.quantile(whole.hist, q)
    assert whole.curve().above(ns) == histogram.above(whole.hist, ns)


@given(events)
def test_a_second_of_another_worker_is_kept_as_our_own(events):
    clocks = Clocks()
    window = clocks.window()
    for route, ns, fails, seconds in events:
        record(window, clocks, route, ns)
        window.call("db", ns, "OSError" if fails else None)
        clocks.forward(seconds * SECOND_NS)
    clocks.forward(SECOND_NS)
    told = slots(window)
    assert [Closed.of(slot).slot() for slot in told] == told
    assert summed(Closed.of(slot) for slot in told) == sums(window.minute)


def test_a_minute_of_a_hundred_and_twenty_eight_busy_routes_is_asked_for_in_two_milliseconds():
    clocks = Clocks()
    monitor = instrument(None, service="busy")
    monitor._window = window = clocks.window()
    for _ in range(60):
        for r in range(128):
            window.cell(f"GET /{r}").times += [histogram.midpoint(i) for i in range(300, 340)]
        clocks.forward(SECOND_NS)
        window.turn()
    gc.collect()
    took = []
    for _ in range(20):
        begun = time.perf_counter_ns()
        told = monitor.health()
        took.append(time.perf_counter_ns() - begun)
    assert told["metrics"]["sample_size"] == 60 * 128 * 40
    assert min(took) < 2_000_000


def test_merged_slots_are_those_of_merged_seconds():
    one = wire.Slot(
        7, 2, 1, hist=histogram.of([100, 200]), routes=(wire.Part("GET /", 2, 1, histogram.of([100, 200])),)
    )
    assert summed([Closed.of(one), Closed.of(one)]) == summed([Closed.of(wire.merge_slots([one, one]))])
