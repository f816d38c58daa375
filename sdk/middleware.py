"""What watches every request: a pure ASGI middleware, about one microsecond dear, that does no IO.

Rules. A request ends with its last body message, so work after the answer is not latency. An exception
before or during the answer is an error; a cancellation, a client that went away and an answer that was never
finished are *aborted*; 4xx are counted apart. An event stream is a request until its first byte, then it is
a stream, counted apart with the time that took, as are websockets. Our own endpoints are not traffic.
Nothing is dropped.

Why it is cheap: ``send`` is wrapped by a plain function, which costs no coroutine; only three variables are
made for it a request, the rest is shared by all (each costs 25 ns); a second is closed by one integer
comparison; a route's cell is found by two dict look-ups; a latency is appended, and sorted into its bucket
with all others of its second; failures take the cold path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from time import perf_counter_ns
from typing import Any

from . import asgi, routes, websocket
from .asgi import App, Message, Receive, Scope, Send, path_of
from .cell import Cell
from .websocket import WENT_AWAY, opened
from .window import Window
from .wire import UNMATCHED

MAX_KNOWN = 1024
NO_START: Message = {"status": 0}
LAST = frozenset({"http.response.body", "http.response.pathsend"})
FAILURE = "countersign.failure"
NOWHERE = Cell("")


def install(app: Any, window: Window, own: Mapping[str, App]) -> Any:
    """Return *app* measured: in place where it takes middleware, wrapped otherwise (Litestar, bare)."""
    answered = getattr(app, "after_exception", None)
    if isinstance(answered, list):
        answered.append(_failed)
    return asgi.install(app, meter, window, own)


async def _failed(e: Exception, scope: Scope) -> None:
    """Be told by Litestar of an exception that it answers itself."""
    scope[FAILURE] = type(e).__name__


def meter(app: App, window: Window, own: Mapping[str, App]) -> App:  # noqa: C901 - the hot path
    """Return *app*, measured into *window*; *own* are endpoints that are answered here, by exact path."""
    inflight, streams = window.inflight, window.streams
    known: dict[int, dict[object, Cell]] = {}
    held: list[object] = []

    def learn(route: object, key: object, scope: Scope, status: int) -> Cell:
        """Return the cell of a request whose route has not been seen, and remember it."""
        if len(held) >= MAX_KNOWN:
            known.clear()
            held.clear()
        held.append(route)  # so that its id is not given to another route while we know it
        cell = known.setdefault(id(route), {})[key] = window.cell(routes.name(scope, status))
        return cell

    def end(begun: int, status: int) -> Cell:  # noqa: C901 - as above
        """Count a request that has just ended, unless it was a stream; return where."""
        ended = perf_counter_ns()
        scope = inflight.pop(begun, None)
        if scope is None:
            streams.discard(begun)
            return NOWHERE
        if ended >= window.turn_at:
            window.turn()
        key: object = scope["method"]
        if "route" in scope:
            route: object = scope["route"]
            if "fastapi" in scope:
                route = scope["fastapi"].get("effective_route_context") or route
        elif "endpoint" in scope:
            route = scope["endpoint"]
        elif "path_template" in scope:
            route = scope["path_template"]
        else:
            route = None
            if status == 404:
                key = UNMATCHED
        if "app_root_path" in scope:  # below a mount: the same route may stand below another
            key = key, scope["root_path"]
        try:
            cell = known[id(route)][key]
        except KeyError:
            cell = learn(route, key, scope, status)
        cell.times.append(ended - begun)
        if status >= 400:
            if status >= 500:
                cell.errors += 1
                if FAILURE in scope:
                    cell.blame(scope[FAILURE])
            else:
                cell.client_errors += 1
        return cell

    def goes_on(begun: int, start: Message) -> None:
        """Take note of an answer that is not over yet: an event stream is no request any more."""
        if begun in inflight and _is_event_stream(start):
            streams.add(begun)
            opened(window, inflight.pop(begun), begun, start["status"])

    def raised(begun: int, scope: Scope, status: int, e: BaseException) -> None:
        """Count an exception: of the request, of its stream, or of work after the answer."""
        kind = type(e).__name__
        failed = isinstance(e, Exception) and kind not in WENT_AWAY
        if begun in inflight:
            cell = end(begun, 0)
            if failed:
                cell.errors += 1
                cell.blame(kind)
            else:
                cell.aborted += 1
        elif status >= 500:
            # An outer server-error middleware answered 500 for it and raised it again.
            window.cell(routes.name(scope, status)).blame(kind)
        elif begun in streams and failed:
            window.stream(routes.name(scope, status)).blame(kind)
        streams.discard(begun)

    def returned(begun: int) -> None:
        """Count a request whose answer was never finished; or take note that a stream is over."""
        if begun in inflight:
            end(begun, 0).aborted += 1
        streams.discard(begun)

    socket = websocket.meter(app, window)

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            window.turn_when_due()
            await (socket if scope["type"] == "websocket" else app)(scope, receive, send)
            return
        if scope["path"] in own or (scope.get("root_path") and path_of(scope) in own):
            await own[path_of(scope)](scope, receive, send)
            return

        # Two requests on one thread begin far more than the clock's step apart: the time is also the key.
        inflight[begun := perf_counter_ns()] = scope
        if len(inflight) > window.peak:
            window.peak = len(inflight)
        start: Message = NO_START

        def watch(message: Message) -> Awaitable[None]:
            nonlocal start, begun
            kind = message["type"]
            if kind == "http.response.start":
                start = message
            elif "more_body" in message and message["more_body"]:  # noqa: RUF019 - dict.get costs 15 ns more
                goes_on(begun, start)
            elif begun and (kind == "http.response.body" or kind in LAST):
                end(begun, start["status"])
                begun = 0
            return send(message)

        try:
            await app(scope, receive, watch)
        except BaseException as e:
            raised(begun, scope, start["status"], e)
            raise
        if begun:
            returned(begun)

    return measured


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
