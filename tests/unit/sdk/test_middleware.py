import asyncio
import gc
import threading
import tracemalloc

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sdk import instrument
from tests.unit.sdk.asgi_client import call, routes, slot, until

OK = (
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"ok"},
)


async def ok(scope, receive, send):
    for message in OK:
        await send(message)


async def nothing(message=None):
    return


def answers(status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    return app


async def test_every_request_is_counted_once_with_its_latency():
    monitor = instrument(ok)
    for _ in range(100):
        assert (await call(monitor.app))[2] == b"ok"
    counted = slot(monitor)
    assert (counted.n, counted.errors, counted.client_errors, counted.aborted) == (100, 0, 0, 0)
    assert sum(counted.hist.values()) == 100


@pytest.mark.parametrize(
    ("status", "counted"),
    [(200, (1, 0, 0)), (302, (1, 0, 0)), (404, (1, 0, 1)), (500, (1, 1, 0)), (503, (1, 1, 0))],
)
async def test_5xx_are_errors_and_4xx_are_counted_apart(status, counted):
    monitor = instrument(answers(status))
    await call(monitor.app)
    assert (slot(monitor).n, slot(monitor).errors, slot(monitor).client_errors) == counted


async def test_an_exception_is_an_error_with_its_type_and_still_reaches_the_server():
    async def broken(scope, receive, send):
        raise TimeoutError("secret detail")

    monitor = instrument(broken)
    with pytest.raises(TimeoutError):
        await call(monitor.app)
    assert slot(monitor).errors == 1
    assert routes(monitor)["GET ~app"].exceptions == {"TimeoutError": 1}
    assert "secret" not in str(monitor.snapshot())


async def test_an_exception_in_the_middle_of_an_answer_is_an_error_although_it_said_200():
    async def breaks_midway(scope, receive, send):
        await send(OK[0])
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise RuntimeError

    monitor = instrument(breaks_midway)
    with pytest.raises(RuntimeError):
        await call(monitor.app)
    assert (slot(monitor).errors, slot(monitor).aborted) == (1, 0)
    assert monitor.snapshot().inflight == 0


async def test_a_cancelled_request_is_aborted_and_not_an_error():
    reached = asyncio.Event()

    async def hangs(scope, receive, send):
        reached.set()
        await asyncio.Event().wait()

    monitor = instrument(hangs)
    request = asyncio.ensure_future(call(monitor.app))
    await reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (slot(monitor).n, slot(monitor).errors, slot(monitor).aborted) == (1, 0, 1)
    assert monitor.snapshot().inflight == 0


async def test_a_client_that_goes_away_during_a_stream_is_aborted_and_not_an_error():
    async def chunks():
        while True:
            yield b"x"

    app = Starlette(routes=[Route("/big", lambda request: StreamingResponse(chunks()))])
    monitor = instrument(app)

    async def gone(message):
        if message["type"] == "http.response.body":
            raise OSError

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": "/big", "headers": [], "asgi": {"spec_version": "2.4"}}
    with pytest.raises(ClientDisconnect):
        await monitor.app(scope, receive, gone)
    assert (slot(monitor).errors, slot(monitor).aborted) == (0, 1)


async def test_an_app_that_returns_without_finishing_its_answer_counts_as_aborted():
    async def silent(scope, receive, send):
        return

    monitor = instrument(silent)
    await call(monitor.app)
    assert (slot(monitor).n, slot(monitor).aborted) == (1, 1)


async def test_requests_in_flight_are_counted_and_the_oldest_has_an_age():
    release = asyncio.Event()

    async def hangs(scope, receive, send):
        await release.wait()
        await ok(scope, receive, send)

    monitor = instrument(hangs)
    first = asyncio.ensure_future(call(monitor.app))
    await until(lambda: monitor.snapshot().inflight == 1)
    await until(lambda: monitor.snapshot().oldest_ms >= 2)
    second = asyncio.ensure_future(call(monitor.app))
    await until(lambda: monitor.snapshot().inflight == 2)
    release.set()
    await asyncio.gather(first, second)
    assert (monitor.snapshot().inflight, monitor.snapshot().oldest_ms) == (0, 0)
    assert monitor.health()["metrics"]["inflight_peak"] == 2


async def test_work_after_the_answer_is_not_latency():
    app = FastAPI()
    release = asyncio.Event()

    @app.get("/")
    async def answer(later: BackgroundTasks):
        later.add_task(release.wait)

    monitor = instrument(app)
    request = asyncio.ensure_future(call(app))
    await until(lambda: routes(monitor))
    assert (routes(monitor)["GET /"].n, monitor.snapshot().inflight, request.done()) == (1, 0, False)
    release.set()
    await request
    assert slot(monitor).n == 1


async def test_a_stream_of_bytes_ends_with_its_last_byte():
    step = asyncio.Event()

    async def chunks():
        yield b"a"
        await step.wait()
        yield b"b"

    app = Starlette(routes=[Route("/export", lambda request: StreamingResponse(chunks()))])
    monitor = instrument(app)
    request = asyncio.ensure_future(call(app, path="/export"))
    await until(lambda: monitor.snapshot().inflight == 1)
    assert slot(monitor).n == 0
    step.set()
    assert (await request)[2] == b"ab"
    assert routes(monitor)["GET /export"].n == 1


async def test_an_event_stream_is_neither_slow_nor_hanging():
    step = asyncio.Event()

    async def events():
        yield b"data: 1\n\n"
        await step.wait()

    app = Starlette(
        routes=[Route("/events", lambda request: StreamingResponse(events(), media_type="text/event-stream"))]
    )
    monitor = instrument(app)
    request = asyncio.ensure_future(call(app, path="/events"))
    await until(lambda: monitor.health()["metrics"]["streams"] == 1)
    assert (monitor.snapshot().inflight, monitor.snapshot().oldest_ms) == (0, 0)
    step.set()
    await request
    assert (slot(monitor).n, monitor.health()["metrics"]["streams"]) == (0, 0)


def shop():
    app = FastAPI()
    orders = APIRouter(prefix="/orders")
    deep = APIRouter(prefix="/deep")

    @app.get("/items/{id}")
    async def item(id: int):
        if id == 13:
            raise HTTPException(503)
        if id == 14:
            raise ValueError("bad")
        return id

    @orders.post("/{order}")
    @app.post("/legacy/{order}")
    async def order(order: str):
        return order

    @deep.get("/{leaf}")
    def leaf(leaf: str):
        return threading.current_thread().name

    orders.include_router(deep)
    app.include_router(orders, prefix="/api")
    app.include_router(orders, prefix="/v2")
    sub = FastAPI()

    @sub.get("/x/{y}")
    async def x(y: str):
        return y

    app.mount("/tenants/{tenant}", sub)
    app.mount("/static", StaticFiles(directory="."))
    return app


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/items/7", "GET /items/{id}"),
        ("GET", "/items/nonsense", "GET /items/{id}"),
        ("PUT", "/items/7", "PUT /items/{id}"),
        ("POST", "/api/orders/9", "POST /api/orders/{order}"),
        ("POST", "/v2/orders/9", "POST /v2/orders/{order}"),
        ("POST", "/legacy/9", "POST /legacy/{order}"),
        ("GET", "/api/orders/deep/3", "GET /api/orders/deep/{leaf}"),
        ("GET", "/tenants/acme/x/1", "GET /tenants/{tenant}/x/{y}"),
        ("GET", "/static/pyproject.toml", "GET /static"),
        ("GET", "/wp-login.php", "~unmatched"),
        ("BREW", "/items/7", "~other"),
        ("GET", "/api/orders/deep/3/", "GET ~app"),
    ],
)
async def test_a_request_is_named_after_its_route_and_never_after_its_path(method, path, name):
    app = shop()
    monitor = instrument(app)
    await call(app, method, path)
    assert list(routes(monitor)) == [name]


async def test_routes_that_share_one_function_are_told_apart():
    app = shop()
    monitor = instrument(app)
    for path in ("/legacy/1", "/api/orders/1", "/v2/orders/1", "/legacy/2"):
        await call(app, "POST", path)
    assert {k: v.n for k, v in routes(monitor).items()} == {
        "POST /legacy/{order}": 2,
        "POST /api/orders/{order}": 1,
        "POST /v2/orders/{order}": 1,
    }


async def test_a_route_of_starlette_below_mounts_has_its_whole_template():
    def page(request):
        return PlainTextResponse("x")

    app = Starlette(routes=[Mount("/a", routes=[Mount("/{b}", routes=[Route("/c/{d}", page)])])])
    monitor = instrument(app)
    await call(app, path="/a/1/c/2", root_path="")
    assert list(routes(monitor)) == ["GET /a/{b}/c/{d}"]


async def test_an_exception_is_counted_with_its_type_inside_and_outside_of_the_framework():
    for wrap in (False, True):
        app = shop()
        monitor = instrument(app.__call__ if wrap else app)
        with pytest.raises(ValueError, match="bad"):
            await call(monitor.app, path="/items/14")
        await call(monitor.app, path="/items/13")
        part = routes(monitor)["GET /items/{id}"]
        assert (part.n, part.errors, part.exceptions) == (2, 2, {"ValueError": 1})


async def test_our_own_endpoints_are_not_traffic():
    app = shop()
    monitor = instrument(app)
    for query in (b"", b"format=slots", b"format=slots&since=5"):
        assert (await call(app, path="/health/alerts", query=query))[0] == 200
    assert (await call(app, path="/srv/health/alerts", root_path="/srv"))[0] == 200
    assert slot(monitor).n == 0


async def test_websockets_and_lifespan_pass_through():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["type"], receive, send))

    monitor = instrument(app)
    for kind in ("websocket", "lifespan"):
        await monitor.app({"type": kind, "path": "/"}, "receive", "send")
    assert [one[:2] for one in seen] == [("websocket", "receive"), ("lifespan", "receive")]
    assert seen[1] == ("lifespan", "receive", "send")
    assert slot(monitor).n == 0


async def test_the_monitor_itself_is_an_app():
    monitor = instrument(ok)
    assert (await call(monitor))[2] == b"ok"
    assert slot(monitor).n == 1


async def test_a_hundred_thousand_distinct_paths_and_methods_cost_no_memory():
    async def nowhere(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 404 if scope["method"] == "GET" else 405, "headers": []}
        )
        await send({"type": "http.response.body"})

    sub = Starlette(routes=[Route("/x", lambda request: PlainTextResponse("x"))])
    mounted = Starlette(routes=[Mount("/{tenant}", app=sub)])
    bare, monitor = instrument(nowhere), instrument(mounted)
    for i in range(100):
        await call(bare.app, path=f"/warm/{i}")
        await call(mounted, path=f"/warm{i}/x")
    gc.collect()
    tracemalloc.start()
    for i in range(50_000):
        await bare.app({"type": "http", "method": "GET", "path": f"/{i}"}, nothing, nothing)
        await bare.app({"type": "http", "method": f"M{i}", "path": f"/m/{i}"}, nothing, nothing)
    for i in range(5_000):
        await call(mounted, path=f"/{i}/x")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(routes(bare)) == {"~unmatched", "~other"}
    assert set(routes(monitor)) == {"GET /{tenant}/x"}
    assert size < 2**20


async def test_dependencies_and_saturation_are_measured_facts():
    monitor = instrument(ok)
    monitor.saturation("db_pool", lambda: (20, 20))
    monitor.saturation("broken", lambda: 1 / 0)
    with monitor.dependency("payments-api"):
        pass
    with pytest.raises(TimeoutError):
        async with monitor.dependency("payments-api"):
            raise TimeoutError
    (part,) = slot(monitor).dependencies
    assert (part.name, part.n, part.errors, part.exceptions) == ("payments-api", 2, 1, {"TimeoutError": 1})
    assert [(g.name, g.used, g.limit) for g in monitor.snapshot().saturation] == [("db_pool", 20, 20)]


async def test_a_cancelled_call_to_a_dependency_is_not_its_error():
    monitor = instrument(ok)
    with pytest.raises(asyncio.CancelledError), monitor.dependency("payments-api"):
        raise asyncio.CancelledError
    assert [(d.n, d.errors) for d in slot(monitor).dependencies] == [(1, 0)]


async def test_calls_from_many_threads_are_all_counted():
    monitor = instrument(ok)

    def work():
        for _ in range(2_000):
            with monitor.dependency("db"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await asyncio.to_thread(threads[0].join, 0.01)
        monitor._window.turn()
    assert slot(monitor).dependencies[0].n == 8_000


async def test_a_simulated_fault_is_marked_while_it_is_on():
    monitor = instrument(ok)
    monitor.fault("slow_db")
    assert monitor.snapshot().faults == ("slow_db",)
    assert monitor.health()["faults"] == ["slow_db"]
    monitor.fault("slow_db", on=False)
    assert monitor.snapshot().faults == ()
