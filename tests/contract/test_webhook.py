"""The webhook's HTTP client against real sockets on loopback that answer badly in every way."""

import asyncio
import logging
import socket
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st

from bot.sandbox.loopback import serve
from handlers.adapters.addresses import Addresses
from handlers.adapters.webhook import MOST_BYTES, HttpWebhook
from handlers.outcome import Ran, tried
from handlers.ports import Call, PortError
from handlers.receipts import Asked
from sdk import receipt, signature
from sdk.recovery import Recovery

HOME = ("127.0.0.0/8", "::1/128")
SECRET = b"the secret of checkout"


def call(url: str, allow: tuple[str, ...] = HOME) -> Call:
    return Call(
        url=url,
        body=b'{"action":"restart_workers"}',
        secret=SECRET,
        message_id="cs_1",
        timestamp=1_764_000_000,
        idempotency_key="f" * 64,
        allow_networks=allow,
        headers={"countersign-attempt": "1"},
    )


class Names(AbstractResolver):
    """Answers each question with the next of *answers*, and counts."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers, self.asked = list(answers), 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked += 1
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None:
        pass


class App:
    """An aiohttp server that keeps what came and answers with *handler*."""

    def __init__(self, handler) -> None:
        self.handler, self.got = handler, []

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.got.append((request, await request.read()))
        return await self.handler(request)


@pytest.fixture
async def serving():
    """Serve a handler on a free port; returns what was served and its address."""
    running = []

    async def start(handler):
        app, site = App(handler), web.Application()
        site.router.add_route("*", "/{path:.*}", app.take)
        running.append(await serve(site))
        return app, f"{running[-1].url}/recover"

    yield start
    for served in running:
        await served.close()


@pytest.fixture
async def talking():
    """A bare TCP server that does what it is told with each connection; returns its address and a counter."""
    servers, tasks = [], []

    async def start(talk):
        connections = []

        async def connected(reader, writer):
            connections.append(reader)
            tasks.append(asyncio.current_task())
            try:
                await talk(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/recover", connections

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for server in servers:
        server.close()
        await server.wait_closed()


async def request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(len(call("http://x").body))


def answering(status: int, body: bytes = b"", **headers: str):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def refused(webhook: HttpWebhook, asked: Call) -> PortError:
    with pytest.raises(PortError) as caught:
        await webhook.post(asked)
    return caught.value


# --- what is sent -------------------------------------------------------------------------------------


async def test_the_call_is_signed_as_standard_webhooks_and_carries_its_key(serving):
    app, url = await serving(answering(200, b'{"receipt":null}'))
    reply = await HttpWebhook().post(call(url))
    assert (reply.status, reply.body) == (200, b'{"receipt":null}')
    [(seen, body)] = app.got
    assert seen.method == "POST"
    assert body == call(url).body
    headers = seen.headers
    assert headers["idempotency-key"] == "f" * 64
    assert headers["content-type"] == "application/json"
    assert headers["countersign-attempt"] == "1"
    assert signature.verify(
        SECRET, headers["webhook-id"], headers["webhook-timestamp"], body, headers["webhook-signature"]
    )


@pytest.mark.parametrize("status", [200, 204, 400, 404, 409, 429, 500, 503])
async def test_any_status_is_an_answer(serving, status: int):
    _, url = await serving(answering(status))
    assert (await HttpWebhook().post(call(url))).status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_never_followed(serving, status: int):
    inside, target = await serving(answering(200))
    app, url = await serving(answering(status, Location=target))
    assert (await HttpWebhook().post(call(url))).status == status
    assert len(app.got) == 1
    assert inside.got == []


async def test_a_cookie_is_not_kept(serving):
    app, url = await serving(answering(200, **{"Set-Cookie": "a=b; Path=/"}))
    webhook = HttpWebhook()
    await webhook.post(call(url))
    await webhook.post(call(url))
    assert all("cookie" not in seen.headers for seen, _ in app.got)


async def test_a_proxy_of_the_environment_is_not_used(serving, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    _, url = await serving(answering(200))
    assert (await HttpWebhook().post(call(url))).status == 200


async def test_the_sdk_runs_it_once_and_signs_a_receipt_that_we_can_check(serving, tmp_path):
    runs = []
    recovery = Recovery(SECRET, tmp_path, wall_ms=lambda: 1_764_000_001_000)
    recovery.action("restart_workers")(lambda: runs.append(1))

    async def handler(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        made = await recovery.handle("restart_workers", headers, await request.read())
        return web.Response(status=made.status, body=made.body)

    _, url = await serving(handler)
    asked = Asked("restart_workers", "f" * 64, receipt.key(SECRET))
    answers = [tried(n, asked, await HttpWebhook().post(call(url))) for n in (1, 2)]
    assert [(a.ran, a.receipt, a.heard.counter) for a in answers] == [(Ran.YES, "matches", 1)] * 2
    assert runs == [1]


# --- bad answers --------------------------------------------------------------------------------------


async def test_of_a_megabyte_64_kib_are_read(serving):
    _, url = await serving(answering(200, b"x" * 1_000_000))
    reply = await HttpWebhook().post(call(url))
    assert (reply.status, len(reply.body)) == (200, MOST_BYTES)


async def test_a_packed_answer_stays_packed(serving):
    _, url = await serving(answering(200, b"\x1f\x8b not really gzip", **{"Content-Encoding": "gzip"}))
    assert (await HttpWebhook().post(call(url))).body == b"\x1f\x8b not really gzip"


async def test_a_server_that_never_answers_leaves_it_unknown(talking):
    url, _ = await talking(lambda reader, writer: asyncio.Event().wait())
    error = await refused(HttpWebhook(try_s=0.1), call(url))
    assert (error.unknown, error.permanent) == (True, False)
    assert "no answer within 0.1 s" in str(error)


async def test_a_connection_cut_after_the_request_leaves_it_unknown(talking):
    async def cut(reader, writer):
        await request(reader)
        writer.transport.abort()

    url, connections = await talking(cut)
    error = await refused(HttpWebhook(), call(url))
    assert (error.unknown, error.permanent) == (True, False)
    assert len(connections) == 1, "nothing is sent again behind our back"


async def test_an_answer_that_is_no_http_leaves_it_unknown(talking):
    async def nonsense(reader, writer):
        await request(reader)
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()

    url, _ = await talking(nonsense)
    assert (await refused(HttpWebhook(), call(url))).unknown


async def test_an_endless_header_leaves_it_unknown(talking):
    async def endless(reader, writer):
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000)
        await writer.drain()

    url, _ = await talking(endless)
    assert (await refused(HttpWebhook(try_s=5), call(url))).unknown


@pytest.mark.parametrize("then", ["hang", "cut"])
async def test_the_status_counts_though_the_body_never_ends(talking, then: str):
    async def half(reader, writer):
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        if then == "hang":
            await asyncio.Event().wait()

    url, _ = await talking(half)
    reply = await HttpWebhook(try_s=0.3).post(call(url))
    assert (reply.status, reply.body) == (200, b"half")


async def test_nobody_at_that_port_means_that_nothing_was_sent(unused_tcp_port):
    error = await refused(HttpWebhook(), call(f"http://127.0.0.1:{unused_tcp_port}/"))
    assert (error.unknown, error.permanent) == (False, False)


async def test_a_name_that_nobody_knows_means_that_nothing_was_sent():
    class Nobody(Names):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise OSError(None, "no such name")

    error = await refused(HttpWebhook(lambda allow: Addresses(allow, Nobody())), call("http://shop.test/"))
    assert (error.unknown, error.permanent) == (False, False)


async def test_a_server_without_tls_behind_https_means_that_nothing_was_sent(talking):
    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    url, _ = await talking(plain)
    error = await refused(HttpWebhook(), call(url.replace("http:", "https:")))
    assert not error.unknown


async def test_no_error_and_no_log_line_holds_a_secret(talking, serving, caplog, unused_tcp_port):
    async def echo(reader, writer):
        writer.write(await request(reader))
        await writer.drain()

    token, caught = "t0ken-in-the-path", []
    echoing, _ = await talking(echo)
    silent, _ = await talking(lambda reader, writer: asyncio.Event().wait())
    with caplog.at_level(logging.DEBUG):
        for url in (echoing, silent, f"http://127.0.0.1:{unused_tcp_port}", "http://10.0.0.1", "ftp://a"):
            asked = call(f"{url}/{token}?key={token}")
            caught.append(await refused(HttpWebhook(try_s=0.1), asked))
            caught.append(asked)
    signed = signature.sign(SECRET, "cs_1", 1_764_000_000, call("http://x").body)
    texts = [str(error) for error in caught if isinstance(error, PortError)] + [caplog.text]
    for secret in (SECRET.decode(), token, signed):
        assert not any(secret in text for text in texts)
    assert all(error.__cause__ is None for error in caught if isinstance(error, PortError))
    assert SECRET.decode() not in repr(call("http://x"))


# --- where nothing may be sent ------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[ff02::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_private_address_is_not_called_unless_the_charter_names_it(host: str, unused_tcp_port):
    error = await refused(HttpWebhook(), call(f"http://{host}:{unused_tcp_port}/", allow=()))
    assert error.permanent
    assert not error.unknown


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1", "localhost"])
async def test_another_spelling_of_loopback_is_loopback(host: str, serving):
    app, url = await serving(answering(200))
    error = await refused(HttpWebhook(), call(url.replace("127.0.0.1", host), allow=()))
    assert not error.unknown
    assert app.got == []


@pytest.mark.parametrize(
    "url",
    ["ftp://1.1.1.1/", "file:///etc/passwd", "http:///x", "http://rudo:pw@1.1.1.1/", "http://[::1", "x"],
)
async def test_what_is_no_web_address_is_not_called(url: str):
    error = await refused(HttpWebhook(), call(url))
    assert error.permanent
    assert "pw" not in str(error)


async def test_an_ipv4_network_admits_the_mapped_form_of_its_addresses(serving):
    app, url = await serving(answering(200))
    assert Addresses(("127.0.0.0/8",)).check(url.replace("127.0.0.1", "[::ffff:127.0.0.1]")).host
    assert (await HttpWebhook().post(call(url, allow=("127.0.0.0/8",)))).status == 200
    assert len(app.got) == 1


async def test_a_name_is_resolved_once_and_the_call_goes_where_it_pointed_then(serving):
    app, url = await serving(answering(200))
    names = Names(("127.0.0.1",), ("10.0.0.1",))
    webhook = HttpWebhook(lambda allow: Addresses(allow, names))
    named = call(url.replace("127.0.0.1", "shop.test"))
    assert (await webhook.post(named)).status == 200
    assert names.asked == 1
    error = await refused(webhook, named)
    assert error.permanent
    assert len(app.got) == 1


async def test_a_name_that_also_points_inside_is_not_called(serving):
    app, url = await serving(answering(200))
    names = Names(("127.0.0.1", "169.254.169.254"))
    webhook = HttpWebhook(lambda allow: Addresses(allow, names))
    assert (await refused(webhook, call(url.replace("127.0.0.1", "shop.test")))).permanent
    assert app.got == []


async def test_one_tenants_open_connection_does_not_serve_another(serving):
    app, url = await serving(answering(200))
    webhook = HttpWebhook()
    await webhook.post(call(url))
    assert (await refused(webhook, replace(call(url), allow_networks=()))).permanent
    assert len(app.got) == 1


PUBLIC = ["1.1.1.1", "93.184.216.34", "[2606:4700:4700::1111]", "[::ffff:1.1.1.1]", "[64:ff9b::101:101]"]


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_needs_no_leave(host: str):
    assert Addresses().check(f"https://{host}/").scheme == "https"


@given(st.ip_addresses(v=4))
def test_however_it_is_wrapped_an_ipv4_address_is_judged_alike(address):
    judge = Addresses(("10.0.0.0/8",))
    whole = int(address)
    wrapped = (f"::ffff:{address}", f"64:ff9b::{whole >> 16:x}:{whole & 0xFFFF:x}")
    for text in wrapped:
        try:
            judge.check(f"http://[{text}]/")
            allowed = True
        except PortError:
            allowed = False
        assert allowed == judge.admits(address)
