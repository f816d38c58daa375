"""The last half hour: made of samples alone, bounded, exact over a restart, and never a zero for a gap."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import history
from detectors.baseline import Baseline
from detectors.history import KEPT_MS, POINT_MS, Point
from detectors.window import Missed, Tick
from sdk import histogram
from tests.unit.detectors.conftest import START, Watched


class Remembered(Watched):
    """A watched service whose half hour is kept as detection keeps it."""

    past: history.History = ()

    def _judge(self, seen: Tick | Missed):
        verdict = super()._judge(seen)
        self.past = history.remember(self.past, self.state)
        return verdict


def test_a_half_minute_becomes_a_point_once_it_is_over():
    service = Remembered()
    service.for_s(25)
    assert service.past == ()
    service.for_s(10, errors=3)
    [point] = service.past
    assert point.at_ms // POINT_MS == START // POINT_MS
    assert point.span_ms == 25_000
    assert (point.n, point.errors) == (500, 0)


def test_what_is_not_over_shows_in_the_present_and_is_not_kept():
    service = Remembered()
    service.for_s(40, errors=5)
    assert sum(one.n for one in service.past) < 800
    assert sum(one.n for one in history.until_now(service.past, service.state)) == 800
    assert sum(one.errors for one in history.until_now(service.past, service.state)) == 40


def test_the_p95_of_a_point_is_that_of_its_requests():
    service = Remembered()
    hist = {histogram.index(50_000_000): 94, histogram.index(2_000_000_000): 6}
    service.for_s(60, hist=hist)
    assert service.past[0].p95_us == histogram.midpoint(histogram.index(2_000_000_000)) // 1000


def test_missed_polls_leave_a_gap_and_never_a_zero():
    service = Remembered()
    service.for_s(60)
    for _ in range(300):
        service.miss()
    service.for_s(60)
    assert all(one.n for one in service.past)
    gaps = [b.began_ms - a.at_ms for a, b in zip(service.past, service.past[1:], strict=False)]
    assert max(gaps) > 250_000


def test_time_without_requests_that_was_measured_is_a_zero():
    service = Remembered()
    service.for_s(60)
    service.for_s(90, n=0)
    assert [one.n for one in service.past[-2:]] == [0, 0]
    assert service.past[-1].p95_us == 0


def test_a_poll_that_brings_what_was_missed_fills_its_gap():
    service = Remembered()
    service.for_s(60)
    service.see(n=4_000, span_s=200)
    service.for_s(60)
    filled = max(service.past, key=lambda one: one.span_ms)
    assert filled.span_ms >= 200_000
    assert filled.n >= 4_000


def test_half_an_hour_is_kept_and_no_more():
    service = Remembered()
    service.for_s(3_000)
    assert len(service.past) in {KEPT_MS // POINT_MS - 1, KEPT_MS // POINT_MS}
    assert service.state.at_ms - service.past[0].at_ms < KEPT_MS


def test_a_restart_neither_loses_nor_invents():
    service = Remembered()
    service.for_s(400, errors=2)
    before = history.until_now(service.past, service.state)
    service.past = history.load(json.loads(json.dumps(history.dump(service.past))))
    service.restart()
    assert history.until_now(service.past, service.state) == before


@pytest.mark.parametrize(
    "dumped", [None, {}, "x", [1], [[1, 2]], [[1] * 8], [[1.5] * 7], [[-1] * 7], [[True] * 7], [["1"] * 7]]
)
def test_what_is_not_a_history_is_none(dumped):
    assert history.load(dumped) == ()


spans = st.lists(st.sampled_from([0, 1, 1, 1, 5, 5, 5, 7, 40]), min_size=1, max_size=300)


@settings(deadline=None, max_examples=40)
@given(spans, st.integers(0, 60))
def test_every_request_is_in_exactly_one_point(steps, phase):
    """Whatever the timing of polls; 0 is a poll that failed."""
    service = Remembered(at_ms=START + phase * 1_000)
    for step in steps:
        service.miss() if step == 0 else service.see(n=step, span_s=step, hist={600: step})
    points = history.until_now(service.past, service.state)
    if service.at_ms - START < KEPT_MS - 100_000:
        assert sum(one.n for one in points) == sum(steps)
        assert sum(one.span_ms for one in points) == sum(steps) * 1_000
    assert [one.at_ms for one in points] == sorted({one.at_ms for one in points})
    assert all(one.span_ms > 0 for one in points)


def test_where_p95_usually_lies_is_wider_for_few_requests_and_unknown_while_cold(warm):
    assert history.usual_p95_us(Baseline(), 100) == (0, 0)
    baseline = warm.state.baseline
    assert history.usual_p95_us(baseline, 0) == (0, 0)
    few, many = (history.usual_p95_us(baseline, n) for n in (20, 2_000))
    assert few[0] < many[0] < baseline.p95_ns // 1000 < many[1] < few[1]


def test_what_is_usual_holds_nearly_all_half_minutes_of_usual_traffic(warm):
    """600 requests a half minute, of the service's own distribution: the band is no decoration."""
    import random

    chance, counts = random.Random(5), warm.state.baseline.hist
    low, high = history.usual_p95_us(warm.state.baseline, 600)
    within = 0
    for _ in range(100):
        drawn = chance.choices(list(counts), weights=list(counts.values()), k=600)
        hist = dict.fromkeys(counts, 0)
        for bucket in drawn:
            hist[bucket] += 1
        within += low <= histogram.quantile(hist, 0.95) // 1000 <= high
    assert within >= 98


def test_usual_traffic_is_the_median_of_the_last_good_hour(warm):
    assert history.usual_rps_milli(warm.state.baseline) == 20_000
    assert history.usual_rps_milli(Baseline()) == 0


def test_a_point_knows_when_it_began():
    assert Point(90_000, 30_000, 1, 0, 1, 1, 1).began_ms == 60_000


def test_a_sample_that_may_still_grow_is_in_no_point_yet():
    """A poll fails across the end of a half minute, and the next one joins the sample from before it."""
    service = Remembered(at_ms=START // POINT_MS * POINT_MS + POINT_MS - 3_000)
    service.see(n=10, span_s=1)
    service.see(n=10, span_s=1)
    service.miss(after_s=2)
    assert service.past == ()
    service.see(n=10, span_s=1)
    assert sum(one.n for one in history.until_now(service.past, service.state)) == 30
