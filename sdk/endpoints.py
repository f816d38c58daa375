"""Our own GET endpoints: who may ask, what they ask for, and which view of what is known they get.

All want the token where there is one. An answer changes nothing: whoever asks, and how often, the next one is
told the same.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qsl

from . import alertengine, prometheus, schema, wire
from .asgi import App, Receive, Reply, Scope, Send, headers_of, refusal
from .told import Told

FORMATS = ("health", "slots", "schema", "prometheus")
HISTORY, INGESTION, STATUS = "/metrics/history", "/metrics/ingestion", "/__alertengine/status"
View = Callable[[Told], Reply]
Tell = Callable[[View], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Query:
    """What a request may ask for: *kind* is the format of the health path."""

    kind: str = "health"
    since: int = 0
    buckets: int = 10
    service: str = ""


def endpoints(
    tell: Tell, token: str | None, health_path: str, metrics_path: str | None = None
) -> dict[str, App]:
    """Return the endpoints by path; *tell* answers a view of what is known."""
    views: dict[str, Callable[[Query, Told], Reply]] = {
        HISTORY: _history,
        INGESTION: lambda query, told: _json(alertengine.ingestion(told)),
        STATUS: lambda query, told: _json(alertengine.status(told)),
        health_path: lambda query, told: HEALTH[query.kind](query, told),
    }
    if metrics_path is not None:
        views[metrics_path] = _prometheus
    return {path: partial(_answer, tell, token, view) for path, view in views.items()}


async def _answer(
    tell: Tell,
    token: str | None,
    view: Callable[[Query, Told], Reply],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    asked = _asked(token, scope)
    reply = asked if isinstance(asked, Reply) else await tell(partial(view, asked))
    await reply.send(send, head=scope["method"] == "HEAD")


def _asked(token: str | None, scope: Scope) -> Reply | Query:
    """Return what is asked for, or why there is no answer."""
    if scope["method"] not in {"GET", "HEAD"}:
        return refusal(405, "ask with GET", allow="GET, HEAD")
    if not _is_entitled(token, headers_of(scope).get("authorization", "")):
        return refusal(401, "this endpoint needs its bearer token", **{"www-authenticate": "Bearer"})
    query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
    since, buckets = _whole(query.get("since", "0")), _whole(query.get("last_n_buckets", "10"))
    if since is None or buckets is None:
        return refusal(400, "since is not a whole epoch second, or last_n_buckets no whole number")
    kind = query.get("format", "health")
    if kind not in FORMATS:
        return refusal(400, f"format is none of {', '.join(FORMATS)}")
    return Query(kind, since, buckets, query.get("service", ""))


def _is_entitled(token: str | None, authorization: str) -> bool:
    if token is None:
        return True
    return hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode())


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _json(document: object) -> Reply:
    return Reply(200, json.dumps(document).encode())


def _history(query: Query, told: Told) -> Reply:
    if query.service not in {"", told.now.service}:
        return _json({"metrics": []})
    return _json(alertengine.history(told, query.buckets))


def _prometheus(query: Query, told: Told) -> Reply:
    return Reply(200, prometheus.render(told).encode(), {"content-type": prometheus.TYPE})


HEALTH: dict[str, Callable[[Query, Told], Reply]] = {
    "health": lambda query, told: _json(told.health()),
    "slots": lambda query, told: Reply(200, wire.encode(told.snapshot(query.since))),
    "schema": lambda query, told: Reply(
        200, json.dumps(schema.HEALTH).encode(), {"content-type": "application/schema+json"}
    ),
    "prometheus": _prometheus,
}
