"""What the last minute adds up to, kept as running sums: the newest second is added, the oldest subtracted.

Whole numbers alone are added, so what is subtracted leaves nothing behind: after any number of seconds the
sums are those of the seconds that are left, bit for bit. It costs a busy second once, when it is over,
instead of a minute's worth each time somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from operator import mul, sub

from . import histogram
from .cell import Closed, Packed


class Curve:
    """The latencies of a sum, from fast to slow: every quantile is one search."""

    __slots__ = ("_seen",)

    def __init__(self, counts: list[int]) -> None:
        self._seen = list(accumulate(counts))

    def ms(self, q: float) -> float:
        """Quantile (nearest rank) in milliseconds; 0 where there is nothing."""
        return round(self.ns(q) / 1e6, 3)

    def ns(self, q: float) -> int:
        """Quantile (nearest rank) in nanoseconds; 0 where there is nothing."""
        n = self._seen[-1]
        return histogram.midpoint(bisect_left(self._seen, histogram.rank(q, n))) if n else 0

    def above(self, ns: int) -> int:
        """How many lie in buckets whose midpoint is above *ns*."""
        return self._seen[-1] - self._seen[histogram.first_above(ns) - 1]


class Sum:
    """Counts of one route, or of all, over some seconds; *counts* by bucket."""

    __slots__ = ("_curve", "aborted", "client_errors", "counts", "errors", "exceptions", "n")

    def __init__(self) -> None:
        self.n = self.errors = self.client_errors = self.aborted = 0
        self.counts = [0] * histogram.BUCKETS.stop
        self.exceptions: dict[str, int] = {}
        self._curve: Curve | None = None

    @property
    def error_rate(self) -> float:
        """Share of requests that failed."""
        return self.errors / self.n if self.n else 0.0

    @property
    def hist(self) -> dict[int, int]:
        """The histogram."""
        return {i: c for i, c in enumerate(self.counts) if c}

    def curve(self) -> Curve:
        """Return the latencies, to be asked for quantiles."""
        found = self._curve
        if found is None:
            found = self._curve = Curve(self.counts)
        return found

    def mean_ms(self) -> float:
        """The mean of latency in milliseconds."""
        return sum(map(mul, histogram.MIDPOINTS, self.counts)) / self.n / 1e6 if self.n else 0.0

    def add(self, one: Packed) -> None:
        """Count *one* in."""
        self._count(one, 1)
        counts = self.counts
        for i, c in zip(one.buckets, one.counts):  # noqa: B905 - they are equally long; strict costs on 3.10
            counts[i] += c
        for kind, c in one.exceptions.items():
            self.exceptions[kind] = self.exceptions.get(kind, 0) + c

    def copy(self) -> Sum:
        """Return another with the same counts."""
        return self.less(Sum())

    def less(self, part: Sum) -> Sum:
        """Return what is left without *part*, which is among it."""
        other = Sum()
        other.n, other.errors = self.n - part.n, self.errors - part.errors
        other.client_errors = self.client_errors - part.client_errors
        other.aborted = self.aborted - part.aborted
        other.counts = list(map(sub, self.counts, part.counts))
        other.exceptions = dict(self.exceptions)
        _drop(other.exceptions, part.exceptions)
        return other

    def subtract(self, one: Packed) -> None:
        """Take out *one*, which has been counted in."""
        self._count(one, -1)
        counts = self.counts
        for i, c in zip(one.buckets, one.counts):  # noqa: B905 - as above
            counts[i] -= c
        _drop(self.exceptions, one.exceptions)

    def _count(self, one: Packed, sign: int) -> None:
        self._curve = None
        self.n += sign * one.n
        self.errors += sign * one.errors
        self.client_errors += sign * one.client_errors
        self.aborted += sign * one.aborted


class Minute:
    """Sums of all seconds that were added and not yet dropped: *total*, *routes* by name, all *streams*."""

    def __init__(self) -> None:
        self.total, self.streams = Sum(), Sum()
        self.routes: dict[str, Sum] = {}

    def add(self, closed: Closed) -> None:
        """Count a second in."""
        self.total.add(closed.total)
        for stream in closed.streams:
            self.streams.add(stream)
        for one in closed.routes:
            found = self.routes.get(one.name)
            if found is None:
                found = self.routes[one.name] = Sum()
            found.add(one)

    def copy(self) -> Minute:
        """Return another of the same sums, for a reader on another thread."""
        other = Minute()
        other.total, other.streams = self.total.copy(), self.streams.copy()
        other.routes = {name: one.copy() for name, one in self.routes.items()}
        return other

    def drop(self, closed: Closed) -> None:
        """Take a second out that was counted in."""
        self.total.subtract(closed.total)
        for stream in closed.streams:
            self.streams.subtract(stream)
        for one in closed.routes:
            found = self.routes[one.name]
            found.subtract(one)
            if not found.n:
                del self.routes[one.name]


def _drop(counts: dict[str, int], taken: Mapping[str, int]) -> None:
    for key, c in taken.items():
        if counts[key] == c:
            del counts[key]
        else:
            counts[key] -= c
