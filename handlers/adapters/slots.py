"""Reads our SDK's answers fast: `slots/1` checked and added up in one pass.

The format is defined in sdk/wire.py. What this accepts, that reads in the same way. What this does not
accept, that is asked: it decides, and has the words for what is wrong. A test holds the two to each other.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from sdk import histogram, wire

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Name = Annotated[str, Meta(min_length=1, max_length=wire.MAX_NAME)]
Flat = Annotated[list[Count], Meta(max_length=2 * len(histogram.BUCKETS))]


FIRST, LAST = histogram.BUCKETS[0], histogram.BUCKETS[-1]


class _Part(Struct, gc=False):
    n: Count
    errors: Count
    hist: Flat
    name: Name
    exceptions: dict[Name, Count] = {}


class _Route(Struct, gc=False):
    n: Count
    errors: Count
    hist: Flat
    name: Name = field(name="route")
    exceptions: dict[Name, Count] = {}


class _Gauge(Struct, gc=False):
    name: Name
    used: Count
    limit: Count


type Part = _Part | _Route
Parts = Annotated[list[_Part], Meta(max_length=wire.MAX_PARTS)]
Routes = Annotated[list[_Route], Meta(max_length=wire.MAX_PARTS)]


class _Slot(Struct, gc=False):
    t: Count
    n: Count
    errors: Count
    hist: Flat
    client_errors: Count = 0
    aborted: Count = 0
    routes: Routes = []
    dependencies: Parts = []
    streams: Parts = []


class _Answer(Struct, gc=False):
    schema: Literal["slots/1"]
    service: Name
    now_ms: Count
    slots: Annotated[list[_Slot], Meta(max_length=wire.MAX_SLOTS)] = []
    slot_s: Count = 1
    workers: Count = 1
    workers_stale: Count = 0
    inflight: Count = 0
    oldest_ms: Count = 0
    saturation: Annotated[list[_Gauge], Meta(max_length=wire.MAX_PARTS)] = []
    faults: Annotated[list[Name], Meta(max_length=wire.MAX_PARTS)] = []


_DECODER = msgspec.json.Decoder(_Answer)


class Answer:
    """One answer, read and found good: *head* is the snapshot without its slots."""

    def __init__(self, answer: _Answer) -> None:
        self._slots = answer.slots
        self.head = wire.Snapshot(
            answer.service,
            answer.now_ms,
            (),
            answer.slot_s,
            answer.workers,
            answer.workers_stale,
            answer.inflight,
            answer.oldest_ms,
            tuple([wire.Gauge(one.name, one.used, one.limit) for one in answer.saturation]),
            tuple(answer.faults),
        )

    def between(self, oldest: int, newest: int) -> wire.Slot:
        """Return the sum of the slots after *oldest*, up to *newest*, but for streams; exact."""
        slots = [one for one in self._slots if oldest < one.t <= newest]
        return wire.Slot(
            slots[-1].t if slots else 0,
            sum([one.n for one in slots]),
            sum([one.errors for one in slots]),
            sum([one.client_errors for one in slots]),
            sum([one.aborted for one in slots]),
            _summed([one.hist for one in slots]),
            _merged(part for one in slots for part in one.routes),
            _merged(part for one in slots for part in one.dependencies),
        )


def read(body: bytes) -> Answer | None:
    """Return the answer in *body*; None where sdk/wire.py is to be asked what it is."""
    try:
        answer = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Answer(answer) if _is_good(answer.slots) else None


def _is_good(slots: Sequence[_Slot]) -> bool:
    """Whether all holds that types do not say."""
    before = -1
    for one in slots:
        if one.t <= before or one.errors + one.client_errors + one.aborted > one.n:
            return False
        before = one.t
        if not _is_histogram(one.hist) or not all(map(_is_part, one.routes)):
            return False
        if not all(map(_is_part, one.dependencies)) or not all(map(_is_part, one.streams)):
            return False
    return True


def _is_part(part: Part) -> bool:
    few = len(part.exceptions) <= wire.MAX_PARTS
    return few and part.errors <= part.n and _is_histogram(part.hist)


def _is_histogram(flat: list[int]) -> bool:
    """Whether it is pairs of distinct buckets and counts. Most have few."""
    if len(flat) == 2:
        return FIRST <= flat[0] <= LAST
    if len(flat) % 2:
        return False
    buckets = set(flat[::2])
    return 2 * len(buckets) == len(flat) and (not buckets or (min(buckets) >= FIRST and max(buckets) <= LAST))


def _summed(flats: Sequence[list[int]]) -> dict[int, int]:
    if not flats:
        return {}
    total = dict(zip(flats[0][::2], flats[0][1::2], strict=True))
    for flat in flats[1:]:
        for at in range(0, len(flat), 2):
            bucket = flat[at]
            total[bucket] = total.get(bucket, 0) + flat[at + 1]
    return total


def _merged(parts: Iterable[Part]) -> tuple[wire.Part, ...]:
    by_name: dict[str, list[Part]] = {}
    for part in parts:
        if same := by_name.get(part.name):
            same.append(part)
        else:
            by_name[part.name] = [part]
    return tuple([_sum(name, same) for name, same in by_name.items()])


def _sum(name: str, same: Sequence[Part]) -> wire.Part:
    n = errors = 0
    for one in same:
        n += one.n
        errors += one.errors
    exceptions = [one.exceptions for one in same if one.exceptions]
    return wire.Part(name, n, errors, _summed([one.hist for one in same]), _names(exceptions))


def _names(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
