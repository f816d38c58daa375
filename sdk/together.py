"""The seconds of many workers as those of one: what is known of each (worker, second) is counted once.

Pure. A worker's word is its ``slots/1`` snapshot; a newer word of the same worker replaces the older, so that
words may arrive twice, late, or again, and a worker that is gone keeps what it said until that is a minute
old. A second is told when every worker that keeps up has closed it: what is told never changes afterwards. A
worker that is more than STALE_S behind, or ahead of the clock, holds nobody up, and is told as stale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from . import wire
from .cell import Closed
from .minute import Minute
from .totals import Totals

STALE_S = 5
KEEP_S = 60
NOTHING = Totals()


@dataclass(frozen=True)
class Word:
    """What one worker says: its *present*, complete *through* an epoch second, and its *seconds* by t."""

    present: wire.Snapshot
    through: int
    seconds: Mapping[int, Closed]
    peak: int = 0
    streams: int = 0
    totals: Totals = NOTHING


class Together:
    """The words of several workers, added up; *minute* is what their seconds of the last minute come to."""

    def __init__(self) -> None:
        self.minute = Minute()
        self.peak = self.streams = 0
        self.totals: dict[str, Totals] = {}
        self._seconds: dict[tuple[str, int], Closed] = {}
        self._now = wire.Snapshot("", 0)

    def hear(self, words: Mapping[str, Word], now_s: int | None = None) -> None:
        """Take *words* by worker as all that is known; *now_s* is what the clock says that they share.

        Who is ahead of it does not count: its clock is wrong, or was set back and it has not noticed yet.
        Where all are ahead, *now_s* is.
        """
        sane = {w: word for w, word in words.items() if now_s is None or word.through <= now_s + STALE_S}
        sane = sane or dict(words)
        newest = max((word.through for word in sane.values()), default=0)
        fresh = [word for word in sane.values() if word.through >= newest - STALE_S]
        horizon = min((word.through for word in fresh), default=0)
        self._count(
            {
                (worker, t): closed
                for worker, word in sane.items()
                for t, closed in word.seconds.items()
                if horizon - KEEP_S < t <= horizon
            }
        )
        self.peak = max((word.peak for word in fresh), default=0)
        self.streams = sum(word.streams for word in fresh)
        self.totals = {name: word.totals for name, word in words.items() if word.through >= newest - STALE_S}
        self._now = _present([word.present for word in fresh], horizon, len(words) - len(fresh))

    def _count(self, found: Mapping[tuple[str, int], Closed]) -> None:
        for key in [key for key in self._seconds if key not in found]:
            self.minute.drop(self._seconds.pop(key))
        for key, closed in found.items():
            if key not in self._seconds:
                self._seconds[key] = closed
                self.minute.add(closed)

    def closed(self) -> tuple[Closed, ...]:
        """Return every worker's seconds, oldest first."""
        return tuple(sorted(self._seconds.values(), key=lambda one: one.t))

    def snapshot(self, since: int = 0) -> wire.Snapshot:
        """Return the present, and the seconds after *since*, each merged over the workers."""
        by_second: dict[int, list[wire.Slot]] = defaultdict(list)
        for one in self.closed():
            if one.t > since:
                by_second[one.t].append(one.slot())
        slots = tuple(wire.merge_slots(same) for same in by_second.values())
        return replace(self._now, slots=slots)


def dated(now_ms: int, through: int) -> int:
    """Return *now_ms* as that of a present whose last full second is *through*, however the clock is set."""
    return min(max(now_ms, through * 1000 + 1000), through * 1000 + 1999)


def _present(fresh: list[wire.Snapshot], horizon: int, stale: int) -> wire.Snapshot:
    """Return what is true of all workers that keep up, dated so that *horizon* is its last full second."""
    return wire.Snapshot(
        max((one.service for one in fresh), default=""),
        now_ms=dated(max((one.now_ms for one in fresh), default=0), horizon),
        workers=len(fresh),
        workers_stale=stale,
        inflight=sum(one.inflight for one in fresh),
        oldest_ms=max((one.oldest_ms for one in fresh), default=0),
        saturation=_gauges(gauge for one in fresh for gauge in one.saturation),
        faults=tuple(dict.fromkeys(fault for one in fresh for fault in one.faults)),
    )


def _gauges(gauges: Iterable[wire.Gauge]) -> tuple[wire.Gauge, ...]:
    """Return one gauge a name: each worker has a pool of its own."""
    by_name: dict[str, wire.Gauge] = {}
    for one in gauges:
        known = by_name.get(one.name, wire.Gauge(one.name, 0, 0))
        by_name[one.name] = wire.Gauge(one.name, known.used + one.used, known.limit + one.limit)
    return tuple(by_name.values())
