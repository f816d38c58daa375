"""Where things stand on a chart: round scales, discs that leave each other room, lines that break at gaps."""

from collections.abc import Callable, Iterator, Sequence

from bot.chart import GAP_MS, Mark
from detectors.history import Point

STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def nice(value: float) -> int:
    """The next round number that is not smaller."""
    power = 1
    while power * 10 < value:
        power *= 10
    return next(round(power * step) for step in STEPS if round(power * step) >= value)


def apart(wanted: Sequence[float], gap: float, left: float, right: float) -> list[float]:
    """Places as near as may be to those *wanted* (ascending), at least *gap* from each other, in bounds."""
    found: list[float] = []
    for place in wanted:
        found.append(max(place, found[-1] + gap if found else left))
    for n in range(len(found) - 1, -1, -1):
        limit = right if n == len(found) - 1 else found[n + 1] - gap
        found[n] = min(found[n], limit)
    return found


def rows_of(marks: Sequence[Mark]) -> Iterator[list[tuple[int, Mark]]]:
    """The numbered marks in rows of two."""
    numbered = list(enumerate(marks, 1))
    for n in range(0, len(numbered), 2):
        yield numbered[n : n + 2]


def stretches(points: Sequence[Point], value: Callable[[Point], int | None]) -> list[list[Point]]:
    """*points* that follow on each other and have a value, in unbroken lines."""
    found: list[list[Point]] = []
    last: Point | None = None
    for point in points:
        if value(point) is None:
            last = None
            continue
        if last is None or point.began_ms - last.at_ms > GAP_MS:
            found.append([])
        found[-1].append(point)
        last = point
    return found
