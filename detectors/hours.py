"""What each hour of the week is usually like, from the third week on: when a shop closes, when a job runs.

* 168 cells of three whole numbers. An hour is learned when it is over, from its good minutes alone.
* A cell errs on the quiet, quick side: it follows a lower value at once and a higher one by a quarter.
* It only ever excuses: it lowers the traffic that is expected, and raises what counts as slow. So a week
  that was unlike the others can hide something at that hour, and can wake nobody.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

HOUR_MS = 3_600_000
WEEK = 168
ENOUGH_WEEKS = 3
ENOUGH_MINUTES = 20  # good ones, for an hour to be learned from


class Cell(NamedTuple):
    """One hour of the week: how often it was learned, its requests per 1000 s, and the bucket of its p95."""

    weeks: int = 0
    rps_milli: int = 0
    bucket: int = 0


NOTHING = Cell()


@dataclass(frozen=True, slots=True)
class Hours:
    """The week, and the hour that is going on: *minutes* good ones so far, and their sums."""

    cells: tuple[Cell, ...] = ()
    hour: int = 0  # since the epoch
    minutes: int = 0
    rps_milli: int = 0
    buckets: int = 0
    busy: int = 0  # minutes with requests: only they have a p95

    def rps(self, at_ms: int) -> int | None:
        """Return how many requests per 1000 s this hour or the next has, the lesser; None while unknown."""
        now, soon = self._cell(at_ms // HOUR_MS), self._cell(at_ms // HOUR_MS + 1)
        if now.weeks < ENOUGH_WEEKS:
            return None
        return min(now.rps_milli, soon.rps_milli) if soon.weeks >= ENOUGH_WEEKS else now.rps_milli

    def bucket(self, at_ms: int) -> int:
        """Return the bucket of this hour's usual p95; 0 while that is unknown."""
        now = self._cell(at_ms // HOUR_MS)
        return now.bucket if now.weeks >= ENOUGH_WEEKS else 0

    def _cell(self, hour: int) -> Cell:
        return self.cells[hour % WEEK] if self.cells else NOTHING


def learn(before: Hours, at_ms: int, rps_milli: int, bucket: int) -> Hours:
    """Return the week after one more good minute that ended at *at_ms*; *bucket* 0: it had no requests."""
    hour = at_ms // HOUR_MS
    if hour != before.hour:
        before = replace(_learned(before), hour=hour, minutes=0, rps_milli=0, buckets=0, busy=0)
    return replace(
        before,
        minutes=before.minutes + 1,
        rps_milli=before.rps_milli + rps_milli,
        buckets=before.buckets + bucket,
        busy=before.busy + (bucket > 0),
    )


def _learned(before: Hours) -> Hours:
    """Return the week with the hour that is over in its cell, if there was enough of it."""
    if before.minutes < ENOUGH_MINUTES:
        return before
    cells = before.cells or (NOTHING,) * WEEK
    at = before.hour % WEEK
    old, seen = cells[at], _seen(before)
    new = (
        seen
        if not old.weeks
        else Cell(old.weeks + 1, _low(old.rps_milli, seen.rps_milli), _low(old.bucket, seen.bucket))
    )
    return replace(before, cells=(*cells[:at], new, *cells[at + 1 :]))


def _seen(hour: Hours) -> Cell:
    return Cell(1, hour.rps_milli // hour.minutes, hour.buckets // hour.busy if hour.busy else 0)


def _low(old: int, new: int) -> int:
    return min(new, (3 * old + new) // 4)
