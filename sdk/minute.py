"""What the last minute adds up to, kept as running sums: the newest second is added, the oldest subtracted.

Whole numbers alone are added, so what is subtracted leaves nothing behind: after any number of seconds the
sums are those of the seconds that are left, bit for bit. It costs a busy second once, when it is over,
instead of a minute's worth each time somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import histogram
from .cell import Closed, Packed


class Sum:
    """Counts of one route, or of all, over some seconds."""

    __slots__ = ("aborted", "client_errors", "errors", "exceptions", "hist", "n")

    def __init__(self) -> None:
        self.n = self.errors = self.client_errors = self.aborted = 0
        self.hist: dict[int, int] = {}
        self.exceptions: dict[str, int] = {}

    @property
    def error_rate(self) -> float:
        """Share of requests that failed."""
        return self.errors / self.n if self.n else 0.0

    def ms(self, q: float) -> float:
        """Quantile of latency in milliseconds."""
        return round(histogram.quantile(self.hist, q) / 1e6, 3)

    def add(self, one: Packed) -> None:
        """Count *one* in."""
        self._count(one, 1)
        hist = self.hist
        pairs = one.pairs
        for i, c in zip(pairs[::2], pairs[1::2]):  # noqa: B905 - strict costs on 3.10, pairs are pairs
            hist[i] = hist.get(i, 0) + c
        for kind, c in one.exceptions.items():
            self.exceptions[kind] = self.exceptions.get(kind, 0) + c

    def copy(self) -> Sum:
        """Return another with the same counts."""
        other = Sum()
        other.n, other.errors = self.n, self.errors
        other.client_errors, other.aborted = self.client_errors, self.aborted
        other.hist, other.exceptions = dict(self.hist), dict(self.exceptions)
        return other

    def subtract(self, one: Packed) -> None:
        """Take out *one*, which has been counted in."""
        self._count(one, -1)
        _drop(self.hist, zip(one.pairs[::2], one.pairs[1::2]))  # noqa: B905 - as above
        _drop(self.exceptions, one.exceptions.items())

    def _count(self, one: Packed, sign: int) -> None:
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


def _drop(counts: dict[int, int] | dict[str, int], taken: Iterable[tuple[object, int]]) -> None:
    left: dict[object, int] = counts  # type: ignore[assignment]
    for key, c in taken:
        if left[key] == c:
            del left[key]
        else:
            left[key] -= c
