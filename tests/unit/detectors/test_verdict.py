import json
import re

import pytest
from pydantic import ValidationError

from detectors.evidence import wilson
from detectors.policy import Policy
from detectors.verdict import (
    ServiceState,
    judge,
    new_normal,
    recovered_because,
    rings,
    should_open,
    should_recover,
    worse,
)
from detectors.window import Gauge, Part, Tick
from sdk import histogram


def the(verdict, signal):
    return next(alarm for alarm in verdict.alarms if alarm.signal == signal)


def test_a_healthy_service_is_healthy(warm):
    verdict = warm.for_s(60)
    assert (verdict.healthy, verdict.score, verdict.trend, verdict.severity) == (True, 100, "steady", None)
    assert not should_open(verdict)
    assert verdict.numbers.n == 1200
    assert verdict.numbers.rps_milli == 20_000
    assert 75 <= verdict.numbers.p50_ms <= 85


@pytest.mark.parametrize(("errors", "within_s"), [(100, 10), (50, 10), (20, 10), (5, 45)])
@pytest.mark.parametrize("service", ["fresh", "warm"])
def test_failing_requests_alarm_in_time(request, service, errors, within_s):
    watched = request.getfixturevalue(service)
    watched.for_s(30)
    assert watched.until_alarm(within_s, errors=errors) <= within_s
    assert watched.verdict.alarms[0].signal == "errors"


def test_polls_each_second_notice_at_least_as_soon(fresh):
    fresh.for_s(30, span_s=1, n=20)
    assert fresh.until_alarm(8, span_s=1, n=20, errors=4) <= 8


def test_one_failed_request_never_alarms_however_little_traffic_there_is(fresh):
    fresh.for_s(600, n=0)
    assert fresh.see(n=1, errors=1).healthy
    assert fresh.for_s(600, n=0).healthy


def test_a_burst_of_one_tick_does_not_alarm(warm):
    assert warm.see(errors=100).healthy
    assert warm.for_s(60).healthy


def test_an_alarm_is_off_when_the_newest_requests_are_well_though_evidence_remains(warm):
    warm.for_s(60, errors=5)
    assert warm.verdict.severity == "warning"
    assert warm.for_s(10, n=500, errors=1).healthy
    assert warm.state.tests["err_warn"].nats >= warm.policy.threshold


def test_a_hasty_policy_still_waits_for_five_bad_requests(watch):
    hasty = watch(Policy().with_overrides({"evidence_cn": 100}))
    hasty.for_s(30)
    assert hasty.for_s(20, n=1, errors=1).healthy
    assert not hasty.see(n=1, errors=1).healthy


def test_errors_of_one_tick_and_then_silence_do_not_alarm_by_the_passing_of_time(fresh):
    fresh.for_s(60)
    fresh.see(n=15, errors=15)
    assert fresh.for_s(300, n=0).healthy


def test_ten_times_slower_alarms_within_fifteen_seconds(warm):
    assert warm.until_alarm(15, median_ms=800) <= 15
    assert the(warm.verdict, "latency").rule == "lat_crit"


def test_plus_20_percent_latency_deploy_does_not_alarm(warm):
    for _ in range(12):
        assert warm.for_s(300, median_ms=96).healthy


def test_before_the_baseline_is_warm_slow_means_over_500_ms(fresh):
    fresh.for_s(30)
    assert fresh.for_s(120, median_ms=200).healthy
    assert fresh.until_alarm(15, median_ms=800) <= 15
    assert "slower than 500 ms in" in the(fresh.verdict, "latency").explanation


def test_a_few_very_slow_requests_are_a_tail(warm):
    slow = histogram.merge(histogram.of([5_000_000_000] * 10), warm.state.recent[-1].hist)
    assert warm.until_alarm(30, n=110, hist=slow) <= 15
    assert the(warm.verdict, "latency").rule == "tail"


@pytest.mark.parametrize("span_s", [1.0, 5.0])
def test_an_app_whose_handlers_all_hang_alarms_within_fifteen_seconds(fresh, span_s):
    fresh.for_s(60, span_s=span_s, n=round(20 * span_s))
    hung_ms = 0
    while not (verdict := fresh.verdict).alarms:
        hung_ms += round(span_s * 1000)
        fresh.see(n=0, span_s=span_s, inflight=hung_ms // 50, oldest_ms=hung_ms)
    assert hung_ms <= 10_000
    alarm = the(fresh.verdict, "hangs")
    assert alarm.severity == "critical"
    assert alarm.explanation.startswith(f"{hung_ms // 50} requests in flight (usually")
    assert fresh.verdict.score <= 40
    assert verdict.alarms == fresh.verdict.alarms


def test_requests_that_hang_are_no_drop_of_traffic(warm):
    for tick in range(1, 12):
        warm.see(n=0, inflight=2 + 100 * tick, oldest_ms=5_000 * tick)
    assert [alarm.signal for alarm in warm.verdict.alarms] == ["hangs"]


def test_streams_that_stay_open_for_hours_are_not_hangs(fresh):
    for minute in range(1, 120):
        assert fresh.for_s(60, inflight=60, oldest_ms=60_000 * minute).healthy
    assert fresh.openings == []


def test_more_streams_than_usual_are_not_hangs_when_they_are_no_older_than_usual(fresh):
    fresh.for_s(1_800, inflight=20, oldest_ms=60_000)
    assert fresh.for_s(60, inflight=200, oldest_ms=60_000).healthy
    assert not fresh.for_s(60, inflight=200, oldest_ms=130_000).healthy


def test_one_long_report_is_not_a_hang(warm):
    for age in range(5_000, 120_000, 5_000):
        assert warm.see(inflight=3, oldest_ms=age).healthy


@pytest.mark.parametrize("n", [0, 20])
def test_traffic_that_stops_alarms_within_fifteen_seconds(warm, n):
    assert warm.until_alarm(15, n=n) <= 15
    alarm = the(warm.verdict, "traffic")
    assert re.fullmatch(
        rf"{alarm.k} requests in 10 s, about {alarm.n} expected\. Evidence 18\.0 of 12\.0\.",
        alarm.explanation,
    )


def test_the_end_of_a_surge_is_not_a_drop(warm):
    warm.for_s(3_600)
    warm.for_s(5_400, n=300)
    assert warm.for_s(3_600).healthy
    assert warm.openings == []


def test_with_little_traffic_silence_means_nothing(fresh):
    for _ in range(60):
        fresh.for_s(60, n=1)  # 0.2 rps
    assert fresh.for_s(1_800, n=0).healthy


def test_three_failed_polls_in_a_row_are_unreachable(warm):
    assert warm.miss(5).healthy
    assert warm.miss().healthy
    verdict = warm.miss()
    assert (the(verdict, "unreachable").severity, verdict.score) == ("critical", 0)
    assert the(verdict, "unreachable").explanation == (
        "3 polls in a row failed in 2 s, the last with: connection refused."
    )


def test_a_poll_that_succeeds_between_failures_starts_the_count_again(warm):
    for _ in range(5):
        warm.miss()
        warm.miss()
        assert warm.see().healthy


def test_a_full_gauge_is_a_warning_after_half_a_minute(warm):
    full = (Gauge("db_pool", 20, 20),)
    assert warm.for_s(25, gauges=full).healthy
    verdict = warm.for_s(10, gauges=full)
    assert [(alarm.rule, alarm.severity) for alarm in verdict.alarms] == [("saturation", "warning")]
    assert verdict.alarms[0].headline == "db_pool 20 of 20 in use"
    assert warm.see(gauges=(Gauge("db_pool", 5, 20),)).healthy


def test_a_small_route_that_fails_is_critical_though_the_sum_looks_mild(warm):
    def routes(errors):
        pay = Part("POST /pay", 4, errors, histogram.of([80_000_000] * 4), {"TimeoutError": errors})
        return (Part("GET /", 96, 0, histogram.of([80_000_000] * 96)), pay)

    warm.for_s(60, routes=routes(0))
    assert warm.until_alarm(30, errors=4, routes=routes(4)) <= 30
    alarm = warm.verdict.alarms[0]
    assert (alarm.rule, alarm.severity, alarm.subject) == ("err_crit", "critical", "POST /pay")
    assert alarm.headline == "100 % of POST /pay fails"
    assert alarm.threshold_cn == 1_500
    assert alarm.evidence_cn >= alarm.threshold_cn


def test_an_error_alarm_explains_itself_with_numbers_that_can_be_recomputed(fresh):
    fresh.for_s(30)
    fresh.see(n=93, errors=18)
    verdict = fresh.see(n=94, errors=18)
    alarm = verdict.alarms[0]
    assert alarm.explanation == (
        "36 of 187 requests failed in 10 s (19.3 %, 99 % interval 13–28 %). "
        "Normal is at most 2 %. Evidence 18.0 of 12.0."
    )
    assert alarm.headline == "19 % of requests fail"
    assert (alarm.k, alarm.n, alarm.window_ms, alarm.evidence_cn, alarm.threshold_cn) == (
        36,
        187,
        10_000,
        1800,
        1200,
    )
    assert alarm.since_ms == fresh.at_ms - 10_000
    low, high = wilson(36, 187)
    assert (round(100 * low), round(100 * high)) == (13, 28)


def test_a_latency_alarm_says_what_slow_is(warm):
    warm.until_alarm(15, median_ms=800)
    alarm = the(warm.verdict, "latency")
    p95_ms = warm.state.baseline.p95_ns // 1_000_000
    assert re.match(
        rf"{alarm.k} of {alarm.n} requests slower than \d+ ms, 2 × the usual p95", alarm.explanation
    )
    assert 170 <= p95_ms <= 195
    assert "Expected at most 5 %." in alarm.explanation


def test_the_score_is_that_of_the_worst_component_and_never_an_average(fresh):
    fresh.for_s(60)
    instant = histogram.of([5_000_000] * 100)
    verdict = fresh.for_s(15, errors=100, hist=instant)
    assert verdict.score == 0
    assert verdict.trend == "falling"


def test_the_score_rises_when_it_recovers(warm):
    warm.for_s(60, errors=50)
    assert warm.for_s(15).trend == "rising"


def test_an_incident_closes_after_a_minute_of_quiet_and_not_before(warm):
    warm.for_s(30, errors=30)
    assert warm.incident_open
    closed_after = 0
    while warm.incident_open:
        verdict = warm.see()
        closed_after += 5
    assert 60 <= closed_after <= 75
    assert recovered_because(verdict).startswith("Recovered: 0 of 1200 failed in 60 s; closed after ")


def test_a_relapse_of_one_tick_starts_the_quiet_again(warm):
    warm.for_s(30, errors=100)
    warm.for_s(50, n=500)
    assert warm.verdict.quiet_ms >= 40_000
    relapse = warm.see(n=500, errors=500)
    assert (relapse.healthy, relapse.quiet_ms) == (True, 0)


def test_silence_after_errors_is_no_evidence_of_recovery(fresh):
    fresh.for_s(60)
    fresh.for_s(30, errors=100)
    assert not should_recover(fresh.for_s(600, n=0), fresh.policy)
    assert fresh.incident_open


def test_time_that_nobody_watched_is_not_quiet(warm):
    warm.for_s(30, errors=100)
    warm.for_s(30)
    quiet = warm.verdict.quiet_ms
    warm.at_ms += 600_000
    assert warm.miss().quiet_ms == quiet


def test_flapping_within_a_minute_is_one_incident(warm):
    for _ in range(10):
        warm.for_s(30, errors=100)
        warm.for_s(30)
    assert len(warm.openings) == 1


def test_severity_only_rises_while_an_incident_is_open(warm):
    warm.until_alarm(45, errors=4)
    assert warm.verdict.severity == "warning"
    warm.for_s(30, errors=60)
    assert worse("warning", warm.verdict)
    assert not worse("critical", warm.verdict)
    assert not worse("critical", warm.for_s(30, errors=4))


def test_warnings_open_incidents_but_ring_only_where_policy_says_so(warm):
    warm.until_alarm(45, errors=4)
    assert warm.incident_open
    assert not rings(warm.verdict.severity, warm.policy)
    assert rings(warm.verdict.severity, warm.policy.with_overrides({"warnings_ring": True}))
    assert rings("critical", warm.policy)


def test_a_route_with_a_hostile_name_alarms_like_any_other(warm):
    def routes(errors):
        return (Part("POST /\tp\n" + "x" * 300, 20, errors, {}, {}), Part("GET /", 80, 0, {}))

    warm.for_s(60, routes=routes(0))
    warm.until_alarm(30, errors=3, routes=routes(3))
    warm.for_s(30, errors=3, routes=routes(3))
    alarm = the(warm.verdict, "errors")
    assert alarm.subject.startswith("POST / p xxx")
    assert len(alarm.subject) == 120
    assert alarm.headline.isprintable()


def test_there_is_one_alarm_a_signal_and_the_worst_comes_first(warm):
    verdict = warm.for_s(60, errors=60, median_ms=900, gauges=(Gauge("pool", 9, 9),))
    assert [alarm.signal for alarm in verdict.alarms] == ["errors", "latency", "saturation"]
    assert [alarm.severity for alarm in verdict.alarms] == ["critical", "critical", "warning"]


def test_a_restart_in_the_middle_of_an_incident_neither_forgets_nor_re_pages(warm):
    warm.for_s(30, errors=40)
    before = warm.state
    warm.restart()
    assert warm.state == before
    verdict = warm.see(errors=40)
    assert verdict.alarms[0].since_ms == before.tests["err_crit"].since_ms
    assert len(warm.openings) == 1
    warm.for_s(40)
    warm.restart()
    warm.for_s(40)
    assert not warm.incident_open
    assert len(warm.openings) == 1


def test_what_was_stored_is_json_and_what_is_not_a_state_is_refused(warm):
    assert json.loads(json.dumps(warm.state.dump())) == warm.state.dump()
    with pytest.raises(ValidationError):
        ServiceState.load({"recent": "nonsense"})


def test_judging_twice_gives_the_same_answer(warm):
    tick = Tick(warm.at_ms + 5_000, 5_000, 50, 9, 0, 0, histogram.of([10**8] * 50), 3, 90)
    once = judge(warm.state, tick, warm.policy, open_incident=False)
    assert once == judge(warm.state, tick, warm.policy, open_incident=False)


def test_a_score_rule_of_the_peer_alarms_only_when_it_is_asked_for(watch):
    asked = watch(Policy().with_overrides({"min_score_to_alert": "70", "recover_score": 90}))
    asked.for_s(60)
    verdict = asked.for_s(15, errors=7)
    assert [alarm.rule for alarm in verdict.alarms] == ["score"]
    unasked = watch(Policy())
    unasked.for_s(60)
    assert unasked.for_s(15, errors=7).healthy


def test_a_fixed_p95_limit_is_optional(watch):
    asked = watch(Policy().with_overrides({"p95_limit_ms": 100}))
    assert [alarm.rule for alarm in asked.for_s(40).alarms] == ["p95_limit"]


def test_new_normal_makes_what_is_seen_now_usual(warm):
    warm.for_s(120, median_ms=800)
    assert warm.incident_open
    warm.state = new_normal(warm.state, warm.policy)
    assert warm.state.baseline.warm
    assert warm.for_s(90, median_ms=800).healthy
    assert not warm.incident_open


def test_a_baseline_is_frozen_while_an_incident_is_open_and_two_hours_at_most(warm):
    usual = warm.state.baseline.p95_ns
    warm.for_s(7_100, median_ms=800)
    assert warm.state.baseline.p95_ns == usual
    warm.for_s(7_200, median_ms=800)
    assert warm.state.baseline.p95_ns > 2 * usual
    assert not warm.incident_open
