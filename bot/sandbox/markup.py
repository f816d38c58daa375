"""Telegram's HTML: what a text says, where its entities lie, and why it cannot be parsed.

The rules are those of tdlib's `parse_html`: a fixed set of tags, properly nested; `&lt; &gt; &amp; &quot;`
and numeric references; any other `<` is an error. Offsets and lengths count UTF-16 units, errors count bytes.
"""

import re
from dataclasses import dataclass
from html import escape

TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-spoiler": "spoiler",
}
SHOWN = {
    "bold": "b",
    "italic": "i",
    "underline": "u",
    "strikethrough": "s",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "spoiler": "u",
    "text_link": "u",
    "bot_command": "em",
}
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
PIECE = re.compile(
    r"(?P<end></\s*(?P<closed>[A-Za-z-]*)\s*>)"
    r"|(?P<start><(?P<opened>[A-Za-z-]*)(?P<attributes>[^<>]*)>)"
    r"|(?P<reference>&(?:(?P<name>lt|gt|amp|quot)|#(?P<number>\d{1,6})|#x(?P<hex>[0-9a-fA-F]{1,5}));)"
    r"|(?P<stray><)"
)
HREF = re.compile(r"""href\s*=\s*["']?([^"'\s>]*)""")
COMMAND = re.compile(r"(?<![\w/])/[A-Za-z0-9_]{1,32}(@\w+)?")

type Entity = dict[str, str | int]


class CannotParse(Exception):
    """The text is not Telegram's HTML; the message is what Telegram answers."""


@dataclass(frozen=True, slots=True)
class Parsed:
    text: str
    entities: list[Entity]


def units(text: str) -> int:
    """The length of *text* in UTF-16 units, as Telegram counts."""
    return len(text.encode("utf-16-le")) // 2


class _Reader:
    """Reads one text from left to right; `open` are the tags not yet closed."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.text = ""
        self.open: list[tuple[str, int, str]] = []
        self.entities: list[Entity] = []

    def read(self) -> Parsed:
        at = 0
        for piece in PIECE.finditer(self.source):
            self.text += self.source[at : piece.start()]
            at = piece.end()
            self._take(piece)
        self.text += self.source[at:]
        if self.open:
            raise CannotParse(f'Can\'t find end tag corresponding to start tag "{self.open[-1][0]}"')
        return Parsed(self.text, sorted(self.entities, key=lambda e: (int(e["offset"]), -int(e["length"]))))

    def _take(self, piece: re.Match[str]) -> None:
        offset = len(self.source[: piece.start()].encode())
        match piece.lastgroup or "":
            case "reference":
                self.text += _character(piece)
            case "end":
                self._close(piece["closed"].lower(), offset)
            case "start":
                self._open(piece["opened"].lower(), piece["attributes"], offset)
            case _:
                raise CannotParse(f"Unclosed start tag at byte offset {offset}")

    def _open(self, tag: str, attributes: str, offset: int) -> None:
        if tag not in TAGS:
            raise CannotParse(f'Unsupported start tag "{tag}" at byte offset {offset}')
        href = HREF.search(attributes)
        self.open.append((tag, len(self.text), href[1] if href else ""))

    def _close(self, tag: str, offset: int) -> None:
        if not self.open:
            raise CannotParse(f"Unexpected end tag at byte offset {offset}")
        opened, start, href = self.open.pop()
        if tag not in {"", opened}:
            raise CannotParse(
                f'Unmatched end tag at byte offset {offset}, expected "</{opened}>", found "</{tag}>"'
            )
        if length := units(self.text[start:]):
            entity: Entity = {"type": TAGS[opened], "offset": units(self.text[:start]), "length": length}
            self.entities.append(entity | ({"url": href} if opened == "a" else {}))


def _character(piece: re.Match[str]) -> str:
    if piece["name"]:
        return NAMED[piece["name"]]
    return chr(int(piece["number"]) if piece["number"] else int(piece["hex"], 16))


def parse(source: str) -> Parsed:
    """The text and entities of *source*; raises CannotParse with Telegram's own words."""
    return _Reader(source).read()


def commands(text: str) -> list[Entity]:
    """The bot commands in what a person typed."""
    return [
        {"type": "bot_command", "offset": units(text[: m.start()]), "length": units(m[0])}
        for m in COMMAND.finditer(text)
    ]


def to_html(text: str, entities: list[Entity]) -> str:
    """*text* as HTML that a browser may show: every character escaped, the entities as plain tags."""
    marks: list[tuple[int, int, int, str]] = []
    for rank, entity in enumerate(entities):
        tag, start = SHOWN[str(entity["type"])], int(entity["offset"])
        end = start + int(entity["length"])
        marks += [(start, 1, rank, f"<{tag}>"), (end, 0, -rank, f"</{tag}>")]
    raw, at, out = text.encode("utf-16-le"), 0, ""
    for position, _, _, tag in sorted(marks):
        out += escape(raw[at * 2 : position * 2].decode("utf-16-le")) + tag
        at = position
    return out + escape(raw[at * 2 :].decode("utf-16-le"))
