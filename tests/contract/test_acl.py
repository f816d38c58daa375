"""What the server itself refuses, on the embedded Valkey and on Redis 7: a log is appended to and read."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger import acl
from ledger.__main__ import main
from ledger.chain import GENESIS
from ledger.clock import WallClock
from ledger.doctor import HARMLESS, Finding, examine
from ledger.events import Actor, Watched
from ledger.ledger import Ledger, Refusal
from ledger.redis_store import Commands, RedisStore, connect
from ledger.store import Durability, Sealed, StoreDown
from tests.chains import chain, sealed
from tests.servers import KINDS, Peopled, a_server, bare, url_of

LOG = "led:{acme}:log:00000"
FIRST, DUMP = object(), object()
EVIL = """#!lua name=evil
redis.register_function('evil', function(keys) redis.call('DEL', keys[1]) return 'done' end)
"""
CHANGING = (
    ("DEL", LOG),
    ("UNLINK", LOG),
    ("LSET", LOG, 0, "x"),
    ("LTRIM", LOG, 1, 0),
    ("LREM", LOG, 1, FIRST),
    ("LPOP", LOG),
    ("RPOP", LOG),
    ("LPUSH", LOG, "x"),
    ("LPUSHX", LOG, "x"),
    ("LINSERT", LOG, "BEFORE", FIRST, "x"),
    ("LMOVE", LOG, "bot:list", "LEFT", "RIGHT"),
    ("LMOVE", LOG, LOG, "LEFT", "RIGHT"),
    ("RPOPLPUSH", LOG, "bot:list"),
    ("BLMOVE", LOG, "bot:list", "LEFT", "RIGHT", 1),
    ("BRPOPLPUSH", LOG, "bot:list", 1),
    ("BLPOP", LOG, 1),
    ("BRPOP", LOG, 1),
    ("LMPOP", 1, LOG, "LEFT"),
    ("BLMPOP", 1, 1, LOG, "LEFT"),
    ("RENAME", LOG, "bot:other"),
    ("RENAME", "bot:list", LOG),
    ("RENAMENX", LOG, "bot:other"),
    ("COPY", "bot:list", LOG, "REPLACE"),
    ("MOVE", LOG, 1),
    ("RESTORE", LOG, 0, DUMP, "REPLACE"),
    ("EXPIRE", LOG, 100),
    ("PEXPIRE", LOG, 100_000),
    ("EXPIREAT", LOG, 1),
    ("PEXPIREAT", LOG, 1),
    ("SET", LOG, "x"),
    ("SETEX", LOG, 100, "x"),
    ("MSET", LOG, "x"),
    ("SORT", LOG, "ALPHA", "DESC", "STORE", LOG),
    ("SORT", "bot:list", "ALPHA", "STORE", LOG),
    ("SDIFFSTORE", LOG, "bot:set"),
    ("ZUNIONSTORE", LOG, 1, "bot:sorted"),
    ("BITOP", "NOT", LOG, "bot:text"),
    ("SUNIONSTORE", LOG, "bot:set"),
    ("EVAL", "return redis.call('DEL', KEYS[1])", 1, LOG),
    ("EVAL", f"return redis.call('LTRIM', '{LOG}', 1, 0)", 0),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", 0, 1),
)
"""Each does its harm to whoever lets it."""
OTHER = (
    ("GETDEL", LOG),
    ("GETEX", LOG, "EX", 1),
    ("XADD", LOG, "MAXLEN", "=", 1, "*", "a", "b"),
    ("FUNCTION", "LOAD", EVIL),
    ("FUNCTION", "DELETE", "countersign"),
    ("FUNCTION", "FLUSH"),
    ("SCRIPT", "LOAD", "return 1"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("CONFIG", "REWRITE"),
    ("ACL", "SETUSER", "app", "+@all"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "127.0.0.1", 1),
    ("MIGRATE", "127.0.0.1", 1, LOG, 0, 1),
    ("SHUTDOWN", "NOSAVE"),
    ("BGREWRITEAOF",),
    ("MONITOR",),
    ("KEYS", "*"),
    ("SCAN", 0),
)
"""These cannot all be tried by somebody who may: one ends the server."""
REFUSALS = ("no permissions", "can't access", "can't run this command", "noperm", "acl failure")


@pytest.fixture(params=KINDS)
async def server(request) -> AsyncIterator[Peopled]:
    async with a_server(request.param) as server:
        await set_up(server.as_("owner"))
        yield server


async def set_up(owner: Commands) -> None:
    """A log of three entries, and keys of the bot's own to attack it with."""
    await owner("FLUSHALL")
    await owner("RPUSH", LOG, *(e.hash.encode() + b" " + e.line for e in chain(3)))
    await owner("RPUSH", "bot:list", "b", "a")
    await owner("SADD", "bot:set", "x")
    await owner("ZADD", "bot:sorted", 1, "x")
    await owner("SET", "bot:text", "x")


async def state(owner: Commands) -> tuple:
    kind = await owner("TYPE", LOG)
    return kind, await owner("TTL", LOG), kind == b"list" and await owner("LRANGE", LOG, 0, -1)


async def send(call: Commands, words: tuple, owner: Commands) -> str:
    """What is answered: `done`, or the error's sentence."""
    values = {FIRST: lambda: owner("LINDEX", LOG, 0), DUMP: lambda: owner("DUMP", "bot:list")}
    filled = [await values[word]() if word in values else word for word in words]
    try:
        await call(*filled)
    except StoreDown as down:
        return str(down)
    return "done"


def is_refusal(answer: str) -> bool:
    return any(words in answer.lower() for words in REFUSALS)


async def test_nothing_that_the_app_can_send_changes_a_log(server):
    app, owner = server.as_("app"), server.as_("owner")
    before = await state(owner)
    answers = {words: await send(app, words, owner) for words in (*CHANGING, *OTHER)}
    assert [words for words, answer in answers.items() if not is_refusal(answer)] == []
    assert await state(owner) == before
    assert len({words for words in answers if words[0] not in {"KEYS", "SCAN", "MONITOR"}}) >= 42


async def test_each_of_these_does_its_harm_where_it_is_allowed(server):
    """Else a refusal would show nothing: this is what the test above would see without the server's rule."""
    owner = server.as_("owner")
    harmless = []
    for words in CHANGING:
        await set_up(owner)
        before = await state(owner)
        answer = await send(owner, words, owner)
        if answer != "done" or await state(owner) == before:
            harmless.append((words, answer))
    assert harmless == []


@pytest.mark.parametrize("right", ["ltrim", "del", "lset", "expire", "rename", "eval"])
async def test_one_right_too_many_is_seen(server, right):
    """The mutant: the app's rights with one more, on a log."""
    app, owner = server.as_("app"), server.as_("owner")
    await owner("ACL", "SETUSER", "app", f"(~* +{right})")
    attacks = [words for words in CHANGING if words[0] == right.upper()]
    escaped = [words for words in attacks if not is_refusal(await send(app, words, owner))]
    if right == "eval":
        assert escaped == [], "a script may be run, and what it does is refused as before"
    else:
        assert attacks[0] in escaped
        assert "NOT SO This user may change a log" in await rights_found(server.store(), None)


async def rights_found(store: RedisStore, deploy: Commands | None) -> str:
    marks = {True: "well", False: "NOT SO", None: "unknown"}
    found: list[Finding] = [finding async for finding in examine(store, deploy)]
    return "\n".join(
        f"{marks[f.well]} {f.sentence}" for f in found if "refused" in f.sentence or " may " in f.sentence
    )


async def test_the_app_appends_reads_and_keeps_beside_the_log_what_belongs_there(server):
    store = server.store(segment=2)
    assert await store.append("globex", entries_of("globex", 5)[:3], GENESIS, "a note") is None
    assert (await store.head("globex")).seq == 3
    assert await store.note("globex") == "a note"
    await store.keep_note("globex", "a rotation")
    assert await store.kept_notes("globex") == ["a rotation"]
    await store.put_text("globex", "d", "a text")
    assert await store.get_text("globex", "d") == "a text"
    await store.put_secret_value("globex", "c", "salt:words")
    assert await store.get_secret_value("globex", "c") == "salt:words"
    assert await store.durability() is Durability.DURABLE
    assert await store.functions_current()
    conflict = await store.append("globex", entries_of("globex", 5)[2:], entries_of("globex", 5)[1].head)
    assert [entry.seq for entry in conflict.missed] == [3]


def entries_of(tenant: str, count: int) -> list:
    made, head = [], GENESIS
    for _ in range(count):
        made.append(sealed(head, tenant_id=tenant))
        head = made[-1].head
    return made


async def test_a_text_and_what_a_person_typed_can_be_written_once(server):
    app, owner = server.as_("app"), server.as_("owner")
    for key in ("led:{acme}:texts", "led:{acme}:vault"):
        await app("HSETNX", key, "digest", "the text")
        for words in (
            ("HSET", key, "digest", "x"),
            ("DEL", key),
            ("EXPIRE", key, 1),
            ("HINCRBY", key, "n", 1),
        ):
            assert is_refusal(await send(app, words, owner)), words
        await app("HSETNX", key, "digest", "another")
        assert await app("HGET", key, "digest") == b"the text"
    assert is_refusal(await send(app, ("HDEL", "led:{acme}:texts", "digest"), owner))


async def test_an_evil_function_can_neither_be_loaded_nor_do_more_than_its_caller(server):
    app, deploy, owner = server.as_("app"), server.as_("deploy"), server.as_("owner")
    assert is_refusal(await send(app, ("FUNCTION", "LOAD", EVIL), owner))
    await deploy("FUNCTION", "LOAD", EVIL)
    before = await state(owner)
    assert is_refusal(await send(app, ("FCALL", "evil", 1, LOG), owner))
    assert await state(owner) == before
    assert is_refusal(await send(deploy, ("FCALL", "evil", 1, LOG), owner))
    assert await send(owner, ("FCALL", "evil", 1, LOG), owner) == "done"
    assert await state(owner) != before


async def test_garbage_that_the_app_pushes_seals_the_ledger_and_nothing_is_recorded(server):
    store = server.store()
    await store.commands("RPUSH", LOG, "not an entry")
    with pytest.raises(Sealed):
        await store.read("acme", 0, 10)
    with pytest.raises(Sealed):
        await store.append("acme", [sealed(chain(3)[-1].head)], chain(3)[-1].head)
    ledger = Ledger("acme", store, WallClock(), random.Random(1))
    await ledger.sweep()
    made = await ledger.record(Actor.orchestrator("bot"), lambda view, now: Watched(due=1, made=1, missed=0))
    assert isinstance(made, Refusal)
    assert ledger.sealed
    await ledger.close()
    assert await server.as_("owner")("LLEN", LOG) == 4, "nothing was appended behind it"


async def test_a_log_is_a_list_so_nothing_that_appends_can_trim(server):
    store, owner = server.store(segment=2), server.as_("owner")
    await store.append("globex", entries_of("globex", 5), GENESIS)
    kinds = {key: await owner("TYPE", key) for key in await owner("KEYS", "led:{globex}:log:*")}
    assert len(kinds) == 3
    assert set(kinds.values()) == {b"list"}


async def test_the_auditor_reads_and_cannot_write(server):
    auditor, owner = server.as_("auditor"), server.as_("owner")
    await owner("HSET", "led:{acme}:vault", "c", "salt:words")
    before = await state(owner)
    writes = (
        ("RPUSH", LOG, "x"),
        ("SET", "led:{acme}:ckpt", "x"),
        ("RPUSH", "led:{acme}:ckpts", "x"),
        ("HSETNX", "led:{acme}:texts", "a", "b"),
        ("SET", "bot:x", "x"),
        ("FCALL", "ledger_append", 0),
        ("EVAL", "return 1", 0),
        ("PUBLISH", "led:changes", "x"),
        ("HGET", "led:{acme}:vault", "c"),
        ("GET", "bot:text"),
    )
    answers = {words: await send(auditor, words, owner) for words in (*CHANGING, *OTHER, *writes)}
    assert [words for words, answer in answers.items() if not is_refusal(answer)] == []
    assert await state(owner) == before
    store = server.store("auditor")
    assert await store.read("acme", 0, 10) == chain(3)
    assert (await store.head("acme")).seq == 3
    assert await store.note("acme") == ""


async def test_archiver_privacy_and_deploy_have_one_right_more_than_an_auditor_each(server):
    owner = server.as_("owner")
    await owner("HSET", "led:{acme}:vault", "c", "salt:words")
    own = {
        "archiver": {("DEL", LOG), ("UNLINK", LOG), ("SET", "led:{acme}:archived", 1)},
        "privacy": {("HDEL", "led:{acme}:vault", "c"), ("BGREWRITEAOF",)},
        "deploy": {("FUNCTION", "LOAD", EVIL)},
    }
    for user, allowed in own.items():
        await set_up(owner)
        others = {words for rights in own.values() for words in rights} - allowed
        for words in (*(w for w in CHANGING if w not in allowed), *others):
            assert is_refusal(await send(server.as_(user), words, owner)), (user, words)
        for words in allowed:
            assert await send(server.as_(user), words, owner) == "done", (user, words)


async def test_nobody_enters_without_a_name_or_with_anothers_password(server):
    place = server.urls["app"].partition("@")[2]
    passwords = {
        name: url.removeprefix(f"unix://{name}:").partition("@")[0] for name, url in server.urls.items()
    }
    for url in (f"unix://{place}", f"unix://deploy:{passwords['app']}@{place}", f"unix://default:@{place}"):
        server.urls["stranger"] = url
        answer = await send(server.as_("stranger"), ("PING",), server.as_("owner"))
        assert "uthentication" in answer or "password" in answer, url
    assert len(set(passwords.values())) == len(passwords)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rights", [True, False], ids=["with its rights", "without rights"])
async def test_a_server_that_starts_again_has_all_that_was_appended(kind, rights, monkeypatch):
    """A server reads its log again as the user default, and Redis 7 passes over each batch, which is a
    transaction, if that one has no rights: found when a power cut that took nothing lost everything."""
    if not rights:
        monkeypatch.setattr(acl, "DEFAULT", "default off")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rd") as folder:
        async with (
            bare(kind, Path(folder)),
            user_of(folder, "deploy") as deploy,
            user_of(folder, "app") as app,
        ):
            await deploy.load_functions()
            await app.append("acme", chain(3), GENESIS, "a note")
            said = [one async for one in examine(app, deploy.commands) if "user default" in one.sentence]
            assert [one.well for one in said] == [rights]
        async with bare(kind, Path(folder)), user_of(folder, "app") as app:
            kept = await app.read("acme", 0, 10)
    assert kept == (chain(3) if rights or kind == "valkey" else [])


@asynccontextmanager
async def user_of(folder: str, user: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(connect(url_of(Path(folder), user)))
    try:
        yield store
    finally:
        await store.close()


async def test_what_the_command_prints_is_what_the_server_takes(server, capsys):
    kind = f"{server.kind.kind}-{'.'.join(map(str, server.kind.version))}"
    assert await asyncio.to_thread(main, ["acl", "--server", kind]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any(line.endswith("ACL SETUSER default off ~* &* +@all") for line in said)
    printed = [line for line in said if line.startswith("ACL SETUSER")]
    assert len(printed) == len(acl.USERS)
    owner = server.as_("owner")
    for line in printed:
        assert ">PASSWORD" in line
        assert await owner(*line.replace(">PASSWORD", ">another").split()) == b"OK"
    place = server.urls["owner"].partition("@")[2]
    server.urls["again"] = f"unix://app:another@{place}"
    assert await send(server.as_("again"), ("LLEN", LOG), owner) == "done"
    assert is_refusal(await send(server.as_("again"), ("DEL", LOG), owner))


async def test_the_doctor_tries_the_rights_and_leaves_everything_as_it_was(server):
    owner = server.as_("owner")
    everything = sorted(await owner("KEYS", "*")), await state(owner)
    app = await rights_found(server.store(), server.as_("deploy"))
    assert f"well {len(HARMLESS)} commands that would change a log were sent and refused." in app
    assert "well The server says that the user app may not FLUSHALL" in app
    alone = await rights_found(server.store(), None)
    assert "unknown Whether FLUSHALL" in alone
    assert "REDIS_DEPLOY_URL" in alone
    mighty = await rights_found(server.store("owner"), None)
    assert "NOT SO This user may change a log: DEL, UNLINK, LSET" in mighty
    assert "NOT SO The user owner may FLUSHALL" in mighty
    assert (sorted(await owner("KEYS", "*")), await state(owner)) == everything


@pytest.mark.parametrize("text", ["redis-6.2", "redis", "mysql-8", "valkey-", "redis-7.x"])
def test_a_server_that_cannot_be_told_rights_is_named(text, capsys):
    assert main(["acl", "--server", text]) == 3
    assert text in capsys.readouterr().out
