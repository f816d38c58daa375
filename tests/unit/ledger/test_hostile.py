"""Folders that were made to hurt: each ends with a sentence and an exit code, and nothing else happens."""

import asyncio
import gzip
import json
import os
import random
import tracemalloc
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import verify
from ledger.export import export
from ledger.note import Witness
from ledger.store import MemoryStore
from tests.chains import tell_story
from tests.exports import ENTRIES, OLD, Files, judged, note, resealed, tell_more, vkey

GARBAGE, DEEP = 150, 600
WITNESS = Witness("witness.example/w", b"w" * 32).vkey


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("export") / "acme"
    store = MemoryStore()
    asyncio.run(tell_story(store, signer=OLD))
    asyncio.run(tell_more(store, 20))
    asyncio.run(export(store, "acme", folder))
    return Files.of(folder)


def look(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in and around *folder*, as writing would change it."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in [folder, *folder.rglob("*")]
        if path.name != "keep"
    }


def ends_well(folder: Path, *words: str) -> tuple[int, str]:
    """What the verifier says of *folder*, on which it leaves no trace."""
    before = look(folder.parent)
    code, said = judged(folder, *words)
    assert look(folder.parent) == before
    assert all(line.isascii() and line.isprintable() for line in said.splitlines())
    assert said.split(".")[0] in {"INTACT", "TAMPERED", "INCOMPLETE", "UNREADABLE"}
    return code, said


def test_bytes_that_mean_nothing_are_never_more_than_a_sentence(files, tmp_path):
    dice = random.Random(7)
    for _ in range(GARBAGE):
        name = dice.choice(sorted(files.content))
        content = files.content[name]
        garbage = dice.choice([
            dice.randbytes(dice.randrange(2000)), b"", b"\n" * 99, b"[" * 100_000, b'{"a":' * 20_000,
            b"9" * 50_000, content[: dice.randrange(len(content))], content * 2, b"\xff\xfe" + content,
            b"\x1b[2J\x1b]0;x\x07" + content, content.replace(b"\n", b"\r\n"), b"\xed\xa0\x80" * 99,
            gzip.compress(dice.randbytes(99)), gzip.compress(b"[" * 99_999), zlib.compress(content),
        ])  # fmt: skip
        changed = files.with_files({name: garbage})
        changed = (
            changed if dice.random() < 0.5 or name in {"manifest.json", ENTRIES} else changed.fitting_files()
        )
        if changed != files:
            code, said = ends_well(changed.write(tmp_path / "a" / "b"))
            assert code or name in {"README.txt", "verify.py"}, said


@pytest.mark.parametrize("unit", [b" ", b"\n", b"x", b'{"a":1}\n'], ids=["space", "newline", "x", "json"])
def test_a_bomb_takes_no_memory_and_no_time(files, tmp_path, unit):
    pack = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(pack.compress(unit * (1 << 20)) for _ in range(16)), pack.flush()])
    folder = files.with_files({ENTRIES: bomb}).write(tmp_path / "bomb")
    tracemalloc.start()
    code, said = ends_well(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (code, said[:17]) == (1, "TAMPERED. Entry 1")
    assert peak < 8 << 20


def test_a_name_of_a_bomb_is_no_bomb_either(files, tmp_path):
    head = b"\x1f\x8b\x08\x08\0\0\0\0\x02\xff" + b"a" * (1 << 20)
    assert ends_well(files.with_files({ENTRIES: head}).write(tmp_path / "x"))[0] == 2


@pytest.mark.parametrize("name", ["README.txt", ENTRIES, "checkpoint", "manifest.json", "receipts.txt"])
def test_a_file_that_is_too_long_is_not_read(files, tmp_path, name):
    folder = files.write(tmp_path / "long")
    with (folder / name).open("ab") as file:
        file.truncate(1 << 40)
    assert ends_well(folder)[0] in {1, 3}


def other(folder: Path, path: Path, kind: str) -> None:
    """Put something in the place of *path* that is no plain file of the export."""
    if path.is_dir():
        path.rename(folder.parent / "moved")
        path.symlink_to(folder.parent / "moved")
        return
    content = path.read_bytes()
    path.unlink()
    (folder.parent / "keep").write_bytes(content)
    match kind:
        case "link":
            path.symlink_to(folder.parent / "keep")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "loop", "device"])
@pytest.mark.parametrize("name", ["README.txt", ENTRIES, "checkpoint", "manifest.json", "texts", "tile/0"])
def test_what_is_no_plain_file_is_not_opened(files, tmp_path, name, kind):
    folder = files.write(tmp_path / "a" / "b")
    other(folder, folder / name, kind)
    assert ends_well(folder)[0] in {1, 2, 3}


def test_a_path_that_leads_out_is_not_followed(files, tmp_path):
    secret = tmp_path / "a" / "secret.txt"
    secret.parent.mkdir()
    secret.write_text("secret")
    for digest in (
        "../../secret",
        f"../../{sha256(b'secret').hexdigest()}",
        str(tmp_path / "a" / "secret"),
        "a\0b",
    ):
        told = json.loads(files.lines[1])["data"] | {"digest": digest}
        lines = resealed(files.lines, 2, data=told)
        forged = files.with_lines(lines).with_files({"checkpoint": note(lines, OLD)}).fitting()
        code, said = ends_well(forged.write(tmp_path / "a" / "b"), "--key", vkey(lines, OLD))
        assert code in {1, 2, 3}
        assert "secret\n" not in said


def test_folders_without_end_end(files, tmp_path):
    folder = files.write(tmp_path / "deep")
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(DEEP):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(here)
    code, said = judged(folder)
    assert code in {0, 3}, said
    remove(folder / "d")


def remove(folder: Path) -> None:
    """Without recursion, which the tests' own cleaning would use."""
    here = Path.cwd()
    os.chdir(folder)
    depth = 0
    while Path("d").is_dir():
        os.chdir("d")
        depth += 1
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()
    os.chdir(here)


@pytest.mark.parametrize(
    "words",
    [
        ("--key", "x"), ("--key", "a+00000000+" + "A" * 44), ("--key", ""), ("--key", "k" * 9999),
        ("--key", "/"), ("--key", "\0"), ("--receipt", "x"), ("--receipt", "1:" + "0" * 9999),
        ("--receipt", "/etc"),
        ("--receipt", "9" * 5000 + ":7F3A-91C2-K0PM-XQ4T"), ("--receipt", "0:7F3A-91C2-K0PM-XQ4T"),
        ("--witness", WITNESS),
    ],
    ids=repr,
)  # fmt: skip
def test_words_that_mean_nothing_are_told_as_such(files, tmp_path, words):
    assert ends_well(files.write(tmp_path / "a" / "b"), *words)[0] in {1, 2, 3}


@pytest.mark.parametrize("path", ["nowhere", ".", "README.txt", "a\0b", "x" * 5000])
def test_what_is_no_folder_is_unreadable(files, tmp_path, path):
    (tmp_path / "README.txt").write_text("")
    assert judged(tmp_path / path)[0] == 3


def test_a_log_takes_no_more_memory_than_its_hashes(tmp_path):
    """A file of entries is read as it is packed, and of each entry its hash is kept."""
    store = MemoryStore()
    asyncio.run(tell_story(store, signer=OLD))
    asyncio.run(tell_more(store, 4_000))
    asyncio.run(export(store, "acme", tmp_path / "acme"))
    log = verify.Verifier()
    tracemalloc.start()
    for _ in verify.check_export(tmp_path / "acme", log):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    plain = sum(map(len, Files.of(tmp_path / "acme").lines))
    assert log.size == 4_000
    assert peak < plain
    assert peak < 4_000 * 32 * 4 + (2 << 20)
