"""One line that makes an app tell how it is."""

from __future__ import annotations

from typing import Any

from . import aio, middleware, wsgi
from .monitor import Monitor
from .places import Share, place, pusher
from .recovery import Recovery
from .window import Window


def instrument(
    app: Any,
    service: str = "app",
    health_path: str = "/health/alerts",
    token: str | None = None,
    max_routes: int = 128,
    recovery: Recovery | None = None,
    share: Share = None,
    redis_url: str | None = None,
    push_url: str | None = None,
    push_token: str | None = None,
    metrics_path: str | None = None,
) -> Monitor:
    """Measure *app*, answer GET *health_path* and the actions of *recovery*; return the monitor.

    FastAPI and Starlette apps are changed in place, before they start: do it after adding other middleware,
    so that their time counts too. So are Flask and aiohttp. Any other ASGI or WSGI app (Litestar, Django) is
    wrapped: serve ``monitor.app`` instead of it. With a *token* the health path wants
    ``Authorization: Bearer <token>``. Beyond *max_routes* routes, the rest is ``~other``.

    Workers of one server answer for each other: *share* names the folder in which they meet, or says whether
    they do (default: where this process is one of several workers, through shared memory). With a *redis_url*
    they meet in the app's own Redis, those of all hosts. An app that nobody can reach pushes to the bot, at
    *push_url* (``https://<bot>/ingest/<tenant>/<service>``), with the *push_token* of this service.
    Prometheus reads *metrics_path*, such as ``/metrics``, where one is given.
    """
    window = Window(max_routes, detailed=metrics_path is not None)
    monitor = Monitor(service, window, token)
    meeting = place(service, share, redis_url)
    if meeting is not None:
        monitor.share(meeting)
    pushes = pusher(push_url, push_token)
    if pushes is not None:
        monitor.push(pushes)
    own = recovery.endpoints if recovery is not None else {}
    own.update(monitor.endpoints(health_path, metrics_path))
    if aio.is_aiohttp(app):
        monitor.app = aio.install(app, window, own)
    elif wsgi.is_wsgi(app):
        monitor.app = wsgi.install(app, window, own)
    else:
        monitor.app = middleware.install(app, window, own)
    return monitor
