"""What an export says about its tree, read by others: tiles, roots, proofs, checkpoints, signatures."""

import asyncio
import json
from functools import reduce
from hashlib import sha256

import pymerkle
import pytest
import rfc8785
from aics_tlog.checkpoint import checkpoint_from_note
from aics_tlog.note import parse_vkey, verify_note
from aics_tlog.tiles import (
    FileSystemTileReader,
    MemoryTileReader,
    consistency_proof_from_tiles,
    inclusion_proof_from_tiles,
    materialise_tiles,
    parse_tile_path,
    tree_root_from_tiles,
)
from aics_tlog.tree import verify_consistency, verify_leaf_inclusion
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import verify
from ledger.chain import Frontier, leaf_hash
from ledger.export import export
from ledger.store import MemoryStore
from ledger.tiles import tiles
from tests.chains import DATA, sealed
from tests.exports import NEW, OLD, ROTATED, Files, long_story, vkey

ROTATION = "rotations/0000.note"
SIZES = (1, 2, 3, 255, 256, 257, 300, 511, 512, 70_000)


def leaves(size: int) -> list[bytes]:
    return [leaf_hash(str(at).encode()) for at in range(size)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_those_that_others_make(size):
    entries = [str(at).encode() for at in range(size)]
    theirs = {name: tile for name, tile in materialise_tiles(entries).items() if "/entries/" not in name}
    ours = dict(tiles(b"".join(leaves(size))))
    assert ours == theirs
    for name in ours:
        level, index, width = parse_tile_path(name)
        assert verify.tile_name(level, index, width or 256) == name


@pytest.mark.parametrize(("index", "name"), [(0, "000"), (67, "067"), (1234067, "x001/x234/067")])
def test_a_tile_lies_where_the_specification_says(index, name):
    assert verify.tile_name(2, index, 256) == f"tile/2/{name}"
    assert verify.tile_name(0, index, 5) == f"tile/0/{name}.p/5"


@pytest.mark.parametrize("size", SIZES[:-1])
def test_roots_are_those_that_others_find(size):
    theirs = pymerkle.InmemoryTree(algorithm="sha256")
    for at in range(size):
        theirs.append_entry(str(at).encode())
    hashes = leaves(size)
    assert verify.fold(b"".join(hashes)) == theirs.get_root()
    assert reduce(Frontier.append, hashes, Frontier()).root() == theirs.get_root()
    assert tree_root_from_tiles(MemoryTileReader(dict(tiles(b"".join(hashes)))), size) == theirs.get_root()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "acme"
    store = MemoryStore()
    asyncio.run(long_story(store))
    asyncio.run(export(store, "acme", folder))
    return folder


def test_an_export_is_a_log_that_others_read(exported):
    files, reader = Files.of(exported), FileSystemTileReader(exported)
    checkpoint, parsed = checkpoint_from_note(files.content["checkpoint"].decode())
    assert checkpoint.size == len(files.lines) == 60
    assert tree_root_from_tiles(reader, 60) == checkpoint.root
    assert checkpoint.root.hex() == json.loads(files.content["manifest.json"])["root"]
    for seq, line in enumerate(files.lines, 1):
        path = inclusion_proof_from_tiles(reader, seq - 1, 60)
        assert verify_leaf_inclusion(line, seq - 1, 60, path, checkpoint.root)
    before, _ = checkpoint_from_note(files.content[ROTATION].decode())
    assert before.size == ROTATED
    path = consistency_proof_from_tiles(reader, ROTATED, 60)
    assert verify_consistency(ROTATED, 60, before.root, checkpoint.root, path)
    assert parsed.signatures[0].name == verify.read_key(vkey(files.lines, NEW))["name"]


def test_its_checkpoints_hold_for_others_under_its_keys(exported):
    files = Files.of(exported)
    keys = [parse_vkey(key) for key in files.content["keys.txt"].decode().split()]
    notes = {name: checkpoint_from_note(files.content[name].decode())[1] for name in ("checkpoint", ROTATION)}
    assert verify_note(notes["checkpoint"], [keys[1]])
    assert not verify_note(notes["checkpoint"], [keys[0]])
    assert all(verify_note(notes[ROTATION], [key]) for key in keys)
    assert [key.key_id.hex() for key in keys] == [
        verify.read_key(vkey(files.lines, seed))["id"] for seed in (OLD, NEW)
    ]


@given(DATA)
def test_entries_are_in_the_form_of_rfc_8785(data):
    line = sealed(data=data).line
    assert rfc8785.dumps(json.loads(line)) == line


NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SAID = (
    b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
SIGNED = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_the_example_of_signed_notes_holds():
    """From https://pkg.go.dev/golang.org/x/mod/sumdb/note, as https://c2sp.org/signed-note has it."""
    key = verify.read_key(NEUMANN)
    raw = verify.b64decode(SIGNED)
    assert raw[:4].hex() == key["id"]
    assert verify.ed25519(verify.b64decode(key["key"])[1:], SAID, raw[4:])
    with pytest.raises(ValueError, match="is no key"):
        verify.read_key(NEUMANN.replace("c74f20a3", "c74f20a4"))


RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seed", "message", "signature"), RFC_8032)
def test_the_examples_of_rfc_8032_hold(seed, message, signature):
    public = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()
    assert verify.ed25519(public, bytes.fromhex(message), bytes.fromhex(signature))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=99), st.integers(0, 511), st.integers(0, 255))
def test_a_signature_holds_for_its_key_and_its_text_alone(seed, message, bit, other):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify.ed25519(public, message, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verify.ed25519(public, message, bytes(flipped))
    assert not verify.ed25519(public, message + b"x", signature)
    changed = bytearray(public)
    changed[other // 8] ^= 1 << other % 8
    assert not verify.ed25519(bytes(changed), message, signature)


def test_a_signature_has_one_form():
    """RFC 8032, 5.1.7: s below the order, and points below p; else one signature could be made another."""
    key = Ed25519PrivateKey.from_private_bytes(sha256(b"key").digest())
    public, signature = key.public_key().public_bytes_raw(), key.sign(b"said")
    s = int.from_bytes(signature[32:], "little") + verify.ORDER
    assert not verify.ed25519(public, b"said", signature[:32] + s.to_bytes(32, "little"))
    assert not verify.ed25519(public, b"said", signature + b"\0")
    assert not verify.ed25519(public, b"said", signature[:-1])
    for y in (verify.P, verify.P + 1, 2**255 - 1):
        assert verify.point(y.to_bytes(32, "little")) == (0, 0)
    assert verify.point((1 | 1 << 255).to_bytes(32, "little")) == (0, 0), "zero has no sign"
    nowhere = next(
        raw for raw in (at.to_bytes(32, "little") for at in range(2, 99)) if verify.point(raw) == (0, 0)
    )
    assert not verify.ed25519(nowhere, b"said", signature)
    assert not verify.ed25519(public, b"said", nowhere + signature[32:])
