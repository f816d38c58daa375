"""The last minute of an app, second by second: live cells, and a ring of closed slots.

A cell counts one route (or one dependency) of the running second; recording is one append. When the second is
over, ``turn`` packs what the cells hold into a closed slot and empties them. Bounds: at most
``max_routes`` routes, then everything else is ``~other``; eight exception types a cell; sixty slots.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

from .cell import Cell, Closed
from .minute import Minute
from .totals import Totals
from .wire import MAX_NAME, OTHER, UNMATCHED

SECOND_NS = 1_000_000_000
KEEP_S = 60
SET_BACK_S = 5
MAX_DEPENDENCIES = 32
MAX_STREAMS = 32


class Window:
    """Owns the cells, the ring, what is in flight, and *turn_at*, the monotonic ns when this second ends.

    *inflight* maps the monotonic ns of each request's start to its scope, oldest first; *streams* are open
    event streams; *peak* is the most requests in flight at once in the running second;
    *minute* is what the ring adds up to, *totals* what was ever counted (by route where *detailed*);
    *woken* is called at each turn, where the cells may be touched.
    The cells belong to the thread of the event loop, or, where *threads* count, to whoever holds *lock*.
    """

    __slots__ = (
        "_cells",
        "_dependencies",
        "_lock",
        "_max_routes",
        "_now",
        "_ring",
        "_streams",
        "_t",
        "_wall",
        "inflight",
        "lock",
        "minute",
        "peak",
        "streams",
        "threads",
        "totals",
        "turn_at",
        "woken",
    )

    def __init__(
        self,
        max_routes: int = 128,
        now: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        *,
        detailed: bool = False,
    ) -> None:
        self._max_routes = max_routes
        self._now, self._wall = now, wall
        self._cells: dict[str, Cell] = {}
        self._dependencies: dict[str, Cell] = {}
        self._streams: dict[str, Cell] = {}
        self._lock = threading.Lock()
        self._ring: deque[Closed] = deque()
        self.minute = Minute()
        self.totals = Totals(detailed=detailed)
        self.inflight: dict[int, MutableMapping[str, Any]] = {}
        self.streams: set[int] = set()
        self.peak = 0
        self._t = 0
        self.lock = threading.RLock()
        self.threads = False
        self.turn_at = 0
        self.woken: Callable[[], None] | None = None
        self._open()

    def cell(self, name: str) -> Cell:
        """Return the cell of a route; that of ``~other`` when there are too many."""
        return _bounded(self._cells, name, self._max_routes)

    def stream(self, name: str) -> Cell:
        """Return the cell of a kind of stream, whose requests are first bytes."""
        return _bounded(self._streams, name, MAX_STREAMS)

    def call(self, name: str, ns: int, exception: str | None = None) -> None:
        """Count a call to a dependency that has just ended, from any thread."""
        with self._lock:
            cell = _bounded(self._dependencies, name, MAX_DEPENDENCIES)
            cell.times.append(ns)
            if exception is not None:
                cell.errors += 1
                cell.blame(exception)

    def turn(self) -> None:
        """Close the running second and open the present one. A second without requests leaves no slot."""
        if self.woken is not None:
            self.woken()
        with self.lock:
            self._turn()

    def _turn(self) -> None:
        routes = tuple(cell.take() for cell in self._cells.values() if cell.times)
        with self._lock:
            dependencies = tuple(cell.take() for cell in self._dependencies.values() if cell.times)
        streams = tuple(cell.take() for cell in self._streams.values() if cell.times or cell.exceptions)
        if routes or dependencies or streams:
            closed = Closed(self._t, routes, dependencies, self.peak, streams)
            self._ring.append(closed)
            self.minute.add(closed)
            self.totals.add(closed)
        self.peak = len(self.inflight)
        self._open()

    def _open(self) -> None:
        # The wall clock may be set back; the order of slots is what the asker's `since` relies on. Set back a
        # little, the second lasts until the clock has caught up; set back far, all begins anew.
        wall = self._wall()
        if wall // SECOND_NS < self._t - SET_BACK_S:
            self._t = 0
            while self._ring:
                self.minute.drop(self._ring.popleft())
        newest = self._ring[-1].t if self._ring else 0
        self._t = max(wall // SECOND_NS, newest + 1, self._t)
        self.turn_at = self._now() + (self._t + 1) * SECOND_NS - wall
        while self._ring and self._ring[0].t < self._t - KEEP_S:
            self.minute.drop(self._ring.popleft())

    def oldest_ms(self) -> int:
        """Return the age of the oldest request in flight, 0 when there is none."""
        try:
            begun = next(iter(self.inflight), None)
        except RuntimeError:  # it changed while another thread looked: what was oldest has just ended
            begun = None
        return 0 if begun is None else (self._now() - begun) // 1_000_000

    def closed(self, since: int = 0) -> tuple[Closed, ...]:
        """Return the closed slots of the last minute after epoch second *since*, oldest first."""
        self.turn_when_due()
        return tuple(one for one in self._ring if one.t > since)

    def turn_when_due(self) -> None:
        """Close the running second if it is over."""
        with self.lock:
            if self._now() >= self.turn_at:
                self.turn()

    def kept(self) -> tuple[tuple[Closed, ...], int]:
        """Return the closed slots and the second that they are complete through; from any thread."""
        through = self.through
        return tuple(self._ring), through

    @property
    def through(self) -> int:
        """The second that the closed slots are complete through."""
        return self._t - 1


def _bounded(cells: dict[str, Cell], name: str, most: int) -> Cell:
    cell = cells.get(name)
    if cell is None:
        name = name[:MAX_NAME] if len(cells) < most or name == UNMATCHED else OTHER
        cell = cells.setdefault(name, Cell(name))
    return cell
