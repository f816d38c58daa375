"""A small picture that lines, areas and words are drawn on. The only file that knows Pillow.

* It is drawn twice as large and made smaller, so that slanted lines are smooth; then a few colours are kept,
  so that it stays small. The same strokes give the same bytes.
* The font is the one that Pillow brings. It knows ASCII, and what it does not know is left out.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO

from PIL import Image, ImageColor, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

FINE = 2
FORMS = ((FINE, (0.33, 0.67)), (FINE, (0.5,)), (FINE, ()), (FINE + 1, ()))
"""What is given up where a picture would be too large: shades at its edges, then a third of its size."""
SQUEEZED = 7
"""Of zlib's nine levels. The last two cost ten times as much for a twentieth."""
PLAIN = Image.Dither.NONE

type Dot = tuple[float, float]


class Canvas:
    """A picture of *width* × *height* pixels; places and sizes are in these.

    *grounds* are the colours on which others are drawn, the first of them everywhere; *inks* are those.
    """

    def __init__(self, width: int, height: int, grounds: Sequence[str], inks: Sequence[str]) -> None:
        self._image = Image.new("RGB", (width * FINE, height * FINE), grounds[0])
        self._draw = ImageDraw.Draw(self._image)
        self._colours = tuple(grounds), tuple(inks)

    def line(self, dots: Sequence[Dot], colour: str, width: float = 2) -> None:
        self._draw.line(_fine(dots), colour, max(1, round(width * FINE)), joint="curve")

    def dashed(self, start: Dot, end: Dot, colour: str, width: float = 2, dash: float = 6) -> None:
        """A straight line with gaps as long as its dashes."""
        (x0, y0), (x1, y1) = start, end
        count = max(1, round((abs(x1 - x0) + abs(y1 - y0)) / dash))
        for n in range(0, count, 2):
            here, there = n / count, min(1.0, (n + 1) / count)
            spot = [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in (here, there)]
            self.line(spot, colour, width)

    def area(self, dots: Sequence[Dot], colour: str) -> None:
        self._draw.polygon(_fine(dots), colour)

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: str, round_by: int = 0
    ) -> None:
        self._draw.rounded_rectangle(_fine([(left, top), (right, bottom)]), round_by * FINE, colour)

    def disc(self, at: Dot, radius: float, colour: str) -> None:
        x, y = at
        self._draw.ellipse(_fine([(x - radius, y - radius), (x + radius, y + radius)]), colour)

    def text(
        self, at: Dot, words: str, size: int, colour: str, anchor: str = "la", *, bold: bool = False
    ) -> None:
        """*words* at a place; *anchor* as Pillow names it: l, m, r and a (top), m, s (baseline)."""
        [place] = _fine([at])
        self._draw.text(
            place, ascii_of(words), colour, _font(size), anchor, stroke_width=int(bold), stroke_fill=colour
        )

    def png(self, about: str, most: int) -> bytes:
        """The picture in *most* bytes, as good as that allows; *about* is its description."""
        png = b""
        for smaller, shades in FORMS:
            palette = _palette(*self._colours, shades)
            png = _png(self._image.reduce(smaller).quantize(palette=palette, dither=PLAIN), about)
            if len(png) <= most:
                break
        return png


def width(words: str, size: int) -> float:
    """How wide *words* are."""
    return _font(size).getlength(ascii_of(words)) / FINE


def ascii_of(words: str) -> str:
    """*words* as far as the font can show them."""
    apart = unicodedata.normalize("NFKD", words.replace("–", "-").replace("×", "x"))
    return "".join(one for one in apart if " " <= one <= "~")


@cache
def _palette(grounds: tuple[str, ...], inks: tuple[str, ...], shades: tuple[float, ...]) -> Image.Image:
    """The colours that are kept: all that are drawn with, and their shades where they end on a ground."""
    plain = [_rgb(one) for one in (*grounds, *inks)]
    mixed = [_mixed(_rgb(ink), _rgb(ground), t) for ink in inks for ground in grounds for t in shades]
    kept = list(dict.fromkeys([*plain, *mixed]))
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in kept for part in colour])
    return palette


def _png(picture: Image.Image, about: str) -> bytes:
    told, out = PngInfo(), BytesIO()
    told.add_itxt("Description", about)
    picture.save(out, "PNG", compress_level=SQUEEZED, pnginfo=told)
    return out.getvalue()


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue, *_ = ImageColor.getrgb(colour)
    return red, green, blue


def _mixed(one: tuple[int, int, int], two: tuple[int, int, int], t: float) -> tuple[int, int, int]:
    red, green, blue = (round(a * t + b * (1 - t)) for a, b in zip(one, two, strict=True))
    return red, green, blue


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * FINE)


def _fine(dots: Iterable[Dot]) -> list[Dot]:
    return [(x * FINE, y * FINE) for x, y in dots]
