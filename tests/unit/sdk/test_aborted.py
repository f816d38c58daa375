"""Clients that go away in the middle, and many at once, over real HTTP: nothing is lost, nothing doubled."""

import asyncio
import threading
from contextlib import asynccontextmanager

import aiohttp
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from sdk import instrument
from tests.unit.sdk.asgi_client import routes, slot
from tests.unit.sdk.test_http import serving as under_uvicorn

LONG_S = 60
CHUNK = b"x" * 65_536


def asgi_shop():
    app = FastAPI()

    async def chunks():
        while True:
            yield CHUNK
            await asyncio.sleep(0)

    @app.get("/big")
    async def big():
        return StreamingResponse(chunks())

    @app.get("/orders/{order}")
    async def order(order: int):
        return order

    return app


def wsgi_shop():
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")

    def chunks():
        while True:
            yield CHUNK

    app.get("/big", endpoint="big")(lambda: flask.Response(chunks()))
    app.get("/orders/<int:order>", endpoint="order")(lambda order: str(order))
    return app


@asynccontextmanager
async def under_waitress(app):
    """Serve *app* on eight threads; give a client with its address."""
    waitress = pytest.importorskip("waitress")
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.effective_port}") as http:
            yield http
    finally:
        server.trigger.pull_trigger(server.close)
        await asyncio.to_thread(thread.join, LONG_S)


SERVED = {
    "uvicorn": (asgi_shop, under_uvicorn, "GET /orders/{order}"),
    "waitress": (wsgi_shop, under_waitress, "GET /orders/<int:order>"),
}


async def get(http, path):
    async with http.get(path) as answer:
        return answer.status, await answer.read()


async def leave(http):
    """Read a little of what never ends, and hang up."""
    async with http.get("/big") as answer:
        await answer.content.readexactly(100_000)
        answer.close()


@pytest.mark.parametrize("server", SERVED)
async def test_of_many_at_once_and_some_who_leave_each_is_counted_once(server):
    build, serving, route = SERVED[server]
    app = build()
    monitor = instrument(app, share=False)
    async with serving(app) as http:
        answers, _ = await asyncio.gather(
            asyncio.gather(*(get(http, f"/orders/{n}") for n in range(100))),
            asyncio.gather(*(leave(http) for _ in range(4))),
        )
        async with asyncio.timeout(LONG_S):
            while monitor._window.inflight:  # noqa: ASYNC110 - the server's threads have no event for it
                await asyncio.sleep(0.01)
    assert [status for status, _ in answers] == [200] * 100
    counted = slot(monitor)
    assert (counted.n, sum(counted.hist.values())) == (104, 104)
    assert (counted.errors, counted.client_errors, counted.aborted) == (0, 0, 4)
    assert {name: part.n for name, part in routes(monitor).items()} == {route: 100, "GET /big": 4}
