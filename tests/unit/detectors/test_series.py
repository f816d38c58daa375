"""A gauge that people send in: what is odd about it, said once an event, whatever its unit."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.series import HISTORY, LEARNING, Look, Oddity, Series, SeriesPolicy


def oddities(values, **options) -> list[tuple[int, Oddity]]:
    series = Series()
    found = ((at, series.take(value, **options)) for at, value in enumerate(values))
    return [(at, oddity) for at, oddity in found if oddity]


def calm(count: int, seed: int = 1) -> list[float]:
    """A steady gauge about 50 that has been at 30 and at 70 early."""
    rng = random.Random(seed)
    return [30.0, 70.0, *(50 + rng.triangular(-8, 8) for _ in range(count - 2))]


def daily(count: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [50 + 30 * math.sin(at / 288 * math.tau) + rng.gauss(0, 0.5) for at in range(count)]


def test_a_value_beyond_all_before_it_is_a_record():
    ((at, oddity),) = oddities([*calm(600), 75.0, *calm(10, 2)])
    assert (at, oddity) == (600, Oddity("record", "75 is outside the 30 to 70 so far."))


@pytest.mark.parametrize(("value", "odd"), [(60.6, False), (60.7, True), (39.4, False), (39.3, True)])
def test_a_record_is_more_than_three_percent_of_the_range_beyond_its_end(value, odd):
    look = Look(value, 40.0, 60.0, 50.0, 50.0, 1.0, False)
    assert (look.odd(SeriesPolicy()) is not None) is odd


@pytest.mark.parametrize(("mean", "odd"), [(52.25, False), (52.26, True), (47.74, True)])
def test_a_shift_is_more_than_so_many_times_what_is_usual(mean, odd):
    look = Look(50.0, 40.0, 60.0, 50.0, mean, 1.0, False)
    assert (look.odd(SeriesPolicy()) is not None) is odd


def test_a_level_that_moves_within_the_range_is_a_shift():
    (_, oddity), *_ = oddities([*calm(600), *(value + 6 for value in calm(120, 2)[2:])], learning=500)
    assert oddity.rule == "shift"
    assert "95% of the time it is within" in oddity.sentence


def test_a_day_without_its_swing_is_a_strange_shape():
    found = oddities([*daily(3_744), *[50.0] * 144], learning=1_000)
    assert [oddity.rule for _, oddity in found] == ["shape"]
    assert 3_744 < found[0][0] < 3_888


def test_an_ordinary_day_after_six_of_its_kind_is_not_odd():
    assert oddities(daily(2_016), learning=1_000) == []


def test_one_event_is_one_warning():
    rising = [70.0 + at for at in range(15)]
    assert len(oddities([*calm(600), *rising])) == 1


def test_a_second_event_after_the_rest_is_told_again():
    found = oddities([*calm(600), 75.0, *calm(40, 2), 90.0])
    assert [oddity.rule for _, oddity in found] == ["record", "record"]


def test_the_first_points_only_teach():
    assert oddities([*calm(LEARNING - 1), 1e6]) == []
    assert oddities([*calm(LEARNING), 1e6]) != []


def test_a_new_level_is_the_usual_one_when_the_old_is_forgotten():
    found = oddities([*calm(300), *([1_000.0, 990.0] * HISTORY)])
    assert found[0][0] == 300
    assert all(at < 300 + HISTORY for at, _ in found)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_passed_over(value):
    series = Series()
    for point in calm(600):
        series.take(point)
    assert series.take(value) is None
    assert series.take(75.0) == Oddity("record", "75 is outside the 30 to 70 so far.")


@given(st.lists(st.integers(-50, 50), min_size=200, max_size=400), st.sampled_from([0.25, 4.0, 1024.0]))
def test_the_unit_of_a_gauge_does_not_matter(values, factor):
    def rules(unit):
        return [(at, oddity.rule) for at, oddity in oddities([value * unit for value in values])]

    assert rules(1.0) == rules(factor)


@given(st.lists(st.floats(-1e300, 1e300), max_size=300))
def test_any_series_of_numbers_is_borne(values):
    for at, oddity in oddities(values):
        assert at >= LEARNING
        assert oddity.sentence


def test_a_full_memory_stays_as_large_as_it_is():
    series = Series()
    for value in daily(HISTORY + 300):
        series.take(value)
    assert len(series._points) == len(series._distances) == HISTORY
    assert {len(row) for row in series._shapes._rows} <= {HISTORY // 10 + 12}
