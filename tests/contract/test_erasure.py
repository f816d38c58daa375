"""What a person typed can be erased, and every proof goes on holding."""

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path

import pytest

from ledger import events as ev
from ledger.commands.erase import record
from ledger.erasure import commitments, discloses, erase
from ledger.events import Act
from ledger.export import export
from ledger.redis_store import RedisStore, connect
from ledger.replay import Replay
from ledger.store import MemoryStore, Store
from tests.rooms import BOT, Tenant, charter, tenant
from tests.rooms import tenant as a_tenant
from tests.valkey import a_valkey

ACT = Act(channel="telegram")
SECRETS = ("my daughter is ill, call Farai", "restart it by hand", "the vault stays out of this")


@pytest.fixture(params=["memory", "valkey"])
async def store(request):
    async with contextlib.AsyncExitStack() as closing:
        if request.param == "memory":
            yield MemoryStore()
            return
        server = await closing.enter_async_context(a_valkey())
        made = RedisStore(connect(server.url))
        made.folder = Path(server._dir)
        closing.push_async_callback(made.close)
        await made.load_functions()
        yield made


async def said(acme: Tenant, who: str, words: str, incident: str = "checkout-1") -> str:
    kept = await acme.room.keep_words(words)
    person = next(p for p in acme.room.people.people if p.id == who)
    await acme.room.record(person, ACT, lambda v, n: ev.Noted(incident_id=incident, words=kept))
    return kept


async def a_talk(store: Store) -> tuple[Tenant, list[str]]:
    acme = await tenant(charter(), store)
    await acme.opens()
    return acme, [
        await said(acme, who, text) for who, text in zip(("rudo", "tendai", "rudo"), SECRETS, strict=True)
    ]


async def test_a_persons_words_are_erased_and_nobody_elses(store):
    acme, kept = await a_talk(store)
    assert await erase(store, "acme", ["rudo"]) == 2
    assert [await acme.room.words(one) for one in kept] == ["", SECRETS[1], ""]
    assert await erase(store, "acme", ["rudo"]) == 0


async def test_an_incidents_words_are_erased(store):
    acme, kept = await a_talk(store)
    assert await erase(store, "acme", ["checkout-2"]) == 0
    assert await erase(store, "acme", ["checkout-1"]) == 3
    assert [await acme.room.words(one) for one in kept] == ["", "", ""]


async def test_another_tenants_words_stay(store):
    acme, kept = await a_talk(store)
    assert await erase(store, "globex", ["rudo", "checkout-1"]) == 0
    assert await acme.room.words(kept[0]) == SECRETS[0]


async def test_the_log_stays_as_it_was_verifies_and_says_what_was_done(store):
    acme, _ = await a_talk(store)
    before = await store.read("acme", 0, 100)
    await record(acme.room.ledger, "rudo", ["tendai"], await erase(store, "acme", ["tendai"]))
    entries = await store.read("acme", 0, 100)
    assert entries[: len(before)] == before
    assert (entries[-1].event, entries[-1].data["subject"]) == ("Erased", "tendai")
    replay = Replay()
    for entry in entries:
        replay.take(entry.line)
    await acme.room.ledger.catch_up()
    assert acme.room.ledger.view.head == entries[-1].head


async def test_while_a_value_is_there_it_can_be_disclosed_and_no_other(store):
    _, kept = await a_talk(store)
    salt, _, text = (await store.get_secret_value("acme", kept[0])).partition(":")
    assert discloses(kept[0], salt, text)
    for wrong in ((salt[:-1] + "x", text), (salt, text + "."), (salt + ":" + text, ""), ("", text)):
        assert not discloses(kept[0], *wrong)
    await erase(store, "acme", ["rudo"])
    assert await store.get_secret_value("acme", kept[0]) is None


async def test_no_export_ever_has_what_a_person_typed(store):
    await a_talk(store)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        await export(store, "acme", Path(folder) / "out")
        everything = _files(Path(folder), "*.*")
    assert not any(text.encode() in everything for text in SECRETS)
    entries = await store.read("acme", 0, 100)
    assert not any(json.dumps(text)[1:-1].encode() in entry.line for text in SECRETS for entry in entries)


async def test_after_the_server_wrote_its_file_anew_no_byte_of_it_is_left():
    async with a_valkey() as server, contextlib.AsyncExitStack() as closing:
        store = RedisStore(connect(server.url))
        closing.push_async_callback(store.close)
        await store.load_functions()
        await a_talk(store)
        folder = Path(server._dir)
        assert SECRETS[0].encode() in _files(folder)
        assert not await store.write_anew()
        privacy, owner = (RedisStore(connect(server.url_of(name))) for name in ("privacy", "owner"))
        closing.push_async_callback(privacy.close)
        closing.push_async_callback(owner.close)
        assert await erase(privacy, "acme", ["rudo"]) == 2
        assert SECRETS[0].encode() in _files(folder)
        assert await privacy.write_anew()
        while b"aof_rewrite_in_progress:1" in await owner._call("INFO", "persistence"):
            pass
        async with asyncio.timeout(5):  # the server puts its new file in the old one's place when it likes
            while _left(folder) != [False, True, False]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def _left(folder: Path) -> list[bool]:
    content = _files(folder)
    return [text.encode() in content for text in SECRETS]


def _files(folder: Path, which: str = "*") -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob(which)) if path.is_file())


async def test_only_what_people_typed_is_found():
    acme = await a_tenant()
    await acme.record(BOT, lambda v, n: ev.Watched())
    assert commitments(await acme.room.store.read("acme", 0, 9), ["bot.1", "rudo", "policy"]) == []
