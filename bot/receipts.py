"""A receipt as people copy it, read back as the number and the first 80 bits of the hash that it stands for.

`#42 · 7F3A-91C2-K0PM-XQ4T`, `42:7F3A91C2K0PMXQ4T`, a whole card with two of them, small letters, spaces for
hyphens. O is 0, I and L are 1 (https://www.crockford.com/base32.html); U is no letter of it. Sixteen letters
without a digit or a hyphen are a word, such as OperationalError: one code in 400 needs its hyphens.
"""

import re
import unicodedata
from dataclasses import dataclass

from ledger.chain import receipt_of

MOST = 4
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CONFUSED = str.maketrans("OIL", "011")
_GAP = r"[\s\-\u2010-\u2015\u2212]{0,3}"
_CODE = rf"(?<![0-9A-Z])[0-9A-Z]{{4}}(?:{_GAP}[0-9A-Z]{{4}}){{3}}(?![0-9A-Z])"
_RECEIPT = re.compile(rf"(?<![0-9A-Z])([0-9]{{1,16}})[^0-9A-Z]{{1,6}}({_CODE})")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The entry's number, and the first twenty hex digits of its hash."""

    seq: int
    start: str

    @property
    def text(self) -> str:
        return stamp(self.seq, self.start)


def stamp(seq: int, digest: str) -> str:
    """How the receipt of an entry is written: its number, and the code of its hash."""
    return f"#{seq} · {receipt_of(digest)}"


def read(words: str) -> list[Receipt]:
    """The receipts in *words*, at most four; none where nothing there is one."""
    text = unicodedata.normalize("NFKC", words).upper()
    found = (_receipt(int(seq), code) for seq, code in _RECEIPT.findall(text))
    return [*dict.fromkeys(one for one in found if one)][:MOST]


def _receipt(seq: int, code: str) -> Receipt | None:
    letters = re.sub(r"[^0-9A-Z]", "", code).translate(_CONFUSED)
    if "U" in letters or not seq or code.isalpha():
        return None
    bits = 0
    for letter in letters:
        bits = bits << 5 | LETTERS.index(letter)
    return Receipt(seq, f"{bits:020x}")
