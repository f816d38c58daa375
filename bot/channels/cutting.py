"""Cuts Telegram's HTML into messages: between blocks, then lines, then words, and never inside a tag.

Lengths are UTF-16 units of the source, as Telegram counts after parsing: tags make ours an upper bound.
A tag that is open where the cut is made is closed there and opened again in the next message.
"""

import re
from collections.abc import Iterator

from bot.words import units

TEXT_UNITS = 4096
LEVELS = (
    re.compile(r".*?(?:\n\n+|\Z)", re.S),
    re.compile(r".*?(?:\n|\Z)", re.S),
    re.compile(r"<[^<>]*>|&#?\w+;|[^\s<>&]*\s|[^\s<>&]+|.", re.S),
    re.compile(r"<[^<>]*>|&#?\w+;|.", re.S),
)
"""Blocks, lines, words, characters. Tags and entities stay whole."""
TAG = re.compile(r"<(/?)(\w+)[^<>]*>")


def clip(text: str, most: int) -> str:
    """Plain *text* in at most *most* units, ending in … where something was left out."""
    if units(text) <= most:
        return text
    kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (most - 1)]
    return kept.decode("utf-16-le", "ignore").rstrip() + "…"


def cut(html: str, most: int = TEXT_UNITS) -> list[str]:
    """*html* as messages of at most *most* units each, with every tag closed; none for an empty text."""
    cutter = _Cutter(most)
    cutter.add(html, 0)
    cutter.flush()
    return cutter.parts


class _Cutter:
    """Fills one part after the other."""

    def __init__(self, most: int) -> None:
        self.parts: list[str] = []
        self._most = most
        self._part = ""

    def add(self, html: str, level: int) -> None:
        if self._fits(self._part + html):
            self._part += html
        elif level == len(LEVELS) or (level and self._fits(self._reopened() + html)):
            self.flush()
            self._part += html
        else:
            for piece in LEVELS[level].findall(html):
                self.add(piece, level + 1)

    def flush(self) -> None:
        opened = self._reopened()
        if TAG.sub("", self._part).strip():
            self.parts.append(_closed(self._part.strip()))
        self._part = opened

    def _reopened(self) -> str:
        return "".join(tag for _, tag in _open_tags(self._part))

    def _fits(self, html: str) -> bool:
        return units(_closed(html.strip())) <= self._most


def _closed(html: str) -> str:
    return html + "".join(f"</{name}>" for name, _ in reversed(list(_open_tags(html))))


def _open_tags(html: str) -> Iterator[tuple[str, str]]:
    """The names of the tags that are open at the end of *html*, outermost first, each with its source."""
    stack: list[tuple[str, str]] = []
    for found in TAG.finditer(html):
        if not found[1]:
            stack.append((found[2], found[0]))
        elif stack and stack[-1][0] == found[2]:
            stack.pop()
    yield from stack
