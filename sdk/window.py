"""The last minute of an app, second by second: live cells, and a ring of closed slots.

A cell counts one route (or one dependency) of the running second; recording is one dict increment. When the
second is over, ``turn`` packs what the cells hold into a closed slot and empties them. Bounds: at most
``max_routes`` routes, then everything else is ``~other``; eight exception types a cell; sixty slots. Cells
are touched by the event loop's thread alone, except dependencies, which have a lock.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from . import histogram
from .wire import MAX_NAME, OTHER, UNMATCHED, Part, Slot

SECOND_NS = 1_000_000_000
KEEP_S = 60
MAX_EXCEPTIONS = 8
MAX_DEPENDENCIES = 32


class Cell:
    """The running second of one name. Every request is in *hist* once, failed and aborted ones too."""

    __slots__ = ("aborted", "client_errors", "errors", "exceptions", "hist", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hist: defaultdict[int, int] = defaultdict(int)
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
        packed = Packed(
            self.name,
            sum(self.hist.values()),
            self.errors,
            self.client_errors,
            self.aborted,
            array("I", chain.from_iterable(self.hist.items())),
            self.exceptions or NOTHING,
        )
        self.hist.clear()
        self.errors = self.client_errors = self.aborted = 0
        if self.exceptions:
            self.exceptions = {}
        return packed


NOTHING: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Packed:
    """A cell's second at rest, some eight bytes a bucket."""

    name: str
    n: int
    errors: int
    client_errors: int
    aborted: int
    pairs: array[int]
    exceptions: dict[str, int]

    def part(self) -> Part:
        """Return it as the wire has it."""
        return Part(self.name, self.n, self.errors, histogram.unflat(self.pairs), self.exceptions)


@dataclass(frozen=True)
class Closed:
    """A second that is over."""

    t: int
    routes: tuple[Packed, ...]
    dependencies: tuple[Packed, ...]
    peak: int

    @cached_property
    def total(self) -> Packed:
        """All routes in one. Summed when first asked for: a request that closes a second should not wait."""
        return total(self.routes)

    def slot(self) -> Slot:
        """Return it as the wire has it."""
        return Slot(
            self.t,
            self.total.n,
            self.total.errors,
            self.total.client_errors,
            self.total.aborted,
            histogram.unflat(self.total.pairs),
            tuple(r.part() for r in self.routes),
            tuple(d.part() for d in self.dependencies),
        )


def total(parts: Iterable[Packed]) -> Packed:
    """Return the sum of what is packed, without names."""
    hist: defaultdict[int, int] = defaultdict(int)
    n = errors = client_errors = aborted = 0
    for one in parts:
        n += one.n
        errors += one.errors
        client_errors += one.client_errors
        aborted += one.aborted
        for i, c in zip(one.pairs[::2], one.pairs[1::2]):  # noqa: B905 - strict costs on 3.10, pairs are pairs
            hist[i] += c
    return Packed(
        "", n, errors, client_errors, aborted, array("I", chain.from_iterable(hist.items())), NOTHING
    )


class Window:
    """Owns the cells, the ring, what is in flight, and *turn_at*, the monotonic ns when this second ends.

    *inflight* maps the monotonic ns of each request's start to its scope, oldest first; *streams* are open
    event streams; *peak* is the most requests in flight at once in the running second.
    """

    __slots__ = (
        "_cells",
        "_dependencies",
        "_lock",
        "_max_routes",
        "_now",
        "_ring",
        "_t",
        "_wall",
        "inflight",
        "peak",
        "streams",
        "turn_at",
    )

    def __init__(
        self,
        max_routes: int = 128,
        now: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._max_routes = max_routes
        self._now, self._wall = now, wall
        self._cells: dict[str, Cell] = {}
        self._dependencies: dict[str, Cell] = {}
        self._lock = threading.Lock()
        self._ring: deque[Closed] = deque(maxlen=KEEP_S)
        self.inflight: dict[int, MutableMapping[str, Any]] = {}
        self.streams: set[int] = set()
        self.peak = 0
        self._t = 0
        self.turn_at = 0
        self._open()

    def cell(self, name: str) -> Cell:
        """Return the cell of a route; that of ``~other`` when there are too many."""
        return _bounded(self._cells, name, self._max_routes)

    def call(self, name: str, ns: int, exception: str | None = None) -> None:
        """Count a call to a dependency that has just ended, from any thread."""
        i = histogram.index(ns)
        with self._lock:
            cell = _bounded(self._dependencies, name, MAX_DEPENDENCIES)
            cell.hist[i] += 1
            if exception is not None:
                cell.errors += 1
                cell.blame(exception)

    def turn(self) -> None:
        """Close the running second and open the present one. A second without requests leaves no slot."""
        routes = tuple(cell.take() for cell in self._cells.values() if cell.hist)
        with self._lock:
            dependencies = tuple(cell.take() for cell in self._dependencies.values() if cell.hist)
        if routes or dependencies:
            self._ring.append(Closed(self._t, routes, dependencies, self.peak))
        self.peak = len(self.inflight)
        self._open()

    def _open(self) -> None:
        # The wall clock may be set back; the order of slots is what the asker's `since` relies on.
        wall = self._wall()
        newest = self._ring[-1].t if self._ring else 0
        self._t = max(wall // SECOND_NS, newest + 1)
        self.turn_at = self._now() + SECOND_NS - wall % SECOND_NS

    def oldest_ms(self) -> int:
        """Return the age of the oldest request in flight, 0 when there is none."""
        begun = next(iter(self.inflight), None)
        return 0 if begun is None else (self._now() - begun) // 1_000_000

    def closed(self, since: int = 0) -> tuple[Closed, ...]:
        """Return the closed slots of the last minute after epoch second *since*, oldest first."""
        if self._now() >= self.turn_at:
            self.turn()
        after = max(since, self._t - KEEP_S - 1)
        return tuple(one for one in self._ring if one.t > after)


def _bounded(cells: dict[str, Cell], name: str, most: int) -> Cell:
    cell = cells.get(name)
    if cell is None:
        name = name[:MAX_NAME] if len(cells) < most or name == UNMATCHED else OTHER
        cell = cells.setdefault(name, Cell(name))
    return cell
