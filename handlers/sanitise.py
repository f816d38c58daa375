"""Foreign text made fit to be shown: one short printable line without links or markup.

Commit messages, routes, exception types and what a model wrote are data. Nothing that they say is obeyed, and
after `clean` nothing in them can hide, reverse the direction of reading, or be tapped. `suspicious` tells
whether a text tries to give orders; it is shown all the same, with the remark that it does.
"""

import re
import unicodedata

CAP = 120
LINK = "[link]"

_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]*://\S*"
    r"|\bwww\.\S+"
    r"|\b(?:[a-z0-9-]+\.)+[a-z]{2,}/\S*"
    r"|\bmailto:\S*",
    re.IGNORECASE,
)
_MARKUP = str.maketrans({"<": "‹", ">": "›", "`": "ʹ"})
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Controls, format characters (bidi, zero width), surrogates, private use, unassigned."""

ORDERS: tuple[str, ...] = (
    r"(ignore|disregard|forget|override)\b.{0,40}\b(previous|prior|above|earlier|instruction|rule|prompt|system)",
    r"\b(system|developer)\s*(prompt|message|instruction)",
    r"\byou\s+(are|must|should|will|have\s+to)\b",
    r"\b(new|following|these)\s+instructions?\b",
    r"^\W*(system|assistant|human|user)\s*:",
    r"</?\s*(system|assistant|user|human|instructions?|script|prompt|evidence)\b",
    r"\b(approve|deny|authori[sz]e|execute|run|roll\s*back|restart|tap|click|press)\b.{0,30}\b(now|immediately|at\s+once|button|this|it)\b",
    r"\b(do\s+not|don'?t|never)\s+(tell|mention|report|show|say|reveal|wait|ask)\b",
    r"\b(respond|reply|answer|output|return|print|say)\b.{0,20}\b(only|with|exactly|that)\b",
    r"\b(the\s+)?(root\s+)?cause\s+(is|must\s+be|should\s+be)\b",
    r"\bas\s+an?\s+(ai|assistant|language\s+model)\b",
    r"\b(jailbreak|prompt\s*injection)\b",
)
"""What no commit, route or exception says by itself, and what somebody says who talks to a model."""

_ORDERS = re.compile("|".join(f"(?:{order})" for order in ORDERS), re.IGNORECASE)


def clean(text: str, cap: int = CAP) -> str:
    """*text* as one line of at most *cap* characters. Doing it twice changes nothing more."""
    line = _visible(text)
    while (bare := _ADDRESS.sub(LINK, line)) != line:
        line = bare
    line = " ".join(line.translate(_MARKUP).replace("...", "…").split())  # NFKC spells the ellipsis out
    return line if len(line) <= cap else line[: cap - 1].rstrip() + "…"


def suspicious(text: str) -> bool:
    """Whether *text* reads like an order to a model or to a person."""
    return _ORDERS.search(_visible(text)) is not None


def _visible(text: str) -> str:
    """*text* in compatibility form (Unicode NFKC), each run of blanks one space, without what is unseen."""
    composed = unicodedata.normalize("NFKC", text)
    seen = "".join(
        " " if char.isspace() else char
        for char in composed
        if char.isspace() or unicodedata.category(char) not in _HIDDEN
    )
    return " ".join(unicodedata.normalize("NFKC", seen).split())
