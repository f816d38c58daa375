"""What watches every request of a WSGI app (Flask, Django, any other), on as many threads as the server has.

A request ends when the server closes its answer, so a stream is counted whole; an answer that is closed
before its last byte was a client that went away: *aborted*. A list is counted when it is returned, and so is
a file that the server sends itself. Threads share the cells under one lock, held for one count.
Names come from Flask's ``url_rule`` and from Django's ``resolver_match``, never from the raw path.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any

from .asgi import App, Message, Scope
from .cell import Cell
from .histogram import index
from .routes import METHODS
from .window import Window
from .wire import OTHER, UNMATCHED

Environ = dict[str, Any]
WsgiApp = Callable[..., Iterable[bytes]]
MOST_BODY = 64 * 1024 + 1
"""One byte more than any endpoint of ours takes, so that it is seen to be too long."""
REQUEST, FAILURE = "countersign.request", "countersign.failure"


def is_wsgi(app: Any) -> bool:
    """Return whether *app* speaks WSGI: Flask, or a callable of two parameters where ASGI has three."""
    if hasattr(app, "wsgi_app"):
        return True
    try:
        return callable(app) and len(inspect.signature(app).parameters) == 2
    except (TypeError, ValueError):
        return False


def install(app: Any, window: Window, own: Mapping[str, App]) -> Any:
    """Return *app* measured into *window*: Flask in place, anything else wrapped."""
    window.threads = True
    if hasattr(app, "wsgi_app"):
        _hear("flask", "got_request_exception", _failed_in_flask)
        app.request_class = _noting(app.request_class)
        app.wsgi_app = Meter(app.wsgi_app, window, own)
        return app
    if hasattr(app, "request_class"):
        _hear("django.core.signals", "got_request_exception", _failed_in_django)
        app.request_class = _noting(app.request_class)
    return Meter(app, window, own)


class Meter:
    """A WSGI app, measured; *own* are endpoints that are answered here, by exact path."""

    def __init__(self, app: WsgiApp, window: Window, own: Mapping[str, App]) -> None:
        self._app, self._window, self._own = app, window, own

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        aside = self._own.get(environ.get("PATH_INFO", ""))
        if aside is not None:
            return bridge(aside, environ, start_response)
        request = Request(self._window, environ)

        def started(status: str, *rest: Any) -> Any:
            request.status = int(status[:3])
            return start_response(status, *rest)

        try:
            answer = self._app(environ, started)
        except BaseException as e:
            request.end(e)
            raise
        if isinstance(answer, list | tuple | environ.get("wsgi.file_wrapper", list)):
            request.end()
            return answer
        return Answer(answer, request)


class Request:
    """One request, from its begin to its end, which counts once."""

    __slots__ = ("_begun", "_environ", "_window", "status")

    def __init__(self, window: Window, environ: Environ) -> None:
        self._window, self._environ, self.status = window, environ, 0
        begun, inflight = perf_counter_ns(), window.inflight
        while inflight.setdefault(begun, environ) is not environ:  # another thread began in this nanosecond
            begun += 1
        self._begun = begun
        window.peak = max(window.peak, len(inflight))

    def end(self, failure: BaseException | None = None, *, aborted: bool = False) -> None:
        """Count it, unless it has been counted."""
        ended, window = perf_counter_ns(), self._window
        if window.inflight.pop(self._begun, None) is None:
            return
        failed = _kind(failure) or self._environ.pop(FAILURE, "")
        name = name_of(self._environ, self.status)
        with window.lock:
            if ended >= window.turn_at:
                window.turn()
            self._count(window.cell(name), ended - self._begun, failed, aborted=aborted)

    def _count(self, cell: Cell, ns: int, failed: str, *, aborted: bool) -> None:
        cell.hist[index(ns)] += 1
        if aborted:
            cell.aborted += 1
        elif failed or self.status >= 500:
            cell.errors += 1
        elif self.status >= 400:
            cell.client_errors += 1
        if failed:
            cell.blame(failed)


class Answer:
    """The body of an answer on its way to the server."""

    def __init__(self, body: Iterable[bytes], request: Request) -> None:
        self._body, self._request, self._whole = body, request, False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except Exception as e:
            self._request.end(e)
            raise
        self._whole = True

    def close(self) -> None:
        """Be called by the server at the end, whatever that was."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.end(aborted=not self._whole)


def name_of(environ: Environ, status: int) -> str:
    """Return the bounded name under which a request is counted."""
    method = environ.get("REQUEST_METHOD", "")
    if method not in METHODS:
        return OTHER
    template = _template(environ)
    if template is None:
        return UNMATCHED if status == 404 else f"{method} ~app"
    return f"{method} {template}"


def _template(environ: Environ) -> str | None:
    request = environ.pop(REQUEST, None)
    rule = getattr(request, "url_rule", None)
    if rule is not None:
        return str(rule.rule)
    match = getattr(request, "resolver_match", None)
    return None if match is None else f"/{match.route}"


def bridge(app: App, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """Return what an endpoint of ours, which speaks ASGI, answers to a WSGI request."""
    sent: list[Message] = []
    size = environ.get("CONTENT_LENGTH") or "0"
    told = int(size) if size.isascii() and size.isdigit() and len(size) <= 12 else 0
    body = environ["wsgi.input"].read(min(told, MOST_BODY))

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    async def answered() -> None:
        await app(_scope(environ), receive, send)

    asyncio.run(answered())
    start, *parts = sent
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start["headers"]]
    start_response(f"{start['status']} Answered", headers)
    return [part.get("body", b"") for part in parts]


def _scope(environ: Environ) -> Scope:
    headers = {
        k.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1"): v.encode("latin-1")
        for k, v in environ.items()
        if k.startswith("HTTP_")
    }
    return {
        "type": "http",
        "method": environ.get("REQUEST_METHOD", "GET"),
        "path": environ.get("PATH_INFO", ""),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": list(headers.items()),
    }


def _kind(failure: BaseException | None) -> str:
    return "" if failure is None else type(failure).__name__


def _hear(module: str, signal: str, receiver: Callable[..., None]) -> None:
    """Connect to a framework's signal, where the framework is loaded."""
    found = getattr(sys.modules.get(module), signal, None)
    if found is not None:
        found.connect(receiver)


def _failed_in_flask(sender: Any, exception: BaseException, **_: Any) -> None:
    flask: Any = sys.modules["flask"]
    flask.request.environ[FAILURE] = type(exception).__name__


def _failed_in_django(sender: Any, request: Any = None, **_: Any) -> None:
    environ = getattr(request, "environ", None)
    if environ is not None:
        environ[FAILURE] = _kind(sys.exc_info()[1])


def _noting(request_class: type[Any]) -> type[Any]:
    """Return a framework's class of requests, noted in the environ: at the end they know their route."""

    class Noted(request_class):  # type: ignore[misc]
        def __init__(self, environ: Environ, *rest: Any, **options: Any) -> None:
            super().__init__(environ, *rest, **options)
            environ[REQUEST] = self

    return Noted
