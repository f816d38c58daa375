"""Text for one SMS segment: GSM 03.38's seven-bit alphabet, at most 160 septets.

One character outside of it turns a message into UCS-2 and one segment into three, so everything is folded.
"""

import unicodedata

SEGMENT = 160

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("^{}\\[~]|€\f")
_FOLDS = str.maketrans(
    {
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "`": "'",
        "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "→": ">", "·": "-", "ç": "c",
    }
)  # fmt: skip


def septets(text: str) -> int:
    """The length of *text*, which `fold` returned. Extended characters are two septets."""
    return sum(2 if character in _EXTENDED else 1 for character in text)


def fold(text: str) -> str:
    """*text* in the alphabet: accents go where they must, what has no likeness is left out."""
    kept = "".join(_folded(character) for character in text.translate(_FOLDS))
    return " ".join(kept.split())


def cut(text: str, most: int = SEGMENT) -> str:
    """*text*, folded, in at most *most* septets."""
    text = fold(text)
    if septets(text) <= most:
        return text
    while septets(text) > most - 3:
        text = text[:-1]
    return text.rstrip() + "..."


def _folded(character: str) -> str:
    if character in _BASIC or character in _EXTENDED:
        return character
    if character.isspace():
        return " "
    return "".join(one for one in unicodedata.normalize("NFKD", character) if one in _BASIC)
