"""The hours of the week: known from the third week on, and only ever an excuse."""

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import hours
from detectors.baseline import Baseline, learn
from detectors.hours import ENOUGH_MINUTES, HOUR_MS, WEEK, Hours
from detectors.policy import Policy
from sdk import histogram

MONDAY = 1_764_547_200_000  # a Monday, midnight
SHOP, CLOSED = 20_000, 300  # requests per 1000 s
QUICK, SLOW = histogram.index(80_000_000), histogram.index(900_000_000)


def week(before, number, rps_of, bucket_of=lambda hour: QUICK, every=2):
    """Return the hours after one more week, of which a minute in *every* was good."""
    for hour in range(WEEK):
        for minute in range(0, 60, every):
            at_ms = MONDAY + (number * WEEK + hour) * HOUR_MS + minute * 60_000
            before = hours.learn(before, at_ms, rps_of(hour), bucket_of(hour))
    return before


def shop(hour):
    return SHOP if 8 <= hour % 24 < 22 else CLOSED


def three_weeks(**kind):
    known = Hours()
    for number in range(3):
        known = week(known, number, shop, **kind)
    return hours.learn(known, MONDAY + 3 * WEEK * HOUR_MS, CLOSED, QUICK)


def at(hour):
    return MONDAY + 3 * WEEK * HOUR_MS + hour * HOUR_MS


def test_an_hour_is_known_from_the_third_week_on():
    known = Hours()
    for number in range(3):
        assert known.rps(at(12)) is None
        known = week(known, number, shop)
    assert three_weeks().rps(at(12)) == SHOP
    assert three_weeks().bucket(at(12)) == QUICK


def test_before_the_shop_closes_the_next_hour_is_thought_of():
    known = three_weeks()
    assert known.rps(at(20)) == SHOP
    assert known.rps(at(21)) == CLOSED
    assert known.rps(at(2)) == CLOSED


def test_an_hour_with_too_few_good_minutes_teaches_nothing():
    assert ENOUGH_MINUTES > 60 // 4
    assert three_weeks(every=4).rps(at(12)) is None


def test_the_memory_is_168_cells_of_whole_numbers():
    cells = three_weeks().cells
    assert len(cells) == WEEK
    assert {type(value) for cell in cells for value in cell} == {int}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=8))
def test_a_cell_lies_between_what_it_saw_and_falls_at_once(rates):
    known = Hours()
    for number, rate in enumerate(rates):
        known = week(known, number, lambda _hour, rate=rate: rate, every=3)
    known = hours.learn(known, MONDAY + len(rates) * WEEK * HOUR_MS, 0, 0)
    cell = known.cells[12]
    assert min(rates) <= cell.rps_milli <= rates[-1]
    assert cell.weeks == len(rates)


def learned(known, hour):
    """Return a baseline at *hour* of the fourth week that saw 20 rps at 80 ms for the last six hours."""
    baseline = Baseline(hours=known)
    for minute in range(360):
        baseline = learn(
            baseline,
            span_ms=60_000,
            n=1_200,
            hist={QUICK: 1_200},
            inflight=1,
            oldest_ms=10,
            policy=Policy(),
            at_ms=at(hour) - (359 - minute) * 60_000,
        )
    return baseline


def test_the_hour_lowers_what_traffic_is_expected_and_never_raises_it():
    assert learned(three_weeks(), 22).expected(1_000_000) == CLOSED
    assert learned(three_weeks(), 14).expected(1_000_000) == SHOP
    busy = week(week(week(Hours(), 0, lambda h: 10 * SHOP), 1, lambda h: 10 * SHOP), 2, lambda h: 10 * SHOP)
    assert learned(busy, 14).expected(1_000_000) == SHOP


def test_the_hour_raises_what_counts_as_slow_and_never_lowers_it():
    nightly = three_weeks(bucket_of=lambda hour: SLOW if hour % 24 == 3 else QUICK // 2)
    assert learned(nightly, 3).p95_ns == histogram.midpoint(SLOW)
    assert learned(nightly, 14).p95_ns == histogram.midpoint(QUICK)
    assert learned(nightly, 3).p99_ns == histogram.midpoint(QUICK)
