"""Text made to fit: wrapped to a width, cut to a number of lines, each character one that can be seen. Pure.

What has no glyph, or would act on the text around it (controls, direction marks, joiners), stands as its
number, [U+202E], so that nothing foreign is lost or hidden. What is cut says how much: "… (1,234 more)".
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

type Width = Callable[[str], float]
type Glyph = Callable[[str], bool]

MOST = 40_000
"""Characters of one text; the rest is cut before it is measured."""


def visible(text: str, has_glyph: Glyph) -> str:
    """*text* in one line, with every character that cannot be shown as its number."""
    text = " ".join(unicodedata.normalize("NFC", _whole(text)).split())
    runs = itertools.groupby(text, key=lambda one: _plain(one, has_glyph))
    return "".join("".join(run) if plain else _numbered(run) for plain, run in runs)


def _numbered(run: Iterable[str]) -> str:
    """[U+4E2D U+6587]"""
    return f"[{' '.join(f'U+{ord(one):04X}' for one in run)}]"


def _whole(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]} … ({len(text) - MOST:,} more)"


def _plain(one: str, has_glyph: Glyph) -> bool:
    return one == " " or (unicodedata.category(one)[0] not in "CZM" and has_glyph(one))


def wrapped(text: str, room: float, width: Width) -> list[str]:
    """*text* in lines no wider than *room*. A word that is wider is broken where the line is full."""
    lines = [""]
    for word in re.findall(r" *[^ ]+", text):
        if width(lines[-1] + word) <= room:
            lines[-1] += word
            continue
        if width(word.lstrip()) > room:
            lines[-1:] = _broken(lines[-1] + word, room, width)
        else:
            lines.append(word.lstrip())
    return lines if lines[0] else lines[1:] or [""]


def _broken(word: str, room: float, width: Width) -> list[str]:
    parts = [""]
    for one in word:
        if parts[-1] and width(parts[-1] + one) > room:
            parts.append("")
        parts[-1] += one
    return parts


def cut(lines: Sequence[str], most: int, room: float, width: Width) -> list[str]:
    """At most *most* of *lines*. The last one says how many characters are missing."""
    if len(lines) <= most:
        return list(lines)
    kept, gone = lines[most - 1], sum(len(one) for one in lines[most:])
    while kept and width(f"{kept}… ({gone:,} more)") > room:
        kept, gone = kept[:-1], gone + 1
    return [*lines[: most - 1], f"{kept}… ({gone:,} more)"]


def few(items: Iterable[str], most: int) -> list[str]:
    """At most *most* of *items*, the last one saying how many more there are; of one, of how many."""
    found = list(items)
    if len(found) <= most:
        return found
    if most == 1:
        return [f"1 of {len(found):,}: {found[0]}"]
    return [*found[: most - 1], f"… ({len(found) - most + 1:,} more)"]
