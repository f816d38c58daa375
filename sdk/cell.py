"""A second of one route: counted live in a Cell, kept as Packed, and all routes of a second as Closed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from . import histogram
from .wire import MAX_NAME, OTHER, Part, Slot, slot_document

MAX_EXCEPTIONS = 8


class Cell:
    """The running second of one name: *times* are the ns of each request, failed and aborted ones too.

    To count is to append. What bucket each falls in is worked out when the second is over.
    """

    __slots__ = ("aborted", "client_errors", "errors", "exceptions", "name", "times")

    def __init__(self, name: str) -> None:
        self.name = name
        self.times: list[int] = []
        self.errors = 0
        self.client_errors = 0
        self.aborted = 0
        self.exceptions: dict[str, int] = {}

    def blame(self, exception: str) -> None:
        """Count an exception type, bounded: the ninth and later types are ``~other``."""
        known = exception in self.exceptions or len(self.exceptions) < MAX_EXCEPTIONS
        name = exception[:MAX_NAME] if known else OTHER
        self.exceptions[name] = self.exceptions.get(name, 0) + 1

    def take(self) -> Packed:
        """Return what was counted and start from zero."""
        times, self.times = self.times, []
        packed = Packed(
            self.name,
            len(times),
            self.errors,
            self.client_errors,
            self.aborted,
            *_packed(histogram.of(times)),
            self.exceptions or NOTHING,
        )
        self.errors = self.client_errors = self.aborted = 0
        if self.exceptions:
            self.exceptions = {}
        return packed


NOTHING: dict[str, int] = {}


class Packed(NamedTuple):
    """A cell's second at rest, six bytes a bucket: *buckets*, and how many are in each."""

    name: str
    n: int
    errors: int
    client_errors: int
    aborted: int
    buckets: array[int]
    counts: array[int]
    exceptions: dict[str, int]

    @classmethod
    def of(cls, part: Part) -> Packed:
        """Return a part of the wire at rest."""
        return cls(part.name, part.n, part.errors, 0, 0, *_packed(part.hist), dict(part.exceptions))

    def part(self) -> Part:
        """Return it as the wire has it."""
        return Part(self.name, self.n, self.errors, self.hist, self.exceptions)

    @property
    def hist(self) -> dict[int, int]:
        """The histogram."""
        return dict(zip(self.buckets, self.counts))  # noqa: B905 - they are equally long; strict costs on 3.10


@dataclass(frozen=True)
class Closed:
    """A second that is over."""

    t: int
    routes: tuple[Packed, ...]
    dependencies: tuple[Packed, ...]
    peak: int
    streams: tuple[Packed, ...] = ()

    @cached_property
    def total(self) -> Packed:
        """All routes in one."""
        return total(self.routes)

    @cached_property
    def line(self) -> str:
        """The slot's JSON, made once."""
        return json.dumps(slot_document(self.slot()), separators=(",", ":"))

    @classmethod
    def of(cls, slot: Slot) -> Closed:
        """Return a slot of another worker as we keep our own."""
        routes = tuple(Packed.of(p) for p in slot.routes)
        streams = tuple(Packed.of(p) for p in slot.streams)
        closed = cls(slot.t, routes, tuple(Packed.of(p) for p in slot.dependencies), 0, streams)
        whole = Packed(
            "", slot.n, slot.errors, slot.client_errors, slot.aborted, *_packed(slot.hist), NOTHING
        )
        closed.__dict__["total"] = whole
        return closed

    def slot(self) -> Slot:
        """Return it as the wire has it."""
        return Slot(
            self.t,
            self.total.n,
            self.total.errors,
            self.total.client_errors,
            self.total.aborted,
            self.total.hist,
            tuple(r.part() for r in self.routes),
            tuple(d.part() for d in self.dependencies),
            tuple(s.part() for s in self.streams),
        )


def total(parts: Iterable[Packed]) -> Packed:
    """Return the sum of what is packed, without names."""
    counts = [0] * histogram.BUCKETS.stop
    n = errors = client_errors = aborted = 0
    for one in parts:
        n += one.n
        errors += one.errors
        client_errors += one.client_errors
        aborted += one.aborted
        for i, c in zip(one.buckets, one.counts):  # noqa: B905 - as above
            counts[i] += c
    hist = {i: c for i, c in enumerate(counts) if c}
    return Packed("", n, errors, client_errors, aborted, *_packed(hist), NOTHING)


def _packed(hist: Mapping[int, int]) -> tuple[array[int], array[int]]:
    return array("H", list(hist)), array("I", list(hist.values()))
