"""A chart of one service's last half hour: what it shows, and the same in one sentence for thin lines. Pure.

* The points are what was measured (`detectors/history.py`); time without a point is a gap, never a zero.
* The marks are facts of the ledger: when it opened, was approved, ran, recovered. Of each kind the newest.
* Times are on one clock: the reader's, or the tenant's for a group.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from bot.words import hm, span, tenths
from detectors.history import KEPT_MS, POINT_MS, History, Point
from ledger import events as ev
from ledger.events import Event
from ledger.machine import Fact, Incident

MARKS: Mapping[type[Event], str] = {
    ev.Detected: "opened",
    ev.Reopened: "open again",
    ev.Authorized: "approved",
    ev.Executed: "ran",
    ev.WebhookFailed: "failed to run",
    ev.StoodDown: "not run",
    ev.Verified: "recovered",
    ev.Recovered: "recovered",
    ev.Resolved: "closed",
}
"""The facts that stand on a chart, and what they are called there."""

REDRAWN: frozenset[type[Event]] = frozenset({*MARKS, ev.Expired, ev.NotRecovered, ev.OutcomeUnknown})
"""The facts after which a chart that people have is drawn anew."""

LEAST_MS = 300_000
"""A chart shows at least so much time."""
GAP_MS = 15_000
"""Time without a measurement that is longer is a gap."""
TOLD_GAP_MS = 60_000
LARGE = ((10**12, 10**12, "G"), (10**9, 10**9, "M"), (10**7, 10**6, "k"))
"""From how many requests per 1000 s on a rate is told in which unit."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that people want to find on the chart again."""

    label: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Chart:
    """All that a picture is drawn of: the same chart gives the same bytes.

    It shows from *from_ms* to *until_ms*. *began_ms* is since when it was wrong, 0 for nothing wrong;
    *normal_permille* is the most that may fail.
    """

    service: str
    from_ms: int
    until_ms: int
    timezone: str
    points: History = ()
    marks: tuple[Mark, ...] = ()
    began_ms: int = 0
    usual_rps_milli: int = 0
    normal_permille: int = 0

    def within(self) -> History:
        """The points of the time that is shown."""
        return tuple(one for one in self.points if self.from_ms < one.at_ms <= self.until_ms)

    def gaps(self) -> tuple[tuple[int, int], ...]:
        """From when to when nothing was measured."""
        found, seen_ms = [], self.from_ms
        for point in sorted(self.within(), key=lambda one: one.began_ms):
            found.append((seen_ms, point.began_ms))
            seen_ms = max(seen_ms, point.at_ms)
        found.append((seen_ms, self.until_ms))
        return tuple((a, b) for a, b in found if b - a > GAP_MS)


def window_ms(points: History, marks: tuple[Mark, ...], until_ms: int) -> int:
    """From when on to show it: half an hour, or less where there is less to show."""
    shown = (one.began_ms for one in points if until_ms - KEPT_MS < one.at_ms <= until_ms)
    oldest = min((*shown, *(one.at_ms - POINT_MS for one in marks)), default=until_ms - KEPT_MS)
    return until_ms - min(KEPT_MS, max(LEAST_MS, until_ms - oldest))


def marks(incident: Incident) -> tuple[Mark, ...]:
    """What happened to *incident*, each once, in the order of time."""
    found: dict[str, Mark] = {}
    for fact in incident.facts:
        if label := MARKS.get(type(fact.event)):
            found[label] = Mark(label, fact.at_ms)
    return tuple(sorted(found.values(), key=lambda one: one.at_ms))


def began_ms(incident: Incident) -> int:
    """Since when it is, or was, wrong."""
    fact = incident.last(ev.Detected, ev.Reopened)
    return (incident.reading.since_ms if fact else 0) or (fact.at_ms if fact else incident.opened_ms)


def newest(incident: Incident) -> Fact:
    """The newest fact that a chart must show."""
    return next(fact for fact in reversed(incident.facts) if type(fact.event) in REDRAWN)


def alt(chart: Chart) -> str:
    """The chart in one sentence, with its numbers, for who cannot see or load it."""
    points = chart.within()
    said = _said(chart, points) if points else "nothing was measured in this time"
    lost_ms = sum(b - a for a, b in _inner_gaps(chart, points))
    gap = f", no data for {span(lost_ms)}" if lost_ms >= TOLD_GAP_MS else ""
    happened = ", ".join(f"{one.label} {hm(one.at_ms, chart.timezone)}" for one in chart.marks)
    return f"{chart.service}: {said}{gap}; {happened or 'nothing is open'}."


def shown_ms(us: int) -> str:
    """A latency in words: 0.4 ms, 92 ms, 2.8 s, 68 s."""
    if us < 1_000_000:
        return f"{us / 1000:.1f} ms" if 0 < us < 1_000 else f"{us // 1000} ms"
    return f"{us / 1_000_000:.1f}".removesuffix(".0") + " s" if us < 10_000_000 else f"{us // 1_000_000} s"


def shown_rate(milli: int) -> str:
    """Requests per second: 0.3, 12, 1,200, 12k, 3M."""
    for least, unit_milli, unit in LARGE:
        if milli >= least:
            return f"{milli / unit_milli:.3g}{unit}"
    return f"{round(milli / 1000):,}" if milli >= 10_000 else f"{milli / 1000:.1f}".removesuffix(".0")


def when(chart: Chart, point: Point) -> str:
    """How the time of the newest figure is called: now, or at 03:02 where nothing came since."""
    late = chart.until_ms - point.at_ms > TOLD_GAP_MS
    return f"at {hm(point.at_ms, chart.timezone)}" if late else "now"


def rate(point: Point) -> int:
    """Requests per 1000 s."""
    return point.n * 1_000_000 // point.span_ms if point.span_ms else 0


def share(point: Point) -> int:
    """Failed requests in a thousand."""
    return min(1000, point.errors * 1000 // point.n) if point.n else 0


def _inner_gaps(chart: Chart, points: History) -> Iterable[tuple[int, int]]:
    """The gaps after the first measurement: what was not watched yet is no loss."""
    return [gap for gap in chart.gaps() if points and gap[0] > points[0].began_ms]


def _said(chart: Chart, points: History) -> str:
    busy = [one for one in points if one.n]
    pieces = (_speed(chart, busy), _failures(chart, busy), _traffic(chart, points))
    return ", ".join(piece for piece in pieces if piece)


def _split(chart: Chart, points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
    """What was measured before it went wrong, and since."""
    every = list(points)
    if not chart.began_ms:
        return every, []
    before = [one for one in every if one.at_ms <= chart.began_ms]
    return before, every[len(before) :]


def _speed(chart: Chart, busy: list[Point]) -> str:
    if not busy:
        return "no request"
    before, since = _split(chart, busy)
    now, since_when = shown_ms(busy[-1].p95_us), when(chart, busy[-1])
    if not since:
        return f"p95 {_range([one.p95_us for one in before], shown_ms)}"
    worst = max(since, key=lambda one: one.p95_us)
    usual = int(median(one.p95_us for one in before)) if before else 0
    if 5 * worst.p95_us < 6 * usual:
        return f"p95 {now}"
    said = f"p95 {f'from {shown_ms(usual)} to' if before else 'up to'} {shown_ms(worst.p95_us)}"
    return _and_now(f"{said} at {hm(worst.at_ms, chart.timezone)}", shown_ms(worst.p95_us), now, since_when)


def _failures(chart: Chart, busy: list[Point]) -> str:
    if not busy:
        return ""
    before, since = _split(chart, busy)
    now = _percent(share(busy[-1]))
    if not since:
        return f"errors {_range([share(one) for one in before], _percent)}"
    most = _percent(max(share(one) for one in since))
    n = sum(one.n for one in before)
    usual = _percent(sum(one.errors for one in before) * 1000 // n) if n else ""
    if usual == most:
        return f"errors {now}"
    return _and_now(f"errors {f'{usual} to' if usual else 'up to'} {most}", most, now, when(chart, busy[-1]))


def _percent(permille: int) -> str:
    return f"{tenths(permille)} %"


def _range(values: Iterable[int], reads: Callable[[int], str]) -> str:
    every = sorted(values)
    low, high = reads(every[0]), reads(every[-1])
    return low if low == high else f"{low} to {high}"


def _and_now(said: str, before: str, now: str, newest: str) -> str:
    return said if before == now else f"{said}, {newest} {now}"


def _traffic(chart: Chart, points: History) -> str:
    before, since = _split(chart, points)
    was, now = _mean_rate(before or points), _mean_rate(points[-2:])
    steady = not since or 3 * abs(was - now) <= was
    return f"{shown_rate(now)} requests/s" if steady else f"{shown_rate(was)} to {shown_rate(now)} requests/s"


def _mean_rate(points: Iterable[Point]) -> int:
    every = list(points)
    spans = sum(one.span_ms for one in every)
    return sum(one.n for one in every) * 1_000_000 // spans if spans else 0
