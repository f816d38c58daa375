"""The verifier that leaves the house with an export: whatever was changed, it names the first bad entry."""

import gzip
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import verify
from ledger.chain import GENESIS, Entry, Frontier, Head, Malformed, leaf_hash, parse, receipt, seal
from ledger.export import CannotExport, export
from ledger.store import MemoryStore
from tests.chains import DATA, TEXT, chain, rewritten, sealed, tell_story

ENTRIES = "entries-00000.jsonl.gz"


@pytest.fixture
async def told(tmp_path: Path) -> list[Entry]:
    """A story whose export lies in `tmp_path / "acme"`."""
    store = MemoryStore()
    entries = await tell_story(store)
    assert await export(store, "acme", tmp_path / "acme") == entries[-1].head
    return entries


@pytest.fixture
def folder(told: list[Entry], tmp_path: Path) -> Path:
    return tmp_path / "acme"


def judge(folder: Path, capsys: pytest.CaptureFixture[str], *receipts: str) -> tuple[int, str]:
    code = verify.main([str(folder), *(word for one in receipts for word in ("--receipt", one))])
    return code, capsys.readouterr().out


def rewrite(folder: Path, lines: list[bytes], *, manifest: bool = True) -> None:
    """Put other lines into the export, and make its manifest fit them as far as anybody could."""
    packed = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    (folder / ENTRIES).write_bytes(packed)
    if manifest:
        leaves = [leaf_hash(line) for line in lines]
        frontier = Frontier()
        for leaf in leaves:
            frontier = frontier.append(leaf)
        says = json.loads((folder / "manifest.json").read_text())
        says |= {"size": len(lines), "head": leaves[-1].hex(), "root": frontier.root().hex()}
        says["files"][ENTRIES] = sha256(packed).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(says))


def resealed(head: Head, entry: Entry, **changed: object) -> Entry:
    """*entry* again, after *head*, with some fields changed: what whoever holds the store can always make."""
    fields = {name: getattr(entry, name) for name in verify.FORM} | {"ts": entry.at} | changed
    for name in ("v", "seq", "prev"):
        del fields[name]
    return seal(head, **fields)


def rechained(entries: list[Entry], at: int, **changed: object) -> list[Entry]:
    """The log with entry *at* changed and everything after it sealed anew."""
    made: list[Entry] = []
    for entry in entries:
        head = made[-1].head if made else GENESIS
        made.append(resealed(head, entry, **(changed if entry.seq == at else {})))
    return made


def test_an_export_is_intact(folder, told, capsys):
    assert judge(folder, capsys) == (
        0,
        f"INTACT. acme has 8 entries; 0 receipts fit.\nIts last receipt is 8:{receipt(told[-1])}\n",
    )


@pytest.mark.parametrize("python", ["python3.10", "python3.11", sys.executable])
def test_it_needs_nothing_but_python(folder, python):
    if shutil.which(python) is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"{python} is not here")
    ran = subprocess.run(
        [python, "-I", "-S", "verify.py", "."], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("INTACT. acme has 8 entries")


def test_it_can_be_read_in_one_sitting():
    assert len(Path(verify.__file__).read_text().splitlines()) < 300


@given(DATA, TEXT)
def test_it_reads_what_the_ledger_seals(data, reason):
    line = sealed(data=data, reason=reason).line
    assert verify.read_entry(line) == json.loads(line)


@given(st.data())
def test_it_refuses_exactly_what_the_ledger_refuses(draw):
    line = bytearray(sealed(data={"n": [1, {"a": "ü"}], "t": True}).line)
    for _ in range(draw.draw(st.integers(1, 3))):
        line[draw.draw(st.integers(0, len(line) - 1))] = draw.draw(st.integers(0, 255))
    assert accepts(verify.read_entry, bytes(line)) == accepts(parse, bytes(line))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 9000,
        b"9" * 5000,
        sealed().line.replace(b":87", b":87.0"),
        sealed().line.replace(b":87", b":NaN"),
        sealed().line.replace(b'"v":1}', b'"v":1,"v":1}'),
        sealed().line + b" ",
        rewritten(more=1),
        rewritten(seq=0),
        rewritten(prev="A" * 64),
        rewritten(ts="2026-02-30T00:00:00.000000Z"),
        rewritten(actor={"kind": "engineer"}),
        rewritten(confidence=True),
        rewritten(ref={"seq": 0, "hash": "0" * 64}),
        rewritten(data={"n": 2**53}),
        rewritten(data={"ü": 1}),
        rewritten(data={"x": "x" * 16_384}),
        rewritten(data={"deep": json.loads("[" * 40 + "]" * 40)}),
        sealed().line.replace(b"checkout", b"\\ud800"),
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_it_refuses_what_is_no_entry(line):
    assert not accepts(verify.read_entry, line)
    assert not accepts(parse, line)


def accepts(read, line: bytes) -> bool:
    try:
        read(line)
    except ValueError:  # Malformed is one
        return False
    return True


def test_malformed_is_a_value_error():
    assert issubclass(Malformed, ValueError)


def edited(lines):
    return [*lines[:4], lines[4].replace(b"rudo", b"eve!"), *lines[5:]]


@pytest.mark.parametrize(
    ("change", "first_bad"),
    [
        (edited, 6),
        (lambda lines: [*lines[:4], lines[4].replace(b'"v":1', b'"v": 1'), *lines[5:]], 5),
        (lambda lines: [*lines[:4], lines[4].replace(b"rudo", b"\\u0072udo"), *lines[5:]], 5),
        (lambda lines: [*lines[:4], lines[4][:100], *lines[5:]], 5),
        (lambda lines: [*lines[:4], b"", *lines[4:]], 5),
        (lambda lines: [*lines[:3], *lines[4:]], 4),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 4),
        (lambda lines: [*lines[:3], lines[3], lines[3], *lines[4:]], 5),
        (lambda lines: [*lines[:5], chain(6)[5].line, *lines[5:]], 6),
        (lambda lines: [*lines, chain(9)[8].line], 9),
        (lambda lines: [*lines, sealed(parse(lines[-1]).head, tenant_id="globex").line], 9),
    ],
    ids=[
        "edit", "whitespace", "escape", "cut", "empty line", "delete", "delete first", "swap", "duplicate",
        "insert", "append", "another tenant",
    ],
)  # fmt: skip
def test_what_was_changed_is_named(folder, told, capsys, change, first_bad):
    rewrite(folder, change([entry.line for entry in told]))
    code, said = judge(folder, capsys)
    assert code == 1
    assert said.startswith(f"TAMPERED. Entry {first_bad}: ")


def test_whoever_rewrites_everything_is_caught_by_a_receipt_alone(folder, told, capsys):
    forged = rechained(told, 5, actor={"kind": "engineer", "id": "eve", "via": "telegram"})
    rewrite(folder, [entry.line for entry in forged])
    assert judge(folder, capsys)[0] == 0, "nothing in the folder itself can show it"
    code, said = judge(folder, capsys, f"8:{receipt(told[7])}")
    assert (code, said[:18]) == (1, "TAMPERED. Entry 8:")
    code, said = judge(folder, capsys, f"4:{receipt(told[3])}", f"5:{receipt(told[4])}")
    assert (code, said[:18]) == (1, "TAMPERED. Entry 5:")


def test_whoever_cuts_the_end_off_is_caught_by_a_receipt_alone(folder, told, capsys):
    rewrite(folder, [entry.line for entry in told[:6]])
    assert judge(folder, capsys)[0] == 0, "nothing in the folder itself can show it"
    assert judge(folder, capsys, f"8:{receipt(told[7])}") == (
        2,
        "INCOMPLETE. It ends at entry 6, and there is a receipt for 8.\n",
    )


def test_an_end_that_the_manifest_does_not_name_is_seen(folder, told, capsys):
    lines = [entry.line for entry in told]
    rewrite(folder, lines[:6], manifest=False)
    assert judge(folder, capsys)[0] == 2
    rewrite(folder, [*lines, sealed(told[-1].head).line], manifest=False)
    assert judge(folder, capsys)[1].startswith("TAMPERED. Entry 9: it stands beyond the end")
    rewrite(folder, [entry.line for entry in rechained(told, 5, reason="another")], manifest=False)
    assert judge(folder, capsys)[1].startswith("TAMPERED. The export: its head is")


@pytest.mark.parametrize("form", ["{}:{}", "#{} · {}", "#{} {}", " {}:{} "])
def test_receipts_fit_as_people_write_them(folder, told, capsys, form):
    code = receipt(told[4])
    assert judge(folder, capsys, form.format(5, code))[0] == 0
    assert judge(folder, capsys, form.format(5, code.lower()))[0] == 0
    assert judge(folder, capsys, form.format(5, code.replace("0", "O").replace("1", "l")))[0] == 0
    assert judge(folder, capsys, form.format(4, code))[0] == 1


@pytest.mark.parametrize("text", ["", "5", "5:XXXX", "x:7F3A-91C2-K0PM-XQ4T", "5:7F3A-91C2-K0PM-XQ4T-0000"])
def test_what_is_no_receipt_is_said(text):
    with pytest.raises(ValueError, match="no receipt"):
        verify.read_receipt(text)


def break_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_each_file_is_the_one_that_was_exported(folder, capsys):
    for path in sorted(folder.rglob("*.txt")):
        before = path.read_bytes()
        break_bit(path)
        assert judge(folder, capsys)[1].startswith("TAMPERED. Entry 1: the text that it adopts")
        path.unlink()
        assert judge(folder, capsys)[0] == 2
        path.write_bytes(before)
    (folder / "verify.py").write_text("print('INTACT')")
    assert judge(folder, capsys) == (
        1,
        "TAMPERED. The export: verify.py is not the file that was exported.\n",
    )


def test_a_broken_archive_is_unreadable(folder, capsys):
    break_bit(folder / ENTRIES)
    assert judge(folder, capsys)[0] in {1, 3}
    content = (folder / ENTRIES).read_bytes()
    (folder / ENTRIES).write_bytes(content[: len(content) // 2])
    assert judge(folder, capsys)[0] in {1, 3}
    (folder / ENTRIES).write_bytes(b"not a gzip")
    assert judge(folder, capsys)[0] == 3
    (folder / ENTRIES).unlink()
    assert judge(folder, capsys) == (2, f"INCOMPLETE. {ENTRIES} is missing.\n")


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "",
        "[]",
        "null",
        "{}",
        '{"format":"x"}',
        '{"format":"countersign-export/1","files":{},"size":"8"}',
        '{"format":"countersign-export/1","files":{"../../etc/passwd":"0"},"size":8}',
        '{"format":"countersign-export/1","files":{"/etc/passwd":"0"},"size":8}',
        '{"format":"countersign-export/1","files":[1],"size":8}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_makes_no_sense_is_unreadable(folder, capsys, manifest):
    (folder / "manifest.json").unlink()
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    code, said = judge(folder, capsys)
    assert code == 3
    assert said.startswith("UNREADABLE. ")


def test_entries_outside_the_manifest_are_seen(folder, capsys):
    shutil.copy(folder / ENTRIES, folder / "entries-00001.jsonl.gz")
    assert judge(folder, capsys)[1].startswith("TAMPERED. The export: entries-00001.jsonl.gz is not in")


def test_a_line_without_end_is_no_bomb(folder, told, capsys):
    lines = [entry.line for entry in told]
    rewrite(folder, [*lines[:3], b" " * 100_000_000, *lines[3:]])
    assert judge(folder, capsys)[1].startswith("TAMPERED. Entry 4: it has 16386 bytes")


def test_a_plain_file_of_lines_is_verified_too(told, tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(entry.line + b"\n" for entry in told))
    assert judge(path, capsys)[0] == 0
    path.write_bytes(path.read_bytes()[:-20])
    assert judge(path, capsys) == (2, "INCOMPLETE. The last line of log.jsonl is cut off.\n")
    path.write_bytes(b"")
    assert judge(path, capsys) == (2, "INCOMPLETE. It has no entry.\n")
    assert judge(tmp_path / "nowhere", capsys)[0] == 3


async def test_the_same_log_gives_the_same_bytes(tmp_path):
    store = MemoryStore()
    await tell_story(store)
    for name in ("one", "two", "two"):
        await export(store, "acme", tmp_path / name)
    one, two = (
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


async def test_many_entries_are_many_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ledger.export.A_FILE", 7)
    monkeypatch.setattr("ledger.export.PAGE", 5)
    store, entries = MemoryStore(), chain(23)
    await store.append("acme", entries, GENESIS)
    await export(store, "acme", tmp_path / "acme")
    assert sorted(p.name for p in (tmp_path / "acme").glob("entries-*")) == [
        f"entries-0000{n}.jsonl.gz" for n in range(4)
    ]
    assert judge(tmp_path / "acme", capsys)[0] == 0
    (tmp_path / "acme" / "entries-00001.jsonl.gz").unlink()
    assert judge(tmp_path / "acme", capsys)[0] == 2


async def test_an_export_never_overwrites_what_is_no_export(tmp_path):
    store = MemoryStore()
    await tell_story(store)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(CannotExport, match="no export"):
        await export(store, "acme", tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").exists()
    with pytest.raises(CannotExport, match="has no entry"):
        await export(store, "globex", tmp_path / "globex")
    assert not (tmp_path / "globex").exists()


async def test_a_text_that_the_store_has_lost_makes_the_export_incomplete(tmp_path, capsys):
    store = MemoryStore()
    await tell_story(store)
    store._texts.clear()
    await export(store, "acme", tmp_path / "acme")
    code, said = judge(tmp_path / "acme", capsys)
    assert code == 2
    assert "that entry 1 adopts is missing" in said
