"""A signed log: each batch has its note, and a log that a note contradicts is sealed."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger import events as ev
from ledger.__main__ import main
from ledger.chain import Entry, Frontier
from ledger.clock import ManualClock
from ledger.events import Actor
from ledger.keys import keygen, seed_of
from ledger.ledger import Ledger, Refusal
from ledger.note import Checkpoint, Signer, Verifier, origin_of, public_key, read_note, signed, vkey
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from ledger.rotation import CannotRotate, rotate
from ledger.store import Conflict, MemoryStore, Sealed, Store
from ledger.view import View
from tests.chains import NOON
from tests.valkey import a_valkey

KEY, NEXT, STRANGE = (seed_of(bytes([n]) * 32) for n in (1, 2, 3))
BOT = Actor.orchestrator("bot.1")
STARTED = ev.Started(signer=public_key(KEY))
CLOCK = ManualClock(NOON)


@pytest.fixture
async def valkey_store() -> AsyncIterator[RedisStore]:
    async with a_valkey() as server:
        deployer = RedisStore(connect(server.url_of("deploy")))
        await deployer.load_functions()
        await deployer.close()
        store = RedisStore(connect(server.url))
        yield store
        await store.close()


@pytest.fixture(params=["memory", "valkey"])
def store(request: pytest.FixtureRequest) -> Store:
    return MemoryStore() if request.param == "memory" else request.getfixturevalue("valkey_store")


def a_ledger(store: Store, signer: bytes | None = KEY, **more) -> Ledger:
    return Ledger("acme", store, CLOCK, random.Random(1), signer=signer, **more)


async def say(ledger: Ledger, event: ev.Event = STARTED) -> Entry | Refusal:
    return await ledger.record(BOT, lambda view, now: event)


async def a_log(store: Store, count: int = 3, **more) -> list[Entry]:
    """*count* entries, a batch each, by a process that has ended."""
    ledger = a_ledger(store, **more)
    for _ in range(count):
        assert isinstance(await say(ledger), Entry)
    await ledger.close()
    return await store.read("acme", 0, 1000)


async def begun(store: Store, signer: bytes | None = KEY, **more) -> Ledger:
    """A process that begins on what stands there."""
    ledger = a_ledger(store, signer, **more)
    await ledger.sweep()
    return ledger


async def copied(store: Store, entries: list[Entry], note: str) -> MemoryStore:
    """A store that somebody has put in the place of ours."""
    other = MemoryStore()
    await other.append("acme", entries, View("acme").head, note)
    return other


def root_of(entries: list[Entry]) -> bytes:
    return Frontier().extend(bytes.fromhex(entry.hash) for entry in entries).root()


def note_over(entries: list[Entry], *seeds: bytes) -> str:
    origin = origin_of("acme", entries[0].hash)
    checkpoint = Checkpoint(origin, len(entries), root_of(entries))
    return signed(checkpoint, *(Signer(origin, seed) for seed in seeds))


async def test_each_batch_goes_with_a_note_over_the_whole_log(store):
    ledger = a_ledger(store)
    for size in (1, 5, 64, 3):
        await asyncio.gather(*(say(ledger) for _ in range(size)))
        entries = await store.read("acme", 0, 1000)
        note = await store.note("acme")
        assert read_note(note)[0] == Checkpoint(
            origin_of("acme", entries[0].hash), len(entries), root_of(entries)
        )
        assert Verifier.parse(ledger.notary.vkey).verify(note)
        assert ledger.notary.note == note
    assert not (await begun(store)).sealed


async def test_without_a_key_there_is_no_note_and_that_is_said(store):
    ledger = a_ledger(store, None)
    await say(ledger, ev.Started())
    assert await store.note("acme") == ""
    assert ledger.caveats() == ["The ledger is not signed."]


async def test_a_log_that_began_without_a_key_is_signed_wholly_from_the_first_batch_with_one(store):
    await say(a_ledger(store, None), ev.Started())
    ledger = await begun(store)
    assert not ledger.sealed
    await say(ledger)
    assert read_note(await store.note("acme"))[0].size == 2
    assert ledger.caveats() == []


async def test_who_is_late_is_told_the_note_with_what_was_missed(store):
    first, *later = await a_log(store)
    late = await store.append("acme", later[:1], first.head)
    assert isinstance(late, Conflict)
    assert late.note == await store.note("acme")


async def test_two_processes_with_one_key_sign_one_log(store):
    one, two = await begun(store), await begun(store)
    for _ in range(5):
        made = await asyncio.gather(say(one), say(two))
        assert all(isinstance(entry, Entry) for entry in made), made
    await one.catch_up()
    await two.catch_up()
    assert one.view.head == two.view.head
    assert one.notary.tree == two.notary.tree
    assert one.notary.note == two.notary.note == await store.note("acme")


async def test_a_process_without_the_key_does_not_write_on_a_signed_log(store):
    await a_log(store)
    ledger = await begun(store, None)
    assert not ledger.sealed
    refused = await say(ledger)
    assert isinstance(refused, Refusal)
    assert refused.kind == "unsigned"
    assert (await store.head("acme")).seq == 3


async def test_a_process_with_another_key_seals_and_says_what_to_do(store):
    await a_log(store)
    ledger = await begun(store, STRANGE)
    assert "put back the one" in ledger.sealed or "put the old one back" in ledger.sealed
    refused = await say(ledger)
    assert isinstance(refused, Refusal)
    assert refused.kind == "sealed"
    assert (await store.head("acme")).seq == 3


async def test_an_unsigned_tail_seals(store):
    entries = await a_log(store)
    fourth = await say(a_ledger(await copied(store, entries, ""), None), ev.Started())
    assert isinstance(fourth, Refusal), "the log itself says that it is signed"
    scratch = MemoryStore()
    loose = a_ledger(scratch, None)
    loose.view = (await begun(store, None)).view
    loose._begun = True
    await scratch.append("acme", entries, View("acme").head)
    fourth = await say(loose, ev.Started())
    assert await store.append("acme", [fourth], entries[-1].head) is None
    ledger = await begun(store)
    assert "entries 4 to 4 are not signed" in ledger.sealed


async def test_a_running_process_notices_an_unsigned_tail_before_it_signs_it(store):
    running = a_ledger(store)
    await say(running)
    scratch = MemoryStore()
    loose = a_ledger(scratch, None)
    loose.view = (await begun(store, None)).view
    loose._begun = True
    await scratch.append("acme", await store.read("acme", 0, 9), View("acme").head)
    tail = await say(loose, ev.Started())
    assert await store.append("acme", [tail], running.view.head) is None
    refused = await say(running)
    assert isinstance(refused, Refusal)
    assert refused.kind == "sealed"
    assert (await store.head("acme")).seq == 2


async def test_a_note_that_was_taken_away_seals():
    store = MemoryStore()
    entries = await a_log(store)
    ledger = await begun(await copied(store, entries, ""))
    assert "entries 1 to 3 are not signed" in ledger.sealed


async def test_an_operator_who_signs_the_log_anew_with_another_key_is_noticed():
    store = MemoryStore()
    entries = await a_log(store)
    ledger = await begun(await copied(store, entries, note_over(entries, STRANGE)))
    assert "not signed by the key of this log" in ledger.sealed


async def test_an_operator_who_writes_another_past_with_his_key_is_noticed_by_ours():
    forged = MemoryStore()
    theirs = a_ledger(forged, STRANGE)
    await say(theirs, ev.Started(signer=public_key(STRANGE)))
    assert "LEDGER_KEY is not the key of this log" in (await begun(forged)).sealed


@pytest.mark.parametrize("note", ["", "garbage", "countersign/x\n1\nAAAA\n\n— x AAAAAAAA\n"])
async def test_a_note_that_is_none_seals(note):
    store = MemoryStore()
    entries = await a_log(store)
    assert (await begun(await copied(store, entries, note))).sealed


async def test_a_note_of_another_past_seals():
    store = MemoryStore()
    entries = await a_log(store)
    other = a_ledger(MemoryStore())
    await say(other, ev.Started(signer=public_key(KEY), version="another"))
    await say(other)
    await say(other)
    ledger = await begun(await copied(store, entries, other.notary.note))
    assert "its first 3 entries are others" in ledger.sealed


# The note outside.


async def kept(folder: Path, store: Store, count: int) -> list[Entry]:
    return await a_log(store, count, outside=NoteFile(folder, "acme"))


async def test_the_newest_note_lies_outside_when_a_process_has_ended(store, tmp_path):
    await kept(tmp_path, store, 5)
    assert (tmp_path / "acme.note").read_text() == await store.note("acme")
    ledger = await begun(store, outside=NoteFile(tmp_path, "acme"))
    assert not ledger.sealed
    assert ledger.caveats() == []


async def test_a_store_that_was_rolled_back_to_an_older_signed_state_is_noticed(tmp_path):
    entries = await kept(tmp_path, MemoryStore(), 5)
    older = await copied(MemoryStore(), entries[:3], note_over(entries[:3], KEY))
    assert not (await begun(older)).sealed, "without the note outside, nobody could know"
    ledger = await begun(older, outside=NoteFile(tmp_path, "acme"))
    assert "rollback detected: it has 3 entries, and the note in" in ledger.sealed
    assert "move" in ledger.sealed
    assert "acme.note away" in ledger.sealed


async def test_a_log_that_was_emptied_is_noticed(tmp_path):
    await kept(tmp_path, MemoryStore(), 5)
    ledger = await begun(MemoryStore(), outside=NoteFile(tmp_path, "acme"))
    assert "rollback detected: it has 0 entries" in ledger.sealed


async def test_a_fork_that_is_signed_with_our_own_key_is_noticed(tmp_path):
    entries = await kept(tmp_path, MemoryStore(), 5)
    fork = await copied(MemoryStore(), entries[:3], note_over(entries[:3], KEY))
    forger = await begun(fork)
    for _ in range(4):
        await say(forger, ev.Started(version="forged"))
    assert "its first 5 entries are others" in (await begun(fork, outside=NoteFile(tmp_path, "acme"))).sealed


async def test_where_no_note_lies_outside_that_is_said_and_one_is_kept_from_then_on(store, tmp_path):
    await a_log(store)
    ledger = await begun(store, outside=NoteFile(tmp_path, "acme"))
    assert "no note of the ledger outside" in ledger.caveats()[0]
    await ledger.close()
    assert (tmp_path / "acme.note").read_text() == await store.note("acme")


async def test_an_older_note_outside_is_no_rollback(store, tmp_path):
    await kept(tmp_path, store, 2)
    await a_log(store, 3)
    assert not (await begun(store, outside=NoteFile(tmp_path, "acme"))).sealed


async def test_a_newer_note_outside_is_not_replaced_by_an_older(tmp_path):
    entries = await a_log(MemoryStore(), 5)
    file = NoteFile(tmp_path, "acme")
    file.keep(note_over(entries, KEY))
    file.keep(note_over(entries[:3], KEY))
    assert read_note(file.read())[0].size == 5


async def test_a_note_outside_that_is_garbage_seals(store, tmp_path):
    await a_log(store)
    (tmp_path / "acme.note").write_bytes(b"\xff\xfe")
    ledger = await begun(store, outside=NoteFile(tmp_path, "acme"))
    assert "cannot be read" in ledger.sealed


async def test_a_folder_that_cannot_be_written_is_said_and_stops_nothing(store, tmp_path):
    (tmp_path / "file").write_text("")
    ledger = a_ledger(store, outside=NoteFile(tmp_path / "file", "acme"))
    assert isinstance(await say(ledger), Entry)
    await ledger.close()
    assert any("cannot be" in caveat for caveat in ledger.caveats())


async def test_a_log_that_shrinks_under_a_running_process_is_noticed_by_the_sweep():
    store = MemoryStore()
    ledger = a_ledger(store)
    await say(ledger)
    await say(ledger)
    store._logs["acme"].pop()
    await ledger.sweep()
    assert "it had 2 entries, and has 1 others now" in ledger.sealed
    assert not ledger.may_act()


# Rotation.


async def test_after_a_rotation_the_new_key_signs_and_both_have_signed_where_it_changed(store):
    entries = await a_log(store)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    *_, rotated = entries = await store.read("acme", 0, 100)
    origin = origin_of("acme", entries[0].hash)
    old, new = (vkey(origin, public_key(seed)) for seed in (KEY, NEXT))
    assert rotated.event == "KeyRotated"
    assert (rotated.data["old"], rotated.data["new"]) == (old, new)
    (note,) = await store.kept_notes("acme")
    assert note == await store.note("acme") == note_over(entries, KEY, NEXT)
    assert Verifier.parse(old).verify(note)
    assert Verifier.parse(new).verify(note)
    ledger = await begun(store, NEXT)
    assert isinstance(await say(ledger), Entry)
    after = await store.note("acme")
    assert Verifier.parse(new).verify(after)
    assert not Verifier.parse(old).verify(after)


async def test_a_running_process_with_the_old_key_seals_itself(store):
    running = a_ledger(store)
    await say(running)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    refused = await say(running)
    assert isinstance(refused, Refusal)
    assert "the key was rotated: restart with the new LEDGER_KEY" in running.sealed
    assert (await store.head("acme")).seq == 2


async def test_a_running_process_with_the_old_key_notices_within_a_sweep(store):
    running = a_ledger(store)
    await say(running)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    await running.sweep()
    assert "the key was rotated" in running.sealed


async def test_a_process_that_begins_with_the_old_key_is_told_of_the_rotation(store):
    await a_log(store)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    assert "the key was rotated" in (await begun(store)).sealed


async def test_an_old_key_signs_nothing_after_its_rotation():
    store = MemoryStore()
    await a_log(store)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    entries = await store.read("acme", 0, 100)
    resigned = await copied(store, entries, note_over(entries, KEY))
    assert "not signed by the key of this log" in (await begun(resigned, NEXT)).sealed


async def test_the_note_outside_from_before_a_rotation_still_holds(store, tmp_path):
    await kept(tmp_path, store, 3)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    assert not (await begun(store, NEXT, outside=NoteFile(tmp_path, "acme"))).sealed


async def test_a_rotation_that_was_cut_short_is_mended_by_running_it_again(store):
    class CutShort(Exception):
        pass

    async def cut(tenant: str, note: str) -> None:
        raise CutShort

    await a_log(store)
    keep, store.keep_note = store.keep_note, cut
    with pytest.raises(CutShort):
        await rotate(store, CLOCK, "acme", KEY, NEXT)
    store.keep_note = keep
    assert await store.kept_notes("acme") == []
    for _ in range(2):
        await rotate(store, CLOCK, "acme", KEY, NEXT)
        assert await store.kept_notes("acme") == [note_over(await store.read("acme", 0, 100), KEY, NEXT)]


async def test_two_rotations_one_after_the_other(store):
    await a_log(store)
    await rotate(store, CLOCK, "acme", KEY, NEXT)
    await rotate(store, CLOCK, "acme", NEXT, STRANGE)
    assert len(await store.kept_notes("acme")) == 2
    assert not (await begun(store, STRANGE)).sealed
    assert "the key was rotated" in (await begun(store, NEXT)).sealed


async def test_who_does_not_have_the_old_key_rotates_nothing(store):
    await a_log(store)
    with pytest.raises(Sealed):
        await rotate(store, CLOCK, "acme", STRANGE, NEXT)
    with pytest.raises(CannotRotate, match="the same"):
        await rotate(store, CLOCK, "acme", KEY, KEY)
    with pytest.raises(CannotRotate, match="empty"):
        await rotate(store, CLOCK, "nobody", KEY, NEXT)
    assert (await store.head("acme")).seq == 3


async def test_the_command_rotates_the_key_of_an_embedded_ledger(tmp_path, capsys):
    old, new = (tmp_path / "old", tmp_path / "new")
    old.write_text(keygen())
    new.write_text(keygen())
    async with a_valkey() as server:
        store = RedisStore(connect(server.url))
        deployer = RedisStore(connect(server.url_of("deploy")))
        await deployer.load_functions()
        await deployer.close()
        seed = seed_of(old.read_bytes())
        await say(a_ledger(store, seed), ev.Started(signer=public_key(seed)))
        place = ["--data-dir", str(server.socket.parent), "--tenant", "acme"]
        files = ["--old-key-file", str(old), "--new-key-file", str(new)]
        assert await asyncio.to_thread(main, ["rotate", *place, *files]) == 0
        assert "is signed from here on by\n  countersign/acme/" in capsys.readouterr().out
        assert not (await begun(store, seed_of(new.read_bytes()))).sealed
        assert await asyncio.to_thread(main, ["rotate", *place, *files[:2], "--new-key-file", "/none"]) == 3
        await store.close()


def test_the_command_makes_a_key(capsys):
    assert main(["keygen"]) == 0
    assert len(capsys.readouterr().out.strip()) >= 43
