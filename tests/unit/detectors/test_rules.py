"""Each rule of the policy: what it sees, what it leaves alone, and where exactly the one becomes the other.

A rule is asked alone: all others are in shadow. A rule without its row here fails the first test.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from detectors import alarms, budget, present, verdict
from detectors.policy import RULES, Policy
from detectors.window import Gauge, Part
from sdk import histogram
from tests.unit.detectors.conftest import Watched

FAST, SLOW = histogram.index(80_000_000), histogram.index(5_000_000_000)
TWICE = histogram.index(250_000_000)  # slower than twice the usual median, not than twice the usual p95
Scenario = Callable[[Watched], object]


def mixed(bad: int, n: int = 100, bucket: int = SLOW) -> dict[int, int]:
    return {FAST: n - bad, bucket: bad}


def looks(times: int, **traffic: object) -> Scenario:
    """So many polls of five seconds."""

    def play(service: Watched) -> None:
        for _ in range(times):
            service.see(**traffic)  # type: ignore[arg-type]

    return play


def misses(times: int) -> Scenario:
    def play(service: Watched) -> None:
        for _ in range(times):
            service.miss()

    return play


def still(times: int) -> Scenario:
    """Polls that are answered with what we know already."""

    def play(service: Watched) -> None:
        service.app_ahead_ms = 0
        service.see()
        for _ in range(times):
            service.see(n=0, span_s=0, passed_s=5)

    return play


def hour(failed: int, of: int) -> Scenario:
    return looks(721, n=of, errors=failed, hist={FAST: of})


def route(slow: int) -> Scenario:
    """A small route of which so many requests of four are slow; it was quick for long before."""

    def parts(bad: int) -> tuple[Part, ...]:
        return Part("GET /", 96, 0, {FAST: 96}), Part("POST /pay", 4, 0, {FAST: 4 - bad, SLOW: bad})

    def play(service: Watched) -> None:
        service.for_s(1_200, routes=parts(0), hist={FAST: 100})
        service.for_s(90, routes=parts(slow), hist=mixed(slow))

    return play


def minutes(*values: int) -> Scenario:
    """150 minutes of a gauge between 4000 and 6000, then *values*; a minute more, since it is told then."""

    def play(service: Watched) -> None:
        for value in (*(4_000, 6_000) * 75, *values, 5_000):
            service.see(n=1_200, span_s=60.0, gauges=(Gauge("db_pool", value, 10_000),))

    return play


@dataclass(frozen=True)
class Case:
    """Four scenarios on the warm service: the rule speaks, does not, barely does, and barely does not."""

    positive: Scenario
    negative: Scenario
    at: Scenario
    below: Scenario
    policy: dict[str, object] = field(default_factory=dict)
    below_policy: dict[str, object] | None = None


CASES: dict[str, Case] = {
    "err_crit": Case(
        looks(3, errors=30),
        looks(120, errors=1),
        looks(8, n=1, errors=1),  # eight failures in a row are 12.88 nats
        looks(7, n=1, errors=1),
    ),
    "err_warn": Case(
        looks(12, errors=3),
        looks(120, n=1_000, errors=1, hist={FAST: 1_000}),
        looks(6, errors=3),  # half a minute
        looks(5, errors=3),
    ),
    "burn": Case(hour(16, 1_000), hour(10, 1_000), hour(144, 10_000), hour(143, 10_000)),
    "lat_crit": Case(
        looks(3, median_ms=800),
        looks(120, median_ms=96),
        looks(2, hist=mixed(60)),
        looks(1, hist=mixed(60)),
    ),
    "lat_body": Case(
        looks(6, hist=mixed(95, bucket=TWICE)),
        looks(120, hist=mixed(40, bucket=TWICE)),
        looks(2, hist=mixed(100, bucket=TWICE)),
        looks(1, hist=mixed(100, bucket=TWICE)),
    ),
    "lat_warn": Case(
        looks(20, hist=mixed(40, bucket=TWICE)),
        looks(120, hist=mixed(8, bucket=TWICE)),
        looks(6, hist=mixed(60, bucket=TWICE)),
        looks(5, hist=mixed(60, bucket=TWICE)),
    ),
    "tail": Case(
        route(1),
        looks(120, n=250, hist=mixed(1, 250)),
        looks(2, hist=mixed(12)),
        looks(1, hist=mixed(12)),
    ),
    "hangs": Case(
        looks(3, n=0, inflight=100, oldest_ms=15_000),
        looks(12, inflight=3, oldest_ms=120_000),
        looks(1, n=0, inflight=100, oldest_ms=8_000),
        looks(1, n=0, inflight=100, oldest_ms=7_999),
    ),
    "drop": Case(looks(4, n=0), looks(120, n=70), looks(2, n=0), looks(1, n=0)),
    "unreachable": Case(misses(5), misses(1), misses(3), misses(2)),
    "stale": Case(still(8), looks(60, n=0), still(5), still(4)),
    "saturation": Case(
        looks(8, gauges=(Gauge("db_pool", 20, 20),)),
        looks(120, gauges=(Gauge("db_pool", 10, 20),)),
        looks(7, gauges=(Gauge("db_pool", 19, 20),)),  # 95 % since half a minute
        looks(7, gauges=(Gauge("db_pool", 949, 1_000),)),
    ),
    "series": Case(
        minutes(*[4_000, 6_000] * 10, 7_500),
        minutes(*[4_000, 6_000] * 60, 6_400),
        minutes(6_501),  # beyond the range by more than a twentieth of the limit
        minutes(6_500),
        {"series_learning_minutes": 150},
    ),
    "p95_limit": Case(
        looks(8, median_ms=400),
        looks(8),
        looks(6, hist={SLOW: 100}),
        looks(6, hist={SLOW: 100}),
        {"p95_limit_ms": histogram.midpoint(SLOW) // 1_000_000 - 1},
        {"p95_limit_ms": histogram.midpoint(SLOW) // 1_000_000},
    ),
    "score": Case(
        looks(4, errors=9),
        looks(60, errors=2),
        looks(3, errors=6),  # 70 points
        looks(3, errors=6),
        {"min_score_to_alert": 70},
        {"min_score_to_alert": 69},
    ),
}  # fmt: skip


def alone(rule: str, more: dict[str, object]) -> Policy:
    return Policy().with_overrides({"shadow": [name for name in RULES if name != rule], **more})


def speaks(warm: Watched, rule: str, scenario: Scenario, more: dict[str, object]) -> bool:
    warm.policy = alone(rule, more)
    scenario(warm)
    assert {alarm.rule for alarm in warm.verdict.alarms} <= {rule}
    return bool(warm.verdict.alarms)


def test_each_rule_has_its_row():
    assert set(CASES) == set(RULES)


def test_no_rule_speaks_that_is_not_named_by_policy():
    """Read from the source, so that none is forgotten."""
    rows = {row.rule for row in Policy().rows}
    written = {
        name
        for module in (alarms, budget, present, verdict)
        for name in re.findall(r'Alarm\(\s*"(\w+)"', Path(module.__file__).read_text())
    }
    assert rows | written == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_sees_what_it_is_there_for(warm, rule):
    case = CASES[rule]
    policy = {"p95_limit_ms": 300} if rule == "p95_limit" else case.policy
    assert speaks(warm, rule, case.positive, policy)
    alarm = warm.verdict.alarms[0]
    assert alarm.explanation.endswith(".")
    assert alarm.evidence_cn >= alarm.threshold_cn


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_leaves_alone_what_is_none_of_its_business(warm, rule):
    case = CASES[rule]
    policy = {"p95_limit_ms": 300} if rule == "p95_limit" else case.policy
    assert not speaks(warm, rule, case.negative, policy)
    assert warm.openings == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_barely_speaks(warm, rule):
    assert speaks(warm, rule, CASES[rule].at, CASES[rule].policy)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_barely_does_not_speak(warm, rule):
    case = CASES[rule]
    below = case.policy if case.below_policy is None else case.below_policy
    assert not speaks(warm, rule, case.below, below)


@pytest.mark.parametrize(("inflight", "hang"), [(9, False), (10, True)])
def test_requests_hang_when_more_are_in_flight_than_chance_would_have_it(warm, inflight, hang):
    assert warm.state.baseline.usual_inflight == 2  # and three, and three times the root of two: 9.2
    warm.for_s(15, inflight=inflight, oldest_ms=20_000)
    assert [alarm.rule for alarm in warm.verdict.alarms] == ["hangs"] * hang


def test_a_route_whose_tail_is_slow_is_named(warm):
    warm.policy = alone("tail", {})
    route(1)(warm)
    [alarm] = warm.verdict.alarms
    assert (alarm.subject, alarm.threshold_cn) == ("POST /pay", 1_500)
    assert re.match(
        r"\d+ of \d+ requests to POST /pay slower than [\d.]+ m?s, 3 × the usual p99", alarm.explanation
    )


def test_a_route_that_is_slow_as_a_rule_is_not_asked_for_its_tail(warm):
    warm.policy = alone("tail", {})
    for _ in range(20):
        warm.for_s(60, routes=(Part("GET /", 196, 0, {FAST: 196}), Part("GET /report", 5, 0, {SLOW: 5})),
                   n=400, hist=mixed(5, 400))  # fmt: skip
        assert warm.verdict.healthy


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_sick_routes_the_one_with_more_failures_is_named_whatever_their_order(warm, order):
    sick = Part("POST /pay", 4, 4, {FAST: 4}), Part("POST /refund", 3, 3, {FAST: 3})
    parts = Part("GET /", 993, 0, {FAST: 993}), *(sick[place] for place in order)
    warm.for_s(60, n=1_000, errors=7, hist={FAST: 1_000}, routes=parts)
    [alarm] = warm.verdict.alarms
    assert (alarm.rule, alarm.subject) == ("err_crit", "POST /pay")
