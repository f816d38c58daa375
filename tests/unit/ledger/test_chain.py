"""An entry is its bytes, and each holds the one before it."""

import json
from datetime import datetime, timedelta, timezone
from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import (
    FIELDS,
    GENESIS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INT,
    BrokenChain,
    Frontier,
    Head,
    Malformed,
    canonical,
    check_link,
    leaf_hash,
    parse,
    receipt,
)
from tests.chains import DATA, NOON, PLAIN, TEXT, chain, rewritten, sealed, standard


@given(PLAIN)
def test_the_standard_library_writes_the_same_bytes(value):
    assert canonical(value) == standard(value)


@given(DATA, TEXT)
def test_what_is_sealed_is_what_is_read(data, reason):
    entry = sealed(data=data, reason=reason)
    again = parse(entry.line)
    assert again == entry
    assert vars(again) == vars(entry)
    assert again.data == data
    assert again.reason == reason
    assert again.hash == sha256(b"\x00" + entry.line).hexdigest()


def test_an_entry_has_the_fields_of_the_design():
    assert json.loads(sealed().line) == {
        "v": 1,
        "seq": 1,
        "prev": "0" * 64,
        "ts": "2026-06-03T12:00:00.000000Z",
        "tenant_id": "acme",
        "incident_id": "checkout-3",
        "event": "Authorized",
        "stage": "AUTHORIZED",
        "actor": {"kind": "engineer", "id": "rudo", "via": "telegram"},
        "decision": "approve",
        "reason": "Database connection pool exhausted: restart recommended",
        "confidence": 87,
        "policy_version": "2026.1+3f9ac1d2",
        "ref": {"seq": 1, "hash": "ab" * 32},
        "data": {},
    }


def test_time_is_kept_in_utc():
    for hours in (2, 0, -5):
        there = timezone(timedelta(hours=hours))
        noon = datetime(2026, 6, 3, 12 + hours, 0, 0, 5, tzinfo=there)
        assert sealed(ts=noon).ts == "2026-06-03T12:00:00.000005Z"


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(Malformed, match="zone"):
        sealed(ts=NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "data",
    [
        {"share": 0.5},
        {"n": MAX_INT + 1},
        {"n": -MAX_INT - 1},
        {"n": 2**70},
        {"nan": float("nan")},
        {"ключ": 1},
        {"\U0001f600": 1},
        {1: "a"},
        {"when": NOON},
        {"bytes": b"x"},
        {"set": {1}},
        {"lone": "\ud800"},
        {"lone\ud800": 1},
        {"long": "x" * MAX_BYTES},
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_cannot_be_sealed(data):
    with pytest.raises(Malformed):
        sealed(data=data)


def test_nesting_has_an_end():
    def nested(depth):
        return [] if depth == 0 else [nested(depth - 1)]

    assert sealed(data={"deep": nested(MAX_DEPTH - 2)})
    with pytest.raises(Malformed, match="deeper"):
        sealed(data={"deep": nested(MAX_DEPTH - 1)})
    with pytest.raises(Malformed):
        parse(b"[" * 8000 + b"]" * 8000)


def test_an_entry_fills_sixteen_kibibytes_and_no_byte_more():
    room = MAX_BYTES - len(sealed(data={"x": ""}).line)
    assert len(sealed(data={"x": "x" * room}).line) == MAX_BYTES
    with pytest.raises(Malformed, match="16385 bytes"):
        sealed(data={"x": "x" * (room + 1)})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"{}",
        sealed().line + b" ",
        b" " + sealed().line,
        sealed().line.replace(b":1,", b": 1,", 1),
        sealed().line.replace(b'"v":1}', b'"v":1,"v":1}'),
        sealed().line.replace(b'"confidence":87', b'"confidence":87.0'),
        sealed().line.replace(b'"confidence":87', b'"confidence":8.7e1'),
        sealed().line.replace(b"checkout", b"\\u0063heckout"),
        sealed().line.replace(b"checkout", b"\\ud800"),
        sealed().line.replace(b"checkout", b"\xff"),
        sealed().line[:-1],
        b"\xef\xbb\xbf" + sealed().line,
        rewritten(more=1),
        rewritten(v=2),
        rewritten(v=True),
        rewritten(seq=0),
        rewritten(seq="1"),
        rewritten(prev="0" * 63),
        rewritten(prev="A" * 64),
        rewritten(ts="2026-06-03T12:00:00Z"),
        rewritten(ts="2026-13-03T12:00:00.000000Z"),
        rewritten(ts="２026-06-03T12:00:00.000000Z"),
        rewritten(tenant_id=None),
        rewritten(incident_id=3),
        rewritten(actor="rudo"),
        rewritten(actor={"kind": "engineer", "id": "rudo"}),
        rewritten(actor={"kind": "engineer", "id": 7, "via": "telegram"}),
        rewritten(confidence=101),
        rewritten(confidence=-1),
        rewritten(confidence=True),
        rewritten(ref={"seq": 1}),
        rewritten(ref={"seq": 1, "hash": "x"}),
        rewritten(data=[]),
        rewritten(data={"share": 0.5}),
        rewritten(data={"n": 2**53}),
        rewritten(data={"ü": 1}),
    ],
    ids=lambda line: line[:60].decode(errors="replace"),
)
def test_what_is_not_exactly_an_entry_is_not_read(line):
    assert line != sealed().line
    with pytest.raises(Malformed):
        parse(line)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant_id": None},
        {"incident_id": 3},
        {"event": 3},
        {"stage": 3},
        {"actor": {"kind": "engineer", "id": "rudo"}},
        {"actor": {"kind": "engineer", "id": 7, "via": "telegram"}},
        {"actor": {"kind": "engineer", "id": "rudo", "via": "x", "more": 1}},
        {"decision": None},
        {"reason": b"x"},
        {"reason": "\ud800"},
        {"confidence": 101},
        {"confidence": True},
        {"policy_version": 1.0},
        {"ref": {"seq": 0, "hash": "ab" * 32}},
        {"ref": {"seq": 1, "hash": "AB" * 32}},
        {"data": {"n": -MAX_INT - 1}},
        {"head": Head(MAX_INT, "0" * 64)},
        {"head": Head(1, "0" * 63)},
    ],
    ids=repr,
)
def test_what_would_not_be_read_cannot_be_sealed(wrong):
    with pytest.raises(Malformed):
        sealed(**wrong)


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_may_be_missing(name):
    fields = json.loads(sealed().line)
    del fields[name]
    with pytest.raises(Malformed, match="fields"):
        parse(standard(fields))


@given(st.integers(0, len(sealed().line) * 8 - 1))
def test_no_bit_can_change_without_the_hash(bit):
    entry = sealed()
    line = bytearray(entry.line)
    line[bit // 8] ^= 1 << bit % 8
    try:
        changed = parse(bytes(line))
    except Malformed:
        return
    assert changed.hash != entry.hash


def test_twins_that_look_alike_stay_two():
    assert sealed(reason="caf\u00e9").hash != sealed(reason="cafe\u0301").hash


def test_an_entry_follows_the_one_before_it():
    first, second, third = chain(3)
    assert first.head == Head(1, first.hash)
    assert second.prev == first.hash
    check_link(GENESIS, first)
    check_link(first.head, second)
    with pytest.raises(BrokenChain, match="number 2 was expected") as broken:
        check_link(first.head, third)
    assert broken.value.seq == 3
    with pytest.raises(BrokenChain, match="prev is not"):
        check_link(Head(1, "f" * 64), second)


def test_a_receipt_is_eighty_bits_that_people_can_read_aloud():
    entry = sealed()
    code = receipt(entry)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    assert [len(group) for group in code.split("-")] == [4, 4, 4, 4]
    number = 0
    for letter in code.replace("-", ""):
        number = number * 32 + alphabet.index(letter)
    assert f"{number:020x}" == entry.hash[:20]


def merkle(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word for word."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + merkle(leaves[:split]) + merkle(leaves[split:])).digest()


def test_the_frontier_grows_the_tree_of_the_rfc():
    frontier, leaves = Frontier(), []
    for number in range(70):
        assert frontier.root() == merkle(leaves)
        assert frontier.size == len(leaves)
        leaves.append(leaf_hash(orjson.dumps(number)))
        frontier = frontier.append(leaves[-1])
    assert len(frontier.roots) == (70).bit_count()


def test_a_tree_of_the_rfc_has_the_published_root():
    """The eight inputs and the root of certificate-transparency's own test vectors."""
    inputs = [
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    ]  # fmt: skip
    frontier = Frontier()
    for line in inputs:
        frontier = frontier.append(leaf_hash(bytes.fromhex(line)))
    assert frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
