"""What a health address can answer: slots, the peer's averages, or something that is a missed poll."""

import asyncio
import json
import math
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from handlers.adapters import health
from handlers.adapters.health import HttpHealth
from handlers.charter import Charter, parse
from handlers.ports import PortError
from tests.rooms import CHARTER

NOW_MS = 1_764_000_000_000


class NoSecrets:
    def get(self, name: str) -> bytes | None:
        return {"ACME_HEALTH": b"let-me-in"}.get(name)


class App:
    """A monitored app that answers what it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answers[request.path]
        return await answer(request) if callable(answer) else web.json_response(answer)


@pytest.fixture
async def app() -> AsyncIterator[App]:
    made = App()
    site = web.Application()
    site.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(site, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[HttpHealth]:
    made = HttpHealth(NoSecrets())
    yield made
    await made.close()


def rules(url: str, token: str = "") -> Charter:
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    text = text.replace("http://127.0.0.1:9000/health/alerts", f"{url}/health/alerts")
    return parse(
        text.replace('[[services.actions]]\nid = "restart', f'{token}\n[[services.actions]]\nid = "restart')
    )


def slot(t: int, n: int = 10, errors: int = 0) -> dict[str, Any]:
    return {
        "t": t,
        "n": n,
        "errors": errors,
        "client_errors": 0,
        "aborted": 0,
        "hist": [],
        "routes": [],
        "dependencies": [],
    }


def slots(*found: dict[str, Any], now_ms: int = NOW_MS) -> dict[str, Any]:
    return {"schema": "slots/1", "service": "checkout", "now_ms": now_ms, "slots": list(found), "inflight": 3}


async def look(client: HttpHealth, app: App, cursor: int = 0, token: str = ""):
    charter = rules(app.url, token)
    return await client.poll(charter, charter.services[0], cursor, NOW_MS)


async def test_slots_add_up_and_the_next_poll_goes_on_where_this_one_ended(app: App, client: HttpHealth):
    second = NOW_MS // 1000
    app.answers["/health/alerts"] = slots(slot(second - 3, 10, 2), slot(second - 1, 5, 1))
    polled = await look(client, app, second - 6)
    assert (polled.tick.n, polled.tick.errors, polled.tick.span_ms, polled.tick.inflight) == (15, 3, 5000, 3)
    assert polled.cursor == second - 1
    again = await look(client, app, polled.cursor)
    assert (again.tick.n, again.tick.span_ms) == (0, 0)
    assert app.asked[-1].query == {"format": "slots", "since": str(second - 1)}


async def test_a_first_poll_does_not_count_a_whole_minute_of_the_past(app: App, client: HttpHealth):
    second = NOW_MS // 1000
    app.answers["/health/alerts"] = slots(*(slot(second - 60 + i) for i in range(60)))
    polled = await look(client, app)
    assert polled.tick.n == 50


async def test_an_app_whose_clock_was_set_back_is_read_on_and_nothing_is_counted_twice(
    app: App, client: HttpHealth
):
    second = NOW_MS // 1000
    app.answers["/health/alerts"] = slots(slot(second - 2))
    polled = await look(client, app, second + 3600)
    assert (polled.tick.n, polled.tick.span_ms, polled.cursor) == (0, 0, second - 1)
    app.answers["/health/alerts"] = slots(slot(second - 2), slot(second), now_ms=NOW_MS + 1000)
    assert (await look(client, app, polled.cursor)).tick.n == 10


@pytest.mark.parametrize("more", ["?app=1", "?app=1#top", "#top"])
async def test_an_address_may_have_a_query_of_its_own(app: App, client: HttpHealth, more: str):
    app.answers["/health/alerts"] = slots()
    charter = rules(app.url)
    service = charter.services[0].model_copy(update={"health_url": f"{app.url}/health/alerts{more}"})
    await client.poll(charter, service, 7, NOW_MS)
    own = {"app": "1"} if "app" in more else {}
    assert dict(app.asked[-1].query) == own | {"format": "slots", "since": "7"}


async def test_the_token_goes_to_the_app_and_stands_in_no_charter(app: App, client: HttpHealth):
    app.answers["/health/alerts"] = slots()
    await look(client, app, token='token_env = "ACME_HEALTH"\n')
    assert app.asked[-1].headers["Authorization"] == "Bearer let-me-in"


async def test_an_app_with_fastapi_alertengine_is_counted_by_its_counter(app: App, client: HttpHealth):
    metrics = {"overall_p95_ms": 200.0, "anomaly_score": 1.0, "error_rate": 0.25, "sample_size": 200}
    app.answers["/health/alerts"] = {"status": "ok", "metrics": metrics}
    app.answers["/metrics/ingestion"] = {"enqueued": 1000}
    assert (await look(client, app)).tick.n == 0
    app.answers["/metrics/ingestion"] = {"enqueued": 1102}
    polled = await look(client, app)
    assert (polled.tick.n, polled.tick.errors) == (100, 25)
    assert sum(polled.tick.hist.values()) == 100


async def html(request: web.Request) -> web.Response:
    return web.Response(text="<html>It works!</html>", content_type="text/html")


async def broken(request: web.Request) -> web.Response:
    return web.Response(status=503, text="no")


async def nan(request: web.Request) -> web.Response:
    text = json.dumps({"metrics": {"error_rate": math.nan, "overall_p95_ms": 1, "anomaly_score": 0}})
    return web.Response(text=text, content_type="application/json")


async def huge(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with_nothing = b" " * 65536
    for _ in range(800):
        await response.write(with_nothing)
    return response


async def elsewhere(request: web.Request) -> web.Response:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data")


async def hang(request: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (html, "not JSON"),
        (broken, "answered 503"),
        (nan, "not JSON"),
        (huge, "more than 4 MB"),
        (elsewhere, "answered 302"),
        ([1, 2], "not an object"),
        ({"hello": "world"}, "neither slots nor"),
        (slots(slot(5), slot(4)), "slots that are none"),
        ({"schema": "slots/1", "service": "x", "now_ms": -1}, "slots that are none"),
    ],
)
async def test_anything_else_is_a_missed_poll_with_its_reason(
    app: App, client: HttpHealth, answer: Any, why: str
):
    app.answers["/health/alerts"] = app.answers["/metrics/ingestion"] = answer
    with pytest.raises(PortError, match=why):
        await look(client, app)


async def test_an_app_that_hangs_is_given_up_after_its_time(
    app: App, client: HttpHealth, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "TIMEOUT_S", 0.05)
    app.answers["/health/alerts"] = hang
    with pytest.raises(PortError, match="no answer within"):
        await look(client, app)


async def test_nobody_listening_is_a_missed_poll(client: HttpHealth):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        charter = rules(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(PortError, match="could not be reached"):
            await client.poll(charter, charter.services[0], 0, NOW_MS)


async def test_the_real_fastapi_alertengine_can_be_read(client: HttpHealth):
    """The peer itself, under uvicorn, in a process of its own."""
    pytest.importorskip("fastapi_alertengine", reason="the peer is a development requirement")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        "-c",
        f"import fastapi, fastapi_alertengine, uvicorn\n"
        f"app = fastapi.FastAPI()\n"
        f"@app.get('/x')\ndef x(): raise fastapi.HTTPException(500)\n"
        f"fastapi_alertengine.instrument(app, redis_url='redis://127.0.0.1:1/0')\n"
        f"uvicorn.run(app, host='127.0.0.1', port={port}, log_level='error')\n",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        charter = rules(f"http://127.0.0.1:{port}")
        async with asyncio.timeout(60):
            while True:
                try:
                    await client.poll(charter, charter.services[0], 0, NOW_MS)
                    break
                except PortError:
                    await asyncio.sleep(0.2)
            async with aiohttp.ClientSession() as session:
                for _ in range(150):
                    async with session.get(f"http://127.0.0.1:{port}/x") as response:
                        assert response.status == 500
            polled = await client.poll(charter, charter.services[0], 0, NOW_MS + 5000)
        assert polled.tick.n == 150
        assert polled.tick.errors >= 75  # its window holds our own looks, too
    finally:
        process.kill()
        await process.wait()
