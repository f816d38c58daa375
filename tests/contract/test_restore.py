"""A ledger that was lost is made again from an export or from the copy off the box, and goes on."""

import asyncio
import gzip
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger import events as ev
from ledger.__main__ import main
from ledger.chain import GENESIS, Entry, Frontier, receipt
from ledger.clock import ManualClock
from ledger.events import Actor
from ledger.export import export
from ledger.keep import Copy
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.note import Checkpoint, Signer, Witness, origin_of, public_key, signed, vkey
from ledger.offbox import Batch
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore
from ledger.restore import found, judged, restore
from ledger.rotation import rotate
from ledger.store import MemoryStore, Store, StoreDown
from ledger.verify import Verifier
from tests.chains import CHARTER, NOON, POLICY_TEXT, chain, tell_story
from tests.servers import KINDS, SMALL, Peopled, a_server, shorten_segments

OLD, NEW = b"an old key of thirty-two bytes and more", b"a new key of thirty-two bytes and more"
BOT = Actor.orchestrator("bot.1")
WITNESS = Witness("witness.example/w1", b"w" * 32)


@dataclass(frozen=True)
class Lost:
    """What is left of a ledger whose server has gone."""

    folder: Path
    entries: list[Entry]
    note: str
    rotations: list[str]
    cosigned: str

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def copy(self) -> Path:
        return self.folder / "copies" / "acme.jsonl"

    def key(self, seed: bytes = OLD) -> str:
        return vkey(origin_of("acme", self.entries[0].hash), public_key(seed_of(seed)))

    def texts(self) -> list[str]:
        files = [self.folder / name for name in ("charter", "policy")]
        for file, text in zip(files, (CHARTER, POLICY_TEXT), strict=True):
            file.write_text(text)
        return [word for file in files for word in ("--text", str(file))]


async def a_log(store: Store) -> None:
    """A story under one key, and a few entries under the next."""
    await tell_story(store, signer=seed_of(OLD))
    await rotate(store, ManualClock(NOON), "acme", seed_of(OLD), seed_of(NEW))
    ledger = Ledger("acme", store, ManualClock(NOON), random.Random(1), signer=seed_of(NEW))
    for _ in range(3):
        assert isinstance(await ledger.record(BOT, lambda view, now: ev.Watched()), Entry)


@pytest.fixture
async def lost():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as folder:
        store = MemoryStore()
        await a_log(store)
        entries = await store.read("acme", 0, 100)
        size = len(entries) - 1
        root = Frontier().extend(bytes.fromhex(entry.hash) for entry in entries[:size]).root()
        seen = Checkpoint(origin_of("acme", entries[0].hash), size, root)
        cosigned = signed(seen, Signer(seen.origin, seed_of(NEW))) + WITNESS.sign(seen.text(), 7)
        await store.keep_cosigned("acme", cosigned)
        made = Lost(Path(folder), entries, await store.note("acme"), await store.kept_notes("acme"), cosigned)
        await export(store, "acme", made.export)
        copy, rotated = Copy(made.copy.parent, "acme"), len(entries) - 3
        copy.take(Batch("acme", entries[:rotated], made.rotations[0]))
        copy.take(Batch("acme", entries[rotated:], made.note))
        (made.folder / "ledger.key").write_bytes(NEW)
        yield made


@pytest.fixture(params=KINDS)
async def server(request, monkeypatch):
    shorten_segments(monkeypatch)
    async with a_server(request.param) as server:
        yield server


@pytest.fixture
async def valkey(monkeypatch):
    shorten_segments(monkeypatch)
    async with a_server("valkey") as server:
        yield server


@pytest.fixture
def run(capsys):
    async def ran(*arguments: object) -> tuple[int, str]:
        code = await asyncio.to_thread(main, [str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return ran


def at(server: Peopled) -> tuple[str, str]:
    return "--redis", server.urls["app"]


def store_of(server: Peopled) -> RedisStore:
    return server.store(segment=SMALL)


async def goes_on(store: Store, lost: Lost, tmp_path: Path) -> None:
    """It is the same log, the bot's next append goes on, and a new export of it is intact."""
    size = len(lost.entries)
    assert await store.read("acme", 0, 100) == lost.entries
    assert await store.head("acme") == lost.entries[-1].head
    assert (await store.note("acme"), await store.kept_notes("acme")) == (lost.note, lost.rotations)
    outside = NoteFile(tmp_path / "state", "acme")
    ledger = Ledger("acme", store, ManualClock(NOON), random.Random(1), signer=seed_of(NEW), outside=outside)
    made = await ledger.record(BOT, lambda view, now: ev.Watched())
    await ledger.close()
    assert isinstance(made, Entry), made
    assert (made.seq, made.prev) == (size + 1, lost.entries[-1].hash)
    await export(store, "acme", tmp_path / "again")
    given = [str(tmp_path / "again"), "--key", lost.key(), "--receipt", f"5:{receipt(lost.entries[4])}"]
    assert await asyncio.to_thread(main, ["verify", *given]) == 0


async def test_an_export_becomes_the_ledger_that_it_was(server, lost, run, tmp_path):
    code, said = await run("restore", lost.export, *at(server), "--key", lost.key())
    last = f"{len(lost.entries)}:{receipt(lost.entries[-1])}"
    assert (code, f"RESTORED. {len(lost.entries)} entries of acme, up to {last}" in said) == (0, True)
    store = store_of(server)
    for digest in {lost.entries[1].data["digest"], lost.entries[1].data["policy_digest"]}:
        assert await store.get_text("acme", digest) in {CHARTER, POLICY_TEXT}
    await goes_on(store, lost, tmp_path)
    assert await store.cosigned("acme") == lost.cosigned


async def test_an_export_has_what_the_witness_signed_and_who_knows_it_sees_how_far(lost, run):
    code, said = await run("verify", lost.export, "--key", lost.key(), "--witness", WITNESS.vkey)
    assert (code, f"up to entry {len(lost.entries) - 1} by {WITNESS.vkey}" in said) == (0, True), said
    other = Witness("witness.example/w2", b"w" * 32)
    code, said = await run("verify", lost.export, "--key", lost.key(), "--witness", other.vkey)
    assert (code, "There is no signature of" in said) == (2, True), said


async def test_the_copy_off_the_box_becomes_the_ledger_that_it_was(server, lost, run, tmp_path):
    code, said = await run(
        "restore", lost.copy, *at(server), "--key-file", lost.folder / "ledger.key", *lost.texts()
    )
    assert code == 0, said
    assert "missing" not in said
    await goes_on(store_of(server), lost, tmp_path)


async def test_texts_that_a_copy_does_not_have_are_named(valkey, lost, run):
    code, said = await run("restore", lost.copy, *at(valkey), "--key", lost.key())
    assert code == 0
    for name in ("digest", "policy_digest"):
        assert f"The text {lost.entries[1].data[name]} of entry 2 is missing" in said


async def test_a_new_folder_takes_it_and_the_note_outside_goes_along(lost, run):
    folder = lost.folder / "var"
    code, said = await run("restore", lost.export, "--data-dir", folder, "--key", lost.key(NEW))
    assert code == 0, said
    assert (folder / "state" / "acme.note").read_text() == lost.note
    assert (await run("verify", "--data-dir", folder, "--tenant", "acme", "--key", lost.key()))[0] == 0


async def test_a_ledger_that_is_there_is_never_written_over(valkey, lost, run):
    store = store_of(valkey)
    await tell_story(store)
    before = await store.read("acme", 0, 100)
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key())
    assert (code, "acme has a ledger there already, of 8 entries" in said) == (1, True)
    assert (await store.read("acme", 0, 100), await store.note("acme")) == (before, "")
    assert await store.kept_notes("acme") == []


async def test_a_second_restore_changes_nothing(valkey, lost, run):
    assert (await run("restore", lost.export, *at(valkey), "--key", lost.key()))[0] == 0
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key())
    assert (code, "NOT RESTORED" in said) == (1, True)
    assert await store_of(valkey).read("acme", 0, 100) == lost.entries


@pytest.mark.parametrize("reached", [1, SMALL, SMALL + 1, 7])
async def test_what_was_interrupted_goes_on_where_it_was(valkey, lost, run, tmp_path, reached):
    store = store_of(valkey)
    await store.keep_note("acme", lost.rotations[0])
    assert await store.append("acme", lost.entries[:reached], GENESIS) is None
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key())
    assert code == 0, said
    await goes_on(store, lost, tmp_path)


async def test_a_beginning_that_was_signed_is_somebodys_ledger(valkey, lost, run):
    store = store_of(valkey)
    assert await store.append("acme", lost.entries[:4], GENESIS, "a note") is None
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key())
    assert (code, "a ledger there already, of 4 entries" in said) == (1, True)


async def nothing_stands(server: Peopled) -> bool:
    return not await server.as_("owner")("KEYS", "led:*")


async def test_a_tampered_export_is_refused_and_nothing_is_written(valkey, lost, run):
    file = lost.export / "entries-00000.jsonl.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"rudo", b"anna", 1), mtime=0))
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key())
    assert (code, said.startswith("TAMPERED. Entry ")) == (1, True)
    assert await nothing_stands(valkey)


async def test_a_tampered_copy_is_refused_and_nothing_is_written(valkey, lost, run):
    lost.copy.write_bytes(lost.copy.read_bytes().replace(b"rudo", b"anna", 1))
    code, said = await run("restore", lost.copy, *at(valkey), "--key", lost.key())
    assert (code, said.startswith("TAMPERED. Entry ")) == (1, True)
    assert await nothing_stands(valkey)


@pytest.mark.parametrize("which", ["export", "copy"])
async def test_a_log_that_another_key_signed_is_refused(valkey, lost, run, which):
    (lost.folder / "ledger.key").write_bytes(b"x" * 32)
    for trust in (("--key", lost.key(b"x" * 32)), ("--key-file", lost.folder / "ledger.key")):
        code, said = await run("restore", getattr(lost, which), *at(valkey), *trust)
        assert (code, "No trusted key signed" in said) == (2, True)
    assert await nothing_stands(valkey)


@pytest.mark.parametrize("which", ["export", "copy"])
async def test_whose_signature_counts_must_be_said(valkey, lost, run, which):
    code, said = await run("restore", getattr(lost, which), *at(valkey), "--unsigned")
    assert (code, "Say whose signature counts" in said) == (3, True)
    code, said = await run("restore", getattr(lost, which), *at(valkey), "--witness", WITNESS.vkey)
    assert (code, "Say whose signature counts" in said) == (3, True)


async def test_an_unsigned_log_needs_the_word_for_it(valkey, run, tmp_path):
    store = MemoryStore()
    told = await tell_story(store)
    await export(store, "acme", tmp_path / "export")
    code, said = await run("restore", tmp_path / "export", *at(valkey))
    assert (code, said.startswith("INCOMPLETE.")) == (2, True)
    assert await nothing_stands(valkey)
    code, said = await run("restore", tmp_path / "export", *at(valkey), "--unsigned")
    assert (code, said.startswith("UNSIGNED.")) == (0, True)
    assert await store_of(valkey).read("acme", 0, 100) == told


async def test_an_older_state_than_the_note_outside_is_refused(valkey, lost, run, tmp_path):
    newest = MemoryStore()
    await newest.append("acme", lost.entries, GENESIS, lost.note)
    ledger = Ledger("acme", newest, ManualClock(NOON), random.Random(1), signer=seed_of(NEW))
    assert isinstance(await ledger.record(BOT, lambda view, now: ev.Watched()), Entry)
    NoteFile(tmp_path, "acme").keep(await newest.note("acme"))
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key(), "--state", tmp_path)
    size = len(lost.entries)
    assert (code, f"It ends at entry {size}, and the note in" in said) == (1, True)
    assert f"says that there were {size + 1}" in said
    assert await nothing_stands(valkey)


async def test_another_past_than_the_note_outside_is_refused(valkey, lost, run, tmp_path):
    origin, leaves = origin_of("acme", lost.entries[0].hash), [bytes.fromhex(lost.entries[0].hash), b"x" * 32]
    other = Checkpoint(origin, 2, Frontier().extend(leaves).root())
    NoteFile(tmp_path, "acme").keep(signed(other, Signer(origin, seed_of(OLD))))
    code, said = await run("restore", lost.export, *at(valkey), "--key", lost.key(), "--state", tmp_path)
    assert (code, "its first 2 entries are not those of the note" in said) == (1, True)
    assert await nothing_stands(valkey)


async def test_what_nobody_signed_behind_the_newest_note_is_left_out_only_if_it_is_said(valkey, lost, run):
    store = MemoryStore()
    await store.append("acme", lost.entries, GENESIS, lost.note)
    ledger = Ledger("acme", store, ManualClock(NOON), random.Random(1), signer=seed_of(NEW))
    assert isinstance(await ledger.record(BOT, lambda view, now: ev.Watched()), Entry)
    more = await store.read("acme", len(lost.entries), 1)
    lost.copy.write_bytes(lost.copy.read_bytes() + more[0].line + b"\n")
    code, said = await run("restore", lost.copy, *at(valkey), "--key", lost.key())
    assert (code, f"No trusted key signed {more[0].seq} to {more[0].seq}" in said) == (2, True)
    assert await nothing_stands(valkey)
    assert (await run("restore", lost.copy, *at(valkey), "--key", lost.key(), "--signed-part"))[0] == 0
    assert await store_of(valkey).read("acme", 0, 100) == lost.entries


async def test_what_changes_between_judging_and_writing_is_named(valkey, lost, run, monkeypatch):
    def swapped(store, source, log):
        *lines, last = lost.copy.read_bytes().splitlines(keepends=True)
        lost.copy.write_bytes(b"".join([*lines, _other_last(last)]))
        return restore(store, source, log)

    monkeypatch.setattr("ledger.commands.restore.restore", swapped)
    lost.copy.with_suffix(".note").rename(lost.folder / "note")
    code, said = await run("restore", lost.copy, *at(valkey), "--unsigned")
    assert (code, "it was changed while it was restored" in said) == (1, True)
    assert len(await store_of(valkey).read("acme", 0, 100)) < len(lost.entries)


def _other_last(line: bytes) -> bytes:
    says = json.loads(line) | {"reason": "another"}
    return json.dumps(says, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


async def test_where_nothing_is_nothing_can_be_restored(valkey, run, tmp_path):
    for path, code in ((tmp_path / "nowhere", 3), (tmp_path, 3)):
        assert (await run("restore", path, *at(valkey), "--unsigned"))[0] == code
    assert await nothing_stands(valkey)


async def test_no_note_stands_there_before_the_last_entry_does(lost, monkeypatch):
    monkeypatch.setattr("ledger.restore.PAGE", 4)
    source, log, store = found(lost.export), Verifier(keys=[lost.key()]), MemoryStore()
    judged(source, log)
    append, notes = store.append, []

    async def cut_off(*given):
        notes.append(await store.note("acme"))
        if len(notes) == 3:
            raise StoreDown("it went away")
        return await append(*given)

    store.append = cut_off
    with pytest.raises(StoreDown):
        await restore(store, source, log)
    assert (notes, (await store.head("acme")).seq) == (["", "", ""], 8)
    store.append = append
    assert await restore(store, source, log) == []
    assert (await store.note("acme"), await store.read("acme", 0, 100)) == (lost.note, lost.entries)


async def test_the_word_for_unsigned_opens_nothing_that_another_signed(valkey, lost, run):
    stranger = ("--key", lost.key(b"x" * 32), "--unsigned")
    assert (await run("restore", lost.export, *at(valkey), *stranger))[0] == 2
    assert await nothing_stands(valkey)


async def test_a_log_that_breaks_the_rules_is_refused_however_well_it_is_sealed(valkey, run, tmp_path):
    (tmp_path / "acme.jsonl").write_bytes(b"".join(entry.line + b"\n" for entry in chain(2)))
    code, said = await run("restore", tmp_path / "acme.jsonl", *at(valkey), "--unsigned")
    assert (code, "TAMPERED. Entry 1: it breaks a rule" in said) == (1, True)
    assert await nothing_stands(valkey)
