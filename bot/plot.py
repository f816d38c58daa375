"""Where everything of a chart stands on its picture. Pure: a chart goes in, a PNG comes out.

Three panels over the same half hour: p95 with where it usually lies, failed requests, requests a second.
Marks are numbered lines through all three, named below the title. What was not measured is hatched.

It is made for a phone at night: dark, few words, no word smaller than 18 of 560 pixels. Everything that a
colour says is also said by a number, a dash or a place, so that it can be read in grey.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bot.canvas import Canvas, Dot, width
from bot.chart import Chart, Mark, alt, rate, share, shown_ms, shown_rate, when
from bot.places import apart, nice, rows_of, stretches
from bot.words import at, hm, tenths
from detectors.history import Point

GROUND, PANEL, GRID = "#0f1720", "#17222d", "#324250"
BRIGHT, MUTED, USUAL = "#f2f5f8", "#a9b8c6", "#4a6f76"
AMBER, RED, BLUE = "#ffc94d", "#ff7a70", "#7cc7ff"
BLUE_AREA, RED_AREA, HATCH = "#274a63", "#6b3338", "#445566"
WRONG, DONE, OVER = "#ff9d94", "#ffffff", "#5fe08a"
MARK_COLOURS = {"approved": DONE, "ran": DONE, "recovered": OVER, "closed": OVER}
GROUNDS = (GROUND, PANEL)
INKS = (BRIGHT, MUTED, GRID, USUAL, HATCH, AMBER, RED, BLUE, BLUE_AREA, RED_AREA, WRONG, DONE, OVER)

WIDTH, EDGE, GUTTER = 560, 10, 72
LEFT, RIGHT = EDGE + GUTTER, WIDTH - 18
TITLE, WORDS, SMALL = 24, 20, 18
ROW, LANE, PANEL_HEIGHT, HEAD, GAP, FOOT = 29, 32, 104, 30, 7, 30
DISC = 12
MOST_BYTES = 20_000
FEWEST_HATCHED, THINNEST = 4, 3
TICKS_MS, MOST_TICKS = (60_000, 120_000, 300_000, 600_000), 5


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the three: its name, what it shows of a point (None: nothing), and how that reads.

    *usual* is the line or band of what is usual; *least* is how high the scale is at the least.
    """

    name: str
    value: Callable[[Point], int | None]
    reads: Callable[[int], str]
    colour: str
    filled: str = ""
    usual: int = 0
    least: int = 1
    most: int = 0
    banded: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one panel's plot stands, and its scale."""

    chart: Chart
    top: float
    bottom: float
    high: int

    def x(self, ms: int) -> float:
        return place(self.chart, ms)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * min(1.0, value / self.high)


def draw(chart: Chart) -> bytes:
    """The picture of *chart*: a PNG of at most 20 KB."""
    names = list(rows_of(chart.marks))
    lane = EDGE + TITLE + 10 + ROW * len(names)
    first = lane + (LANE if chart.marks else 0)
    panels = _panels(chart)
    bottom = first + len(panels) * (PANEL_HEIGHT + GAP)
    canvas = Canvas(WIDTH, round(bottom + FOOT), GROUNDS, INKS)
    _title(canvas, chart)
    frames = [_frame(chart, panel, first + n * (PANEL_HEIGHT + GAP)) for n, panel in enumerate(panels)]
    for panel, frame in zip(panels, frames, strict=True):
        _panel(canvas, panel, frame)
    _marks(canvas, chart, lane + LANE / 2, frames)
    for panel, frame in zip(panels, frames, strict=True):
        _heading(canvas, panel, frame)
    _clock(canvas, chart, bottom)
    _names(canvas, chart, names)
    return canvas.png(alt(chart), MOST_BYTES)


def place(chart: Chart, ms: int) -> float:
    """Where an instant stands, from left to right; what was before stands at the left end."""
    part = (ms - chart.from_ms) / (chart.until_ms - chart.from_ms)
    return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, part))


def _panels(chart: Chart) -> list[Panel]:
    return [
        Panel("p95", _p95, shown_ms, AMBER, least=_least_p95(chart), banded=True),
        Panel(
            "failed",
            lambda one: share(one) if one.n else None,
            lambda value: f"{tenths(value)} %",
            RED,
            RED_AREA,
            chart.normal_permille,
            50,
            1000,
        ),
        Panel("requests/s", rate, shown_rate, BLUE, BLUE_AREA, chart.usual_rps_milli, 1000),
    ]


def _p95(point: Point) -> int | None:
    return point.p95_us if point.n else None


def _least_p95(chart: Chart) -> int:
    return max((one.high_us * 5 // 4 for one in chart.within()), default=1_000) or 1_000


def _frame(chart: Chart, panel: Panel, top: float) -> Frame:
    values = [value for one in chart.within() if (value := panel.value(one)) is not None]
    high = nice(max([panel.least, panel.usual * 5 // 4, *(value * 21 // 20 for value in values)]))
    return Frame(chart, top + HEAD, top + PANEL_HEIGHT - 8, min(high, panel.most or high))


def _title(canvas: Canvas, chart: Chart) -> None:
    canvas.text((EDGE, EDGE), _cut(chart.service, 300), TITLE, BRIGHT, bold=True)
    day = at(chart.until_ms, chart.timezone)
    canvas.text((RIGHT, EDGE + 4), f"{day:%a %d %b}, {day:%Z}", WORDS, MUTED, "ra")


def _cut(words: str, most: float) -> str:
    while width(words, TITLE) > most:
        words = words[:-4] + "..."
    return words


def _panel(canvas: Canvas, panel: Panel, frame: Frame) -> None:
    canvas.box(EDGE, frame.top - HEAD, WIDTH - EDGE, frame.bottom + 8, PANEL, 8)
    points = frame.chart.within()
    for value, anchor in ((0, "rs"), (frame.high, "ra")):
        canvas.line([(LEFT, frame.y(value)), (RIGHT, frame.y(value))], GRID, 1)
        canvas.text((LEFT - 8, frame.y(value)), panel.reads(value) if value else "0", SMALL, MUTED, anchor)
    _usual(canvas, panel, frame)
    _hatch(canvas, frame)
    for stretch in stretches(points, panel.value):
        _curve(canvas, panel, frame, stretch)


def _heading(canvas: Canvas, panel: Panel, frame: Frame) -> None:
    points = frame.chart.within()
    middle = frame.top - HEAD / 2 - 2
    canvas.text((EDGE + 10, middle), panel.name, WORDS, BRIGHT, "lm", bold=True)
    shown = [(value, one) for one in points if (value := panel.value(one)) is not None]
    now = f"{when(frame.chart, shown[-1][1])} {panel.reads(shown[-1][0])}" if shown else "not measured"
    _label(canvas, (RIGHT, middle), now, panel.colour if shown else MUTED, "rm", bold=True)
    if usual := _usually(panel, points):
        _label(canvas, (RIGHT - width(now, WORDS) - 14, middle), usual, MUTED, "rm")


def _label(canvas: Canvas, at: Dot, words: str, colour: str, anchor: str, *, bold: bool = False) -> None:
    """Words that nothing runs through."""
    x, y = at
    left = x - width(words, WORDS) / (1 if anchor == "rm" else 2)
    canvas.box(left - 3, y - WORDS / 2 - 1, left + width(words, WORDS) + 3, y + WORDS / 2 + 1, PANEL)
    canvas.text(at, words, WORDS, colour, anchor, bold=bold)


def _usually(panel: Panel, points: Sequence[Point]) -> str:
    if panel.banded:
        known = [one for one in points if one.high_us]
        return f"usual {shown_ms(known[-1].low_us)} to {shown_ms(known[-1].high_us)}" if known else ""
    if not panel.usual:
        return ""
    return f"{'normal up to' if panel.most else 'usual'} {panel.reads(panel.usual)}"


def _usual(canvas: Canvas, panel: Panel, frame: Frame) -> None:
    """The band where p95 usually lies, or the line of what is usual."""
    if panel.usual:
        height = frame.y(panel.usual)
        canvas.dashed((LEFT, height), (RIGHT, height), MUTED, 1.5, 5)
    for stretch in stretches(frame.chart.within(), lambda one: one.high_us or None) if panel.banded else ():
        low = list(_dots(frame, stretch, lambda one: one.low_us))
        high = [(x, min(y, low[n][1] - THINNEST)) for n, (x, y) in enumerate(_dots(frame, stretch, _high))]
        canvas.area([*high, *reversed(low)], USUAL)


def _high(point: Point) -> int:
    return point.high_us


def _curve(canvas: Canvas, panel: Panel, frame: Frame, stretch: Sequence[Point]) -> None:
    dots = list(_dots(frame, stretch, lambda one: panel.value(one) or 0))
    if panel.filled:
        canvas.area([(dots[0][0], frame.bottom), *dots, (dots[-1][0], frame.bottom)], panel.filled)
    canvas.line(dots, panel.colour, 2.5)


def _dots(frame: Frame, stretch: Sequence[Point], value: Callable[[Point], int]) -> Iterator[Dot]:
    """A line through the middles of the points, flat at both ends: one point alone is a dash."""
    first, last = stretch[0], stretch[-1]
    yield max(LEFT, frame.x(first.began_ms)), frame.y(value(first))
    for one in stretch:
        yield frame.x(one.at_ms - one.span_ms // 2), frame.y(value(one))
    yield frame.x(last.at_ms), frame.y(value(last))


def _hatch(canvas: Canvas, frame: Frame) -> None:
    """Slanted lines where nothing was measured."""
    tall = frame.bottom - frame.top
    for began_ms, ended_ms in frame.chart.gaps():
        left, right = frame.x(began_ms), frame.x(ended_ms)
        start = left - tall
        while start < right:
            a, b = max(left, start), min(right, start + tall)
            if b - a > FEWEST_HATCHED:
                canvas.line([(a, frame.bottom - (a - start)), (b, frame.bottom - (b - start))], HATCH, 1)
            start += 14
        if right - left > width("no data", WORDS) + 12:
            _label(canvas, ((left + right) / 2, (frame.top + frame.bottom) / 2), "no data", MUTED, "mm")


def _clock(canvas: Canvas, chart: Chart, top: float) -> None:
    """Every one, two, five or ten minutes by the clock."""
    step_ms = next(one for one in TICKS_MS if chart.until_ms - chart.from_ms <= MOST_TICKS * one)
    ms = -(-chart.from_ms // step_ms) * step_ms
    while ms <= chart.until_ms:
        x, words = place(chart, ms), hm(ms, chart.timezone)
        half = width(words, SMALL) / 2
        beside = min(max(x, LEFT + half - SMALL), WIDTH - EDGE - half)
        canvas.line([(x, top - GAP), (x, top)], GRID, 1)
        canvas.text((beside, top + 4), words, SMALL, MUTED, "ma")
        ms += step_ms


def _marks(canvas: Canvas, chart: Chart, middle: float, frames: Sequence[Frame]) -> None:
    """A numbered disc for each mark, and its line down through every panel."""
    wanted = [place(chart, one.at_ms) for one in chart.marks]
    discs = apart(wanted, 2 * DISC + 3, LEFT, RIGHT)
    for number, (mark, x, disc) in enumerate(zip(chart.marks, wanted, discs, strict=True), 1):
        colour = MARK_COLOURS.get(mark.label, WRONG)
        if mark.at_ms >= chart.from_ms:
            canvas.line([(disc, middle), (x, middle + LANE / 2)], colour, 1.5)
            canvas.dashed((x, middle + LANE / 2), (x, frames[-1].bottom), colour, 2, 5)
        _disc(canvas, (disc, middle), number, colour)


def _disc(canvas: Canvas, at: Dot, number: int, colour: str) -> None:
    canvas.disc(at, DISC, colour)
    canvas.text(at, str(number), SMALL, GROUND, "mm", bold=True)


def _names(canvas: Canvas, chart: Chart, rows: Sequence[Sequence[tuple[int, Mark]]]) -> None:
    for n, row in enumerate(rows):
        for column, (number, mark) in enumerate(row):
            x, y = EDGE + DISC + column * WIDTH / 2, EDGE + TITLE + 10 + n * ROW + ROW / 2
            _disc(canvas, (x, y), number, MARK_COLOURS.get(mark.label, WRONG))
            words = f"{mark.label} {hm(mark.at_ms, chart.timezone)}"
            canvas.text((x + DISC + 8, y), words, WORDS, BRIGHT, "lm")
