"""Half hours made by hand, and pictures looked at: which colours stand where."""

import random
from io import BytesIO

from PIL import Image

from bot.chart import Chart, Mark
from bot.plot import MARK_COLOURS, WRONG, place
from detectors.history import KEPT_MS, POINT_MS, Point

UNTIL = 1_780_449_360_000  # 03:16:00 in Harare
MINUTE = 60_000


def usual(k: int, chance: random.Random) -> dict:
    return {"n": round(chance.gauss(360, 20)), "errors": 0, "p95_us": round(chance.gauss(92_000, 6_000))}


def sick(k: int, chance: random.Random) -> dict:
    return {"n": 360, "errors": 68, "p95_us": 2_800_000}


def noisy(k: int, chance: random.Random) -> dict:
    """As jagged as figures can be."""
    n = chance.choice((1, 10**9))
    return {"n": n, "errors": chance.choice((0, n)), "p95_us": chance.choice((1_000, 68_700_000))}


def half_hour(*, sick_from: int = 5, sick_to: int = 1, without=(), shape=usual) -> tuple[Point, ...]:
    """Sixty points to UNTIL; sick between so many minutes ago; *without* are minutes ago with no data."""
    chance, points = random.Random(7), []
    for k in range(60, 0, -1):
        ago = k / 2
        if any(a <= ago <= b for a, b in without):
            continue
        figures = (sick if sick_to < ago <= sick_from else shape)(k, chance)
        at_ms = UNTIL - (k - 1) * POINT_MS
        points.append(Point(at_ms, POINT_MS, low_us=70_000, high_us=128_000, **figures))
    return tuple(points)


OPENED, APPROVED = Mark("opened", UNTIL - 5 * MINUTE), Mark("approved", UNTIL - 3 * MINUTE)
RAN, RECOVERED = Mark("ran", UNTIL - 3 * MINUTE + 1_100), Mark("recovered", UNTIL - 10_000)
ALL_MARKS = (OPENED, APPROVED, RAN, RECOVERED)


def chart(points=None, marks=ALL_MARKS, **more) -> Chart:
    began = {"began_ms": UNTIL - 5 * MINUTE - 12_000} if marks else {}
    given = {"usual_rps_milli": 12_000, "normal_permille": 20} | began | more
    kept = half_hour() if points is None else points
    return Chart("checkout", UNTIL - KEPT_MS, UNTIL, "Africa/Harare", kept, marks, **given)


def look(png: bytes) -> Image.Image:
    return Image.open(BytesIO(png)).convert("RGB")


def says(png: bytes) -> str:
    """What the picture says of itself, for who cannot see it."""
    return Image.open(BytesIO(png)).text["Description"]


def colours(picture: Image.Image, least: int = 12) -> set[str]:
    """The colours of at least so many pixels: a shade at some edge may happen to be any."""
    return {f"#{r:02x}{g:02x}{b:02x}" for n, (r, g, b) in picture.getcolors(1 << 24) if n >= least}


def how_many(picture: Image.Image, colour: str) -> int:
    """How many pixels have this colour."""
    return next((n for n, (r, g, b) in picture.getcolors(1 << 24) if f"#{r:02x}{g:02x}{b:02x}" == colour), 0)


def has_line(picture: Image.Image, of: Chart, mark: Mark) -> bool:
    """Whether the line of *mark* stands at its time, in the lowest panel, where no disc is."""
    x, wanted = round(place(of, mark.at_ms)), MARK_COLOURS.get(mark.label, WRONG)
    near = picture.crop((x - 2, picture.height - 120, min(x + 3, picture.width), picture.height - 40))
    return wanted in colours(near)
