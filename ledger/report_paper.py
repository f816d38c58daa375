"""A statement drawn on A4: black on white, in a font that is in the file. Nothing else knows reportlab.

1. All text is drawn as text. Nothing in it is ever read as markup.
2. The head is one page: its paragraphs are cut shorter, all alike, until it fits.
3. The same statement gives the same bytes: no clock is read here.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from reportlab.graphics import renderPDF
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont, TTFontFile
from reportlab.pdfgen.canvas import Canvas

from ledger.report_fit import Width, cut, few, visible, wrapped
from ledger.report_statement import Line, Section, Statement, Table
from ledger.report_verdict import Standing

PLAIN, BOLD = "Vera", "VeraBd"
BREADTH, HEIGHT = A4
LEFT, RIGHT, TOP, BOTTOM = 40.0, BREADTH - 40.0, HEIGHT - 34.0, 34.0
LABEL = 92.0
SIZE, LEAD = 7.0, 8.7
SMALL = 6.2
HEADING, BETWEEN = 8.2, 14.0
QR, BESIDE = 74.0, 2
"""The receipt as QR stands beside the last two sections."""
CLOSING = 44.0
"""What the lines to sign need at the foot of the head."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many lines a paragraph may have, and how many paragraphs a label."""

    depth: int
    items: int


FIRM = (Budget(4, 8), Budget(3, 8), Budget(3, 6), Budget(2, 5), Budget(1, 4), Budget(1, 2), Budget(1, 1))
SOFT = (Budget(12, 12), Budget(6, 8), Budget(4, 6), Budget(3, 4), Budget(2, 3), Budget(1, 2), Budget(1, 1))
WHOLE = Budget(12, 12)
BUDGETS = tuple([(FIRM[0], soft) for soft in SOFT] + [(firm, SOFT[-1]) for firm in FIRM[1:]])
"""For what is firm and for the rest, from generous to bare. The barest always fits."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One piece of text on a page, its baseline measured from the page's foot."""

    x: float
    y: float
    font: str
    size: float
    text: str


@dataclass(frozen=True, slots=True)
class Set:
    """One section as it will stand: its lines of text by label, and how high it is."""

    title: str
    lines: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def height(self) -> float:
        return BETWEEN + sum(LEAD * len(texts) for _, texts in self.lines)


def draw(statement: Statement) -> bytes:
    """The PDF of *statement*."""
    _fonts()
    pages = [*_pages(statement)]
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(_seen(statement.title))
    canvas.setAuthor("Countersign")
    for number, paint in enumerate(pages, start=1):
        paint(canvas)
        _foot(canvas, statement.foot, f"Page {number} of {len(pages)}")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


type Page = Callable[[Canvas], None]


def _pages(statement: Statement) -> Iterator[Page]:
    yield lambda canvas: _head(canvas, statement)
    blocks = [*_tabled(statement.table)] if statement.table else []
    for title, text in statement.texts:
        blocks += [*_told(title, text)]
    page: list[list[Stroke]] = []
    y = TOP
    for block in blocks:
        deep = block[0].y
        if y - deep < BOTTOM + LEAD:
            yield _strokes(page)
            page, y = [], TOP
        page.append([Stroke(one.x, y - deep, one.font, one.size, one.text) for one in block])
        y -= deep
    if page:
        yield _strokes(page)


def _strokes(page: Sequence[Sequence[Stroke]]) -> Page:
    def paint(canvas: Canvas) -> None:
        for block in page:
            for one in block:
                _write(canvas, one)

    return paint


# --- the head -----------------------------------------------------------------------------------------


def _head(canvas: Canvas, statement: Statement) -> None:
    y = _title(canvas, statement)
    for section in (sections := _fitted(statement.sections, y - BOTTOM - CLOSING)):
        if section is sections[-BESIDE]:
            _receipt(canvas, statement.code, y - 6)
        y = _section(canvas, section, y, RIGHT - (QR + 12 if section in sections[-BESIDE:] else 0))
    _to_sign(canvas)


def _title(canvas: Canvas, statement: Statement) -> float:
    """The title and the verdict's box; black where the log is not what it should be."""
    _write(canvas, Stroke(LEFT, TOP - 8, BOLD, 13, _one(statement.title, BOLD, 13)))
    broken = statement.standing is Standing.NOT_INTACT
    size = 22 if broken else 15
    height = size + 8.0
    y = TOP - 16 - height
    canvas.setLineWidth(1.4)
    canvas.rect(LEFT, y, RIGHT - LEFT, height, stroke=1, fill=1 if broken else 0)
    canvas.setFillGray(1 if broken else 0)
    _write(canvas, Stroke(LEFT + 8, y + size * 0.42, BOLD, size, _seen(statement.banner)))
    canvas.setFillGray(0)
    return y - 4


def _fitted(sections: Sequence[Section], room: float) -> list[Set]:
    """The sections as generous as *room* allows. The barest always fit."""
    found: list[Set] = []
    for firm, soft in BUDGETS:
        found = [_set(section, firm, soft, _room(section, sections)) for section in sections]
        if sum(one.height for one in found) <= room:
            break
    return found


def _room(section: Section, sections: Sequence[Section]) -> float:
    return RIGHT - LEFT - (QR + 12 if section in sections[-BESIDE:] else 0)


def _set(section: Section, firm: Budget, soft: Budget, room: float) -> Set:
    lines = ((line, WHOLE if line.whole else firm if line.firm else soft) for line in section.lines)
    return Set(section.title, tuple((line.label, _texts(line, budget, room)) for line, budget in lines))


def _texts(line: Line, budget: Budget, room: float) -> tuple[str, ...]:
    room, width = room - (LABEL if line.label else 0), _width(PLAIN, SIZE)
    return tuple(
        text
        for item in few(line.items, budget.items)
        for text in cut(wrapped(_seen(item), room, width), budget.depth, room, width)
    )


def _section(canvas: Canvas, section: Set, y: float, right: float) -> float:
    canvas.setLineWidth(0.5)
    canvas.line(LEFT, y - 1, right, y - 1)
    y -= 10
    _write(canvas, Stroke(LEFT, y, BOLD, HEADING, section.title))
    y -= 1.5
    for label, texts in section.lines:
        _write(canvas, Stroke(LEFT, y - LEAD + 1, BOLD, SMALL, _seen(label)))
        for text in texts:
            y -= LEAD
            _write(canvas, Stroke(LEFT + (LABEL if label else 0), y + 1, PLAIN, SIZE, text))
    return y - 2.5


def _receipt(canvas: Canvas, code: str, y: float) -> None:
    """The receipt as QR and as text, at the right edge, from *y* down."""
    _qr(canvas, code, RIGHT - QR, y - QR)
    width = _width(PLAIN, 5.4)
    _write(canvas, Stroke(RIGHT - (QR + width(code)) / 2, y - QR - 7, PLAIN, 5.4, code))


def _to_sign(canvas: Canvas) -> None:
    canvas.setLineWidth(0.5)
    half = (RIGHT - LEFT - 16) / 2
    for x, role in ((LEFT, "Prepared by"), (LEFT + half + 16, "Reviewed by")):
        canvas.line(x, BOTTOM + 8, x + half, BOTTOM + 8)
        _write(canvas, Stroke(x, BOTTOM, PLAIN, SMALL, f"{role}: name, signature, date"))


def _qr(canvas: Canvas, code: str, x: float, y: float) -> None:
    drawing = Drawing(QR, QR)
    drawing.add(QrCodeWidget(code, barWidth=QR, barHeight=QR, barBorder=2, barLevel="M"))
    renderPDF.draw(drawing, canvas, x, y)


# --- the annex ----------------------------------------------------------------------------------------


def _tabled(table: Table) -> Iterator[list[Stroke]]:
    """The title, the heads and each row; the first stroke's y is how deep the block is."""
    yield [Stroke(LEFT, 22, BOLD, 9.5, table.title)]
    yield _row(table.heads, table.widths, BOLD, 14)
    if not table.rows:
        yield [Stroke(LEFT, LEAD, PLAIN, SMALL, "none")]
    for row in table.rows:
        yield _row(row, table.widths, PLAIN, LEAD)


def _row(cells: Sequence[str], widths: Sequence[int], font: str, deep: float) -> list[Stroke]:
    unit, x, found = (RIGHT - LEFT) / sum(widths), LEFT, []
    for cell, share in zip(cells, widths, strict=True):
        found.append(Stroke(x, deep, font, SMALL, _one(cell, font, SMALL, unit * share - 4)))
        x += unit * share
    return found


def _told(title: str, text: str) -> Iterator[list[Stroke]]:
    yield [Stroke(LEFT, 22, BOLD, HEADING, _one(title, BOLD, HEADING))]
    for one in wrapped(_seen(text), RIGHT - LEFT, _width(PLAIN, SMALL)):
        yield [Stroke(LEFT, 8, PLAIN, SMALL, one)]


# --- ink ----------------------------------------------------------------------------------------------


def _foot(canvas: Canvas, said: str, page: str) -> None:
    wide = _width(PLAIN, 5.6)(page)
    _write(canvas, Stroke(LEFT, 18, PLAIN, 5.6, _one(said, PLAIN, 5.6, RIGHT - LEFT - wide - 12)))
    _write(canvas, Stroke(RIGHT - wide, 18, PLAIN, 5.6, page))


def _write(canvas: Canvas, one: Stroke) -> None:
    canvas.setFont(one.font, one.size)
    canvas.drawString(one.x, one.y, one.text)


def _fonts() -> None:
    for name in (PLAIN, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))


@cache
def _drawable() -> frozenset[int]:
    """The code points for which both fonts have a glyph."""
    faces = (TTFontFile(f"{name}.ttf") for name in (PLAIN, BOLD))
    return frozenset.intersection(*(frozenset(face.charToGlyph) for face in faces))


def _seen(text: str) -> str:
    return visible(text, lambda one: ord(one) in _drawable())


def _one(text: str, font: str, size: float, room: float = RIGHT - LEFT) -> str:
    """*text* in one line."""
    width = _width(font, size)
    return cut(wrapped(_seen(text), room, width), 1, room, width)[0]


def _width(font: str, size: float) -> Width:
    return lambda text: float(pdfmetrics.stringWidth(text, font, size))
