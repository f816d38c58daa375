"""One request outside the ASGI path, from its begin to its end: it counts once, whatever ends it first.

An event stream is a request until its first byte, and is counted then, apart, with the time that took.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from time import perf_counter_ns
from typing import Any

from .cell import Cell
from .window import Window


class Request:
    """A request in flight, of which *held* knows the route; *name* returns what it is called."""

    __slots__ = ("_begun", "_called", "_held", "_name", "_window", "status")

    def __init__(
        self, window: Window, held: MutableMapping[str, Any], name: Callable[[Any, int], str]
    ) -> None:
        self._window, self._held, self._name, self.status = window, held, name, 0
        self._called = ""
        begun, inflight = perf_counter_ns(), window.inflight
        while inflight.setdefault(begun, held) is not held:  # another thread began in this nanosecond
            begun += 1
        self._begun = begun
        window.peak = max(window.peak, len(inflight))

    def end(self, failure: str = "", *, aborted: bool = False) -> None:
        """Count it, unless it has been counted. *failure* is the type of the exception that ended it."""
        ended, window = perf_counter_ns(), self._window
        if window.inflight.pop(self._begun, None) is not None:
            with window.lock:
                window.turn_when_due()
                self._count(window.cell(self.name()), ended - self._begun, failure, aborted=aborted)
        elif self._begun in window.streams:
            window.streams.discard(self._begun)
            if failure:
                with window.lock:
                    window.stream(self.name()).blame(failure)

    def first_byte(self) -> None:
        """Go on as a stream, unless it has ended or is one."""
        ns, window = perf_counter_ns() - self._begun, self._window
        if window.inflight.pop(self._begun, None) is None:
            return
        window.streams.add(self._begun)
        with window.lock:
            window.turn_when_due()
            window.stream(self.name()).times.append(ns)

    def name(self) -> str:
        """Return what it is called, asked for once it is over, or a stream."""
        self._called = self._called or self._name(self._held, self.status)
        return self._called

    def _count(self, cell: Cell, ns: int, failed: str, *, aborted: bool) -> None:
        cell.times.append(ns)
        if aborted:
            cell.aborted += 1
        elif failed or self.status >= 500:
            cell.errors += 1
        elif self.status >= 400:
            cell.client_errors += 1
        if failed:
            cell.blame(failed)
