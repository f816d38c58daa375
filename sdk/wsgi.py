"""What watches every request of a WSGI app (Flask, Django, any other), on as many threads as the server has.

A request ends when the server closes its answer; an answer that is closed before its last byte was a client
that went away: *aborted*. A list is counted when it is returned, and so is a file that the server sends
itself; an event stream with its first byte. Threads share the cells under one lock, held for one count.
Names come from Flask's ``url_rule`` and from Django's ``resolver_match``, never from the raw path.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from .asgi import App, Message, Scope
from .request import Request
from .routes import METHODS
from .window import Window
from .wire import OTHER, UNMATCHED

Environ = dict[str, Any]
WsgiApp = Callable[..., Iterable[bytes]]
MOST_BODY = 64 * 1024 + 1
"""One byte more than any endpoint of ours takes, so that it is seen to be too long."""
LEAVE_S = 0.2
REQUEST, FAILURE = "countersign.request", "countersign.failure"


def beside(app: Any, endpoints: Mapping[str, App]) -> Any:
    """Return *app* with *endpoints* answered beside it, by exact path: Flask in place, else wrapped."""
    inner = getattr(app, "wsgi_app", app)

    def answered(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        aside = endpoints.get(environ.get("PATH_INFO", ""))
        if aside is not None:
            return bridge(aside, environ, start_response)
        found: Iterable[bytes] = inner(environ, start_response)
        return found

    if inner is app:
        return answered
    app.wsgi_app = answered
    return app


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
        request = Request(self._window, environ, name_of)
        headers: list[tuple[str, str]] = []

        def started(status: str, told: list[tuple[str, str]], *rest: Any) -> Any:
            request.status, headers[:] = int(status[:3]), told
            return start_response(status, told, *rest)

        try:
            answer = self._app(environ, started)
        except BaseException as e:
            request.end(type(e).__name__)
            raise
        if isinstance(answer, list | tuple | environ.get("wsgi.file_wrapper", list)):
            request.end(environ.pop(FAILURE, ""))
            return answer
        return Answer(answer, request, environ, headers)


class Answer:
    """The body of an answer on its way to the server."""

    def __init__(
        self, body: Iterable[bytes], request: Request, environ: Environ, headers: list[tuple[str, str]]
    ) -> None:
        self._body, self._request, self._whole = body, request, False
        self._environ, self._headers = environ, headers

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._body)
        try:
            for first in parts:
                if _is_event_stream(self._headers):
                    self._request.first_byte()
                yield first
                yield from parts
        except Exception as e:
            self._request.end(type(e).__name__)
            raise
        self._whole = True

    def close(self) -> None:
        """Be called by the server at the end, whatever that was."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.end(self._environ.pop(FAILURE, ""), aborted=not self._whole)


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

    _run(answered())
    start, *parts = sent
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start["headers"]]
    start_response(f"{start['status']} Answered", headers)
    return [part.get("body", b"") for part in parts]


def _run(answered: Coroutine[Any, Any, None]) -> None:
    """Run *answered* on a loop of its own, not waiting for threads that were given up: asyncio.run would."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(answered)
        left = asyncio.all_tasks(loop)
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LEAVE_S))
    finally:
        loop.close()


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


def _is_event_stream(headers: Iterable[tuple[str, str]]) -> bool:
    return any(k.lower() == "content-type" and v.startswith("text/event-stream") for k, v in headers)


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
        failure = sys.exc_info()[0]
        environ[FAILURE] = "" if failure is None else failure.__name__


def _noting(request_class: type[Any]) -> type[Any]:
    """Return a framework's class of requests, noted in the environ: at the end they know their route."""

    class Noted(request_class):  # type: ignore[misc]
        def __init__(self, environ: Environ, *rest: Any, **options: Any) -> None:
            super().__init__(environ, *rest, **options)
            environ[REQUEST] = self

    return Noted
