"""The little of ASGI that our own endpoints need: their address, one answer, a bounded body."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, JSON by nature and never cached."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; without its body where HEAD was asked."""
        headers = {
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            "cache-control": "no-store",
            **self.headers,
        }
        raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def refusal(status: int, why: str, **headers: str) -> Reply:
    """Return an answer that says in one sentence why nothing was done."""
    return Reply(status, json.dumps({"detail": why}).encode(), headers)


def path_of(scope: Scope) -> str:
    """Return the request's path below the server's own prefix."""
    path: str = scope["path"]
    root = scope.get("root_path")
    return path.removeprefix(root) if root else path


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the request's headers by lower-case name; of repeated ones, the last."""
    pairs: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in pairs}


async def body_of(receive: Receive, most: int) -> bytes | None:
    """Return the request's body, or None when it is over *most* bytes or the client went away."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


class Beside:
    """An ASGI app with endpoints of our own beside it, by exact path; everything else passes through."""

    def __init__(self, app: App, endpoints: Mapping[str, App]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = self._endpoints.get(path_of(scope)) if scope["type"] == "http" else None
        await (own or self._app)(scope, receive, send)


def install(app: Any, middleware: Callable[..., App], *args: object) -> Any:
    """Return *app* inside *middleware*: added in place where the framework can, wrapped otherwise."""
    if hasattr(app, "add_middleware"):
        app.add_middleware(middleware, *args)
        return app
    return middleware(app, *args)
