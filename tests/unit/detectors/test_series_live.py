"""The gauges that a service sends, minute by minute: one oddity is one warning, and nothing is invented."""

import json
import math
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import lines
from detectors.lines import KEPT, MOST, Line, Lines, Odd
from detectors.policy import Policy
from detectors.series import compare
from detectors.verdict import ServiceState, judge, new_normal
from detectors.window import Gauge, Tick
from tests.unit.detectors.conftest import START, Watched

LEARNED = Policy().with_overrides({"series_learning_minutes": 150})
SHADOWED = LEARNED.with_overrides({"shadow": ["series"]})


def tick(at_ms: int, *gauges: Gauge, span_ms: int = 60_000, app_ms: int = 0) -> Tick:
    return Tick(at_ms, span_ms, 0, 0, 0, 0, {}, 0, 0, gauges=gauges, app_ms=app_ms)


class Pool(Watched):
    """A service with one gauge, a look a minute."""

    def minutes(self, *values: int, limit: int = 100, name: str = "db_pool") -> list[str]:
        """Return the rules that spoke at each look."""
        said = []
        for value in values:
            self.see(n=1_200, span_s=60.0, gauges=(Gauge(name, value, limit),))
            said.append(self.verdict.alarms[0].rule if self.verdict.alarms else "")
        return said


@pytest.fixture
def pool(warm) -> Pool:
    return Pool(policy=LEARNED, state=warm.state, at_ms=warm.at_ms)


def oddities(values: Iterable[int], policy: Policy = LEARNED) -> set[int]:
    """Return which minutes of a gauge were odd."""
    after, found = lines.NONE, set()
    for minute, value in enumerate(values):
        seen = tick(START + minute * 60_000, Gauge("db_pool", value, 100))
        after = lines.fold(after, seen, seen.at_ms, policy, calm=True)
        found |= {(one.odd.began_ms - START) // 60_000 for one in after.past.values() if one.odd}
    return found


def calm(count: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [30, 70, *(rng.randint(42, 58) for _ in range(count - 2))]


# --- one oddity -----------------------------------------------------------------------------------------


def test_a_value_beyond_all_before_it_is_a_warning_about_that_gauge(pool):
    pool.minutes(*calm(200), 90, 50)
    [alarm] = pool.verdict.alarms
    assert (alarm.rule, alarm.signal, alarm.severity, alarm.subject) == (
        "series", "saturation", "warning", "db_pool",
    )  # fmt: skip
    assert alarm.headline == "db_pool at 90 is unlike its past"
    assert "compared with 200 before: 90 is outside the 30 to 70 so far." in alarm.explanation
    assert alarm.since_ms == pool.at_ms - 60_000


def test_one_event_is_one_warning_of_five_minutes_and_closes_a_minute_later(pool):
    said = pool.minutes(*calm(200), 90, *[50] * 20)
    assert "".join("x" if rule else "." for rule in said[200:]) == ".xxxxx..............."
    assert len(pool.openings) == 1
    assert not pool.incident_open


def test_a_gauge_that_goes_up_for_good_is_told_once():
    [at] = oddities([*calm(1_000), *(value + 25 for value in calm(400, 2)[2:])])
    assert 1_000 <= at < 1_024


@pytest.mark.parametrize("seed", range(3))
def test_two_days_with_their_swing_and_their_noise_are_not_odd(seed):
    rng = random.Random(seed)
    day = (50 + 25 * math.sin(at / 1_440 * math.tau) + rng.gauss(0, 3) for at in range(2 * 1_440))
    assert oddities(map(round, day), Policy()) == set()


@pytest.mark.parametrize(("learned", "speaks"), [(149, False), (150, True)])
def test_the_first_minutes_only_teach(pool, learned, speaks):
    assert bool(pool.minutes(*calm(learned), 95, 50)[-1]) is speaks


@pytest.mark.parametrize(("value", "speaks"), [(75, False), (76, True), (25, False), (24, True)])
def test_a_change_of_a_twentieth_of_the_limit_is_none(pool, value, speaks):
    assert bool(pool.minutes(*calm(200), value, 50)[-1]) is speaks


def test_a_gauge_that_stood_still_may_move_a_little(pool):
    assert pool.minutes(*[0] * 200, 1, 0)[-1] == ""
    assert pool.minutes(*[0] * 20, 40, 0)[-1] == "series"


def test_a_full_gauge_speaks_before_an_odd_one(pool):
    assert pool.minutes(*calm(200), 100, 100)[-1] == "saturation"


# --- what it belongs to ---------------------------------------------------------------------------------


def test_what_is_odd_while_the_service_is_sick_is_part_of_that(pool):
    pool.minutes(*calm(200))
    for _ in range(4):
        pool.see(n=1_200, errors=900, span_s=60.0, gauges=(Gauge("db_pool", 90, 100),))
        assert {alarm.signal for alarm in pool.verdict.alarms} <= {"errors"}
    assert pool.verdict.alarms
    assert "series" not in pool.minutes(*[50] * 10)


def test_an_odd_gauge_does_not_silence_the_budget(pool):
    pool.minutes(*calm(200), 90, 50)
    assert pool.verdict.alarms
    assert pool.state.sick_ms == 0


def test_in_shadow_it_is_recorded_and_nothing_comes_of_it(pool):
    pool.policy = SHADOWED
    pool.minutes(*calm(200), 90, 50)
    assert pool.openings == []
    assert [alarm.rule for alarm in pool.verdict.shadowed] == ["series"]


def test_switched_off_it_says_nothing_and_keeps_nothing(pool):
    pool.policy = LEARNED.with_overrides({"series_on": "false"})
    assert set(pool.minutes(*calm(200), 90, 50)) == {""}
    assert pool.state.lines == lines.NONE


def test_the_new_normal_ends_it(pool):
    pool.minutes(*calm(200), 90, 50)
    pool.state = new_normal(pool.state, pool.policy, 1)
    assert pool.minutes(50) == [""]


# --- what is a value ------------------------------------------------------------------------------------


def test_a_value_is_the_mean_of_a_minute_and_a_minute_without_a_look_is_none():
    state = ServiceState.fresh(LEARNED)
    for at_s, used in [(0, 10), (20, 20), (59, 60), (60, 7), (600, 8), (660, 9)]:
        seen = tick(START + at_s * 1_000, Gauge("pool", used, 100))
        state, _ = judge(state, seen, LEARNED, open_incident=False)
    assert state.lines.past["pool"].values == (30.0, 7.0, 8.0)


def test_missed_polls_and_answers_that_tell_nothing_new_are_no_values(pool):
    pool.minutes(*calm(20))
    seen = pool.state.lines.past["db_pool"].seen
    for _ in range(5):
        pool.miss(60)
    stale = tick(pool.at_ms + 60_000, Gauge("db_pool", 99, 100), span_ms=0, app_ms=pool.at_ms)
    pool.state, _ = judge(pool.state, stale, pool.policy, open_incident=False)
    assert pool.state.lines.past["db_pool"].seen == seen + 1  # the minute that was running
    assert pool.state.lines.running == {}


def test_an_oddity_of_an_hour_ago_is_no_alarm(pool):
    pool.minutes(*calm(200), 90)
    pool.at_ms += 3_600_000
    assert pool.minutes(50) == [""]


def test_eight_gauges_are_watched_the_first_by_name():
    after, names = lines.NONE, [f"pool_{number:02}" for number in range(20)]
    for minute in range(3):
        seen = tick(START + minute * 60_000, *(Gauge(name, 5, 10) for name in reversed(names)))
        after = lines.fold(after, seen, seen.at_ms, LEARNED, calm=True)
    assert sorted(after.past) == sorted(after.running) == names[:MOST]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(max_size=3), max_size=12), max_size=8))
def test_however_many_names_there_are_no_more_are_kept(sent):
    after = lines.NONE
    for minute, names in enumerate(sent):
        seen = tick(START + minute * 60_000, *(Gauge(name, 5, 10) for name in names))
        after = lines.fold(after, seen, seen.at_ms, LEARNED, calm=True)
        assert len(after.past) <= MOST
        assert set(after.running) == set(sorted(set(names))[:MOST])


def test_a_gauge_that_comes_back_goes_on_where_it_was(pool):
    pool.minutes(*calm(100))
    pool.minutes(*[5] * 30, name="threads")
    pool.minutes(50, 50)
    assert pool.state.lines.past["db_pool"].seen == 101


# --- the state ------------------------------------------------------------------------------------------


def test_a_state_is_small_and_is_stored_exactly(pool):
    before = lines.NONE
    for minute, value in enumerate(calm(KEPT + 100), start=-KEPT - 99):
        seen = tick(pool.at_ms + minute * 60_000, Gauge("db_pool", value, 100))
        before = lines.fold(before, seen, seen.at_ms, pool.policy, calm=True)
    pool.state = replace(pool.state, lines=before)
    pool.minutes(90, 50)
    said = pool.verdict
    assert len(pool.state.lines.past["db_pool"].values) == KEPT
    text = json.dumps(pool.state.dump())
    again = ServiceState.load(json.loads(text))
    assert again == pool.state
    assert again.lines.past["db_pool"].odd.sentence in said.alarms[0].explanation
    assert len(json.dumps(pool.state.dump()["lines"])) < 9_000


def test_a_state_of_before_there_were_lines_loads(warm):
    old = {key: value for key, value in warm.state.dump().items() if key != "lines"}
    assert ServiceState.load(old).lines == Lines()


def test_the_same_state_judged_twice_says_the_same_and_is_as_it_was(pool):
    pool.minutes(*calm(200), 90)
    kept = json.dumps(pool.state.dump())
    seen = tick(pool.at_ms + 60_000, Gauge("db_pool", 50, 100))
    once = judge(pool.state, seen, pool.policy, open_incident=False)
    assert once[1].alarms
    assert judge(pool.state, seen, pool.policy, open_incident=False) == once
    assert json.dumps(pool.state.dump()) == kept


def test_a_clock_that_is_set_dates_the_oddity_anew():
    odd = Lines(1, {}, {"pool": Line(b"", 1, 1, Odd(60_000, 1.0, 3, "x")), "threads": Line()})
    past = lines.moved(odd, -5_000).past
    assert past["pool"].odd.began_ms == 55_000
    assert past["threads"] == Line()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**40), max_size=60), st.integers(0, 10**18))
def test_any_gauge_is_borne(values, limit):
    policy, after = Policy().with_overrides({"series_learning_minutes": 1}), lines.NONE
    for minute, value in enumerate(values):
        seen = tick(START + minute * 60_000, Gauge("pool", value, limit))
        after = lines.fold(after, seen, seen.at_ms, policy, calm=True)
        assert all(math.isfinite(one) for line in after.past.values() for one in line.values)


def test_what_is_compared_is_worked_out_from_the_points_alone():
    past = [float(at % 24) for at in range(240)]
    look = compare(past, 40.0)
    assert (look.low, look.high, look.median, look.value) == (0.0, 23.0, 12.0, 40.0)
    assert look.mean == (sum(range(1, 24)) + 40) / 24
    assert look.usual == 0.5
    assert compare([], 3.0).odd(lines._rules(Policy())) is None
