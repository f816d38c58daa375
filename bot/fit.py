"""A text made to fit: lines that know how they can be said shorter, and which of them goes first.

A line gives its forms from the fullest to the shortest; an empty form leaves it out. Lines of the highest
rank are shortened first; a line of rank 0 stays as it is, and so is written short enough from the beginning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bot.words import units

MOST = 900


@dataclass(frozen=True, slots=True)
class Line:
    forms: tuple[str, ...]
    rank: int = 0


def must(text: str) -> Line:
    """A line that stays."""
    return Line((text,))


def may(rank: int, *forms: str) -> Line:
    """A line that can be said shorter, and be left out in the end."""
    return Line((*forms, ""), rank)


Paragraphs = Sequence[Sequence[Line]]


def fit(paragraphs: Paragraphs, most: int = MOST) -> str:
    """The fullest of these texts that is at most *most* UTF-16 units long, or else the shortest."""
    text = ""
    for forms in _shorter(paragraphs):
        text = _joined(paragraphs, forms)
        if units(text) <= most:
            break
    return text


type Place = tuple[int, int]


def _shorter(paragraphs: Paragraphs) -> Iterator[dict[Place, int]]:
    """Which form each line has, step by step from all at their fullest to all at their shortest."""
    places = {(p, n): line for p, lines in enumerate(paragraphs) for n, line in enumerate(lines)}
    forms = dict.fromkeys(places, 0)
    yield forms
    for place in sorted(places, key=lambda place: (-places[place].rank, place)):
        if places[place].rank == 0:
            return
        for form in range(1, len(places[place].forms)):
            forms[place] = form
            yield forms


def _joined(paragraphs: Paragraphs, forms: dict[Place, int]) -> str:
    said = (
        "\n".join(filter(None, (line.forms[forms[p, n]] for n, line in enumerate(lines))))
        for p, lines in enumerate(paragraphs)
    )
    return "\n\n".join(filter(None, said))
