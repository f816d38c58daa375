"""What changed most when it began: the numbered evidence that people and both models are shown.

* A tick is reduced to readings: how full each gauge is, how many of a route's requests fail, with which
  exception, how slow a route or a dependency is.
* A reading is suspect by its shift between the last good window and the incident: the difference of the two
  medians over the usual spread, which is never taken for less than a floor. Without the floor a flat metric
  divides by nearly nothing and always wins (measured on 50 real faults: first place right in 27, not 11).
* Names are foreign text: they are capped and kept on one line here, and escaped by whoever shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from statistics import median
from typing import Literal

from detectors.window import Part, Tick
from sdk import histogram

Kind = Literal[
    "gauge", "exception", "route_errors", "dependency_errors", "route_latency", "dependency_latency", "commit"
]
Readings = Mapping[str, tuple[int, int]]  # "kind\tname\twhere" -> what was read, and of how many

MOST = 12
TEXT = 120
ROUTES = 20  # each may alarm on its own, with ln(20) more evidence (Bonferroni)
EXCEPTIONS = 5
LISTED = 3.0  # a smaller shift is noise


@dataclass(frozen=True, slots=True)
class Scale:
    """What one unit of shift is: the usual spread, at least *floor*, at least *share* of the usual value."""

    floor: float
    share: float
    cap: float


SCALES: Mapping[str, Scale] = {
    "gauge": Scale(1.0, 0.05, 100),
    "exception": Scale(0.01, 0.05, 95),
    "route_errors": Scale(0.01, 0.05, 90),
    "dependency_errors": Scale(0.01, 0.05, 95),
    "route_latency": Scale(10_000, 0.25, 60),
    "dependency_latency": Scale(10_000, 0.25, 80),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that the caller suspects, such as a commit; *score* 0–100 places it among the others."""

    kind: str
    component: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """One numbered piece of evidence; *score_c* is its shift in hundredths, strongest first."""

    id: str
    kind: str
    component: str
    text: str
    score_c: int


def readings(tick: Tick, busy: Sequence[Part] | None = None) -> dict[str, tuple[int, int]]:
    """Return what *tick* says about each gauge, and about the busiest or sickest routes and dependencies.

    *busy* are the `busiest` of its routes, where they are known.
    """
    read = {_key("gauge", gauge.name): (gauge.used, gauge.limit) for gauge in tick.gauges if gauge.limit > 0}
    for part in _foremost(tick.routes, busiest(tick.routes) if busy is None else busy):
        _read_part(read, "route", part)
        if part.exceptions:
            read |= {
                _key("exception", kind, part.name): (count, part.n)
                for kind, count in sorted(part.exceptions.items(), key=lambda item: -item[1])[:EXCEPTIONS]
            }
    for part in _foremost(tick.dependencies, busiest(tick.dependencies)):
        _read_part(read, "dependency", part)
    return read


def rank(
    before: Sequence[Readings], during: Sequence[Readings], extra: Iterable[Candidate] = ()
) -> tuple[Suspect, ...]:
    """Return at most twelve suspects, E1 the strongest: the shifts from *before* to *during*, and *extra*."""
    found = [_candidate(key, before, during) for key in sorted({key for one in during for key in one})]
    listed = [one for one in (*found, *extra) if one.score >= LISTED]
    listed.sort(key=lambda one: (-one.score, one.kind, one.component, one.text))
    return tuple(
        Suspect(f"E{place}", one.kind, one_line(one.component), one_line(one.text), round(one.score * 100))
        for place, one in enumerate(listed[:MOST], start=1)
    )


@lru_cache(maxsize=4096)
def one_line(text: str) -> str:
    """Return foreign text without control characters, at most 120 characters long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"


def _key(kind: str, name: str, where: str = "") -> str:
    return "\t".join((kind, one_line(name), one_line(where)))


def busiest(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the ROUTES parts with the most requests; of equals those whose names come first."""
    if len(parts) <= ROUTES:
        return parts
    least = sorted([part.n for part in parts])[-ROUTES]
    sure = [part for part in parts if part.n > least]
    equal = sorted([part for part in parts if part.n == least], key=attrgetter("name"))
    return sure + equal[: ROUTES - len(sure)]


def _foremost(parts: Sequence[Part], busy: Sequence[Part]) -> Sequence[Part]:
    """Return *busy*, the busiest parts, or in their place those of which something failed."""
    if len(parts) <= ROUTES:
        return parts
    failed = [part for part in parts if part.errors]
    if not failed:
        return busy
    failed.sort(key=lambda part: (-part.errors, -part.n, part.name))
    others = busiest([part for part in parts if not part.errors])
    return [*failed, *others][:ROUTES]


def _read_part(read: dict[str, tuple[int, int]], what: str, part: Part) -> None:
    if part.n > 0:
        failed, took = _keys(what, part.name)
        read[failed] = part.errors, part.n
        read[took] = _p95_us(part.hist), part.n


@lru_cache(maxsize=16_384)
def _keys(what: str, name: str) -> tuple[str, str]:
    return _key(f"{what}_errors", name), _key(f"{what}_latency", name)


def _p95_us(hist: Mapping[int, int]) -> int:
    """Return the p95; of fewer than twenty requests that is the slowest."""
    if not hist:
        return 0
    n = sum(hist.values())
    slower = n - histogram.rank(0.95, n) if n >= 20 else 0
    for i in sorted(hist, reverse=True):
        slower -= hist[i]
        if slower < 0:
            return histogram.MIDPOINTS[i] // 1000
    return 0


def _candidate(key: str, before: Sequence[Readings], during: Sequence[Readings]) -> Candidate:
    kind, name, where = key.split("\t")
    was, now = _series(key, kind, before), _series(key, kind, during)
    scale = SCALES[kind]
    usual = median(was) if was else 0.0
    unit = max(_spread(was), scale.share * abs(usual), scale.floor)
    score = min(scale.cap, max(0.0, median(now) - usual) / unit) if now else 0.0
    seen = [one[key] for one in during if key in one]
    component = where or name
    return Candidate(kind, component, _text(kind, name, where, seen, usual), score)


def _series(key: str, kind: str, window: Sequence[Readings]) -> list[float]:
    """Return one reading, a value a tick; a share that nobody reported is 0, a latency is absent."""
    if kind.endswith("latency"):
        return [float(one[key][0]) for one in window if key in one]
    pairs = [one.get(key, (0, 1)) for one in window]
    if kind == "gauge":
        # What is left counts, not what is used.
        return [1 / (1.01 - min(1.0, used / limit)) for used, limit in pairs]
    return [k / n if n else 0.0 for k, n in pairs]


def _spread(values: Sequence[float]) -> float:
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[last - last // 4] - ordered[last // 4] if ordered else 0.0


def _text(kind: str, name: str, where: str, seen: Sequence[tuple[int, int]], usual: float) -> str:
    total, of = sum(value for value, _ in seen), sum(n for _, n in seen)
    match kind:
        case "gauge":
            used, limit = max(seen, key=lambda pair: pair[0] / pair[1])
            return f"{name} {used} of {limit} in use"
        case "exception":
            return f"{where} {total} × {name}"
        case "route_errors":
            return f"{name} {total} of {of} failed"
        case "dependency_errors":
            return f"calls to {name}: {total} of {of} failed"
        case _:
            worst = ms(max(value for value, _ in seen) // 1000)
            before = f", usually {ms(int(usual) // 1000)}" if usual else ""
            return f"{'calls to ' * kind.startswith('dependency')}{name} p95 {worst}{before}"


def ms(value: int) -> str:
    """Return a duration in milliseconds as people write it: 190 ms, 2.8 s, 4 min 30 s."""
    if value < 1_000:
        return f"{value} ms"
    if value < 10_000:
        return f"{value / 1000:.1f} s".replace(".0 s", " s")
    if value < 120_000:
        return f"{round(value / 1000)} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
