"""What a worker has counted since it began, for readers that want counters which only rise: Prometheus.

An octave is a bucket here: 33 numbers a route. Its edges are edges of the exact histogram, so each count is
exact; the sum of the latencies is that of the buckets' midpoints, at most 1.6 % off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import histogram
from .cell import MAX_EXCEPTIONS, Closed, Packed
from .wire import OTHER, Malformed

OCTAVES = (histogram.BUCKETS.stop >> 5) + 1
KINDS = ("routes", "dependencies", "streams")
MAX_NAMES = 1024


class Total:
    """The counts of one name. *octaves[k]* were faster than ``64 << (k - 1)`` ns, and no faster than half."""

    __slots__ = ("aborted", "client_errors", "errors", "exceptions", "n", "octaves", "sum_ns")

    def __init__(self) -> None:
        self.n = self.errors = self.client_errors = self.aborted = self.sum_ns = 0
        self.octaves = [0] * OCTAVES
        self.exceptions: dict[str, int] = {}

    def add(self, one: Packed) -> None:
        """Count a second in."""
        self.n += one.n
        self.errors += one.errors
        self.client_errors += one.client_errors
        self.aborted += one.aborted
        for i, c in zip(one.buckets, one.counts):  # noqa: B905 - they are equally long; strict costs on 3.10
            self.octaves[i >> 5] += c
            self.sum_ns += c * histogram.MIDPOINTS[i]
        for kind, c in one.exceptions.items():
            name = kind if kind in self.exceptions or len(self.exceptions) < MAX_EXCEPTIONS else OTHER
            self.exceptions[name] = self.exceptions.get(name, 0) + c

    def numbers(self) -> list[int]:
        """Return all counts but the exceptions, in a fixed order."""
        return [self.n, self.errors, self.client_errors, self.aborted, self.sum_ns, *self.octaves]


class Totals:
    """The counts of one worker: how many requests, always; by name only where *detailed*."""

    def __init__(self, *, detailed: bool = False) -> None:
        self._detailed = detailed
        self.counted = 0
        self.named: dict[str, dict[str, Total]] = {kind: {} for kind in KINDS}

    def add(self, closed: Closed) -> None:
        """Count a second in."""
        self.counted += closed.total.n
        if self._detailed:
            for kind in KINDS:
                self._add(self.named[kind], getattr(closed, kind))

    def _add(self, totals: dict[str, Total], parts: Iterable[Packed]) -> None:
        for part in parts:
            totals.setdefault(part.name, Total()).add(part)

    def copy(self) -> Totals:
        """Return another with the same counts, for a reader on another thread."""
        other = Totals(detailed=self._detailed)
        other.counted = self.counted
        other.named = {
            kind: {name: _total(one.numbers(), one.exceptions) for name, one in named.items()}
            for kind, named in self.named.items()
        }
        return other

    def document(self) -> dict[str, object]:
        """Return it as the JSON object that other workers read."""
        return {
            "counted": self.counted,
            **{
                kind: {name: [one.numbers(), one.exceptions] for name, one in self.named[kind].items()}
                for kind in KINDS
                if self.named[kind]
            },
        }


def read(value: object) -> Totals:
    """Return the totals that another worker wrote; Malformed when it is anything else."""
    try:
        return _read(value)
    except (TypeError, ValueError, AttributeError):
        raise Malformed("the totals of a worker are not of the form that it is agreed on") from None


def _read(value: Any) -> Totals:
    totals = Totals()
    totals.counted = _number(value.get("counted", 0))
    for kind in KINDS:
        found: Mapping[str, Any] = value.get(kind, {})
        if len(found) > MAX_NAMES:
            raise ValueError
        totals.named[kind] = {name: _total(*both) for name, both in found.items()}
    return totals


def _total(numbers: Iterable[object], exceptions: Mapping[str, object]) -> Total:
    one = Total()
    one.n, one.errors, one.client_errors, one.aborted, one.sum_ns, *one.octaves = map(_number, numbers)
    if len(one.octaves) != OCTAVES or len(exceptions) > MAX_EXCEPTIONS + 1:
        raise ValueError
    one.exceptions = {name: _number(c) for name, c in exceptions.items()}
    return one


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value
