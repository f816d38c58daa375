"""Who vouches for an export's root: the log's own key, and witnesses. Read from `checkpoint` and `keys.txt`.

A signature counts only where it holds for exactly the root and the size that the entries give.
"""

from dataclasses import dataclass
from pathlib import Path

from ledger.chain import Frontier
from ledger.note import Verifier, read_note


@dataclass(frozen=True, slots=True)
class Signed:
    """The log's name and whole key; how many others, whose keys lie in the export, cosigned. Empty: nobody
    signed what is here."""

    signer: str = ""
    key: str = ""
    others: int = 0


def signed(folder: Path, tree: Frontier) -> Signed:
    """Who signed the log whose entries make *tree*. Never raises: what cannot be read nobody signed."""
    try:
        note = (folder / "checkpoint").read_text(encoding="utf-8")
        keys = (folder / "keys.txt").read_text(encoding="utf-8").split()
        checkpoint, _ = read_note(note)
        good = [one for one in map(Verifier.parse, keys) if one.verify(note)]
    except (OSError, ValueError):
        return Signed()
    ours = [one for one in good if one.name == checkpoint.origin]
    if not ours or (checkpoint.size, checkpoint.root) != (tree.size, tree.root()):
        return Signed()
    return Signed(ours[-1].name, ours[-1].vkey, len(good) - len(ours))
