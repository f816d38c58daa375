"""All that is known when somebody asks, of this worker or of all: every endpoint tells a view of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from . import health, wire
from .cell import Closed
from .minute import Minute
from .totals import Totals


@dataclass(frozen=True)
class Told:
    """The present, without slots; the closed seconds, oldest first; what they add up to; totals by worker.

    *notes* are what is to be said of the answer itself: whether it is stale, whether pushing works.
    """

    now: wire.Snapshot
    closed: tuple[Closed, ...]
    minute: Minute
    peak: int = 0
    streams: int = 0
    totals: Mapping[str, Totals] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)

    def health(self) -> health.Document:
        """Return the ``health/1`` document."""
        now = self.now
        present = health.Present(
            now.service,
            now.now_ms,
            now.inflight,
            self.peak,
            now.oldest_ms,
            self.streams,
            now.saturation,
            now.faults,
            now.workers,
            now.workers_stale,
        )
        return {**health.evaluate(present, self.closed, self.minute), **self.notes}

    def snapshot(self, since: int) -> wire.Snapshot:
        """Return the ``slots/1`` snapshot with the seconds after *since*, each merged over the workers."""
        by_second: dict[int, list[wire.Slot]] = {}
        for one in self.closed:
            if one.t > since:
                by_second.setdefault(one.t, []).append(one.slot())
        slots = [same[0] if len(same) == 1 else wire.merge_slots(same) for same in by_second.values()]
        return replace(self.now, slots=tuple(slots[-wire.MAX_SLOTS :]))
