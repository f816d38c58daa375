import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sdk import histogram, wire
from sdk.window import MAX_DEPENDENCIES, SECOND_NS, Window


class Clocks:
    """A monotonic and a wall clock that a test moves."""

    def __init__(self, wall_s=1_764_000_000):
        self.mono, self.wall = 0, wall_s * SECOND_NS

    def forward(self, ns):
        self.mono += ns
        self.wall += ns

    def window(self, **options):
        return Window(now=lambda: self.mono, wall=lambda: self.wall, **options)


def record(window, clocks, route, ns):
    if clocks.mono >= window.turn_at:
        window.turn()
    window.cell(route).times.append(ns)


def slots(window, since=0):
    return [one.slot() for one in window.closed(since)]


def test_a_second_is_shown_when_it_is_over_and_not_before():
    clocks = Clocks()
    window = clocks.window()
    record(window, clocks, "GET /", 1_000_000)
    clocks.forward(SECOND_NS - 1)
    assert slots(window) == []
    clocks.forward(1)
    assert [(s.t, s.n) for s in slots(window)] == [(1_764_000_000, 1)]


def test_slots_turn_with_the_wall_clocks_second():
    clocks = Clocks()
    clocks.forward(700_000_000)
    window = clocks.window()
    record(window, clocks, "GET /", 1)
    clocks.forward(300_000_000)
    record(window, clocks, "GET /", 1)
    clocks.forward(SECOND_NS)
    assert [(s.t, s.n) for s in slots(window)] == [(1_764_000_000, 1), (1_764_000_001, 1)]


def test_a_request_after_an_idle_minute_belongs_to_its_own_second():
    clocks = Clocks()
    window = clocks.window()
    record(window, clocks, "GET /", 1)
    clocks.forward(30 * SECOND_NS)
    record(window, clocks, "GET /", 1)
    clocks.forward(SECOND_NS)
    assert [s.t - 1_764_000_000 for s in slots(window)] == [0, 30]


def test_since_answers_only_what_is_newer():
    clocks = Clocks()
    window = clocks.window()
    for _ in range(5):
        record(window, clocks, "GET /", 1)
        clocks.forward(SECOND_NS)
    assert [s.t - 1_764_000_000 for s in slots(window, 1_764_000_002)] == [3, 4]


def test_nothing_older_than_a_minute_is_told_and_never_more_than_sixty_slots():
    clocks = Clocks()
    window = clocks.window()
    for _ in range(200):
        record(window, clocks, "GET /", 1)
        clocks.forward(SECOND_NS)
    assert len(slots(window)) == 60
    clocks.forward(57 * SECOND_NS)
    assert len(slots(window)) == 3


def test_a_wall_clock_set_back_a_little_does_not_disorder_slots():
    clocks = Clocks()
    window = clocks.window()
    for step in (0, -4, 0, 0, 0, 0, 0, 0, 0):
        record(window, clocks, "GET /", 1)
        clocks.forward(SECOND_NS)
        clocks.wall += step * SECOND_NS
    told = slots(window)
    assert [s.t for s in told] == sorted({s.t for s in told})
    assert sum(s.n for s in told) == 9
    assert told[-1].t <= clocks.wall // SECOND_NS


def test_after_a_wall_clock_was_set_back_far_slots_are_of_the_present_again():
    clocks = Clocks()
    window = clocks.window()
    for step in (0, -3600, 0, 0):
        record(window, clocks, "GET /", 1)
        clocks.forward(SECOND_NS)
        clocks.wall += step * SECOND_NS
    now = clocks.wall // SECOND_NS
    assert [s.t for s in slots(window)] == [now - 2, now - 1]
    assert window.minute.total.n == 2
    assert window.through == now - 1


requests = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["GET /a", "POST /b"]),
        st.integers(32, 2**36),
        st.integers(0, 2 * SECOND_NS),
    ),
    max_size=60,
)


@given(requests)
def test_merging_what_workers_saw_is_what_one_would_have_seen_bit_for_bit(requests):
    clocks = Clocks()
    one, workers = clocks.window(), [clocks.window() for _ in range(4)]
    for worker, route, ns, wait in requests:
        record(one, clocks, route, ns)
        record(workers[worker], clocks, route, ns)
        clocks.forward(wait)
    clocks.forward(SECOND_NS)
    parts = wire.merge_slots(s for w in workers for s in slots(w))
    single = wire.merge_slots(slots(one))
    assert (parts.n, parts.hist) == (single.n, single.hist)
    assert {p.name: p for p in parts.routes} == {p.name: p for p in single.routes}


@given(requests)
def test_every_request_of_the_last_minute_is_in_exactly_one_slot(requests):
    clocks = Clocks()
    window = clocks.window()
    expected = Counter()
    for _, route, ns, wait in requests[:25]:
        expected[clocks.wall // SECOND_NS] += 1
        record(window, clocks, route, ns)
        clocks.forward(wait)
    clocks.forward(SECOND_NS)
    assert {s.t: s.n for s in slots(window)} == expected
    assert all(s.n == sum(s.hist.values()) == sum(r.n for r in s.routes) for s in slots(window))


def test_the_hundred_and_twenty_ninth_route_is_other():
    clocks = Clocks()
    window = clocks.window(max_routes=3)
    for i in range(10):
        record(window, clocks, f"GET /{i}", 1)
    clocks.forward(SECOND_NS)
    (slot,) = slots(window)
    assert {r.name: r.n for r in slot.routes} == {"GET /0": 1, "GET /1": 1, "GET /2": 1, "~other": 7}


def test_the_ninth_exception_type_of_a_route_is_other():
    clocks = Clocks()
    window = clocks.window()
    for i in range(12):
        record(window, clocks, "GET /", 1)
        window.cell("GET /").blame(f"Error{i}")
    clocks.forward(SECOND_NS)
    exceptions = slots(window)[0].routes[0].exceptions
    assert len(exceptions) == 9
    assert exceptions["~other"] == 4


def test_dependencies_are_counted_apart_from_routes_and_are_bounded():
    clocks = Clocks()
    window = clocks.window()
    window.call("payments-api", 5_000_000)
    window.call("payments-api", 5_000_000, "TimeoutError")
    for i in range(100):
        window.call(f"~{i}", 1)
    clocks.forward(SECOND_NS)
    (slot,) = slots(window)
    first = slot.dependencies[0]
    assert (first.name, first.n, first.errors, first.exceptions) == (
        "payments-api",
        2,
        1,
        {"TimeoutError": 1},
    )
    assert len(slot.dependencies) == MAX_DEPENDENCIES + 1
    assert slot.n == 0


def test_a_minute_of_a_hundred_and_twenty_eight_busy_routes_fits_in_eight_megabytes():
    clocks = Clocks()
    tracemalloc.start()
    window = clocks.window()
    for _ in range(61):
        for r in range(128):
            window.cell(f"GET /{r}").times += [histogram.midpoint(i) for i in range(300, 340)]
        clocks.forward(SECOND_NS)
        window.turn()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(window.closed()) == 60
    assert size <= 8 * 2**20
