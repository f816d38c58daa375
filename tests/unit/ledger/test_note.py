"""Notes and keys in the form of C2SP, and what is not quite of that form."""

from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import MAX_INT
from ledger.keys import keygen, seed_in, seed_of
from ledger.note import (
    BadKey,
    BadNote,
    Checkpoint,
    Signer,
    Verifier,
    Witness,
    origin_of,
    public_key,
    read_note,
    signed,
    vkey,
)

SEED, OTHER = seed_of(b"one key" * 8), seed_of(b"another" * 8)
NAME = origin_of("acme", "ab" * 32)
CHECKPOINT = Checkpoint(NAME, 42, bytes(range(32)))
NOTE = signed(CHECKPOINT, Signer(NAME, SEED))
OURS = Verifier.parse(Signer(NAME, SEED).vkey)


def test_the_vkey_of_the_specification_is_a_key_of_that_id():
    """The vkey in https://c2sp.org/signed-note and in the documentation of golang.org/x/mod/sumdb/note."""
    known = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    coded = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    assert (known.name, known.key_id) == ("PeterNeumann", "c74f20a3")
    assert known._holds(text, b64decode(coded)[4:])


@given(st.integers(0, MAX_INT), st.binary(min_size=32, max_size=32))
def test_a_note_is_read_back_as_what_was_signed(size, root):
    checkpoint = Checkpoint(NAME, size, root)
    note = signed(checkpoint, Signer(NAME, SEED), Signer(NAME, OTHER))
    found, signatures = read_note(note)
    assert found == checkpoint
    assert checkpoint.text() + "\n" + "".join(one.line() for one in signatures) == note
    assert OURS.verify(note)
    assert Verifier.parse(vkey(NAME, public_key(OTHER))).verify(note)


def test_another_key_or_another_name_has_not_signed_it():
    assert not Verifier.parse(Signer(NAME, OTHER).vkey).verify(NOTE)
    assert not Verifier.parse(Signer("countersign/b/1", SEED).vkey).verify(NOTE)


@given(st.integers(0, len(NOTE) - 1), st.characters())
def test_whatever_character_is_changed_is_noticed(at, character):
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed == NOTE:
        return
    with suppress(BadNote):
        assert not OURS.verify(changed)


@given(st.text(st.sampled_from("\n —ab0+/=9\r\t\u2028"), max_size=80) | st.text(max_size=200))
def test_what_is_read_as_a_note_is_one_byte_for_byte(text):
    for hostile in (text, NOTE + text, text + NOTE, CHECKPOINT.text() + text):
        with suppress(BadNote):
            checkpoint, signatures = read_note(hostile)
            assert checkpoint.text() + "\n" + "".join(one.line() for one in signatures) == hostile


LINES = CHECKPOINT.text().splitlines()
SIGNATURE = NOTE.splitlines()[-1]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*LINES, "an extension", "", SIGNATURE], "three lines"),
        ([*LINES, "", "", SIGNATURE], "three lines"),
        ([LINES[0], "042", LINES[2], "", SIGNATURE], "size"),
        ([LINES[0], "+42", LINES[2], "", SIGNATURE], "size"),
        ([LINES[0], "٤٢", LINES[2], "", SIGNATURE], "size"),
        ([LINES[0], str(2**53), LINES[2], "", SIGNATURE], "size"),
        ([LINES[0], "42", LINES[2][:-1], "", SIGNATURE], "base64"),
        ([LINES[0], "42", "AAAA", "", SIGNATURE], "SHA-256"),
        ([LINES[0], "42", LINES[2][:-2] + "9=", "", SIGNATURE], "canonical"),
        ([LINES[0], "42", LINES[2], ""], "no signature"),
        ([LINES[0], "42", LINES[2], "", SIGNATURE.replace("—", "-")], "no signature"),
        ([LINES[0], "42", LINES[2], "", f"— {NAME} AAAAAA=="], "cut off"),
        (["two words", "42", LINES[2], "", SIGNATURE], "origin"),
        (["", "42", LINES[2], "", SIGNATURE], "origin"),
        ([*LINES, "", *[SIGNATURE] * 65], "65 signatures"),
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_no_note(lines, says):
    with pytest.raises(BadNote, match=says):
        read_note("\n".join(lines) + "\n")


def test_a_note_of_a_megabyte_is_not_looked_at():
    with pytest.raises(BadNote, match="characters"):
        read_note("x" * 2**20)


KEY = Signer(NAME, SEED).vkey


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME,
        KEY.replace(f"+{OURS.key_id}+", "+00000000+"),
        KEY.replace(f"+{OURS.key_id}+", f"+{OURS.key_id.upper()}+"),
        KEY.replace("/acme/", "/other/"),
        KEY[:-4],
        KEY[:-6] + ("AAAAAA" if KEY[-6:] != "AAAAAA" else "BBBBBB"),
        f"{NAME}+{OURS.key_id}+{b64encode(b'1' + bytes(32)).decode()}",
        "a b+00000000+AAAA",
        "\ud800+00000000+AAAA",
    ],
)
def test_a_key_that_is_not_what_it_says_is_refused(text):
    with pytest.raises(BadKey):
        Verifier.parse(text)


def test_two_signatures_of_one_key_must_both_be_good():
    forged = NOTE + NOTE.splitlines()[-1][:-8] + "AAAAAAA=\n"
    assert OURS.verify(NOTE)
    assert not OURS.verify(forged)


def test_a_cosignature_holds_for_its_time_alone():
    witness = Witness("witness.example/w", OTHER)
    line = witness.sign(CHECKPOINT.text(), 1_780_000_000)
    known = Verifier.parse(witness.vkey)
    assert known.verify(NOTE + line)
    assert OURS.verify(NOTE + line), "who does not know the witness is not disturbed"
    raw = bytearray(b64decode(line.split()[-1]))
    raw[11] ^= 1
    assert not known.verify(f"{NOTE}— {witness.name} {b64encode(raw).decode()}\n")


def test_the_seed_is_the_hkdf_of_the_key():
    key = keygen().encode()
    assert seed_of(key) == HKDF(SHA256(), 32, b"", b"countersign ledger ed25519 v1").derive(key)


def test_each_key_that_is_made_is_another_and_long_enough():
    made = {keygen() for _ in range(50)}
    assert len(made) == 50
    assert all(len(key) >= 43 for key in made)


def test_a_key_in_a_file_is_the_key_without_the_line_end(tmp_path):
    key = keygen()
    (tmp_path / "key").write_text(f"{key}\n")
    assert seed_in(tmp_path / "key") == seed_of(key.encode())


@pytest.mark.parametrize("content", [None, "", "too short\n"])
def test_a_file_without_a_key_says_how_to_make_one(tmp_path, content):
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(BadKey, match=r"key.* (cannot be read|python -m ledger keygen)"):
        seed_in(tmp_path / "key")
