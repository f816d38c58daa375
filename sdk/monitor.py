"""What an instrumented app knows of itself, and tells at ``GET /health/alerts``."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Callable
from types import TracebackType
from urllib.parse import parse_qsl

from . import health, wire
from .asgi import App, Receive, Reply, Scope, Send, headers_of, refusal
from .window import Window

log = logging.getLogger(__name__)
Usage = Callable[[], tuple[float, float]]


class Monitor:
    """The handle that ``instrument`` returns; *app* is the instrumented ASGI app, calling it calls that."""

    def __init__(self, service: str, window: Window, token: str | None = None) -> None:
        self.service = service
        self.app: App
        self._window = window
        self._token = token
        self._usages: dict[str, Usage] = {}
        self._faults: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def saturation(self, name: str, usage: Usage) -> None:
        """Report how full something is; *usage* returns (used, limit), and is asked at each answer."""
        self._usages[name[: wire.MAX_NAME]] = usage

    def dependency(self, name: str) -> Call:
        """Return a context manager, sync and async, that counts one call to something the app depends on."""
        return Call(self._window, name)

    def fault(self, name: str, *, on: bool = True) -> None:
        """Mark a simulated fault, so that nobody takes the numbers for real ones."""
        if on:
            self._faults[name[: wire.MAX_NAME]] = None
        else:
            self._faults.pop(name[: wire.MAX_NAME], None)

    def snapshot(self, since: int = 0) -> wire.Snapshot:
        """Return the present and the closed slots after epoch second *since*: what the bot reads."""
        slots = tuple(one.slot() for one in self._window.closed(since))
        return wire.Snapshot(
            self.service,
            time.time_ns() // 1_000_000,
            slots[-wire.MAX_SLOTS :],
            inflight=len(self._window.inflight),
            oldest_ms=self._window.oldest_ms(),
            saturation=self._gauges(),
            faults=tuple(self._faults),
        )

    def health(self) -> health.Document:
        """Return the ``health/1`` document: for people, dashboards and readers of fastapi-alertengine."""
        closed = self._window.closed()
        present = health.Present(
            self.service,
            time.time_ns() // 1_000_000,
            len(self._window.inflight),
            max([one.peak for one in closed] + [self._window.peak]),
            self._window.oldest_ms(),
            len(self._window.streams),
            self._gauges(),
            tuple(self._faults),
        )
        return health.evaluate(present, closed, self._window.minute)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the ASGI endpoint of the health path."""
        await self._reply(scope).send(send, head=scope["method"] == "HEAD")

    def _reply(self, scope: Scope) -> Reply:
        if scope["method"] not in {"GET", "HEAD"}:
            return refusal(405, "ask with GET", allow="GET, HEAD")
        if not self._is_entitled(headers_of(scope).get("authorization", "")):
            return refusal(401, "this endpoint needs its bearer token", **{"www-authenticate": "Bearer"})
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        since = query.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) <= 12):
            return refusal(400, "since is not a whole epoch second")
        match query.get("format", "health"):
            case "slots":
                return Reply(200, wire.encode(self.snapshot(int(since))))
            case "health":
                return Reply(200, json.dumps(self.health()).encode())
            case _:
                return refusal(400, "format is neither health nor slots")

    def _is_entitled(self, authorization: str) -> bool:
        if self._token is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())

    def _gauges(self) -> tuple[wire.Gauge, ...]:
        read = (_read(name, usage) for name, usage in self._usages.items())
        return tuple(gauge for gauge in read if gauge is not None)


def _read(name: str, usage: Usage) -> wire.Gauge | None:
    """Return the gauge, or None when the app's own callback breaks: that must not silence the rest."""
    try:
        used, limit = usage()
        return wire.Gauge(name, max(0, int(used)), max(0, int(limit)))
    except Exception:  # foreign code, called while someone waits for the health of the app
        log.warning("the saturation callback %r failed", name, exc_info=True)
        return None


class Call:
    """One call to a dependency, from entering to leaving; an exception makes it an error."""

    __slots__ = ("_begun", "_name", "_window")

    def __init__(self, window: Window, name: str) -> None:
        self._window = window
        self._name = name

    def __enter__(self) -> None:
        self._begun = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        ns = time.perf_counter_ns() - self._begun
        self._window.call(self._name, ns, kind.__name__ if kind is not None and failed else None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, e, tb)
