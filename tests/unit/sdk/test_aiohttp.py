"""An aiohttp application over real HTTP, under its own runner."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from sdk import Recovery, instrument, wire
from sdk.signature import sign
from tests.unit.sdk.asgi_client import end_second, routes, slot, until
from tests.unit.sdk.test_recovery import SECRET

MENDED, BEGAN = web.AppKey("mended", asyncio.Event), web.AppKey("began", asyncio.Event)


@asynccontextmanager
async def serving(app, **options):
    """Serve *app* on a free port of loopback; give a client with its address."""
    runner = web.AppRunner(app, access_log=None, **options)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
            yield http
    finally:
        await runner.cleanup()


def shop():
    app, inner = web.Application(), web.Application()
    app[MENDED], app[BEGAN] = asyncio.Event(), asyncio.Event()

    async def order(request):
        match request.match_info["order"]:
            case "13":
                raise TimeoutError("secret")
            case "14":
                raise ConnectionResetError("a supplier hung up")
            case "15":
                raise web.HTTPFound("/")
            case "16":
                raise web.HTTPServiceUnavailable
        return web.json_response({"order": 7})

    async def hang(request):
        app[BEGAN].set()
        await app[MENDED].wait()
        return web.Response(body=b"late")

    async def events(request):
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await app[MENDED].wait()
        if "fail" in request.query:
            raise KeyError("secret")
        await answer.write_eof()
        return answer

    async def big(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)

    async def chat(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def taken(request):
        return web.Response(status=409)

    app.router.add_get("/orders/{order}", order)
    app.router.add_get("/hang", hang)
    app.router.add_get("/events", events)
    app.router.add_get("/big", big)
    app.router.add_get("/chat", chat)
    inner.router.add_get("/users/{order}", order)
    inner.router.add_post("/users", taken)
    app.add_subapp("/admin", inner)
    return app


async def status(http, path, method="GET", **options):
    async with http.request(method, path, allow_redirects=False, **options) as answer:
        await answer.read()
        return answer.status


@asynccontextmanager
async def instrumented(**options):
    app = shop()
    monitor = instrument(app, service="shop", **options)
    assert monitor.app is app
    async with serving(app) as http:
        yield http, monitor, app


async def test_an_application_is_measured_by_its_resources_and_the_types_of_its_exceptions():
    async with instrumented() as (http, monitor, _):
        paths = ["/orders/7", "/orders/13", "/orders/14", "/orders/15", "/orders/16"]
        assert [await status(http, path) for path in paths] == [200, 504, 500, 302, 503]
        assert [await status(http, path) for path in ("/admin/users/1", "/no/such")] == [200, 404]
        assert [await status(http, "/admin/users", method) for method in ("POST", "PATCH")] == [409, 405]
    found = {name: (p.n, p.errors, dict(p.exceptions)) for name, p in routes(monitor).items()}
    assert found == {
        "GET /orders/{order}": (5, 3, {"TimeoutError": 1, "ConnectionResetError": 1}),
        "GET /admin/users/{order}": (1, 0, {}),
        "POST /admin/users": (1, 0, {}),
        "PATCH ~app": (1, 0, {}),
        "~unmatched": (1, 0, {}),
    }
    counted = slot(monitor)
    assert (counted.n, counted.client_errors, counted.aborted, monitor.snapshot().inflight) == (9, 3, 0, 0)


async def test_a_hung_request_is_in_flight_and_ends_once():
    async with instrumented() as (http, monitor, app):
        hanging = asyncio.ensure_future(status(http, "/hang"))
        await app[BEGAN].wait()
        assert monitor.snapshot().inflight == 1
        app[MENDED].set()
        assert await hanging == 200
    assert (slot(monitor).n, monitor.snapshot().inflight) == (1, 0)


async def test_a_client_that_goes_away_mid_answer_is_aborted_and_not_an_error():
    async with instrumented() as (http, monitor, _):
        async with http.get("/big") as answer:
            await answer.content.readexactly(100_000)
            answer.close()
        await until(lambda: not monitor._window.inflight)
    assert (slot(monitor).n, slot(monitor).errors, slot(monitor).aborted) == (1, 0, 1)


async def test_a_request_that_the_server_cancels_is_aborted():
    app = shop()
    monitor = instrument(app)
    async with serving(app, handler_cancellation=True) as http:
        asking = asyncio.ensure_future(status(http, "/hang"))
        await app[BEGAN].wait()
        asking.cancel()
        await until(lambda: not monitor._window.inflight)
    assert (slot(monitor).n, slot(monitor).errors, slot(monitor).aborted) == (1, 0, 1)


async def test_event_streams_and_websockets_are_counted_with_their_first_byte_and_apart():
    async with (
        instrumented() as (http, monitor, app),
        http.get("/events") as events,
        http.get("/events?fail=1") as broken,
    ):
        await events.content.readexactly(9)
        await broken.content.readexactly(9)
        async with http.ws_connect("/chat") as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
            assert monitor.health()["metrics"]["streams"] == 3
            assert monitor.snapshot().inflight == 0
        app[MENDED].set()
        await events.read()
        await until(lambda: not monitor._window.streams)
    counted = slot(monitor)
    found = {p.name: (p.n, sum(p.hist.values()), p.exceptions) for p in counted.streams}
    assert counted.n == 0
    assert found == {"GET /events": (2, 2, {"KeyError": 1}), "WEBSOCKET /chat": (1, 1, {})}
    told = monitor.health()["metrics"]
    assert (told["streams"], told["streams_begun"], told["overall_p95_ms"]) == (0, 3, 0.0)
    assert 0 < told["first_byte_p95_ms"] < 60_000


async def test_many_requests_at_once_are_each_counted_once():
    async with instrumented() as (http, monitor, _):
        answers = await asyncio.gather(*(status(http, f"/orders/{20 + n}") for n in range(200)))
    assert answers == [200] * 200
    assert (slot(monitor).n, sum(slot(monitor).hist.values())) == (200, 200)


async def test_our_endpoints_are_answered_beside_it_and_are_not_its_traffic(tmp_path):
    recovery, runs = Recovery(SECRET, tmp_path), []
    recovery.action("restart_workers")(lambda: runs.append(1))
    async with instrumented(token="t0ken", recovery=recovery) as (http, monitor, _):
        assert await status(http, "/health/alerts") == 401
        assert await status(http, "/orders/7") == 200
        end_second(monitor)
        bearer = {"authorization": "Bearer t0ken"}
        async with http.get("/health/alerts?format=slots&since=0", headers=bearer) as answer:
            told = wire.decode(await answer.read())
        assert (wire.merge_slots(told.slots).n, told.service) == (1, "shop")
        assert await status(http, "/health/alerts", "HEAD", headers=bearer) == 200
        assert await status(http, "/recover/restart_workers", "POST", data=b"x" * 70_000) == 413
        await recovered_once(http, runs)
    assert slot(monitor).n == 1


async def recovered_once(http, runs, path="/recover/restart_workers"):
    """See that a signed request runs, is receipted, and runs not again."""
    now = time.time_ns() // 10**9
    for id, replayed in (("m1", None), ("m2", "true")):
        headers = {
            "webhook-id": id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(SECRET, id, now, b"{}"),
            "idempotency-key": "k1",
        }
        async with http.post(path, data=b"{}", headers=headers) as answer:
            assert (answer.status, answer.headers.get("idempotent-replayed")) == (200, replayed)
            assert json.loads(await answer.read())["receipt"]["result"] == "ok"
    assert runs == [1]


async def test_recovery_alone_stands_beside_an_application(tmp_path):
    app, recovery, runs = shop(), Recovery(SECRET, tmp_path), []
    recovery.action("restart_workers")(lambda: runs.append(1))
    assert recovery.install(app) is app
    async with serving(app) as http:
        await recovered_once(http, runs)
        assert await status(http, "/orders/7") == 200
