import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.score import components, line
from detectors.window import Gauge

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("share", "points"),
    [(0, 100), (0.02, 100), (0.06, 70), (0.1, 40), (0.193, 31), (0.3, 20), (0.5, 0), (1, 0)],
)
def test_100_where_it_is_healthy_40_where_it_is_sick_0_at_five_times_that(share, points):
    assert line(share, 0.02, 0.1) == points


@given(shares, shares)
def test_more_bad_requests_never_score_better(one, two):
    assert line(max(one, two), 0.05, 0.25) <= line(min(one, two), 0.05, 0.25)


def parts(service):
    return components(service.state, service.verdict.alarms, service.policy)


def test_a_healthy_service_has_a_hundred_in_each_component(warm):
    warm.for_s(60)
    assert set(parts(warm).values()) == {100}
    assert warm.verdict.score == 100


@pytest.mark.parametrize(("used", "points"), [(800, 100), (875, 70), (950, 40), (1_000, 40)])
def test_a_gauge_costs_nothing_up_to_80_percent_and_60_points_when_full(warm, used, points):
    warm.see(gauges=(Gauge("pool", used, 1_000),))
    assert parts(warm)["saturation"] == warm.verdict.score == points


@pytest.mark.parametrize(("oldest_ms", "points"), [(8_000, 40), (16_000, 20), (24_000, 0), (99_000, 0)])
def test_hangs_cost_sixty_points_at_the_limit_and_all_at_three_times_that(warm, oldest_ms, points):
    warm.see(n=0, inflight=90, oldest_ms=oldest_ms)
    assert parts(warm)["hangs"] == warm.verdict.score == points


@pytest.mark.parametrize(("n", "points"), [(0, 0), (20, 20)])
def test_traffic_costs_sixty_points_at_the_share_that_is_a_drop_and_all_at_nothing(warm, n, points):
    warm.for_s(20, n=n)
    assert parts(warm)["traffic"] == warm.verdict.score == points


def test_who_cannot_be_asked_has_nothing(warm):
    for _ in range(3):
        warm.miss()
    assert parts(warm)["unreachable"] == warm.verdict.score == 0
