"""How fast the error budget burns: the two pairs of windows of the SRE workbook (Google, 2018, chapter 5).

A pair speaks when its long window burns too fast and its short one does so still. Time is watched time, so
that no clock matters: an hour is sixty minutes that we saw. Exact, and bounded: an hour of minutes, six hours
of five minutes each. A window that is not full yet says nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS = 60_000
MINUTES, FIVES = 60, 72
JOINED = 5


class Cell(NamedTuple):
    """What was counted in some watched time."""

    span_ms: int = 0
    n: int = 0
    errors: int = 0

    @property
    def share(self) -> float:
        return self.errors / self.n if self.n else 0.0


EMPTY = Cell()


class Pair(NamedTuple):
    """Two windows of one alarm: the long one that proves it, the short one that says it goes on."""

    short: Cell
    long: Cell


@dataclass(frozen=True, slots=True)
class Burn:
    """The past in cells, the newest last, and the *running* minute."""

    running: Cell = EMPTY
    minutes: tuple[Cell, ...] = ()
    fives: tuple[Cell, ...] = ()
    unjoined: int = 0  # minutes at the end of *minutes* that are in no five yet
    fast: Pair | None = None  # 5 minutes of an hour, worked out once a minute
    slow: Pair | None = None  # 30 minutes of six hours


def count(before: Burn, span_ms: int, n: int, errors: int) -> Burn:
    """Return the past with *n* requests of *span_ms* more, *errors* of which failed."""
    old = before.running
    running = Cell(old.span_ms + span_ms, old.n + n, old.errors + min(errors, n))
    if running.span_ms >= MINUTE_MS:
        return _turned(before, running)
    return Burn(running, before.minutes, before.fives, before.unjoined, before.fast, before.slow)


def _turned(before: Burn, minute: Cell) -> Burn:
    minutes, fives = (*before.minutes, minute)[-MINUTES:], before.fives
    unjoined = (before.unjoined + 1) % JOINED
    if not unjoined:
        fives = (*fives, together(minutes[-JOINED:]))[-FIVES:]
    fast = Pair(together(minutes[-5:]), together(minutes)) if len(minutes) == MINUTES else None
    slow = Pair(together(minutes[-30:]), together(fives)) if len(fives) == FIVES else None
    return Burn(EMPTY, minutes, fives, unjoined, fast, slow)


def together(cells: Iterable[Cell]) -> Cell:
    """Return what *cells* counted."""
    return Cell(*map(sum, zip(*cells, strict=True)))
