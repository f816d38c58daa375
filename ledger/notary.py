"""What signs one tenant's log, and what judges the notes that are found about it.

1. Each batch is signed as a whole: the note that goes with it says size and root of the log after it.
2. Each note that is found is judged when the log has grown to its size: origin, root, and the signature of
   the key that the log itself says signs it then, or else of our own.
3. A log that was ever signed is signed to its end. One that never was may be written on without a key.
4. Once the log names another key than ours, ours signs no more.

Whatever does not hold is Sealed, with what to do. Nothing here waits: bytes come in, and go out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ledger.chain import Entry, Frontier
from ledger.note import (
    BadKey,
    BadNote,
    Checkpoint,
    Signer,
    Verifier,
    origin_of,
    public_key,
    read_note,
    signed,
    vkey,
)
from ledger.store import Sealed

LOOK = "Export what is there, compare it with your receipts and copies, and restore the newest that holds"


@dataclass(frozen=True, slots=True)
class Signed:
    """A log as it is with a batch that has not been appended yet, and the note that says so."""

    tree: Frontier
    note: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a note says, until the log has grown to its size. *outside*: where it lies, or empty."""

    checkpoint: Checkpoint
    note: str
    outside: str

    @property
    def whose(self) -> str:
        return f"the note in {self.outside}" if self.outside else "its note"


class Notary:
    """Knows the tree of the log as far as it was absorbed. *successor* signs a rotation too."""

    def __init__(self, tenant: str, seed: bytes | None = None, successor: bytes | None = None) -> None:
        self.tree = Frontier()
        self.note = ""
        self.key = public_key(seed) if seed else ""
        self._tenant = tenant
        self._seeds = (seed, successor)
        self._origin = ""
        self._covered = 0
        self._was_signed = False
        self._claims: list[_Claim] = []
        self._signers: dict[tuple[str, bytes], Signer] = {}

    @property
    def may_sign(self) -> bool:
        """Whether a batch of ours would be signed as the log demands it."""
        return bool(self.key) or not self._was_signed

    @property
    def vkey(self) -> str:
        """Our key as a verifier takes it; empty without one, or while the log is empty."""
        return vkey(self._origin, self.key) if self.key and self._origin else ""

    @property
    def pending(self) -> bool:
        """Whether a note speaks of entries that were not absorbed yet."""
        return bool(self._claims)

    def covers(self, seq: int) -> bool:
        """Whether a note is known that covers entry *seq*."""
        return seq <= max([self._covered, *(one.checkpoint.size for one in self._claims if not one.outside)])

    def sign(self, entries: Sequence[Entry]) -> Signed:
        """The log with *entries* after what was absorbed, not appended yet. Without a key: no note."""
        tree = self.tree.extend(bytes.fromhex(entry.hash) for entry in entries)
        seed, successor = self._seeds
        if seed is None:
            return Signed(tree, "")
        origin = self._origin or origin_of(self._tenant, entries[0].hash)
        seeds = [seed]
        if successor is not None and entries[-1].event == "KeyRotated":
            seeds.append(successor)
        return Signed(tree, self._signed(Checkpoint(origin, tree.size, tree.root()), seeds))

    def appended(self, signed: Signed, first: Entry) -> None:
        """*signed*, which begins with *first*, stands in the store."""
        self._origin = self._origin or origin_of(self._tenant, first.hash)
        self.tree = signed.tree
        if signed.note:
            self.note, self._covered, self._was_signed = signed.note, signed.tree.size, True
        self._claims = [one for one in self._claims if one.checkpoint.size > self.tree.size]

    def expect(self, note: str, signers: Sequence[str], outside: str = "") -> None:
        """*note* was found, in the store or *outside*; empty: there was none. Raises Sealed."""
        if not note:
            return
        self._was_signed = True
        try:
            claim = _Claim(read_note(note)[0], note, outside)
        except BadNote as error:
            whose = f"the note in {outside}" if outside else "its note"
            raise Sealed(f"{whose} cannot be read: {error}. {LOOK}.") from None
        if claim.checkpoint.size == self.tree.size:
            self._judge(claim, signers)
        elif claim.checkpoint.size > self.tree.size:
            self._claims = sorted([*self._claims, claim], key=lambda one: one.checkpoint.size)

    def parts[T](self, entries: Sequence[T]) -> Iterator[Sequence[T]]:
        """*entries*, which come next, cut where a note is to be judged."""
        while entries:
            size = self._claims[0].checkpoint.size - self.tree.size if self._claims else len(entries)
            yield entries[:size]
            entries = entries[size:]

    def grow(self, part: Sequence[Entry], signers: Sequence[str]) -> None:
        """*part* was absorbed; the log names *signers*, the newest last. Raises Sealed."""
        self.reach(self.tree.extend(bytes.fromhex(entry.hash) for entry in part), part[0].hash, signers)

    def reach(self, tree: Frontier, first: str, signers: Sequence[str]) -> None:
        """As `grow`, to *tree*; the hash of the log's first entry is *first*. Raises Sealed."""
        self._origin = self._origin or origin_of(self._tenant, first)
        self.tree = tree
        while self._claims and self._claims[0].checkpoint.size == self.tree.size:
            self._judge(self._claims.pop(0), signers)

    def settle(self, signers: Sequence[str]) -> None:
        """All that stands in the store was absorbed. Raises Sealed if it is not what must stand there."""
        size = self.tree.size
        if self._claims:
            claim = self._claims[-1]
            raise Sealed(
                f"rollback detected: it has {size} entries, and {claim.whose} says {claim.checkpoint.size}. "
                f"{_remedy(claim)}"
            )
        if signers and self.key and signers[-1] != self.key:
            raise Sealed(_another_key(self.key in signers))
        self._was_signed = self._was_signed or bool(signers)
        if self._was_signed and self._covered < size:
            raise Sealed(
                f"entries {self._covered + 1} to {size} are not signed: who wrote them did not have the key, "
                f"or the note was taken away. {LOOK}."
            )

    def _judge(self, claim: _Claim, signers: Sequence[str]) -> None:
        said = claim.checkpoint
        if (said.origin, said.root) != (self._origin, self.tree.root()):
            others = f"its first {said.size} entries are others"
            raise Sealed(f"it is not the log of {claim.whose}: {others}. {_remedy(claim)}")
        key = signers[-1] if signers else self.key
        if key and not self._is_signed(claim, key):
            raise Sealed(
                f"{claim.whose} at entry {said.size} is not signed by the key of this log. "
                f"If LEDGER_KEY was changed by hand, put the old one back and use `python -m ledger rotate`. "
                f"Else somebody has signed it anew: {LOOK[0].lower()}{LOOK[1:]}."
            )
        if not claim.outside:
            self.note, self._covered = claim.note, said.size

    def _is_signed(self, claim: _Claim, key: str) -> bool:
        """By *key*. Ours signs a text in one way alone: to do it again takes a third of a verification."""
        seed, _ = self._seeds
        ours = seed is not None and key == self.key and claim.note == self._signed(claim.checkpoint, [seed])
        return ours or _verifier(self._origin, key).verify(claim.note)

    def _signed(self, checkpoint: Checkpoint, seeds: Sequence[bytes]) -> str:
        return signed(checkpoint, *(self._signer(checkpoint.origin, seed) for seed in seeds))

    def _signer(self, origin: str, seed: bytes) -> Signer:
        if (origin, seed) not in self._signers:
            self._signers[origin, seed] = Signer(origin, seed)
        return self._signers[origin, seed]


@lru_cache(maxsize=64)
def _verifier(origin: str, key: str) -> Verifier:
    try:
        return Verifier.parse(vkey(origin, key))
    except BadKey as error:
        raise Sealed(f"it names a key that is none: {error} {LOOK}.") from None


def _remedy(claim: _Claim) -> str:
    if not claim.outside:
        return f"{LOOK}."
    return f"{LOOK}. Only if this loss is meant, move {claim.outside} away."


def _another_key(was_ours: bool) -> str:
    if was_ours:
        return "the key was rotated: restart with the new LEDGER_KEY."
    return (
        "LEDGER_KEY is not the key of this log: put back the one that it was signed with. To change it, use "
        "`python -m ledger rotate`."
    )
