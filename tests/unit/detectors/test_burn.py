"""The budget: exact over its windows, bounded, and silent where another rule speaks."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import burn
from detectors.burn import Burn, Cell
from detectors.verdict import ServiceState
from tests.unit.detectors.conftest import Watched


def counted(ticks, before=None):
    past = before or Burn()
    for span_ms, n, errors in ticks:
        past = burn.count(past, span_ms, n, errors)
    return past


def minutes(ticks):
    """The same by hand: ticks in a row until they make a minute."""
    found, running = [], (0, 0, 0)
    for tick in ticks:
        running = tuple(map(sum, zip(running, tick, strict=True)))
        if running[0] >= 60_000:
            found, running = [*found, running], (0, 0, 0)
    return found


def total(cells):
    return Cell(*map(sum, zip(*cells, strict=True)))


ticks = st.tuples(st.sampled_from([1_000, 5_000, 7_000, 60_000]), st.integers(0, 900)).flatmap(
    lambda seen: st.tuples(st.just(seen[0]), st.just(seen[1]), st.integers(0, seen[1]))
)


@settings(max_examples=10, deadline=None)
@given(st.lists(ticks, min_size=1, max_size=30))
def test_each_window_is_the_sum_of_its_minutes(pattern):
    seen = [pattern[i % len(pattern)] for i in range(4_000)]
    by_hand = minutes(seen)
    past = counted(seen)
    assert past.minutes == tuple(Cell(*one) for one in by_hand[-60:])
    if len(by_hand) >= 60:
        assert past.fast == (total(by_hand[-5:]), total(by_hand[-60:]))
    whole = len(by_hand) // 5 * 5
    if whole >= 360:
        assert past.slow == (total(by_hand[-30:]), total(by_hand[whole - 360 : whole]))


def test_a_window_that_is_not_full_says_nothing():
    assert counted([(60_000, 100, 100)] * 59).fast is None
    assert counted([(60_000, 100, 100)] * 60).fast is not None
    assert counted([(60_000, 100, 100)] * 359).slow is None
    assert counted([(60_000, 100, 100)] * 360).slow is not None


def test_a_year_takes_no_more_room_than_a_day():
    day, week = (counted([(60_000, 100, 1)] * 1_440 * days) for days in (1, 7))
    assert (len(day.minutes), len(day.fives)) == (len(week.minutes), len(week.fives)) == (60, 72)


@pytest.fixture(scope="module")
def burning():
    """An hour at 1.6 % of failures: too few for the rules that ask for more, 16 times the budget."""
    watched = Watched()
    watched.for_s(3_900, n=1_000, errors=0)
    watched.policy = watched.policy.with_overrides({"shadow": ["err_warn", "err_crit"]})
    return watched


def test_a_budget_that_burns_fast_is_told_with_both_windows(burning):
    assert burning.for_s(60, n=1_000, errors=16).healthy
    burning.for_s(3_540, n=1_000, errors=16)
    [alarm] = burning.verdict.alarms
    assert (alarm.rule, alarm.signal, alarm.severity) == ("burn", "errors", "warning")
    short, long = burning.state.burn.fast
    assert alarm.explanation == (
        f"{short.errors} of {short.n} requests failed in 5 min ({100 * short.errors / short.n:.2f} %), and "
        f"{long.errors} of {long.n} requests failed in 60 min ({100 * long.errors / long.n:.2f} %). "
        "0.1 % may fail: from 14.4 times that in both the budget burns too fast."
    )
    assert (alarm.k, alarm.n, alarm.window_ms) == (long.errors, long.n, 3_600_000)
    assert alarm.headline == "errors use up the budget 16.0 times too fast"


def test_an_outage_that_other_rules_tell_is_not_told_again_and_closes_as_soon():
    watched = Watched()
    watched.for_s(4_000)
    watched.for_s(90, errors=100)
    assert [alarm.rule for alarm in watched.verdict.alarms] == ["err_crit"]
    quiet = 0
    while watched.incident_open:
        quiet += 5
        watched.see()
    assert quiet <= 75
    assert watched.for_s(1_800).healthy
    assert len(watched.openings) == 1


def test_the_past_outlives_a_restart():
    watched = Watched()
    watched.for_s(700, errors=1)
    again = ServiceState.load(json.loads(json.dumps(watched.state.dump())))
    assert again.burn == watched.state.burn
