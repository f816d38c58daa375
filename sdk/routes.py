"""What a request is called: ``POST /orders/{id}``, from the route that served it, never from its raw path.

A raw path carries personal data, and whoever can invent paths could fill any memory. So a request without
a route is ``~unmatched`` when it was answered 404 and ``GET ~app`` otherwise; a method outside the standard
nine is ``~other``; a websocket is ``WEBSOCKET /chat``. Knows Starlette (``scope["route"]``, mounts), FastAPI
(the effective context of included routers), older Starlette (``scope["endpoint"]`` alone) and Litestar
(``scope["path_template"]``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .wire import OTHER, UNMATCHED

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
SOCKET = "WEBSOCKET"
Scope = Mapping[str, Any]


def name(scope: Scope, status: int) -> str:
    """Return the bounded name under which a request is counted."""
    method = scope["method"] if scope["type"] == "http" else SOCKET
    if method not in METHODS and method != SOCKET:
        return OTHER
    template = _template(scope)
    if template is None:
        return UNMATCHED if status == 404 else f"{method} ~app"
    return f"{method} {template}"


def context(scope: Scope) -> object:
    """Return FastAPI's effective route context, if any: it knows the prefix of an included router."""
    return scope.get("fastapi", NOTHING).get("effective_route_context")


NOTHING: Mapping[str, object] = {}


def _template(scope: Scope) -> str | None:
    told = scope.get("path_template")
    if told is not None:
        return str(told) or "/"
    mounted = _mounts(_routes(scope.get("router")), _below(scope))
    effective = context(scope)
    served = (
        getattr(effective, "starlette_route", None) or effective or scope.get("route") or _route_of(scope)
    )
    path = "" if hasattr(served, "routes") else getattr(served, "path", "")
    return mounted + path or ("/" if served is not None else None)


def _route_of(scope: Scope) -> object | None:
    """Return the route of the endpoint, where the framework names the endpoint alone."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    routes = _routes(scope.get("router"))
    return next((r for r in routes if getattr(r, "endpoint", None) is endpoint), None)


def _below(scope: Scope) -> str:
    """Return the part of the root path that mounts have added."""
    if "app_root_path" not in scope:
        return ""
    root: str = scope.get("root_path", "")
    return root.removeprefix(scope["app_root_path"])


def _mounts(routes: Iterable[object], below: str) -> str:
    """Return the templates of the mounts that lead to *below*."""
    if not below:
        return ""
    for route in routes:
        pattern = getattr(route, "path_regex", None)
        match = pattern.match(below + "/") if pattern is not None and hasattr(route, "routes") else None
        if match is not None:
            rest = match.groupdict().get("path", "").strip("/")
            return str(getattr(route, "path", "")) + _mounts(_routes(route), rest and "/" + rest)
    return "/" + OTHER


def _routes(owner: object) -> Iterable[object]:
    routes = getattr(owner, "routes", None)
    return routes if isinstance(routes, list) else ()
