"""Whether a gauge that people send in looks unlike its past. It warns, and wakes nobody: what is critical
comes from counts of requests.

Three rules, each against the newest HISTORY points:

* record: the value lies outside all of them, by more than a margin of their range;
* shift: the mean of the newest fifth of a stretch is so many times farther from their median than usual;
* shape: the newest stretch looks less like any before it than any has (Yeh et al., "Matrix Profile I", 2016).

After a warning a series rests for a thirtieth of its life: one event is one warning. Nothing looks ahead, and
the first points only teach. `Series` remembers for all three. `compare` needs nothing but the points, so that
a state of a service can hold them packed (detectors/lines.py); it has no shapes, and takes the usual distance
from every sixth of the means. bench/nab.py measures both on the Numenta Anomaly Benchmark.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

HISTORY = 3_000  # points that are remembered
LEARNING = 150  # points before the first warning
USUAL = 0.95  # the quantile of past distances that counts as usual
STRIDE = 6  # `compare` takes one mean in so many
SECTIONS = 12  # a stretch is compared as so many means

Rule = Literal["record", "shift", "shape"]


@dataclass(frozen=True, slots=True)
class SeriesPolicy:
    """The four thresholds of the detector. Distances are relative, so units do not matter."""

    margin_permille: int = 30  # of the range, beyond its end
    shift_times_milli: int = 2_250  # the usual distance of the mean from the median
    shape_points: int = 120  # a stretch: a multiple of 5 * SECTIONS
    rest_share: int = 30  # after a warning: this part of all points so far, one in so many

    @property
    def late_points(self) -> int:
        """How many points the mean of late is of: the newest fifth of a stretch."""
        return self.shape_points // 5

    def speaks(self, seen: int, learning: int, until: int) -> bool:
        """Return whether a series of *seen* points may speak, which was told to rest *until* so many."""
        return seen > max(learning, until)

    def rests_until(self, seen: int) -> int:
        """Return how many points a series that spoke at its *seen*th has when its rest ends."""
        return seen + seen // self.rest_share


DEFAULTS = SeriesPolicy()


@dataclass(frozen=True, slots=True)
class Oddity:
    """What is odd about a value: the *rule* that says so, and a sentence with its numbers."""

    rule: Rule
    sentence: str


@dataclass(frozen=True, slots=True)
class Look:
    """How a *value* compares with the points before it."""

    value: float
    low: float
    high: float
    median: float
    mean: float  # of the newest fifth of a stretch
    usual: float  # how far that mean is from the median, USUAL of the time
    strange: bool  # the newest stretch is the strangest so far

    def odd(self, policy: SeriesPolicy, least: float = 0.0) -> Oddity | None:
        """Return what the rules say, the plainest first. A change of *least* or less is none."""
        margin = max(least, (self.high - self.low) * policy.margin_permille / 1000)
        distance = abs(self.mean - self.median)
        if not self.low - margin <= self.value <= self.high + margin:
            return Oddity(
                "record", f"{self.value:.4g} is outside the {self.low:.4g} to {self.high:.4g} so far."
            )
        if distance > max(least, self.usual * policy.shift_times_milli / 1000):
            away = f"{distance:.3g} from the median of {self.median:.4g}"
            often = f"{USUAL:.0%} of the time it is within {self.usual:.3g}"
            late = f"The mean of the newest {policy.late_points} is {self.mean:.4g}"
            return Oddity("shift", f"{late}, {away}; {often}.")
        if self.strange:
            said = (
                f"The last {policy.shape_points} points are less like any stretch before than any has been."
            )
            return Oddity("shape", said)
        return None


def compare(past: Sequence[float], value: float, policy: SeriesPolicy = DEFAULTS) -> Look:
    """Compare *value* with its *past*, oldest first, by these points alone. No stretch is strange to it."""
    width, ordered = policy.late_points, sorted(past) or [value]
    late = [*past[-width + 1 :], value]
    mean, median = sum(late) / len(late), ordered[len(ordered) // 2]
    ends = range(len(past), width - 1, -STRIDE)
    distances = sorted([abs(sum(past[end - width : end]) / width - median) for end in ends])
    usual = distances[int(USUAL * len(distances))] if distances else abs(mean - median)
    return Look(value, ordered[0], ordered[-1], median, mean, usual, strange=False)


class Series:
    """The memory of one gauge: about 0.4 MB when it is full, the same for ever after.

    Before its first point a gauge is taken to have stood still.
    """

    def __init__(self, policy: SeriesPolicy = DEFAULTS) -> None:
        self._policy = policy
        self._rest = Rest(policy)
        self._points = _Ranked()
        self._distances = _Ranked()
        self._newest: deque[float] = deque(maxlen=policy.shape_points)
        self._shapes = _Shapes(policy.shape_points // SECTIONS)

    def take(self, value: float, learning: int = LEARNING) -> Oddity | None:
        """Learn *value* and return what is odd about it; None for the first *learning* points, and while the
        series rests. A value that is no finite number is passed over."""
        if not isfinite(value):
            return None
        look = self.look(value)
        return self._rest.told(look.odd(self._policy), learning)

    def look(self, value: float) -> Look:
        """Compare *value*, a finite number, with what came before, and learn it."""
        self._newest.extend([value] * (1 if self._newest else self._policy.shape_points))
        late = list(self._newest)[-self._policy.late_points :]
        mean, median = sum(late) / len(late), self._points.quantile(0.5, value)
        distance = abs(mean - median)
        usual = self._distances.quantile(USUAL, distance)
        low, high = self._points.range(value)
        self._points.add(value)
        self._distances.add(distance)
        return Look(value, low, high, median, mean, usual, self._shapes.is_strange(self._newest))


class Rest:
    """One event is one warning: after it, silence for a share of all points so far."""

    def __init__(self, policy: SeriesPolicy = DEFAULTS) -> None:
        self._policy = policy
        self._seen = 0
        self._until = 0

    def told(self, odd: Oddity | None, learning: int) -> Oddity | None:
        """Return *odd*, about the next point, if it is to be told."""
        self._seen += 1
        if odd is None or not self._policy.speaks(self._seen, learning, self._until):
            return None
        self._until = self._policy.rests_until(self._seen)
        return odd


class _Ranked:
    """The newest HISTORY numbers, in the order of time and of size."""

    def __init__(self) -> None:
        self._timed: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, number: float) -> None:
        if len(self._timed) == HISTORY:
            del self._sorted[bisect_left(self._sorted, self._timed.popleft())]
        self._timed.append(number)
        insort(self._sorted, number)

    def range(self, default: float) -> tuple[float, float]:
        return (self._sorted[0], self._sorted[-1]) if self._sorted else (default, default)

    def quantile(self, share: float, default: float) -> float:
        return self._sorted[int(share * len(self._sorted))] if self._sorted else default


class _Shapes:
    """Past stretches, each as the means of its sections about their own mean.

    Stretches that begin a whole number of sections apart share their sections, so one row holds them all:
    there are as many rows as a section has points, and the newest stretch is compared with those of its row.
    """

    def __init__(self, width: int) -> None:
        kept = HISTORY // width + SECTIONS
        self._rows: tuple[deque[float], ...] = tuple(deque(maxlen=kept) for _ in range(width))
        self._middles: tuple[deque[float], ...] = tuple(deque(maxlen=kept) for _ in range(width))
        self._seen = 0
        self._records: deque[tuple[int, float]] = deque()  # when, how far: the farthest first

    def is_strange(self, points: Collection[float]) -> bool:
        """Return whether each past stretch is farther from *points*, the newest, than any had its nearest."""
        width = len(self._rows)
        row, middles = self._rows[self._seen % width], self._middles[self._seen % width]
        row.append(sum(list(points)[-width:]) / width)
        middles.append(sum(points) / len(points))
        return self._is_record(_nearest(list(row), list(middles)))

    def _is_record(self, distance: float) -> bool:
        self._seen += 1
        if self._records and self._records[0][0] < self._seen - HISTORY:
            self._records.popleft()
        broken = bool(self._records) and distance > self._records[0][1] > 0
        while self._records and self._records[-1][1] <= distance:
            self._records.pop()
        self._records.append((self._seen, distance))
        return broken


def _nearest(row: list[float], middles: list[float]) -> float:
    """The least distance from the newest stretch of *row* to one that does not overlap it; 0 with none."""
    newest = [mean - middles[-1] for mean in row[-SECTIONS:]]
    nearest = inf
    for at in range(len(row) - 2 * SECTIONS, -1, -1):
        middle, total = middles[at + SECTIONS - 1], 0.0
        for one, other in zip(newest, row[at : at + SECTIONS], strict=True):
            total += (one - other + middle) ** 2
            if total >= nearest:
                break
        else:
            nearest = total
    return sqrt(nearest) if nearest < inf else 0.0
