"""What words on WhatsApp ask for, where they answer a message of ours. Pure.

1. Words decide only as a whole: RUN does, "run it and tell me" does not. Of a NO, what follows is the reason.
2. A bare yes, ok or 👍 never approves. It is told which words would.
3. A code says more than the message it stands under, so words with a code are for the desk.
"""

import re
from dataclasses import dataclass

from bot.ports import Verb

_APPROVE = re.compile(r"(?:run|approve)(?: theory)?(?: ([ab]))?|trust (?:theory )?([ab])")
_DENY = re.compile(r"(?:no|deny|neither)\b[\s,:;.–-]*(.*)", re.I | re.S)
_CODE = re.compile(r"(?<!\d)\d{4,8}(?!\d)")
_ACTS: dict[str, Verb] = {
    "i am on it": Verb.ACK, "im on it": Verb.ACK, "on it": Verb.ACK, "ack": Verb.ACK,
    "ask again": Verb.ASK_AGAIN,
}  # fmt: skip
OPINIONS: dict[str, str] = {"not an incident": "not", "new normal": "normal"}
"""What is said of the incident that a message is about, in the words of /feedback."""
_YES = frozenset(
    {
        "yes", "y", "yep", "yeah", "ok", "okay", "k", "sure", "go", "ahead", "do", "it", "confirm",
        "confirmed", "approved", "agreed", "agree", "fine", "please", "right", "run", "approve", "oui", "sim",
        "ndiyo", "hongu", "ja",
    }
)  # fmt: skip
_THUMBS = ("👍", "👌", "✅", "🆗", "👏", "🙏")
_NO = frozenset({"no", "deny", "neither", "n"})
MOST_YES = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of the message they answer. *words* is the reason of a denial."""

    verb: Verb
    option: str = ""
    words: str = ""


def wish(text: str) -> Wish | None:
    """What *text* asks of the message it answers; None where it is no word of ours, or has a code."""
    said = _bare(text)
    if approves := _APPROVE.fullmatch(said):
        return Wish(Verb.APPROVE, (approves[1] or approves[2] or "").upper())
    if said in _ACTS:
        return Wish(_ACTS[said])
    denies = _DENY.fullmatch(text.strip())
    if denies and not code(denies[1][:9]):
        return Wish(Verb.DENY, words=denies[1].strip())
    return None


def opinion(text: str, incident: str) -> str:
    """The command that says of *incident* what *text* does; empty where it says nothing of it."""
    word = OPINIONS.get(_bare(text))
    return f"/feedback {incident} {word}" if word and incident else ""


def decides_nothing(text: str) -> bool:
    """Whether *text* is a bare yes, or a RUN or NO that does not say which. A /command is neither."""
    if text.lstrip().startswith("/"):
        return False
    said = _bare(text).split()
    if not said:
        return any(thumb in text for thumb in _THUMBS)
    return said[0] in _YES | _NO and len(said) <= MOST_YES and all(word in _YES | _NO for word in said)


def code(text: str) -> str:
    """The code in *text*, as in RUN 4812; empty without one."""
    found = _CODE.search(text)
    return found[0] if found else ""


def _bare(text: str) -> str:
    """*text* in small letters, without marks: “Trust theory A!” is trust theory a."""
    return " ".join(re.sub(r"[^\w\s]", "", text).casefold().split())
