"""A proof shows that one entry is under the signature, to our verifier and to others."""

import random
from base64 import b64decode
from functools import reduce
from hashlib import sha256

import pytest
from aics_tlog.checkpoint import checkpoint_from_note
from aics_tlog.tree import verify_leaf_inclusion
from hypothesis import given
from hypothesis import strategies as st

from ledger import events as ev
from ledger import proof, verify
from ledger.chain import Entry, Frontier, receipt
from ledger.clock import ManualClock
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.note import Checkpoint, Signer, Witness, origin_of, read_note, signed
from ledger.prove import CannotProve, audit_path, prove
from ledger.rotation import rotate
from ledger.store import MemoryStore
from tests.chains import NOON, sealed, tell_story

SEED, OTHER = b"s" * 32, b"o" * 32


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await tell_story(store, signer=SEED)
    return store


def parts(text: str) -> tuple[bytes, int, list[bytes], str]:
    """Line, index, path and note of a proof, read as simply as anybody can."""
    head, _, note = text.partition("\n\n")
    _, extra, index, *path = head.split("\n")
    line = b64decode(extra.removeprefix("extra "))
    return line, int(index.removeprefix("index ")), [b64decode(one) for one in path], note


async def test_each_entry_is_proved_to_us_and_to_others(store):
    for entry in await store.read("acme", 0, 100):
        made = await prove(store, "acme", entry.seq)
        said = proof.check(made.text, [made.key], [(entry.seq, receipt(entry))])
        assert said == [
            f"INTACT. Entry {entry.seq} of acme is one of 9.", entry.line.decode(), f"Signed with {made.key}"
        ]  # fmt: skip
        line, index, path, note = parts(made.text)
        checkpoint, _ = checkpoint_from_note(note)
        assert (line, index) == (entry.line, entry.seq - 1)
        assert verify_leaf_inclusion(line, index, checkpoint.size, path, checkpoint.root)


@given(st.integers(1, 300), st.data())
def test_a_path_is_as_others_take_it_and_short(size, data):
    hashes = [sha256(str(at).encode()).digest() for at in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = audit_path(b"".join(hashes), index)
    root = reduce(Frontier.append, hashes, Frontier()).root()
    assert proof.root(hashes[index], index, size, path) == root
    assert proof.root(hashes[index], index, size, [*path, root]) != root
    assert not path or proof.root(hashes[index], index, size, path[1:]) != root
    assert not path or proof.root(hashes[index], index, size, path[:-1]) == b""
    assert len(path) <= (size - 1).bit_length()


def test_at_a_million_entries_that_is_at_most_twenty_hashes():
    assert (1_000_000 - 1).bit_length() == 20


async def test_after_a_rotation_the_key_is_the_one_that_signs_now(store):
    await rotate(store, ManualClock(NOON), "acme", SEED, OTHER)
    ledger = Ledger("acme", store, ManualClock(NOON), random.Random(1), signer=OTHER)
    assert isinstance(await ledger.record(Actor.orchestrator("bot.1"), lambda v, n: ev.Watched()), Entry)
    [first] = await store.read("acme", 0, 1)
    new = Signer(origin_of("acme", first.hash), OTHER).vkey
    made = await prove(store, "acme", 2)
    assert made.key == new
    assert proof.check(made.text, [new])[-1] == f"Signed with {new}"
    with pytest.raises(verify.Incomplete, match="none of the keys that were given signed it"):
        proof.check(made.text, [Signer(origin_of("acme", first.hash), SEED).vkey])


async def test_what_a_witness_signed_too_proves_more_where_it_covers_the_entry(store):
    witness = Witness("witness.example/w1", b"w" * 32)
    entries = await store.read("acme", 0, 5)
    root = Frontier().extend(bytes.fromhex(entry.hash) for entry in entries).root()
    log = Signer(origin_of("acme", entries[0].hash), SEED)
    seen = Checkpoint(log.name, 5, root)
    await store.keep_cosigned("acme", signed(seen, log) + witness.sign(seen.text(), 7))
    for seq, sizes in ((3, 5), (5, 5), (6, 9)):
        made = await prove(store, "acme", seq)
        said = proof.check(made.text, [made.key, witness.vkey])
        assert said[0] == f"INTACT. Entry {seq} of acme is one of {sizes}."
        assert (f"Signed with {witness.vkey}" in said) is (sizes == 5)


async def test_nothing_in_a_proof_can_be_changed_unseen(store):
    made = await prove(store, "acme", 6)
    assert proof.check(made.text, [made.key])
    for at in range(len(made.text)):
        for change in (chr(ord(made.text[at]) ^ 1), ""):
            changed = made.text[:at] + change + made.text[at + 1 :]
            with pytest.raises((verify.Tampered, verify.Incomplete, verify.Unreadable)):
                proof.check(changed, [made.key])


async def test_a_hash_or_a_line_spelled_otherwise_in_base64_is_not_taken(store):
    """Bits that mean nothing must be zero: each thing has one spelling."""
    made = await prove(store, "acme", 6)
    ends = [at - 1 for at, char in enumerate(made.text) if char == "=" != made.text[at - 1]]
    assert len(ends) > 3
    for at in ends:
        changed = made.text[:at] + chr(ord(made.text[at]) + 1) + made.text[at + 1 :]
        with pytest.raises((verify.Tampered, verify.Unreadable)):
            proof.check(changed, [made.key])


async def test_a_receipt_that_another_kept_is_seen(store):
    made = await prove(store, "acme", 6)
    with pytest.raises(verify.Tampered) as bad:
        proof.check(made.text, [made.key], [(6, "0000-0000-0000-0000")])
    assert bad.value.seq == 6
    with pytest.raises(verify.Incomplete, match="The receipt is of entry 5, the proof of 6"):
        proof.check(made.text, [made.key], [(5, "0000-0000-0000-0000")])


async def test_a_checkpoint_of_another_log_proves_nothing_of_this_tenant(store):
    made = await prove(store, "acme", 6)
    head, _, note = made.text.partition("\n\n")
    other = Signer("countersign/globex/0123456789abcdef", SEED)
    told = Checkpoint(other.name, 9, read_note(note)[0].root)
    with pytest.raises(verify.Tampered, match="it is not in the log that was signed"):
        proof.check(f"{head}\n\n{signed(told, other)}", [other.vkey])


async def test_a_proof_of_one_entry_is_none_of_another(store):
    made, other = await prove(store, "acme", 6), await prove(store, "acme", 5)
    lines, others = made.text.split("\n"), other.text.split("\n")
    with pytest.raises(verify.Unreadable, match="its index is that of another entry"):
        proof.check("\n".join([lines[0], others[1], *lines[2:]]), [made.key])
    with pytest.raises(verify.Tampered, match="it is not in the log that was signed"):
        proof.check("\n".join([lines[0], *others[1:3], *lines[3:]]), [made.key])


@pytest.mark.parametrize("seq", [-1, 0, 10, 10**15])
async def test_there_is_no_proof_of_an_entry_that_is_not_there(store, seq):
    with pytest.raises(CannotProve, match="is signed up to entry 9"):
        await prove(store, "acme", seq)


async def test_there_is_no_proof_in_a_log_that_nobody_signed():
    store = MemoryStore()
    await tell_story(store)
    with pytest.raises(CannotProve, match="set LEDGER_KEY"):
        await prove(store, "acme", 1)


async def test_what_is_behind_the_newest_note_cannot_be_proved_yet(store):
    store._logs["acme"] += [sealed(await store.head("acme"))]
    with pytest.raises(CannotProve, match="is signed up to entry 9"):
        await prove(store, "acme", 10)
    made = await prove(store, "acme", 9)
    assert "is one of 9" in proof.check(made.text, [made.key])[0]


@pytest.mark.parametrize("what", ["root", "short", "note"])
async def test_a_store_that_lies_is_named(store, what):
    origin = origin_of("acme", (await store.read("acme", 0, 1))[0].hash)
    other = reduce(Frontier.append, [b"x" * 32] * 9, Frontier())
    if what == "root":
        store._notes["acme"] = signed(Checkpoint(origin, 9, other.root()), Signer(origin, SEED))
    elif what == "short":
        store._logs["acme"].pop()
    else:
        store._notes["acme"] = "no note"
    with pytest.raises(verify.Tampered):
        await prove(store, "acme", 3)
