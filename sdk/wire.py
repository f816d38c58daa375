"""The wire format between an instrumented app and the bot, defined once for both: ``slots/1``.

``GET /health/alerts?format=slots&since=<epoch seconds>`` answers one Snapshot: what is true now (in
flight, saturation, marked faults) and the closed slots that the asker has not seen. Slots are exact sums, so
any number of them, from any number of workers, merge into one by addition.

Unknown keys are ignored: fields are only ever added. Everything else is checked on the way in, because the
app at the other end is not ours: ``decode`` raises Malformed and names what is wrong.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from . import histogram

SCHEMA = "slots/1"
MAX_SLOTS = 60
MAX_PARTS = 1024
MAX_NAME = 256
UNMATCHED = "~unmatched"
OTHER = "~other"

Counts = Mapping[int, int]
T = TypeVar("T")


class Malformed(ValueError):
    """What came over the wire is not ``slots/1``; the message names the field."""


@dataclass(frozen=True, slots=True)
class Part:
    """The requests of one route (``POST /pay``), or the calls to one dependency."""

    name: str
    n: int
    errors: int
    hist: Counts
    exceptions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gauge:
    """How full something is: *used* of *limit*, in its own unit."""

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The requests that ended in the epoch second *t*; errors, client_errors and aborted are among *n*.

    *streams* (event streams, websockets) are not: their *n* began, and *hist* is the time to the first byte.
    """

    t: int
    n: int = 0
    errors: int = 0
    client_errors: int = 0
    aborted: int = 0
    hist: Counts = field(default_factory=dict)
    routes: tuple[Part, ...] = ()
    dependencies: tuple[Part, ...] = ()
    streams: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One answer of an app: the present, and its closed slots, oldest first."""

    service: str
    now_ms: int
    slots: tuple[Slot, ...] = ()
    slot_s: int = 1
    workers: int = 1
    workers_stale: int = 0
    inflight: int = 0
    oldest_ms: int = 0
    saturation: tuple[Gauge, ...] = ()
    faults: tuple[str, ...] = ()


def merge_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return one Part a name, in order of first appearance; exact."""
    by_name: dict[str, list[Part]] = {}
    for part in parts:
        by_name.setdefault(part.name, []).append(part)
    return tuple(
        Part(
            name,
            sum(p.n for p in same),
            sum(p.errors for p in same),
            histogram.merge(*(p.hist for p in same)),
            _sum_names(p.exceptions for p in same),
        )
        for name, same in by_name.items()
    )


def merge_slots(slots: Iterable[Slot]) -> Slot:
    """Return the sum of slots, dated by the newest (0 when there is none); exact."""
    many = tuple(slots)
    return Slot(
        max((s.t for s in many), default=0),
        sum(s.n for s in many),
        sum(s.errors for s in many),
        sum(s.client_errors for s in many),
        sum(s.aborted for s in many),
        histogram.merge(*(s.hist for s in many)),
        merge_parts(p for s in many for p in s.routes),
        merge_parts(p for s in many for p in s.dependencies),
        merge_parts(p for s in many for p in s.streams),
    )


def _sum_names(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, c in one.items():
            total[name] = total.get(name, 0) + c
    return total


def encode(snapshot: Snapshot) -> bytes:
    """Return the JSON of a snapshot."""
    return json.dumps(document(snapshot), separators=(",", ":"), allow_nan=False).encode()


def document(snapshot: Snapshot) -> dict[str, object]:
    """Return the snapshot as the JSON object that crosses the wire."""
    s = snapshot
    return {
        "schema": SCHEMA,
        "service": s.service,
        "now_ms": s.now_ms,
        "slot_s": s.slot_s,
        "workers": s.workers,
        "workers_stale": s.workers_stale,
        "inflight": s.inflight,
        "oldest_ms": s.oldest_ms,
        "saturation": [gauge(g) for g in s.saturation],
        "slots": [slot_document(slot) for slot in s.slots],
        "faults": list(s.faults),
    }


def gauge(g: Gauge) -> dict[str, object]:
    """Return a gauge as its JSON object."""
    return {"name": g.name, "used": g.used, "limit": g.limit}


def slot_document(slot: Slot) -> dict[str, object]:
    """Return a slot as its JSON object."""
    return {
        "t": slot.t,
        "n": slot.n,
        "errors": slot.errors,
        "client_errors": slot.client_errors,
        "aborted": slot.aborted,
        "hist": histogram.flat(slot.hist),
        "routes": [_part("route", p) for p in slot.routes],
        "dependencies": [_part("name", p) for p in slot.dependencies],
        "streams": [_part("name", p) for p in slot.streams],
    }


def _part(key: str, part: Part) -> dict[str, object]:
    return {
        key: part.name,
        "n": part.n,
        "errors": part.errors,
        "hist": histogram.flat(part.hist),
        "exceptions": dict(part.exceptions),
    }


def decode(raw: bytes | str) -> Snapshot:
    """Return the snapshot in *raw*; Malformed when it is anything else."""
    try:
        parsed: object = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise Malformed(f"the answer is not JSON: {e}") from None
    return parse(parsed)


def parse(parsed: object) -> Snapshot:
    """Return the snapshot in an already parsed JSON value; Malformed when it is anything else."""
    o = _object(parsed, "the answer")
    if o.get("schema") != SCHEMA:
        raise Malformed(f"schema is {str(o.get('schema'))[:40]!r}, not {SCHEMA!r}")
    slots = _list(o, "slots", read_slot, MAX_SLOTS)
    if any(a.t >= b.t for a, b in itertools.pairwise(slots)):
        raise Malformed("slots are not in the order of t")
    return Snapshot(
        service=_text(o, "service"),
        now_ms=_count(o, "now_ms"),
        slots=slots,
        slot_s=_count(o, "slot_s", 1),
        workers=_count(o, "workers", 1),
        workers_stale=_count(o, "workers_stale", 0),
        inflight=_count(o, "inflight", 0),
        oldest_ms=_count(o, "oldest_ms", 0),
        saturation=_list(o, "saturation", _read_gauge, MAX_PARTS),
        faults=_list(o, "faults", _read_name, MAX_PARTS),
    )


def read_slot(value: object) -> Slot:
    """Return the slot in an already parsed JSON value; Malformed when it is anything else."""
    o = _object(value, "a slot")
    slot = Slot(
        t=_count(o, "t"),
        n=_count(o, "n"),
        errors=_count(o, "errors"),
        client_errors=_count(o, "client_errors", 0),
        aborted=_count(o, "aborted", 0),
        hist=_hist(o),
        routes=_list(o, "routes", lambda v: _read_part(v, "route"), MAX_PARTS),
        dependencies=_list(o, "dependencies", lambda v: _read_part(v, "name"), MAX_PARTS),
        streams=_list(o, "streams", lambda v: _read_part(v, "name"), MAX_PARTS),
    )
    if slot.errors + slot.client_errors + slot.aborted > slot.n:
        raise Malformed(f"slot {slot.t} has more failures than requests")
    return slot


def _read_part(value: object, name: str) -> Part:
    o = _object(value, f"a {name}")
    exceptions = _object(o.get("exceptions", {}), "exceptions")
    if len(exceptions) > MAX_PARTS:
        raise Malformed("exceptions has too many items")
    part = Part(
        _text(o, name),
        _count(o, "n"),
        _count(o, "errors"),
        _hist(o),
        {_read_name(k): _count(exceptions, k) for k in exceptions},
    )
    if part.errors > part.n:
        raise Malformed(f"{part.name!r} has more errors than calls")
    return part


def _read_gauge(value: object) -> Gauge:
    o = _object(value, "a gauge")
    return Gauge(_text(o, "name"), _count(o, "used"), _count(o, "limit"))


def _read_name(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME:
        return value
    raise Malformed(f"a name is not text of 1 to {MAX_NAME} characters")


def _hist(o: Mapping[str, object]) -> dict[int, int]:
    flat = o.get("hist")
    if not isinstance(flat, list) or len(flat) % 2 or len(flat) > 2 * len(histogram.BUCKETS):
        raise Malformed("hist is not a list of pairs")
    counts: dict[int, int] = {}
    for i, c in zip(flat[::2], flat[1::2], strict=True):
        if type(i) is not int or i not in histogram.BUCKETS or i in counts:
            raise Malformed("hist has an unknown or repeated bucket")
        counts[i] = _number(c, "hist")
    return counts


def _object(value: object, what: str) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise Malformed(f"{what} is not an object")


def _list(o: Mapping[str, object], key: str, read: Callable[[object], T], most: int) -> tuple[T, ...]:
    items = o.get(key, [])
    if not isinstance(items, list):
        raise Malformed(f"{key} is not a list")
    if len(items) > most:
        raise Malformed(f"{key} has more than {most} items")
    return tuple(read(item) for item in items)


def _text(o: Mapping[str, object], key: str) -> str:
    try:
        return _read_name(o.get(key))
    except Malformed:
        raise Malformed(f"{key} is not text of 1 to {MAX_NAME} characters") from None


def _count(o: Mapping[str, object], key: str, default: object = None) -> int:
    return _number(o.get(key, default), key)


def _number(value: object, key: str) -> int:
    if type(value) is int and 0 <= value < 1 << 53:
        return value
    raise Malformed(f"{key} is not a whole number from 0 to 2**53")
