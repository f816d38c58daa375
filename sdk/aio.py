"""What watches every request of an aiohttp application: its outermost middleware. It never imports aiohttp.

A request ends with its last body byte, so the answer is sent here; an answer that nobody was there to receive
is *aborted*, an ``HTTPException`` is the answer that it stands for. An event stream and a websocket are
counted with their first byte, apart. Names come from the resource that served, never from the raw path.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .asgi import App, Message, Scope
from .request import Request
from .routes import METHODS, SOCKET
from .window import Window
from .wire import OTHER, UNMATCHED

MOST_BODY = 64 * 1024 + 1
"""One byte more than any endpoint of ours takes, so that it is seen to be too long."""
Handler = Callable[[Any], Awaitable[Any]]


def is_aiohttp(app: Any) -> bool:
    """Return whether *app* is an ``aiohttp.web.Application``, by what it can do."""
    return all(hasattr(app, one) for one in ("on_response_prepare", "middlewares", "router"))


def install(app: Any, window: Window, own: Mapping[str, App]) -> Any:
    """Return *app*, measured into *window*, with *own* endpoints, in place; RuntimeError once it runs."""

    noted: dict[int, Request] = {}

    async def measured(request: Any, handler: Handler) -> Any:
        aside = own.get(request.path)
        if aside is not None:
            return await bridge(aside, request)
        counted = noted[id(request)] = Request(window, request, name_of)
        try:
            answer = await handler(request)
            if request.match_info.apps[0] is app:  # else an outer middleware may still change it
                await _send(answer, request)
        except BaseException as e:
            _raised(counted, request, e)
            raise
        finally:
            del noted[id(request)]
        counted.status = getattr(answer, "status", 500)
        counted.end()
        return answer

    async def prepared(request: Any, answer: Any) -> None:
        """Be told that the first byte is about to leave."""
        counted = noted.get(id(request))
        if counted is not None and _is_stream(answer):
            counted.status = answer.status
            counted.first_byte()

    measured.__middleware_version__ = 1  # type: ignore[attr-defined]
    app.middlewares.insert(0, measured)
    app.on_response_prepare.append(prepared)
    return app


def _is_stream(answer: Any) -> bool:
    return bool(answer.status == 101 or answer.content_type == "text/event-stream")


async def _send(answer: Any, request: Any) -> None:
    if hasattr(answer, "write_eof"):
        await answer.prepare(request)
        await answer.write_eof()


def _raised(counted: Request, request: Any, e: BaseException) -> None:
    counted.status = getattr(e, "status", 500)
    if getattr(e, "__http_exception__", False):
        counted.end()
    elif not isinstance(e, Exception) or (isinstance(e, ConnectionError) and _is_gone(request)):
        counted.end(aborted=True)
    else:
        counted.end(type(e).__name__)


def _is_gone(request: Any) -> bool:
    return request.transport is None or bool(request.transport.is_closing())


def name_of(request: Any, status: int) -> str:
    """Return the bounded name under which a request is counted."""
    method = SOCKET if status == 101 else request.method
    if method not in METHODS and method != SOCKET:
        return OTHER
    resource = getattr(request.match_info.route, "resource", None)
    if resource is None:
        return UNMATCHED if status == 404 else f"{method} ~app"
    return f"{method} {resource.canonical or '/'}"


async def bridge(app: App, request: Any) -> Any:
    """Return what an endpoint of ours, which speaks ASGI, answers to a request of aiohttp."""
    sent: list[Message] = []
    body = await _body(request) if request.can_read_body else b""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(request), receive, send)
    start, *parts = sent
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
    web: Any = sys.modules["aiohttp.web"]
    return web.Response(status=start["status"], headers=headers, body=b"".join(p["body"] for p in parts))


async def _body(request: Any) -> bytes:
    """Return the body, at most one byte too long."""
    read = b""
    while len(read) < MOST_BODY and (part := await request.content.read(MOST_BODY - len(read))):
        read += part
    return read


def _scope(request: Any) -> Scope:
    return {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "query_string": request.query_string.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in request.headers.items()],
    }


def beside(app: Any, endpoints: Mapping[str, App]) -> Any:
    """Return *app* with *endpoints* answered beside it, in place."""

    async def answered(request: Any, handler: Handler) -> Any:
        aside = endpoints.get(request.path)
        return await (handler(request) if aside is None else bridge(aside, request))

    answered.__middleware_version__ = 1  # type: ignore[attr-defined]
    app.middlewares.insert(0, answered)
    return app
