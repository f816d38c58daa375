"""Litestar, which keeps its routes and its exceptions to itself: what it tells is enough."""

import litestar
import pytest
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath

from sdk import instrument
from tests.unit.sdk.asgi_client import call, routes, slot
from tests.unit.sdk.test_streams import connect, streams


@litestar.get("/{order:int}")
async def order(order: FromPath[int]) -> dict[str, int]:
    if order == 13:
        raise TimeoutError("secret")
    if order == 14:
        raise NotAuthorizedException
    return {"order": order}


@litestar.get("/")
async def home() -> str:
    return "home"


@litestar.websocket("/rooms/{room:str}")
async def chat(socket: litestar.WebSocket, room: FromPath[str]) -> None:
    await socket.accept()


@pytest.fixture
def monitor():
    orders = litestar.Router("/orders", route_handlers=[order])
    return instrument(litestar.Litestar([orders, home, chat], logging_config=None))


async def test_litestar_is_measured_by_its_templates_and_the_types_of_its_exceptions(monitor):
    paths = ["/orders/7", "/orders/8", "/orders/13", "/orders/14", "/", "/no/such"]
    assert [(await call(monitor.app, path=path))[0] for path in paths] == [200, 200, 500, 401, 200, 404]
    found = {name: (p.n, p.errors, dict(p.exceptions)) for name, p in routes(monitor).items()}
    assert found == {
        "GET /orders/{order}": (4, 1, {"TimeoutError": 1}),
        "GET /": (1, 0, {}),
        "~unmatched": (1, 0, {}),
    }
    assert slot(monitor).client_errors == 2


async def test_a_websocket_of_litestar_is_a_stream_with_its_template(monitor):
    assert "websocket.accept" in await connect(monitor.app, "/rooms/7")
    assert streams(monitor) == {"WEBSOCKET /rooms/{room}": (1, 0, {})}
