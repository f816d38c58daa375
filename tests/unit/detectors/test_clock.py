"""Clocks that are set: no false alarm, no lost watch, and a sentence that says so."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.clock import AGREE_MS, Clocks, Step, step
from detectors.verdict import ServiceState
from detectors.window import Missed, Tick
from tests.unit.detectors.conftest import Watched

HOUR_S = 3_600
JUMPS = [-86_400, -HOUR_S, -60, 60, HOUR_S, 86_400]


@pytest.fixture
def told(warm: Watched) -> Watched:
    """The warm service, whose app tells its clock."""
    warm.app_ahead_ms = 250
    warm.for_s(30)
    return warm


@pytest.mark.parametrize("jump_s", JUMPS)
def test_an_app_whose_clock_is_set_is_watched_on(told, jump_s):
    told.app_ahead_ms += jump_s * 1000
    # What the adapter makes of it: back is an empty tick, forward a minute with five seconds' requests.
    verdict = told.see(n=100, span_s=60, passed_s=5) if jump_s > 0 else told.see(n=0, span_s=0, passed_s=5)
    assert verdict.healthy
    assert told.state.recent[-1].span_ms == 5_000
    way = "forward" if jump_s > 0 else "back"
    assert verdict.caveats[0].startswith(f"The app's clock was set {way} by ")
    assert told.for_s(300).healthy
    assert told.openings == []
    assert told.until_alarm(15, errors=50) <= 10
    assert told.verdict.alarms[0].window_ms <= 15_000


@pytest.mark.parametrize("jump_s", JUMPS)
def test_our_own_clock_may_be_set(told, jump_s):
    told.at_ms += jump_s * 1000
    told.app_ahead_ms -= jump_s * 1000
    verdict = told.see()
    assert verdict.healthy
    assert verdict.caveats[0].startswith(f"Our clock was set {'forward' if jump_s > 0 else 'back'} by ")
    assert verdict.numbers.window_ms == 60_000
    assert told.for_s(300).healthy
    assert told.openings == []
    assert told.until_alarm(15, errors=50) <= 10
    assert told.verdict.alarms[0].since_ms > told.at_ms - 20_000


@pytest.mark.parametrize("jump_s", JUMPS)
def test_an_incident_is_neither_forgotten_nor_made_longer_when_our_clock_is_set(told, jump_s):
    told.for_s(30, errors=50)
    window_ms = told.verdict.alarms[0].window_ms
    told.at_ms += jump_s * 1000
    told.app_ahead_ms -= jump_s * 1000
    verdict = told.see(errors=50)
    assert verdict.alarms[0].window_ms == window_ms + 5_000
    told.for_s(90)
    assert not told.incident_open
    assert len(told.openings) == 1


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_one_machine_for_both_clocks_is_no_false_alarm_either(told, jump_s):
    told.at_ms += jump_s * 1000
    told.see(n=0, span_s=0 if jump_s < 0 else 60, passed_s=5)
    assert told.for_s(300).healthy
    assert told.openings == []


def test_a_failed_poll_may_be_the_first_that_sees_our_clock_set_back(told):
    told.at_ms -= HOUR_S * 1000
    told.app_ahead_ms += HOUR_S * 1000
    told.miss()
    assert told.state.at_ms == told.at_ms
    assert told.state.missed_since_ms == told.at_ms
    assert told.for_s(60).healthy


def test_time_in_which_we_slept_is_no_silence_of_the_service(told):
    told.at_ms += 600_000
    assert told.see(n=3, span_s=60, passed_s=0).healthy
    assert "drop" not in told.state.tests
    assert told.for_s(60).healthy
    assert told.state.baseline.minutes[-1].rps_milli >= 19_000


def test_it_is_said_for_ten_minutes_and_survives_a_restart(told):
    told.app_ahead_ms += 7_200_000
    assert told.see(n=100, span_s=60, passed_s=5).caveats == (
        "The app's clock was set forward by 120 min just now: its requests are counted on.",
    )
    told.state = ServiceState.load(json.loads(json.dumps(told.state.dump())))
    assert "5 min ago" in told.for_s(300).caveats[0]
    assert told.for_s(305).caveats == ()


def test_workers_that_fell_silent_are_said():
    watched = Watched()
    assert watched.see(workers=3, workers_stale=1).caveats == (
        "1 of 4 workers have fallen silent: the others are counted alone.",
    )
    assert watched.see(workers=3).caveats == ()


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(0, 60_000))
def test_clocks_that_agree_within_ten_seconds_were_not_set(ahead_ms, passed_ms):
    before = Clocks(10**12, 10**12, 10**12 + ahead_ms)
    for drift_ms in (-AGREE_MS, 0, AGREE_MS):
        app_ms = before.app_ms + passed_ms + drift_ms
        seen = Tick(10**12 + passed_ms, 5_000, 0, 0, 0, 0, {}, 0, 0, app_ms=app_ms)
        assert step(before, seen) is None


def test_who_does_not_tell_its_clock_is_dated_by_ours_alone():
    before = Clocks(1_000_000, 1_000_000, 0)
    assert step(before, Missed(900_000, "refused")) == Step(True, -100_000, 900_000)
    assert step(before, Missed(995_000, "refused")) is None
    assert step(before, Missed(9_000_000, "refused")) is None
