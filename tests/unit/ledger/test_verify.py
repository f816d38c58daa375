"""The verifier that leaves the house with an export: whatever was changed, it names the first bad entry."""

import ast
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from token import COMMENT, DEDENT, ENDMARKER, INDENT, NEWLINE, NL
from tokenize import generate_tokens

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import verify
from ledger.chain import Entry, Malformed, parse, receipt
from ledger.export import export
from ledger.store import MemoryStore
from tests.chains import DATA, TEXT, chain, rewritten, sealed, tell_story
from tests.exports import ENTRIES, EVE, OLD, Files, judged, note, packed, resealed, tell_more, vkey

PYTHONS = (
    sys.executable,
    "/root/.pyenv/versions/3.10.13/bin/python3",
    "/root/.pyenv/versions/3.13.0/bin/python3",
    "python3.10",
    "python3.11",
)


@pytest.fixture
async def told(tmp_path: Path) -> list[Entry]:
    """A signed story whose export lies in `tmp_path / "acme"`."""
    store = MemoryStore()
    entries = await tell_story(store, signer=OLD)
    assert await export(store, "acme", tmp_path / "acme") == entries[-1].head
    return entries


@pytest.fixture
def folder(told: list[Entry], tmp_path: Path) -> Path:
    return tmp_path / "acme"


@pytest.fixture
def files(folder: Path) -> Files:
    return Files.of(folder)


@pytest.fixture
def judge(tmp_path: Path):
    """Judges files, at a place of their own."""

    def judging(files: Files, *words: str) -> tuple[int, str]:
        return judged(files.write(tmp_path / "judged"), *words)

    return judging


def lines_of(entries: list[Entry]) -> list[bytes]:
    return [entry.line for entry in entries]


def key_of(told: list[Entry], seed: bytes = OLD) -> str:
    return vkey(lines_of(told), seed)


def test_an_export_is_intact(folder, told):
    code, said = judged(folder, "--key", key_of(told), "--receipt", f"6:{receipt(told[5])}")
    assert (code, said.splitlines()) == (
        0,
        [
            "INTACT. 9 entries of acme fit together, and so do 1 receipts.",
            f"Signed up to entry 9 by {key_of(told)}",
            f"Its last receipt is 9:{receipt(told[8])}",
        ],
    )


def test_what_nobody_outside_vouches_for_is_said(folder, told):
    code, said = judged(folder)
    assert code == 0
    assert f"Signed up to entry 9 by {key_of(told)}" in said
    assert "NOT CHECKED: whose key that is." in said
    assert "NOT CHECKED: that its holder signed no other past," in said


@pytest.mark.parametrize("python", PYTHONS)
def test_it_needs_nothing_but_python(folder, python):
    if shutil.which(python) is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"{python} is not here")
    ran = subprocess.run(
        [python, "-I", "-S", "verify.py", "."], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("INTACT. 9 entries of acme")


def test_it_can_be_read_in_one_sitting():
    """Less than 300 lines of code; with what explains them, and what keeps them apart, a few pages."""
    text = Path(verify.__file__).read_text()
    assert len(code_lines(text)) < 300
    assert len(text.splitlines()) < 430


def code_lines(text: str) -> set[int]:
    """The lines of *text* that are more than a blank, a comment or a docstring."""
    quiet = {COMMENT, NL, NEWLINE, INDENT, DEDENT, ENDMARKER}
    tokens = [one for one in generate_tokens(io.StringIO(text).readline) if one.type not in quiet]
    told = {
        at
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        for at in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    return {at for one in tokens for at in range(one.start[0], one.end[0] + 1)} - told


@pytest.fixture(scope="module")
def read():
    """Reads lines one after the other, and so knows their forms."""
    forms: dict[str, list[re.Pattern[str]]] = {}
    return lambda line: verify.read_entry(line, forms)


@given(DATA, TEXT)
def test_it_reads_what_the_ledger_seals(read, data, reason):
    line = sealed(data=data, reason=reason).line
    told, event, prev, seq, tenant = read(line)
    assert json.loads(told) == data
    assert (event, prev, seq, tenant) == ('"Authorized"', "0" * 64, "1", '"acme"')


@given(st.data())
def test_it_refuses_exactly_what_the_ledger_refuses(read, draw):
    line = bytearray(sealed(data={"n": [1, {"a": "ü"}], "t": True, "u": -7}).line)
    for _ in range(draw.draw(st.integers(0, 3))):
        line[draw.draw(st.integers(0, len(line) - 1))] = draw.draw(st.integers(0, 255))
    assert accepts(read, bytes(line)) == accepts(parse, bytes(line))


PIECES = st.sampled_from(
    [
        '{"', '":', "{}", "[]", "[", "]", "}", '"a"', '"a,0"', '"a:"', '"["', ",", ":", "0", "01", "-0", "-7",
        "1.0", "1e0", "9007199254740991", "9007199254740992", "null", "true", '"\\u0000"', '"\\u00e9"',
        '"\\/"', '"ü"', " ",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=9).map("".join))
def test_a_form_that_was_met_lets_nothing_else_through(read, text):
    """Values are looked at alone, keys and brackets by their form: both ways they say what JSON says."""
    line = sealed(data={"a": [0, {"b": "0"}]}).line
    assert accepts(read, line)
    told = line.replace(b'"data":{"a":[0,{"b":"0"}]}', b'"data":{"a":[' + text.encode() + b"]}")
    assert accepts(read, told) == accepts(parse, told)
    told = line.replace(b'{"a":[0,{"b":"0"}]}', text.encode())
    assert accepts(read, told) == accepts(parse, told)


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
        rewritten(ref={"seq": 2**53, "hash": "0" * 64}),
        rewritten(data={"n": 2**53}),
        rewritten(data={"ü": 1}),
        rewritten(data={"x": "x" * 16_384}),
        rewritten(data={"deep": json.loads("[" * 40 + "]" * 40)}),
        sealed().line.replace(b"checkout", b"\\ud800"),
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_it_refuses_what_is_no_entry(read, line):
    assert not accepts(read, line)
    assert not accepts(parse, line)


def accepts(read, line: bytes) -> bool:
    try:
        read(line)
    except ValueError:  # Malformed is one
        return False
    return True


def test_a_name_is_never_taken_for_a_value(read):
    line = sealed(data={"a:1": 0, "b,2": [0]}).line
    assert accepts(read, line)
    for name in (b'"a:"x""', b'"a:7"'):
        told = line.replace(b'"a:1"', name)
        assert accepts(read, told) == accepts(parse, told)
    assert not accepts(read, line.replace(b'"a:1"', b'"a:"x""'))


def test_malformed_is_a_value_error():
    assert issubclass(Malformed, ValueError)


def edited(lines):
    return [*lines[:4], lines[4].replace(b"checkout", b"checkin!"), *lines[5:]]


@pytest.mark.parametrize("tree", [False, True], ids=["tree left", "tree fitting"])
@pytest.mark.parametrize(
    ("change", "first_bad"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(b'"v":1', b'"v": 1'), *lines[5:]], 5),
        (lambda lines: [*lines[:4], lines[4].replace(b"checkout", b"\\u0063heckout"), *lines[5:]], 5),
        (lambda lines: [*lines[:4], lines[4][:100], *lines[5:]], 5),
        (lambda lines: [*lines[:4], b"", *lines[4:]], 5),
        (lambda lines: [*lines[:3], *lines[4:]], 4),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 4),
        (lambda lines: [*lines[:3], lines[3], lines[3], *lines[4:]], 5),
        (lambda lines: [*lines[:5], chain(6)[5].line, *lines[5:]], 6),
        (lambda lines: [*lines, sealed(parse(lines[-1]).head, tenant_id="globex").line], 10),
    ],
    ids=[
        "whitespace", "escape", "cut", "empty line", "delete", "delete first", "swap", "duplicate", "insert",
        "another tenant",
    ],
)  # fmt: skip
def test_what_was_changed_is_named(files, judge, change, first_bad, tree):
    changed = files.with_lines(change(files.lines), tree=tree)
    code, said = judge(changed)
    assert code == 1
    assert said.startswith(f"TAMPERED. Entry {first_bad}: ")


def test_an_edit_is_named_by_the_tree_or_else_by_the_next_entry(files, judge):
    lines = edited(files.lines)
    assert judge(files.with_lines(lines, tree=False))[1].startswith("TAMPERED. Entry 5: ")
    assert judge(files.with_lines(lines).fitting())[1].startswith("TAMPERED. Entry 6: prev")


def test_an_edit_with_all_after_it_sealed_anew_is_named_by_tree_signature_or_receipt(files, judge, told):
    lines = resealed(files.lines, 6, reason="another")
    assert judge(files.with_lines(lines, tree=False))[1].startswith(
        "TAMPERED. Entry 6: its hash is not in the tree"
    )
    forged = files.with_lines(lines).fitting()
    assert judge(forged)[1] == "TAMPERED. The export: its first 9 entries are not those that were signed.\n"
    kept = [f"--receipt={seq}:{receipt(told[seq - 1])}" for seq in (5, 7, 9)]
    assert judge(forged, *kept)[1].startswith("TAMPERED. Entry 7: its receipt is ")


def test_who_has_the_key_can_sign_another_past_and_a_receipt_alone_shows_it(files, judge, told):
    lines = resealed(files.lines, 6, actor={"kind": "engineer", "id": "eve", "via": "telegram"})
    forged = files.with_lines(lines).with_files({"checkpoint": note(lines, OLD)}).fitting()
    assert judge(forged, "--key", key_of(told))[0] == 0, "nothing in the folder itself can show it"
    assert judge(forged, f"--receipt=9:{receipt(told[8])}")[1].startswith("TAMPERED. Entry 9: ")


def test_who_cuts_the_end_off_and_has_an_older_checkpoint_is_caught_by_a_receipt_alone(files, judge, told):
    lines = files.lines[:7]
    forged = files.with_lines(lines).with_files({"checkpoint": note(lines, OLD)}).fitting()
    assert judge(forged, "--key", key_of(told))[0] == 0, "nothing in the folder itself can show it"
    assert judge(forged, f"--receipt=9:{receipt(told[8])}") == (
        2,
        "INCOMPLETE. It ends at entry 7, and there was an entry 9.\n",
    )


def test_a_log_that_is_written_anew_under_another_key_is_caught_by_a_known_key(files, judge, told):
    lines = resealed(
        files.lines, 1, data={"durability": "", "signer": vkey(files.lines, EVE)[-44:], "version": ""}
    )
    keys = f"{vkey(lines, EVE)}\n".encode()
    forged = files.with_lines(lines).with_files({"checkpoint": note(lines, EVE), "keys.txt": keys}).fitting()
    assert judge(forged)[0] == 0, "nothing in the folder itself can show it"
    code, said = judge(forged, "--key", key_of(told))
    assert (code, "No trusted key signed 1 to 9" in said) == (2, True)


def test_a_log_that_nobody_signed_is_said_to_be_so(files, judge, told):
    assert judge(files.with_files({"checkpoint": None})) == (
        2,
        "INCOMPLETE. 9 entries of acme fit together. No trusted key signed 1 to 9.\n",
    )
    assert judge(files.with_files({"checkpoint": note(files.lines[:5], OLD)}))[1].endswith("signed 6 to 9.\n")
    assert judge(files, "--key", key_of(told, EVE))[0] == 2


def test_an_end_that_the_manifest_does_not_name_is_seen(files, judge):
    assert judge(files.with_lines(files.lines[:6], tree=False))[0] == 2
    longer = [*files.lines, sealed(parse(files.lines[-1]).head).line]
    assert judge(files.with_lines(longer))[1].startswith("TAMPERED. Entry 10: it stands behind the end")


@pytest.mark.parametrize("form", ["{}:{}", "#{} · {}", "#{} {}", " {}:{} "])
def test_receipts_fit_as_people_write_them(folder, told, form):
    code = receipt(told[4])
    assert judged(folder, "--receipt", form.format(5, code))[0] == 0
    assert judged(folder, "--receipt", form.format(5, code.lower()))[0] == 0
    assert judged(folder, "--receipt", form.format(5, code.replace("0", "O").replace("1", "l")))[0] == 0
    assert judged(folder, "--receipt", form.format(4, code))[0] == 1


def test_receipts_are_also_read_from_files(files, judge, told, tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text(f"#5 · {receipt(told[4])}\n7:{receipt(told[6])}\n")
    assert "and so do 2 receipts" in judge(files, "--receipts", str(kept))[1]
    beside = files.with_files({"receipts.txt": f"5:{receipt(told[4])}\n9:{receipt(told[4])}\n".encode()})
    assert judge(beside)[1].startswith("TAMPERED. Entry 9: its receipt is")


@pytest.mark.parametrize("text", ["", "5", "5:XXXX", "x:7F3A-91C2-K0PM-XQ4T", "5:7F3A-91C2-K0PM-XQ4T-0000"])
def test_what_is_no_receipt_is_said(text, folder):
    with pytest.raises(ValueError, match="no receipt"):
        verify.read_receipt(text)
    if text:
        assert judged(folder, "--receipt", text)[0] == 3


def test_each_file_is_the_one_that_was_exported(files, judge):
    for name, content in sorted(files.content.items()):
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        code, said = judge(files.with_files({name: bytes(flipped)}))
        assert code, name
        assert code == 1 or name in {"manifest.json", "checkpoint"}, said
        assert judge(files.with_files({name: None}))[0] == (3 if name == "manifest.json" else 2), name


def test_a_text_is_named_with_the_entry_that_adopts_it(files, judge):
    name = next(name for name in files.content if name.startswith("texts/"))
    forged = files.with_files({name: b"another"}).fitting()
    assert judge(forged)[1] == "TAMPERED. Entry 2: the text that it adopts is another one.\n"


def test_a_file_of_lines_is_one_gzip_and_nothing_else(files, judge):
    content = files.content[ENTRIES]
    for other in (
        content + content,
        content + b"\0",
        content + b"x",
        content[:-1],
        content[:40],
        b"",
        b"x" * 99,
    ):
        code, said = judge(files.with_files({ENTRIES: other}).with_files({}))
        assert code in {1, 2}, said
    more = files.with_files({ENTRIES: gzip.compress(b"", mtime=0) + content})
    assert judge(more)[1] == f"TAMPERED. The export: {ENTRIES} goes on after its end.\n"


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "",
        "[]",
        "null",
        "{}",
        '{"format":"x"}',
        "[" * 100_000,
        "\x1b[2J",
        '{\n "format": "countersign-export/1",\n',
    ],
)
def test_a_manifest_that_makes_no_sense_is_unreadable(files, judge, manifest):
    code, said = judge(files.with_files({"manifest.json": None if manifest is None else manifest.encode()}))
    assert (code, said.isprintable(), said[:12]) == (3, False, "UNREADABLE. ")
    assert said.strip().isprintable()


@pytest.mark.parametrize(
    "says",
    [
        {"size": 10**15}, {"size": 8}, {"head": "0" * 64}, {"root": "0" * 64}, {"tenant": "globex"},
        {"format": "countersign-export/1"}, {"more": 1}, {"files": {}}, {"files": {"../../etc/passwd": "0"}},
        {"files": [1]}, {"size": "9"}, {"durability": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_another_log_is_seen(files, judge, says):
    assert judge(files.fitting(**says))[0] in {1, 2, 3}


@pytest.mark.parametrize("name", ["entries-00001.jsonl.gz", "notes.txt", "texts/more", "tile/0/001", "a/b/c"])
def test_what_does_not_belong_to_it_is_named(files, judge, name):
    forged = files.with_files({name: b"x"})
    for one in (forged, forged.fitting()):
        code, said = judge(one)
        assert code in {1, 2}
        assert name in said


def test_what_the_system_puts_there_is_no_part_of_it(files, judge):
    assert judge(files.with_files({".DS_Store": b"x"}))[0] == 0


def test_a_line_without_end_is_no_bomb(files, judge):
    lines = files.lines
    bomb = packed([*lines[:3], b" " * 100_000_000, *lines[3:]])
    assert judge(files.with_files({ENTRIES: bomb}))[1].startswith("TAMPERED. Entry 4: it has more than 16384")


async def test_many_entries_are_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("ledger.export.A_FILE", 7)
    monkeypatch.setattr("ledger.export.PAGE", 5)
    store = MemoryStore()
    await tell_story(store, signer=OLD)
    await tell_more(store, 23)
    await export(store, "acme", tmp_path / "acme")
    assert sorted(p.name for p in (tmp_path / "acme").glob("entries-*")) == [
        f"entries-0000{n}.jsonl.gz" for n in range(4)
    ]
    assert judged(tmp_path / "acme")[0] == 0
    for number in (1, 2):
        (tmp_path / "acme" / f"entries-0000{number}.jsonl.gz").unlink()
    assert judged(tmp_path / "acme") == (2, "INCOMPLETE. It ends at entry 7, and there was an entry 23.\n")


async def test_a_text_that_the_store_has_lost_makes_the_export_incomplete(tmp_path):
    store = MemoryStore()
    await tell_story(store, signer=OLD)
    store._texts.clear()
    await export(store, "acme", tmp_path / "acme")
    code, said = judged(tmp_path / "acme")
    assert code == 2
    assert said.startswith("INCOMPLETE. texts/")
