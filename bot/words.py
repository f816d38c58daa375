"""How instants, spans, shares, lists and foreign text are put into words, the same in every message.

Foreign text is made one line of visible characters, capped, and only then escaped.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from zoneinfo import ZoneInfo

_BREAKS = {"Cc", "Zl", "Zp"}
_UNSEEN = {"Cf", "Cs", "Co", "Cn"}
_MOST_MARKS = 3
"""A letter keeps so many combining marks: a tower of them covers the lines around it."""


def at(ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(ZoneInfo(zone))


def hm(ms: int, zone: str) -> str:
    """03:17 on the clock of *zone*."""
    return f"{at(ms, zone):%H:%M}"


def hms(ms: int, zone: str) -> str:
    """03:14:02 on the clock of *zone*."""
    return f"{at(ms, zone):%H:%M:%S}"


def span(ms: int) -> str:
    """A length of time in at most two units: 950 ms, 1.1 s, 12 s, 4 min 30 s, 2 h 5 min."""
    if ms < 1_000:
        return f"{max(0, ms)} ms"
    if ms < 10_000 and ms % 1_000 >= 100:
        return f"{ms / 1000:.1f} s".replace(".0 s", " s")
    seconds = ms // 1_000
    if seconds < 60:
        return f"{seconds} s"
    big, small, names = (seconds // 60, seconds % 60, ("min", "s"))
    if big >= 60:
        big, small, names = (big // 60, big % 60, ("h", "min"))
    return f"{big} {names[0]}" + (f" {small} {names[1]}" if small else "")


def about(ms: int) -> str:
    """A length of time in one unit: 20 s, 14 min, 3 h."""
    seconds = max(0, ms) // 1_000
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3 * 3_600 else f"{seconds // 3_600} h"


def percent(permille: int) -> str:
    """19 %, and 0.2 % where a whole number would hide it."""
    return f"{permille / 10:.1f}".rstrip("0").rstrip(".") if permille < 100 else f"{round(permille / 10)}"


def tenths(permille: int) -> str:
    """19.3, for before and after."""
    return f"{permille / 10:.1f}".removesuffix(".0")


def count(n: int) -> str:
    return f"{n:,}"


def many(n: int, what: str) -> str:
    """1 service, 3 services."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def listed(names: Sequence[str], joint: str = "or") -> str:
    """Rudo, Tendai or Tariro."""
    return f" {joint} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def units(text: str) -> int:
    """The length as Telegram counts it: UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def one_line(text: str) -> str:
    """*text* on one line, without characters that cannot be seen or that turn the direction of writing."""
    marks, kept = 0, []
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if category not in _UNSEEN and marks <= _MOST_MARKS:
            kept.append(" " if category in _BREAKS else character)
    return " ".join("".join(kept).split())


def cap(text: str, most: int) -> str:
    """*text* on one line in at most *most* UTF-16 units, cut with an ellipsis."""
    text = one_line(text)
    return text if units(text) <= most else _cut(text, most)


def foreign(text: str, most: int) -> str:
    """What somebody else wrote, fit to stand in a card: at most *most* units once it is escaped.

    Nothing in it can be tapped: no address, no /command of ours, no @name.
    """
    text = one_line(_ADDRESS.sub("[link]", text))
    short = most
    while units(shown := _quoted(cap(text, short))) > most:
        short -= max(1, (units(shown) - most) // 6)
    return shown


def _cut(text: str, most: int) -> str:
    kept = text.encode("utf-16-le", "replace")[: 2 * max(0, most - 1)].decode("utf-16-le", "ignore")
    return kept.rstrip() + "…" if most > 0 else ""


def _quoted(text: str) -> str:
    shown = escape(_TAPPABLE.sub(_JOINER, text), quote=False)
    turns = any(unicodedata.bidirectional(character) in {"R", "AL"} for character in text)
    return f"\u2068{shown}\u2069" if turns else shown


_JOINER = "\\g<0>\u2060"
_ADDRESS = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)\S+", re.I)
_COMMANDS = (
    "start help status incidents incident audit approve deny withdraw ask resolve outcome ack snooze "
    "escalate declare run dlq oncall council policy simulate reconcile maintenance pause resume link whoami "
    "feedback"
)
_TAPPABLE = re.compile(rf"(?<![\w/])/(?=(?:{'|'.join(_COMMANDS.split())})\b)|@(?=\w)", re.I)
_TAG = re.compile(r"</?(?:b|i|code)>")


def plain(html: str) -> str:
    """*html* without its tags and escapes."""
    return _TAG.sub("", html).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
