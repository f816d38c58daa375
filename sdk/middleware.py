"""What watches every request: a pure ASGI middleware, about one microsecond dear, that does no IO.

Rules. A request ends with its last body message, so work after the answer is not latency. An exception
before or during the answer is an error; a cancellation, a client that went away and an answer that was never
finished are *aborted*; 4xx are counted apart. An event stream is a request until it starts, then it is a
stream, not a slow request. Our own endpoints are not traffic, nor are websockets. Nothing is dropped.

Why it is cheap: ``send`` is wrapped by a plain function, which costs no coroutine; a second is closed by one
integer comparison; a route's cell is found by one dict look-up; failures take the cold path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from time import perf_counter_ns

from . import routes
from .asgi import App, Message, Receive, Scope, Send, path_of
from .histogram import HIGHEST_NS, LOWEST_NS, index
from .window import Cell, Window

MAX_KNOWN = 1024
NO_START: Message = {"status": 0}
LAST = frozenset({"http.response.body", "http.response.pathsend"})
WENT_AWAY = frozenset({"ClientDisconnect", "ClientDisconnected"})


class Meter:
    """Measures an ASGI app into a window; *own* are endpoints that it answers itself, by exact path."""

    __slots__ = ("_app", "_inflight", "_known", "_own", "_window")

    def __init__(self, app: App, window: Window, own: Mapping[str, App]) -> None:
        self._app = app
        self._window = window
        self._inflight = window.inflight
        self._own = own
        # Routes are held beside their cells so that an id is not given to another route meanwhile.
        self._known: dict[tuple[object, ...], tuple[Cell, object, object]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901 - the hot path
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = self._own.get(path_of(scope) if scope.get("root_path") else scope["path"])
        if own is not None:
            await own(scope, receive, send)
            return

        inflight = self._inflight
        begun = perf_counter_ns()
        while begun in inflight:
            begun += 1
        inflight[begun] = scope
        if len(inflight) > self._window.peak:
            self._window.peak = len(inflight)
        start: Message = NO_START
        unsure = True

        def watch(message: Message) -> Awaitable[None]:
            nonlocal start, unsure
            kind = message["type"]
            if kind == "http.response.start":
                start = message
            elif message.get("more_body"):
                if unsure:
                    unsure = False
                    self._unless_stream(begun, start)
            elif kind in LAST and begun in inflight:
                self._end(begun, start["status"])
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as e:
            self._raised(begun, scope, start["status"], e)
            raise
        if begun in inflight:
            self._end(begun, start["status"]).aborted += 1
        elif not unsure:
            self._window.streams.discard(begun)

    def _unless_stream(self, begun: int, start: Message) -> None:
        """Take an event stream out of flight, at its first chunk."""
        if _is_event_stream(start) and self._inflight.pop(begun, None) is not None:
            self._window.streams.add(begun)

    def _end(self, begun: int, status: int) -> Cell:
        """Count a request that has just ended; return where."""
        ended = perf_counter_ns()
        scope = self._inflight.pop(begun)
        if ended >= self._window.turn_at:
            self._window.turn()
        cell = self._cell(scope, status)
        ns = ended - begun
        if LOWEST_NS <= ns <= HIGHEST_NS:
            e = ns.bit_length() - 6
            cell.hist[(e << 5) + (ns >> e)] += 1
        else:
            cell.hist[index(ns)] += 1
        if status >= 500:
            cell.errors += 1
        elif status >= 400:
            cell.client_errors += 1
        return cell

    def _cell(self, scope: Scope, status: int) -> Cell:
        route = scope.get("route") or scope.get("endpoint")
        if route is None:
            effective = None
            key: tuple[object, ...] = (scope["method"], status == 404)
        else:
            effective = routes.context(scope)
            key = (id(route), id(effective), scope["method"], scope.get("root_path"))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = (self._window.cell(routes.name(scope, status)), route, effective)
        return known[0]

    def _raised(self, begun: int, scope: Scope, status: int, e: BaseException) -> None:
        """Count an exception: of the request, of its stream, or of work after the answer."""
        if begun in self._inflight:
            went_away = not isinstance(e, Exception) or type(e).__name__ in WENT_AWAY
            cell = self._end(begun, 0)
            if went_away:
                cell.aborted += 1
            else:
                cell.errors += 1
                cell.blame(type(e).__name__)
        elif status >= 500:
            # An outer server-error middleware answered 500 for it and raised it again.
            self._cell(scope, status).blame(type(e).__name__)
        self._window.streams.discard(begun)


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
