"""Event streams and websockets: counted apart from requests, with the time to their first byte."""

import asyncio
import json

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from sdk import instrument, wire
from tests.unit.sdk.asgi_client import call, slot, until
from tests.unit.sdk.test_wsgi import ask


async def connect(app, path, *, heard=({"type": "websocket.connect"},)):
    """Be a websocket's client, who says what is *heard*; return what the app said."""
    left, said = list(heard), []

    async def receive():
        return left.pop(0) if left else {"type": "websocket.disconnect", "code": 1001}

    async def send(message):
        said.append(message["type"])

    await app(
        {
            "type": "websocket",
            "path": path,
            "root_path": "",
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
        },
        receive,
        send,
    )
    return said


def streams(monitor):
    """Return what was counted of streams, by name."""
    return {p.name: (p.n, p.errors, dict(p.exceptions)) for p in slot(monitor).streams}


async def test_a_websocket_is_counted_when_it_is_accepted_and_is_not_a_request():
    app, router = FastAPI(), APIRouter(prefix="/rooms")

    @router.websocket("/{room}")
    async def chat(socket: WebSocket, room: str):
        await socket.accept()
        if room == "broken":
            raise TimeoutError
        assert monitor.health()["metrics"]["streams"] == 1

    app.include_router(router)
    monitor = instrument(app)
    assert await connect(app, "/rooms/7") == ["websocket.accept"]
    with pytest.raises(TimeoutError):
        await connect(app, "/rooms/broken")
    counted = slot(monitor)
    assert (counted.n, counted.routes) == (0, ())
    assert streams(monitor) == {"WEBSOCKET /rooms/{room}": (2, 0, {"TimeoutError": 1})}
    assert monitor.health()["metrics"]["streams"] == 0


async def test_a_websocket_that_is_refused_or_breaks_before_it_begins_is_told():
    async def refuse(socket):
        await socket.close()

    async def breaks(socket):
        raise KeyError("secret")

    app = Starlette(
        routes=[Mount("/in", routes=[WebSocketRoute("/no", refuse), WebSocketRoute("/x", breaks)])]
    )
    monitor = instrument(app)
    assert await connect(app, "/in/no") == ["websocket.close"]
    with pytest.raises(KeyError):
        await connect(app, "/in/x")
    assert streams(monitor) == {
        "WEBSOCKET /in/no": (1, 0, {}),
        "WEBSOCKET /in/x": (1, 1, {"KeyError": 1}),
    }


async def test_a_websocket_whose_client_leaves_before_it_begins_is_aborted():
    reached = asyncio.Event()

    async def slow(scope, receive, send):
        reached.set()
        await asyncio.Event().wait()

    monitor = instrument(slow)
    asked = asyncio.ensure_future(connect(monitor.app, "/"))
    await reached.wait()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    (packed,) = monitor.snapshot().slots or (slot(monitor),)
    assert [(p.n, p.errors, p.exceptions) for p in packed.streams] == [(1, 0, {})]


async def test_an_event_stream_is_told_by_its_first_byte_and_by_what_broke_it():
    go = asyncio.Event()

    async def events():
        yield b"data: 1\n\n"
        await go.wait()
        raise RuntimeError("secret")

    def endpoint(request):
        return StreamingResponse(events(), media_type="text/event-stream")

    monitor = instrument(Starlette(routes=[Route("/events", endpoint)]))
    listening = asyncio.ensure_future(call(monitor.app, path="/events"))
    await until(lambda: monitor.health()["metrics"]["streams"] == 1)
    monitor._window.turn()
    go.set()
    with pytest.raises(RuntimeError):
        await listening
    assert streams(monitor) == {"GET /events": (1, 0, {"RuntimeError": 1})}
    assert (slot(monitor).n, monitor.health()["metrics"]["streams_begun"]) == (0, 1)


def test_an_event_stream_over_wsgi_is_told_by_its_first_byte():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8")])
        yield b"data: 1\n\n"
        seen.append(monitor.health()["metrics"]["streams"])
        if environ["PATH_INFO"] == "/broken":
            raise LookupError

    seen = []
    monitor = instrument(app)
    assert ask(monitor.app, "/") == (200, b"data: 1\n\n")
    with pytest.raises(LookupError):
        ask(monitor.app, "/broken")
    assert (seen, slot(monitor).n, monitor.snapshot().inflight) == ([1, 1], 0, 0)
    assert streams(monitor) == {"GET ~app": (2, 0, {"LookupError": 1})}
    assert monitor.health()["metrics"]["streams"] == 0


async def test_streams_cross_the_wire_and_are_summed_over_workers():
    async def chat(scope, receive, send):
        await send({"type": "websocket.accept"})

    told = []
    for _ in range(2):
        monitor = instrument(chat)
        await connect(monitor.app, "/")
        told += wire.decode(wire.encode(wire.Snapshot("x", 1, (slot(monitor),)))).slots
    (merged,) = wire.merge_slots(told).streams
    assert (merged.name, merged.n, sum(merged.hist.values())) == ("WEBSOCKET ~app", 2, 2)
    assert json.loads(wire.encode(wire.Snapshot("x", 1, tuple(told[:1]))))["slots"][0]["streams"]


async def test_any_number_of_paths_makes_a_bounded_number_of_streams():
    async def chat(scope, receive, send):
        scope["path_template"] = scope["path"]
        await send({"type": "websocket.accept"})

    monitor = instrument(chat)
    for n in range(100):
        await connect(monitor.app, f"/{n}")
    found = streams(monitor)
    assert len(found) == 33
    assert found["~other"][0] == 68
