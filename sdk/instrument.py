"""One line that makes an app tell how it is."""

from __future__ import annotations

from typing import Any

from . import asgi
from .middleware import meter
from .monitor import Monitor
from .recovery import Recovery
from .window import Window


def instrument(
    app: Any,
    service: str = "app",
    health_path: str = "/health/alerts",
    token: str | None = None,
    max_routes: int = 128,
    recovery: Recovery | None = None,
) -> Monitor:
    """Measure *app*, answer GET *health_path* and the actions of *recovery*; return the monitor.

    FastAPI and Starlette apps are changed in place, before they start: do it after adding other middleware,
    so that their time counts too. Any other ASGI app is wrapped: serve ``monitor.app`` instead of it. With a
    *token* the health path wants ``Authorization: Bearer <token>``. Beyond *max_routes* routes, the rest is
    ``~other``.
    """
    window = Window(max_routes)
    monitor = Monitor(service, window, token)
    own = recovery.endpoints if recovery is not None else {}
    own[health_path] = monitor.answer
    monitor.app = asgi.install(app, meter, window, own)
    return monitor
