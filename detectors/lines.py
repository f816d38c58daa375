"""The gauges of one service minute by minute, and what was odd about the last: what `series` alarms on.

* A value is the mean of what a gauge read in one minute, by our clock. A minute without an answer, or with
  none but old ones, is no value and not a zero.
* At most MOST gauges are watched, the first by name; each keeps its newest KEPT minutes, packed in 6 kB.
* Once a minute each is compared with its past (`series.compare`); a tick in between adds to a sum.
* One event is one warning: after an oddity a gauge rests, and what is odd while the service is sick, or was
  within the last minute, is part of that and told by nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from struct import pack, unpack_from
from typing import NamedTuple

from pydantic import Base64Bytes

from detectors.policy import Policy
from detectors.series import Oddity, SeriesPolicy, compare
from detectors.window import Gauge, Tick

MINUTE_MS = 60_000
MOST = 8
KEPT = 1_500  # a day and an hour
LONGEST_REST = 1_440  # minutes: a gauge of a year would rest for twelve days
SHORTEST_REST = 120  # after a shift the new level is usual no sooner
LARGEST = 1e30


class Sum(NamedTuple):
    """What a gauge read so far in a minute, in so many *looks*; its newest limit, 0 where it has none."""

    used: int = 0
    looks: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Odd:
    """What was odd about the minute that began at *began_ms*, compared with *of* before it."""

    began_ms: int
    value: float
    of: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Line:
    """The past of one gauge: its newest minutes, how many there were, until how many it rests."""

    packed: Base64Bytes = b""
    seen: int = 0
    until: int = 0
    odd: Odd | None = None

    @property
    def values(self) -> tuple[float, ...]:
        return unpack_from(f"<{len(self.packed) // 4}f", self.packed)


@dataclass(frozen=True, slots=True)
class Lines:
    """The past of all gauges, and the sums of the *minute* that is not over."""

    minute: int = 0
    running: Mapping[str, Sum] = field(default_factory=dict)
    past: Mapping[str, Line] = field(default_factory=dict)


NONE = Lines()


def fold(before: Lines, tick: Tick, at_ms: int, policy: Policy, *, calm: bool) -> Lines:
    """Return *before* with what the gauges read at *at_ms*; *calm*: nothing is sick, or was just now.

    The gauges of an answer that tells nothing new are as old as it.
    """
    if not policy.series_on:
        return NONE
    minute = at_ms // MINUTE_MS
    after = before if minute == before.minute else _turned(before, minute, policy, calm=calm)
    if not tick.gauges or (tick.app_ms and not tick.span_ms):
        return after
    return replace(after, running=_added(after.running, tick.gauges))


def settled(before: Lines) -> Lines:
    """Return *before* with nothing odd about it: what was is told, or is usual now."""
    return replace(before, past={name: replace(line, odd=None) for name, line in before.past.items()})


def moved(before: Lines, by_ms: int) -> Lines:
    """Return *before* dated anew: our clock was set by so much."""
    past = {
        name: replace(line, odd=replace(line.odd, began_ms=line.odd.began_ms + by_ms)) if line.odd else line
        for name, line in before.past.items()
    }
    return replace(before, past=past)


def _added(before: Mapping[str, Sum], gauges: Iterable[Gauge]) -> dict[str, Sum]:
    after = dict(before)
    for gauge in gauges:
        used, looks, _ = after.get(gauge.name, Sum())
        after[gauge.name] = Sum(used + gauge.used, looks + 1, gauge.limit)
    return after if len(after) <= MOST else {name: after[name] for name in sorted(after)[:MOST]}


def _turned(before: Lines, minute: int, policy: Policy, *, calm: bool) -> Lines:
    """Return the lines with the minute that is over. Of gauges that are gone, as many as find room."""
    began_ms = before.minute * MINUTE_MS
    new = {
        name: _longer(before.past.get(name, Line()), total, began_ms, policy, calm=calm)
        for name, total in before.running.items()
    }
    gone = ((name, line) for name, line in before.past.items() if name not in new)
    return Lines(minute, {}, dict(islice(chain(new.items(), gone), MOST)))


def _longer(line: Line, total: Sum, began_ms: int, policy: Policy, *, calm: bool) -> Line:
    """Return *line* with one minute more."""
    packed = pack("<f", max(-LARGEST, min(LARGEST, total.used / total.looks)))
    (value,) = unpack_from("<f", packed)
    kept = line.packed[-4 * (KEPT - 1) :] + packed
    seen = line.seen + 1
    found = _odd(line, value, total.limit, policy)
    if found is None:
        return Line(kept, seen, line.until, line.odd)
    odd = Odd(began_ms, value, len(line.values), found.sentence) if calm else line.odd
    return Line(kept, seen, _rests_until(seen, policy), odd)


def _odd(line: Line, value: float, limit: int, policy: Policy) -> Oddity | None:
    rules = _rules(policy)
    if not rules.speaks(line.seen + 1, policy.series_learning_minutes, line.until):
        return None
    return compare(line.values, value, rules).odd(rules, limit * policy.series_least_permille / 1000)


def _rules(policy: Policy) -> SeriesPolicy:
    return SeriesPolicy(
        margin_permille=policy.series_margin_permille, shift_times_milli=policy.series_shift_times_milli
    )


def _rests_until(seen: int, policy: Policy) -> int:
    rest = _rules(policy).rests_until(seen) - seen
    return seen + min(LONGEST_REST, max(SHORTEST_REST, rest))
