"""What looks like an incident and is none, each beside the incident that it must not hide."""

import random
from math import exp
from statistics import NormalDist

from detectors.policy import Policy
from sdk import histogram


def shape(n: int, median_ms: float, sigma: float = 0.5) -> dict[int, int]:
    normal = NormalDist().inv_cdf
    return histogram.of(round(median_ms * 1e6 * exp(sigma * normal((i + 0.5) / n))) for i in range(n))


BOTH = histogram.merge(shape(70, 80.0), shape(30, 960.0))


def test_a_service_with_two_kinds_of_requests_is_no_incident_from_its_first_moment_on(fresh):
    fresh.for_s(2_400, hist=BOTH)
    assert fresh.openings == []
    assert fresh.verdict.score >= 90
    slower = histogram.merge(shape(70, 800.0), shape(30, 9_600.0))
    assert fresh.until_alarm(15, hist=slower) <= 15


def test_a_service_that_is_slow_from_its_first_moment_on_is_no_incident(fresh):
    for _ in range(40):
        assert fresh.for_s(60, median_ms=2_000).healthy
        assert fresh.verdict.score == 100


def test_what_a_new_service_did_for_a_minute_is_what_slow_is_compared_with(fresh):
    fresh.for_s(60)
    assert fresh.until_alarm(15, median_ms=1_500) <= 15


def test_before_a_minute_of_a_new_service_was_learned_nothing_is_slow(fresh):
    fresh.for_s(50)
    assert fresh.see(median_ms=3_000).healthy
    assert fresh.see(median_ms=3_000, n=10).healthy


def test_of_a_new_service_no_warning_is_given_for_latency(fresh):
    fresh.for_s(240, median_ms=240)
    mild = histogram.merge(shape(60, 240.0), shape(40, 800.0))
    assert not [alarm for alarm in fresh.for_s(240, hist=mild).alarms if alarm.severity == "warning"]


def test_traffic_in_bursts_is_no_drop_and_its_end_is(fresh):
    rng = random.Random(5)
    bursts = (max(1, round(400 * rng.gammavariate(11, 1 / 11))) for _ in range(180))
    for minute, n in enumerate(bursts):
        hist = {histogram.index(80_000_000): 2 * n}
        assert fresh.for_s(60, span_s=10, n=2 * n, hist=hist).healthy or minute < 60
    fresh.for_s(120)
    assert fresh.until_alarm(30, n=0) <= 30


def test_steady_traffic_is_expected_in_full(fresh, watch):
    plain = watch(Policy(drop_sigmas_milli=0))
    for watched in (fresh, plain):
        watched.for_s(1_200)
    assert fresh.state.baseline.expected_rps_milli == plain.state.baseline.expected_rps_milli == 20_000


def test_a_restart_of_some_seconds_that_two_polls_share_is_no_drop(warm):
    warm.see(n=38)
    assert warm.see(n=33).healthy
    assert warm.for_s(60).healthy


def test_a_drop_to_a_third_alarms_at_the_third_poll(warm):
    assert warm.see(n=34).healthy
    assert warm.see(n=34).healthy
    assert [alarm.rule for alarm in warm.see(n=34).alarms] == ["drop"]


def test_one_long_look_after_a_missed_poll_is_not_two(warm):
    warm.miss(5)
    assert warm.see(n=70, errors=40, span_s=10).healthy
    assert not warm.see(n=70, errors=40).healthy


def test_most_requests_slower_than_twice_the_usual_median_are_critical(fresh):
    usual = histogram.merge(shape(80, 60.0), shape(20, 3_000.0))
    slower = histogram.merge(shape(80, 300.0), shape(20, 3_000.0))
    fresh.for_s(2_400, hist=usual)
    assert fresh.openings == []
    assert fresh.until_alarm(15, hist=slower) <= 15
    alarm = fresh.verdict.alarms[0]
    assert alarm.rule == "lat_body"
    assert "2 × the usual p50 or more" in alarm.explanation
    assert 0.8 < alarm.k / alarm.n < 1
    assert "Expected at most 50 %." in alarm.explanation


def test_half_of_the_requests_slower_than_twice_the_median_are_as_usual(fresh):
    fresh.for_s(2_400)
    half = histogram.merge(shape(50, 70.0), shape(50, 175.0))
    assert not [alarm for alarm in fresh.for_s(300, hist=half).alarms if alarm.rule == "lat_body"]
