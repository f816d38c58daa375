"""What watches websockets and other streams: how many began, how soon, and what ended them badly.

A stream lives long, so how long says nothing of the app. What counts is the time to its first byte, of a
websocket to its acceptance. One that was refused is a client error; one that broke before is an error or,
where the client went away, aborted. An exception later is told by its type alone.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter_ns

from . import routes
from .asgi import App, Message, Receive, Scope, Send
from .cell import Cell
from .window import Window

WENT_AWAY = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})
REFUSED = frozenset({"websocket.close", "websocket.http.response.start"})


def opened(window: Window, scope: Scope, begun: int, status: int = 0) -> Cell:
    """Count a stream whose first byte is being sent; return where."""
    ns = perf_counter_ns() - begun
    window.turn_when_due()
    cell = window.stream(routes.name(scope, status))
    cell.times.append(ns)
    return cell


def meter(app: App, window: Window) -> App:
    """Return *app*, its websockets measured into *window*."""

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        begun, cell = perf_counter_ns(), None

        def watch(message: Message) -> Awaitable[None]:
            nonlocal cell
            if cell is None and message["type"] == "websocket.accept":
                cell = opened(window, scope, begun)
                window.streams.add(begun)
            elif cell is None and message["type"] in REFUSED:
                cell = opened(window, scope, begun, message.get("status", 403))
                cell.client_errors += 1
            return send(message)

        try:
            await app(scope, receive, watch)
        except BaseException as e:
            _raised(cell or opened(window, scope, begun), e, begins=cell is None)
            raise
        finally:
            window.streams.discard(begun)

    return measured


def _raised(cell: Cell, e: BaseException, *, begins: bool) -> None:
    kind = type(e).__name__
    if isinstance(e, Exception) and kind not in WENT_AWAY:
        cell.blame(kind)
        cell.errors += begins
    else:
        cell.aborted += begins
