"""Workers of many hosts in the app's own Redis: together exact, and alone when it is not there."""

import asyncio
import datetime
import ipaddress
import json
import time
import zlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sdk import instrument, wire
from sdk.redis import FORGET_S, KEEP_S, SPARE_S, Redis
from sdk.resp import Address, Client
from tests.unit.sdk.a_redis import a_server, dripping, listening, silent, with_tls
from tests.unit.sdk.asgi_client import call, until
from tests.unit.sdk.test_middleware import ok
from tests.unit.sdk.test_sharing import answer_where, ask, counted
from tests.unit.sdk.test_together import SECOND_NS, Clocks, count, exact, word_of

pytestmark = pytest.mark.xdist_group("redis_sharing")
DEADLINE_S = 10


@pytest.fixture(scope="module")
def shared():
    with a_server() as server:
        yield server


@pytest.fixture
def server(shared):
    shared.call("FLUSHALL")
    return shared


@pytest.fixture
def places(server):
    clients = []

    def place(worker, service="shop"):
        clients.append(Client(Address.parse(server.url), DEADLINE_S))
        return Redis(clients[-1], service, worker)

    yield place
    for client in clients:
        client.close()


def now():
    """Clocks that begin with the server's second."""
    return Clocks(time.time_ns() // SECOND_NS)


def second(window, clocks, n=1):
    for _ in range(n):
        count(window, clocks, "GET /", 100, "OSError")
    clocks.forward(SECOND_NS)
    return word_of(window, clocks)


def test_what_a_worker_writes_the_others_read_bit_for_bit_and_each_second_once(places):
    clocks = now()
    window, a, b = clocks.window(), places("host-1"), places("host-2")
    a.write(second(window, clocks))
    first = b.others()["host-1"].seconds
    a.write(second(window, clocks))
    assert a.others() == {}
    read = b.others()["host-1"].seconds
    assert exact(one.slot() for one in read.values()) == exact(one.slot() for one in window.closed())
    assert read[min(read)] is first[min(first)]


def test_services_on_one_redis_do_not_meet(places):
    clocks = now()
    places("a", "shop").write(second(clocks.window(), clocks))
    assert places("b", "mail").others() == {}


def test_a_second_is_written_once_and_goes_when_nobody_can_ask_for_it_any_more(server, places):
    clocks = now()
    window, place = clocks.window(), places("a")
    key = "countersign:{shop}:w:a"
    for _ in range(KEEP_S + SPARE_S + 20):
        place.write(second(window, clocks))
    assert server.call("HLEN", key) == KEEP_S + SPARE_S + 1
    word = second(window, clocks)
    server.call("HSET", key, str(min(word.seconds)), "kept as it is")
    place.write(word)
    assert server.call("HGET", key, str(min(word.seconds))) == b"kept as it is"


def test_the_dead_leave_by_themselves(server, places):
    clocks = now()
    places("dead").write(second(clocks.window(), clocks))
    assert 0 < server.call("TTL", "countersign:{shop}:w:dead") <= FORGET_S
    other = places("other")
    assert list(other.others()) == ["dead"]
    server.call("DEL", "countersign:{shop}:w:dead")
    assert other.others() == {}
    assert server.call("SMEMBERS", "countersign:{shop}:workers") == []


def test_what_a_worker_said_more_than_a_minute_ago_does_not_count(places):
    clocks = Clocks(time.time_ns() // SECOND_NS - KEEP_S - 5)
    places("old").write(second(clocks.window(), clocks))
    assert places("b").others() == {}


def test_a_redis_that_forgot_everything_is_told_everything_again(server, places):
    clocks = now()
    window, a, b = clocks.window(), places("a"), places("b")
    for _ in range(3):
        a.write(second(window, clocks))
    b.others()
    server.call("FLUSHALL")
    a.write(second(window, clocks))
    fresh = places("c").others()["a"].seconds
    assert exact(one.slot() for one in fresh.values()) == exact(one.slot() for one in window.closed())
    assert b.others()["a"].seconds == fresh


@pytest.mark.parametrize(
    "spoil",
    [
        ("HSET", "countersign:{shop}:w:a", "head", "{"),
        ("HSET", "countersign:{shop}:w:a", "head", '{"index":[],"through":1,"peak":"x","streams":0}'),
    ],
)
def test_what_is_no_word_is_as_if_it_had_not_been_said(server, places, spoil):
    clocks = now()
    places("a").write(second(clocks.window(), clocks))
    server.call("DEL", spoil[1])
    server.call(*spoil)
    assert places("b").others() == {}


def test_a_key_that_somebody_else_uses_is_told_in_the_servers_words(server, places):
    server.call("SET", "countersign:{shop}:w:a", "no hash")
    clocks = now()
    with pytest.raises(OSError, match="WRONGTYPE"):
        places("a").write(second(clocks.window(), clocks))


def test_a_second_that_would_fill_the_memory_is_no_second(server, places):
    clocks = now()
    word = second(clocks.window(), clocks)
    places("a").write(word)
    (line,) = [one.line.encode() for one in word.seconds.values()]
    bomb = zlib.compress(line + b" " * (64 * 1024 * 1024))
    server.call("HSET", "countersign:{shop}:w:a", str(min(word.seconds)), bomb)
    assert places("b").others() == {}


async def test_workers_of_two_hosts_answer_for_both(server):
    workers = [instrument(ok, service="shop", redis_url=server.url) for _ in range(2)]
    try:
        for n, worker in enumerate(workers):
            for _ in range(n + 1):
                await call(worker.app)
        for worker in workers:
            told = await answer_where(worker, lambda told: told["metrics"]["workers"] == 2)
            assert (told["stale"], told["stale_reason"]) == (False, "")
            slots = await answer_where(worker, lambda told: counted(told) >= 3, b"format=slots")
            assert counted(slots) == 3
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parametrize("serve", [silent, dripping, lambda connection: None])
async def test_a_redis_that_hangs_or_is_none_neither_slows_nor_fails_anything_and_is_told(serve, caplog):
    with listening(serve) as port:
        monitor = instrument(ok, redis_url=f"redis://127.0.0.1:{port}")
        try:
            before = time.thread_time_ns()
            for _ in range(200):
                assert (await call(monitor.app))[0] == 200
            on_the_path = time.thread_time_ns() - before
            await until(lambda: monitor._sharing.stale)
            begun = time.monotonic()
            told = await ask(monitor)
            assert time.monotonic() - begun < 5
            assert told["stale"] is True
            assert told["stale_reason"]
            assert told["metrics"]["workers"] == 1
            assert on_the_path < 1_000_000_000
        finally:
            await asyncio.to_thread(monitor.close)
    assert caplog.text.count("cannot tell each other") == 1


def test_who_asks_does_not_wait_for_a_redis_that_could_not_be_written(places):
    met = []
    with listening(met.append) as port:
        place = Redis(Client(Address("127.0.0.1", port), DEADLINE_S), "shop", "a")
        clocks = now()
        for act in (lambda: place.write(second(clocks.window(), clocks)), place.others, place.others):
            with pytest.raises(OSError, match=r"closed the connection|reset|[Bb]roken pipe"):
                act()
    assert len(met) == 1


async def test_workers_find_each_other_again_when_redis_comes_back(places):
    with a_server() as server:
        workers = [instrument(ok, service="shop", redis_url=server.url) for _ in range(2)]
        try:
            for worker in workers:
                await call(worker.app)
            for worker in workers:
                await answer_where(worker, lambda told: told["metrics"]["workers"] == 2)
            server.stop()
            told = await answer_where(workers[0], lambda told: told["stale"])
            assert "Redis" in told["stale_reason"] or "Error" in told["stale_reason"]
            for worker in workers:
                await call(worker.app)
            server.start()
            for worker in workers:
                told = await answer_where(
                    worker, lambda told: not told["stale"] and told["metrics"]["workers"] == 2
                )
                slots = await answer_where(worker, lambda told: counted(told) >= 4, b"format=slots")
                assert counted(slots) == 4
        finally:
            for worker in workers:
                await asyncio.to_thread(worker.close)


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a redis")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "cert.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_tls_with_a_user_and_the_servers_certificate_checked(server, tmp_path):
    file = certificate(tmp_path)
    with listening(with_tls(server, file)) as port:
        clocks = now()
        address = f"rediss://app:secret@127.0.0.1:{port}"
        for options in (f"?ssl_ca_certs={file}", "?ssl_cert_reqs=none"):
            client = Client(Address.parse(address + options), DEADLINE_S)
            Redis(client, "shop", "a").write(second(clocks.window(), clocks))
            client.close()
        stranger = Client(Address.parse(address), DEADLINE_S)
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger(("TIME",))


def test_a_wrong_password_is_told_as_what_it_is(server):
    address = Address.parse(server.url.replace("secret", "guess"))
    with pytest.raises(OSError, match="WRONGPASS"):
        Redis(Client(address, DEADLINE_S), "shop", "a").others()


def test_no_address_is_told_when_the_app_is_set_up_and_nothing_is_touched():
    with pytest.raises(ValueError, match="redis_url is no address"):
        instrument(ok, redis_url="localhost")


def test_the_words_of_a_redis_are_the_wire_s(server, places):
    clocks = now()
    window = clocks.window()
    place = places("a")
    place.write(second(window, clocks))
    head = json.loads(server.call("HGET", "countersign:{shop}:w:a", "head"))
    assert wire.parse(head).service == "checkout"
