"""That one log has grown out of another: RFC 6962 consistency proofs, made and checked. Pure.

Whoever grows a log needs only the frontier at the old size and the leaves since: a subtree of the old tree is
in the frontier, every other one has new leaves alone in it.
"""

from collections.abc import Sequence
from functools import reduce
from hashlib import sha256

from ledger.chain import Frontier

MOST_HASHES = 63


class Inconsistent(ValueError):
    """The proof does not show that the larger tree begins with the smaller one."""


def proof(old: Frontier, leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes that show that *old* followed by *leaves* begins with *old* (RFC 9162, 2.1.4.1).

    Empty where either has nothing: every tree begins with the empty one, and with itself.
    """
    if not old.size or not leaves:
        return []
    return _Growth(old, leaves).subproof(0, old.size + len(leaves), whole=True)


class _Growth:
    """The tree of *old* and *leaves*, as far as a proof asks."""

    def __init__(self, old: Frontier, leaves: Sequence[bytes]) -> None:
        self._size = old.size
        self._leaves = leaves
        self._full: dict[tuple[int, int], bytes] = {}
        start = 0
        for root, width in zip(old.roots, _widths(old.size), strict=True):
            self._full[start, start + width] = root
            start += width

    def subproof(self, start: int, end: int, *, whole: bool) -> list[bytes]:
        """For the leaves from *start* to *end*. *whole*: their part of the old tree is the old tree."""
        if self._size == end:
            return [] if whole else [self._full[start, end]]
        middle = start + _split(end - start)
        if self._size <= middle:
            return [*self.subproof(start, middle, whole=whole), self._new(middle, end)]
        return [*self.subproof(middle, end, whole=False), self._full[start, middle]]

    def _new(self, start: int, end: int) -> bytes:
        return reduce(Frontier.append, self._leaves[start - self._size : end - self._size], Frontier()).root()


def check(old_size: int, old_root: bytes, size: int, root: bytes, hashes: Sequence[bytes]) -> None:
    """Raises Inconsistent unless *hashes* prove that the tree of *size* begins with that of *old_size*.

    As RFC 9162, 2.1.4.2. Nothing is proved of an empty old tree, and nothing may be sent for it.
    """
    if not 0 <= old_size <= size:
        raise Inconsistent(f"A log of {size} entries cannot have grown out of {old_size}.")
    if old_size in {0, size}:
        _must(not hashes, "There is more in the proof than it needs.")
        _must(old_size != size or old_root == root, f"There are two logs of {size} entries.")
        _must(old_size or old_root == sha256().digest(), "A log without an entry has another root.")
        return
    _climb(old_size, old_root, size, root, hashes)


def _climb(old_size: int, old_root: bytes, size: int, root: bytes, hashes: Sequence[bytes]) -> None:
    path = [*hashes] if old_size & (old_size - 1) else [old_root, *hashes]
    _must(path, "The proof is empty.")
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        _must(last, "There is more in the proof than it needs.")
        if at & 1 or at == last:
            before, after = _node(sibling, before), _node(sibling, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = _node(after, sibling)
        at, last = at >> 1, last >> 1
    _must(not last, "The proof ends too early.")
    _must(before == old_root, "The proof is of another old log.")
    _must(after == root, "The proof does not lead to this log.")


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _must(holds: object, otherwise: str) -> None:
    if not holds:
        raise Inconsistent(otherwise)


def _split(count: int) -> int:
    """The largest power of two below *count*."""
    return 1 << (count - 1).bit_length() - 1


def _widths(size: int) -> list[int]:
    """The sizes of the full subtrees in a tree of *size*, largest first."""
    return [1 << bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]
