"""The export of a log: the same bytes for the same log, and nothing of anybody's is written over."""

from pathlib import Path

import pytest

from ledger import lines, verify
from ledger.export import CannotExport, export
from ledger.store import MemoryStore
from tests.chains import tell_story
from tests.exports import NEW, OLD, Files, judged, long_story, vkey


async def test_the_same_log_gives_the_same_bytes(tmp_path):
    store = MemoryStore()
    await tell_story(store, signer=OLD)
    for name in ("one", "two", "two"):
        await export(store, "acme", tmp_path / name)
    assert Files.of(tmp_path / "one") == Files.of(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


async def test_it_has_all_that_a_stranger_needs(tmp_path):
    store = MemoryStore()
    entries = await long_story(store)
    told: list[tuple[int, int]] = []
    head = await export(store, "acme", tmp_path / "acme", lambda done, size: told.append((done, size)))
    files = Files.of(tmp_path / "acme")
    assert head == entries[-1].head
    assert told == [(60, 60)]
    assert sorted(name for name in files.content if not name.startswith("texts/")) == [
        "README.txt", "checkpoint", "entries-00000.jsonl.gz", "keys.txt", "manifest.json",
        "rotations/0000.note", "tile/0/000.p/60", "verify.py",
    ]  # fmt: skip
    assert len([name for name in files.content if name.startswith("texts/")]) == 2
    assert files.lines == [entry.line for entry in entries]
    keys = [vkey(files.lines, seed) for seed in (OLD, NEW)]
    assert files.content["keys.txt"].decode().splitlines() == keys
    for key in keys:
        code, said = judged(tmp_path / "acme", "--key", key)
        assert (code, f"Signed up to entry 60 by {keys[1]}" in said) == (0, True), said


async def test_a_log_that_nobody_signed_is_exported_and_says_so(tmp_path):
    store = MemoryStore()
    await tell_story(store)
    await export(store, "acme", tmp_path / "acme")
    assert judged(tmp_path / "acme") == (
        2,
        "INCOMPLETE. 8 entries of acme fit together. No trusted key signed 1 to 8.\n",
    )


async def test_an_export_never_overwrites_what_is_no_export(tmp_path: Path):
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


async def test_the_lines_alone_are_judged_with_the_notes_that_lie_beside_them(tmp_path):
    store = MemoryStore()
    entries = await long_story(store)
    copy = tmp_path / "acme.jsonl"
    copy.write_bytes(b"".join(entry.line + b"\n" for entry in entries))

    def judge() -> str:
        log = verify.Verifier()
        assert [*lines.check(copy, log)] == [entry.line for entry in entries]
        return log.verdict()

    with pytest.raises(verify.Incomplete, match="Not both keys signed"):
        judge()
    copy.with_suffix(".rotations").mkdir()
    (tmp_path / "acme.rotations" / "0000.note").write_text((await store.kept_notes("acme"))[0])
    with pytest.raises(verify.Incomplete, match="No trusted key signed 11 to 60"):
        judge()
    copy.with_suffix(".note").write_text(await store.note("acme"))
    assert judge().startswith("INTACT. 60 entries of acme")
    copy.with_suffix(".note").write_bytes(b"\xff")
    with pytest.raises(verify.Tampered, match="beside it cannot be read"):
        judge()
