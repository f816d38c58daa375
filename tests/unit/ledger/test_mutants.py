"""What can be done to an export, class by class: none of it unseen, and the first bad entry is the one named.

Each class is judged with what an auditor has: the key from elsewhere, and receipts of entries 20 and 60.
Three classes are judged without as well: nobody could see them then, and no verifier may say that it can.
"""

import asyncio
import gzip
import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ledger.chain import GENESIS, leaf_hash, parse, receipt_of, seal
from ledger.export import export
from ledger.note import Witness
from ledger.store import MemoryStore
from tests.exports import (
    ENTRIES,
    EVE,
    NEW,
    OLD,
    Files,
    judged,
    long_story,
    note,
    packed,
    resealed,
    vkey,
)

EACH = 34
SIZE, ROTATED, KEPT = 60, 10, (20, 60)
WITNESS = Witness("witness.example/w", b"w" * 32)

type Expected = set[int | None]
type Mutant = tuple[Files, Expected]
"""What was made, and the entries one of which must be named as the first bad one; None: none of them."""

ANY: Expected = set()
MUTATIONS: dict[str, Callable[[random.Random, Files], Mutant]] = {}
UNSEEN: dict[str, tuple[str, ...]] = {
    "the end cut off, with an older checkpoint": ("--key",),
    "another past from an entry on, signed with the key": ("--key",),
    "another log from the first entry on, under another key": (),
}
"""The classes that need more than the folder, and what alone does not show them."""


def mutation(name: str) -> Callable[..., Callable[[random.Random, Files], Mutant]]:
    def kept(make: Callable[[random.Random, Files], Mutant]) -> Callable[[random.Random, Files], Mutant]:
        assert name not in MUTATIONS
        MUTATIONS[name] = make
        return make

    return kept


@dataclass(frozen=True)
class Log:
    """The export that is changed, and what is known of it elsewhere."""

    files: Files
    key: str
    receipts: tuple[str, ...]

    def known(self, *what: str) -> list[str]:
        key = ["--key", self.key] if "--key" in what else []
        return [*key, *(word for one in self.receipts * ("--receipt" in what) for word in ("--receipt", one))]


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Log:
    folder = tmp_path_factory.mktemp("log") / "acme"
    store = MemoryStore()
    entries = asyncio.run(long_story(store, SIZE))
    asyncio.run(export(store, "acme", folder))
    files = Files.of(folder)
    text = files.content["checkpoint"].decode().partition("\n\n")[0] + "\n"
    cosigned = files.content["checkpoint"].decode() + WITNESS.sign(text, 1_800_000_000)
    files = files.with_files({"checkpoint": cosigned.encode()})
    kept = tuple(f"{seq}:{receipt_of(entries[seq - 1].hash)}" for seq in KEPT)
    return Log(files, vkey(files.lines, OLD), kept)


def flip(dice: random.Random, content: bytes, first: int = 0, last: int | None = None) -> bytes:
    changed = bytearray(content)
    changed[dice.randrange(first, last or len(content))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def at(dice: random.Random, first: int = 1, last: int = SIZE) -> int:
    return dice.randint(first, last)


def put(lines: list[bytes], seq: int, line: bytes) -> list[bytes]:
    return [*lines[: seq - 1], line, *lines[seq:]]


def rechained(lines: list[bytes], seq: int = 1) -> list[bytes]:
    """All entries from *seq* on numbered and linked anew, as they stand."""
    head, made = parse(lines[seq - 2]).head if seq > 1 else GENESIS, lines[: seq - 1]
    for line in lines[seq - 1 :]:
        told = json.loads(line)
        entry = parse(line)
        fields = {name: told[name] for name in told if name not in {"v", "seq", "prev", "ts"}}
        sealed = seal(head, ts=entry.at, **fields)
        head, made = sealed.head, [*made, sealed.line]
    return made


def shown_by(seq: int) -> Expected:
    """The receipt by which a past that is another from *seq* on is seen."""
    return {min(kept for kept in KEPT if kept >= seq)}


def another(dice: random.Random, lines: list[bytes], seq: int) -> list[bytes]:
    return resealed(lines, seq, reason=f"another {dice.random()}")


@mutation("a bit of an entry")
def _(dice, files):
    seq = at(dice)
    return files.with_lines(put(files.lines, seq, flip(dice, files.lines[seq - 1])), tree=False), {seq}


@mutation("a bit of an entry, tree and manifest made to fit")
def _(dice, files):
    seq = at(dice, last=SIZE - 1)
    line = flip(dice, files.lines[seq - 1])
    if line.count(b"\n"):
        return files.with_lines(put(files.lines, seq, line), tree=False), {seq}
    return files.with_lines(put(files.lines, seq, line)).fitting(), {seq, seq + 1}


@mutation("a bit of the packed file")
def _(dice, files):
    return files.with_files({ENTRIES: flip(dice, files.content[ENTRIES], 10)}), ANY


@mutation("a bit of the head of the packed file")
def _(dice, files):
    return files.with_files({ENTRIES: flip(dice, files.content[ENTRIES], 0, 10)}), ANY


@mutation("a bit of any other file")
def _(dice, files):
    name = dice.choice(sorted(files.content.keys() - {ENTRIES, "checkpoint"}))
    return files.with_files({name: flip(dice, files.content[name])}), ANY


@mutation("an edit, all after it sealed anew")
def _(dice, files):
    seq = at(dice)
    return files.with_lines(another(dice, files.lines, seq), tree=False), {seq}


@mutation("an edit, all after it sealed anew, tree and manifest made to fit")
def _(dice, files):
    seq = at(dice)
    return files.with_lines(another(dice, files.lines, seq)).fitting(), shown_by(seq)


@mutation("another actor, all after it sealed anew and made to fit")
def _(dice, files):
    seq = at(dice)
    who = {"kind": "engineer", "id": dice.choice(["eve", "mallory"]), "via": "telegram"}
    return files.with_lines(resealed(files.lines, seq, actor=who)).fitting(), shown_by(seq)


@mutation("an entry dropped")
def _(dice, files):
    seq = at(dice, last=SIZE - 1)
    lines = [*files.lines[: seq - 1], *files.lines[seq:]]
    changed = (
        files.with_lines(lines, tree=False) if dice.random() < 0.5 else files.with_lines(lines).fitting()
    )
    return changed, {seq}


@mutation("an entry dropped, all after it sealed anew and made to fit")
def _(dice, files):
    seq = at(dice, 2, 50)
    lines = rechained([*files.lines[: seq - 1], *files.lines[seq:]], seq)
    return files.with_lines(lines).fitting(), {20, None} if seq <= 20 else {None}


@mutation("an entry put in")
def _(dice, files):
    seq = at(dice)
    lines = [*files.lines[: seq - 1], files.lines[at(dice) - 1], *files.lines[seq - 1 :]]
    moved = lines[seq - 1] == files.lines[seq - 1]
    return files.with_lines(lines).fitting(), {seq + 1} if moved else {seq}


@mutation("an entry put in, all after it sealed anew and made to fit")
def _(dice, files):
    seq = at(dice, 2)
    lines = rechained([*files.lines[: seq - 1], files.lines[at(dice, 11) - 1], *files.lines[seq - 1 :]], seq)
    return files.with_lines(lines).fitting(), shown_by(seq)


@mutation("two entries swapped")
def _(dice, files):
    one, two = sorted(dice.sample(range(1, SIZE + 1), 2))
    lines = put(put(files.lines, one, files.lines[two - 1]), two, files.lines[one - 1])
    return files.with_lines(lines).fitting(), {one}


@mutation("two neighbours swapped, all after them sealed anew and made to fit")
def _(dice, files):
    one = at(dice, 12, SIZE - 1)
    lines = put(put(files.lines, one, files.lines[one]), one + 1, files.lines[one - 1])
    return files.with_lines(rechained(lines, one)).fitting(), shown_by(one)


@mutation("an entry twice")
def _(dice, files):
    seq = at(dice)
    lines = [*files.lines[:seq], files.lines[seq - 1], *files.lines[seq:]]
    return files.with_lines(lines, tree=dice.random() < 0.5), {seq + 1}


@mutation("the end cut off")
def _(dice, files):
    return files.with_lines(files.lines[: at(dice, last=SIZE - 1)], tree=False), ANY


@mutation("the end cut off, tree and manifest made to fit")
def _(dice, files):
    return files.with_lines(files.lines[: at(dice, last=SIZE - 1)]).fitting(), ANY


@mutation("the end cut off, with an older checkpoint")
def _(dice, files):
    lines = files.lines[: at(dice, ROTATED + 1, SIZE - 1)]
    return files.with_lines(lines).with_files({"checkpoint": note(lines, NEW)}).fitting(), ANY


@mutation("the end cut off within a line")
def _(dice, files):
    seq = at(dice)
    plain = b"".join(line + b"\n" for line in files.lines[:seq])
    return files.with_files({ENTRIES: gzip.compress(plain[: -dice.randint(1, 99)], mtime=0)}), ANY


@mutation("an end that nobody signed")
def _(dice, files):
    lines, more = files.lines, dice.randint(1, 5)
    for _ in range(more):
        lines = rechained([*lines, lines[-1]], len(lines) + 1)
    return files.with_lines(lines).fitting(), {None}


@mutation("another past from an entry on, and no checkpoint")
def _(dice, files):
    seq = at(dice)
    return files.with_lines(another(dice, files.lines, seq)).with_files({"checkpoint": None}).fitting(), ANY


@mutation("another past from an entry on, signed with another key")
def _(dice, files):
    seq = at(dice)
    lines = another(dice, files.lines, seq)
    seeds = dice.choice([(EVE,), (OLD,), (OLD, EVE)])
    return files.with_lines(lines).with_files({"checkpoint": note(lines, *seeds)}).fitting(), ANY


@mutation("another past from an entry on, signed with the key")
def _(dice, files):
    seq = at(dice, ROTATED + 1)
    lines = another(dice, files.lines, seq)
    return files.with_lines(lines).with_files({"checkpoint": note(lines, NEW)}).fitting(), shown_by(seq)


@mutation("another log from the first entry on, under another key")
def _(dice, files):
    told = json.loads(files.lines[0])["data"] | {"version": f"{dice.random()}"}
    lines = resealed(files.lines[: ROTATED - 1], 1, data=told | {"signer": vkey(files.lines, EVE)[-44:]})
    for line in files.lines[ROTATED:]:
        lines = rechained([*lines, line], len(lines) + 1)
    signed = {"checkpoint": note(lines, EVE), "keys.txt": f"{vkey(lines, EVE)}\n".encode()}
    return files.with_lines(lines).with_files(signed | {"rotations/0000.note": None}).fitting(), ANY


@mutation("an older checkpoint beside all entries")
def _(dice, files):
    seq = at(dice, ROTATED + 1, SIZE - 1)
    return files.with_files({"checkpoint": note(files.lines[:seq], NEW)}), ANY


@mutation("the log of another tenant")
def _(dice, files):
    seq = at(dice)
    lines = resealed(files.lines, seq, tenant_id="globex")
    return files.with_lines(lines).fitting(), {max(seq, 2), *shown_by(seq)}


@mutation("white space")
def _(dice, files):
    seq = at(dice)
    line = files.lines[seq - 1]
    places = [place for place, byte in enumerate(line) if byte in b",:{}"]
    place = dice.choice(places)
    changed = line[:place] + dice.choice([b" ", b"\t", b"\r", b"\x0b"]) + line[place:]
    return files.with_lines(put(files.lines, seq, changed)).fitting(), {seq}


@mutation("an escape where none is needed")
def _(dice, files):
    seq = at(dice)
    line = files.lines[seq - 1]
    place = dice.choice([place for place in range(len(line)) if line[place - 2 : place].isalpha()])
    changed = line[: place - 1] + b"\\u%04x" % line[place - 1] + line[place:]
    return files.with_lines(put(files.lines, seq, changed)).fitting(), {seq}


@mutation("a key twice")
def _(dice, files):
    seq = at(dice)
    name = dice.choice([b'"actor"', b'"v"', b'"seq"', b'"reason"', b'"due"', b'"kind"'])
    line = files.lines[seq - 1]
    name = name if line.count(name + b":") == 1 else b'"v"'
    place = line.index(name + b":")
    changed = line[:place] + name + b":1," + line[place:]
    return files.with_lines(put(files.lines, seq, changed)).fitting(), {seq}


@mutation("a number in another form")
def _(dice, files):
    seq = at(dice, ROTATED + 1)
    line = files.lines[seq - 1]
    place = line.index(b'"due":720') + len(b'"due":')
    form = dice.choice(
        [b"720.0", b"7.2e2", b"0720", b"+720", b"-0", b"9007199254740992", b"1" * 40, b"NaN", b'720,"e":1e0']
    )
    return files.with_lines(put(files.lines, seq, line[:place] + form + line[place + 3 :])).fitting(), {seq}


@mutation("letters composed in another way")
def _(dice, files):
    seq = at(dice, ROTATED + 1)
    line = unicodedata.normalize("NFD", files.lines[seq - 1].decode()).encode()
    assert line != files.lines[seq - 1]
    fits = dice.random() < 0.5
    changed = files.with_lines(put(files.lines, seq, line), tree=fits)
    return (changed.fitting() if fits else changed), {
        seq + 1,
        None if seq == SIZE else seq + 1,
        SIZE,
    } if fits else {seq}


@mutation("half of a letter")
def _(dice, files):
    seq = at(dice)
    half = dice.choice([b"\\ud800", b"\xed\xa0\x80", b"\xff", b"\xc3", b"\\udfff"])
    line = files.lines[seq - 1].replace(b'"via":"', b'"via":"' + half)
    return files.with_lines(put(files.lines, seq, line)).fitting(), {seq}


@mutation("lines that end otherwise")
def _(dice, files):
    seq = at(dice)
    line = files.lines[seq - 1] + dice.choice([b"\r", b"\n", b"\x00", b" ", b"\x1a"])
    return files.with_lines(put(files.lines, seq, line), tree=False), {seq, seq + 1}


@mutation("a mark of byte order")
def _(dice, files):
    seq = dice.choice([1, at(dice)])
    line = dice.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]) + files.lines[seq - 1]
    return files.with_lines(put(files.lines, seq, line)).fitting(), {seq}


@mutation("more than one packed file in one")
def _(dice, files):
    cut = at(dice, last=SIZE - 1)
    one, two = packed(files.lines[:cut]), packed(files.lines[cut:])
    more = dice.choice([one + two, files.content[ENTRIES] + packed([]), files.content[ENTRIES] + b"\0" * 8])
    return files.with_files({ENTRIES: more}).fitting_files(), {None}


@mutation("a bit of the checkpoint")
def _(dice, files):
    signed = files.content["checkpoint"].index(WITNESS.name.encode()) - 4
    return files.with_files({"checkpoint": flip(dice, files.content["checkpoint"], 0, signed)}), ANY


@mutation("a checkpoint of another form")
def _(dice, files):
    text = files.content["checkpoint"]
    body, gap, below = text.partition(b"\n\n")
    form = dice.choice([
        body + gap, body, b"", body + b"\nmore" + gap + below,
        body.replace(b"\n60\n", b"\n060\n") + gap + below,
        body.replace(b"\n60\n", b"\n61\n") + gap + below, body.replace(b"\n60\n", b"\n-60\n") + gap + below,
        text + b"\n", text.replace(b"\n", b"\r\n"), text[:-1], body + gap + below * 40, b"\xff" + text,
    ])  # fmt: skip
    return files.with_files({"checkpoint": form}), ANY


@mutation("a tile changed, or gone")
def _(dice, files):
    [name] = [name for name in files.content if name.startswith("tile/")]
    seq, tile = at(dice), files.content[name]
    changed = flip(dice, tile, 32 * seq - 32, 32 * seq)
    more = {name: dice.choice([None, tile[:-32], tile + tile[:32], b"", tile[32:]])}
    moved = {name: None, "tile/0/001": tile, f"tile/1/000.p/{at(dice)}": tile[:32]}
    made, named = dice.choice([({name: changed}, {seq}), (more, ANY), (moved, ANY)])
    return files.with_files(made).fitting_files(), named


@mutation("a manifest that says something else")
def _(dice, files):
    says = dice.choice([
        {"size": at(dice, last=SIZE - 1)}, {"size": SIZE + at(dice)}, {"size": 10**18}, {"size": -1},
        {"size": 60.0},
        {"root": f"{dice.getrandbits(256):064x}"}, {"head": f"{dice.getrandbits(256):064x}"},
        {"tenant": "globex"},
        {"format": "countersign-export/1"}, {"more": 1}, {"files": {}}, {"files": None}, {"root": None},
    ])  # fmt: skip
    return files.fitting(**says), ANY


@mutation("a manifest that names other files")
def _(dice, files):
    listed = json.loads(files.content["manifest.json"])["files"]
    name = dice.choice(sorted(listed))
    other = dice.choice([
        {one: digest for one, digest in listed.items() if one != name}, listed | {name: "0" * 64},
        listed | {"../" + name: listed[name]}, listed | {"/etc/passwd": "0" * 64}, listed | {"a\x1b[2J": "1"},
    ])  # fmt: skip
    return files.fitting(files=other), ANY


@mutation("a text that is another, or gone")
def _(dice, files):
    name = dice.choice(sorted(name for name in files.content if name.startswith("texts/")))
    changed = dice.choice([None, b"", flip(dice, files.content[name])])
    return files.with_files({name: changed}).fitting_files(), ANY if changed is None else {2}


@mutation("the note of the new key changed, or gone")
def _(dice, files):
    name = "rotations/0000.note"
    flipped = flip(dice, files.content[name])
    others = [note(files.lines[:ROTATED], seed) for seed in (OLD, NEW)]
    other = dice.choice([None, *others, note(files.lines, NEW), flipped])
    return files.with_files({name: other}).fitting_files(), ANY


@mutation("keys that are others, or in another order")
def _(dice, files):
    keys = files.content["keys.txt"].decode().splitlines()
    other = dice.choice(
        [
            [],
            keys[:1],
            keys[1:],
            keys[::-1],
            [vkey(files.lines, EVE), keys[1]],
            [*keys, keys[0]],
            [*keys, "x"],
        ]
    )
    return files.with_files({"keys.txt": "".join(f"{key}\n" for key in other).encode()}).fitting_files(), ANY


@mutation("a file more")
def _(dice, files):
    name = dice.choice([
        "entries-00001.jsonl.gz", "entries-00000.jsonl", f"texts/{'0' * 64}.txt", "tile/1/000.p/1", "a/b",
        "rotations/0001.note", "more.txt", "verify.pyc", "tile/0/000",
    ])  # fmt: skip
    changed = files.with_files({name: dice.choice([b"", b"x", files.content[ENTRIES]])})
    return (changed if dice.random() < 0.5 else changed.fitting_files()), ANY


@mutation("a receipt in the folder that is another entry's")
def _(dice, files):
    one, two = dice.sample(range(1, SIZE + 1), 2)
    told = f"{one}:{receipt_of(leaf_hash(files.lines[two - 1]).hex())}\n"
    return files.with_files({"receipts.txt": told.encode()}), {one}


@pytest.mark.slow
@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_nothing_is_unseen_and_the_first_bad_entry_is_named(log, tmp_path, name):
    dice = random.Random(name)
    for _ in range(EACH):
        made, named = MUTATIONS[name](dice, log.files)
        assert made != log.files
        code, said = judged(made.write(tmp_path / "mutant"), *log.known("--key", "--receipt"))
        assert code in {1, 2, 3}, (code, said)
        assert not named or first_bad(code, said) in named, (named, said)
        if name in UNSEEN:
            code, said = judged(tmp_path / "mutant", *log.known(*UNSEEN[name]))
            assert (code, said[:7]) == (0, "INTACT."), said


def first_bad(code: int, said: str) -> int | None:
    where = said.removeprefix("TAMPERED. ").partition(":")[0].split()
    return int(where[1]) if code == 1 and where[0] == "Entry" else None


def test_there_are_enough_of_them(log, tmp_path):
    assert len(MUTATIONS) * EACH >= 1_500
    assert len(MUTATIONS) >= 25
    assert UNSEEN.keys() <= MUTATIONS.keys()
    assert judged(log.files.write(tmp_path / "whole"), *log.known("--key", "--receipt"))[0] == 0


@pytest.mark.parametrize("name", sorted(MUTATIONS)[::4])
def test_it_is_the_same_where_there_is_nothing_but_python(log, tmp_path, name):
    made, _ = MUTATIONS[name](random.Random(name), log.files)
    words = log.known("--key", "--receipt")
    code, said = judged(made.write(tmp_path / "mutant"), *words)
    (tmp_path / "verify.py").write_bytes(log.files.content["verify.py"])
    alone = [sys.executable, "-I", "-S", tmp_path / "verify.py", tmp_path / "mutant", *words]
    ran = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, said, "")
