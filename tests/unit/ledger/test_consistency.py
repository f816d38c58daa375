"""A log that has grown proves it in few hashes; one that was changed cannot."""

from functools import reduce

import pytest
from aics_tlog.tree import MerkleTree, verify_consistency
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import Frontier, leaf_hash
from ledger.consistency import Inconsistent, check, proof

LINES = [str(at).encode() for at in range(300)]
LEAVES = [leaf_hash(line) for line in LINES]
OTHERS = MerkleTree(LINES)
SIZES = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted)


def frontier(size: int, leaves: list[bytes] = LEAVES) -> Frontier:
    return reduce(Frontier.append, leaves[:size], Frontier())


def root(size: int) -> bytes:
    return frontier(size).root()


@pytest.mark.parametrize("size", range(1, 34))
def test_every_growth_is_proved(size):
    for old in range(size + 1):
        hashes = proof(frontier(old), LEAVES[old:size])
        check(old, root(old), size, root(size), hashes)
        assert len(hashes) <= 2 * size.bit_length()


@given(SIZES)
def test_others_make_and_accept_the_same_proofs(sizes):
    old, size = sizes
    hashes = proof(frontier(old), LEAVES[old:size])
    assert hashes == OTHERS.consistency_proof(old, size)
    assert verify_consistency(old, size, root(old), root(size), hashes)


@given(SIZES, st.data())
def test_no_proof_holds_for_a_log_that_was_changed(sizes, data):
    old, size = sizes
    if not 0 < old < size:
        return
    at = data.draw(st.integers(0, old - 1))
    other = frontier(size, [*LEAVES[:at], b"\x07" * 32, *LEAVES[at + 1 :]])
    with pytest.raises(Inconsistent):
        check(old, root(old), size, other.root(), proof(frontier(old), LEAVES[old:size]))


@given(SIZES, st.data())
def test_a_proof_with_a_hash_more_less_or_other_does_not_hold(sizes, data):
    old, size = sizes
    hashes = proof(frontier(old), LEAVES[old:size])
    at = data.draw(st.integers(0, len(hashes)))
    wrong = [[*hashes[:at], b"\x07" * 32, *hashes[at:]]]
    if at < len(hashes):
        wrong += [[*hashes[:at], *hashes[at + 1 :]], [*hashes[:at], b"\x07" * 32, *hashes[at + 1 :]]]
    for one in wrong:
        with pytest.raises(Inconsistent):
            check(old, root(old), size, root(size), one)


def test_a_smaller_log_and_another_of_the_same_size_are_refused():
    for old_size, old_root, size in ((5, root(5), 4), (5, root(6), 5), (0, root(1), 3), (-1, root(1), 3)):
        with pytest.raises(Inconsistent):
            check(old_size, old_root, size, root(size), [])
