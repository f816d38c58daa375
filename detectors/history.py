"""The last half hour of one service in half minutes: what a chart is drawn of.

* A point is made of the samples that ended in one half minute, once that is over and they can grow no more.
  `until_now` adds what is not over yet.
* Time in which nothing was measured has no point: it is a gap, and never a zero.
* `dump` and `load` are exact. What is not a history is none.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

from detectors.baseline import HOUR, Baseline
from detectors.state import Sample, ServiceState
from sdk import histogram

POINT_MS = 30_000
KEPT_MS = 1_800_000
FIELDS = 7
SURE = 2.58  # standard deviations: 99 times in 100
LEAST_WIDTH = 0.025


class Point(NamedTuple):
    """Some thirty seconds: how long was measured, counts, p95, and where p95 usually lies among so many
    requests (in microseconds; 0 while it is not known)."""

    at_ms: int
    span_ms: int
    n: int
    errors: int
    p95_us: int
    low_us: int
    high_us: int

    @property
    def began_ms(self) -> int:
        return self.at_ms - self.span_ms


type History = tuple[Point, ...]


def remember(before: History, state: ServiceState) -> History:
    """Return the half hour with every half minute that is over by now. Cheap: it is asked at every poll."""
    newest, now = before[-1].at_ms if before else 0, _slot(state.at_ms)
    over = [one for one in state.recent[:-1] if one.at_ms > newest and _slot(one.at_ms) < now]
    return _extended(before, over, state) if over else before


def until_now(before: History, state: ServiceState) -> History:
    """Return the half hour with what was measured last, also where its half minute is not over."""
    newest = before[-1].at_ms if before else 0
    return _extended(before, [one for one in state.recent if one.at_ms > newest], state)


def usual_p95_us(baseline: Baseline, n: int) -> tuple[int, int]:
    """Return between which microseconds the p95 of *n* usual requests lies, 99 times in 100; zeros while
    that is not known.

    The rank of a quantile is binomial: .95 ± 2.58 √(.95 · .05 / n), here never narrower than ± .025, since
    traffic is never as even as that.
    """
    if not (baseline.warm and n):
        return 0, 0
    width = max(LEAST_WIDTH, SURE * math.sqrt(0.95 * 0.05 / n))
    low, high = max(0.5, 0.95 - width), min(1.0, 0.95 + width)
    return _us(histogram.quantile(baseline.hist, low)), _us(histogram.quantile(baseline.hist, high))


def usual_rps_milli(baseline: Baseline) -> int:
    """Return how many requests per 1000 s are usual: the median of the last good hour; 0 while unknown."""
    return int(median(one.rps_milli for one in baseline.minutes[-HOUR:])) if baseline.minutes else 0


def dump(history: History) -> list[list[int]]:
    """Return *history* as JSON-ready values."""
    return [list(point) for point in history]


def load(dumped: object) -> History:
    """Return the history that *dumped* was made of, or none."""
    rows = dumped if isinstance(dumped, list) else []
    points = [Point(*row) for row in rows if _is_point(row)]
    return tuple(points) if len(points) == len(rows) else ()


def _is_point(row: object) -> bool:
    return isinstance(row, list) and len(row) == FIELDS and all(type(one) is int and one >= 0 for one in row)


def _slot(at_ms: int) -> int:
    return at_ms // POINT_MS


def _extended(before: History, samples: Iterable[Sample], state: ServiceState) -> History:
    made = (_point(list(some), state.baseline) for _, some in groupby(samples, lambda one: _slot(one.at_ms)))
    return tuple(one for one in (*before, *made) if one.at_ms > state.at_ms - KEPT_MS)


def _point(samples: Sequence[Sample], baseline: Baseline) -> Point:
    n = sum(one.n for one in samples)
    hist = histogram.merge(*(one.hist for one in samples))
    return Point(
        samples[-1].at_ms,
        sum(one.span_ms for one in samples),
        n,
        sum(one.errors for one in samples),
        _us(histogram.quantile(hist, 0.95)) if n else 0,
        *usual_p95_us(baseline, n),
    )


def _us(ns: int) -> int:
    return ns // 1_000
