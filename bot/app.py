"""The web side: one aiohttp application that vendors, people with links, and the platform talk to.

`/healthz` says that the process lives; `/readyz` that it can act: ledger reachable, durable, not sealed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bot.condition import Condition
from detectors.mode import Mode
from ledger.machine import Stage

IN_DEBT = frozenset({Stage.AUTHORIZED, Stage.EXECUTING})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MOST_BODY = 2**20
KEEPALIVE_S = 95.0
"""Longer than the 90 s for which a platform's router keeps an idle connection."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler


def application(conditions: Sequence[Condition], routes: Sequence[Route]) -> web.Application:
    """The application with *routes* and the three that a platform asks for."""
    registry = CollectorRegistry()
    registry.register(Conditions(conditions))

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(request: web.Request) -> web.Response:
        found = {one.room.tenant: _ready(one) for one in conditions}
        ready = all(state == "ready" for state in found.values())
        return web.json_response({"ready": ready, "tenants": found}, status=200 if ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=MOST_BODY)
    own = (
        Route("GET", "/healthz", healthz),
        Route("GET", "/readyz", readyz),
        Route("GET", "/metrics", metrics),
    )
    for route in (*own, *routes):
        app.router.add_route(route.method, route.path, route.handler)
    return app


def _ready(one: Condition) -> str:
    ledger = one.room.ledger
    if ledger.sealed:
        return "sealed"
    if ledger.away_since_ms:
        return "ledger away"
    return "ready" if ledger.may_act() else f"ledger {ledger.durability}"


class Conditions(Collector):
    """What a monitoring system may want to know, read at the moment it asks."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions

    def collect(self) -> list[Metric]:
        gauges = {
            "ledger_entries": "Entries in the tenant's ledger",
            "ledger_may_act": "1 where something may execute",
            "open_incidents": "Incidents that are open",
            "unsettled_authorizations": "Authorizations without an outcome yet",
            "polls_made": "Polls made by this process",
            "polls_missed": "Polls that brought nothing",
            "offbox_lag_entries": "Entries that the copy off the box does not have yet",
            "offbox_lag_seconds": "How long it has been behind",
            "mode": "0 NORMAL, 1 DEGRADED, 2 EMERGENCY",
        }
        families = {
            name: GaugeMetricFamily(f"countersign_{name}", says, labels=["tenant"])
            for name, says in gauges.items()
        }
        for one in self._conditions:
            for name, value in _measured(one).items():
                families[name].add_metric([one.room.tenant], value)
        return list(families.values())


def _measured(one: Condition) -> dict[str, float]:
    view = one.room.ledger.view
    return {
        "ledger_entries": view.head.seq,
        "ledger_may_act": float(one.room.ledger.may_act()),
        "open_incidents": len(view.open_ids),
        "unsettled_authorizations": sum(i.stage in IN_DEBT for i in view.open()),
        "polls_made": one.poller.made,
        "polls_missed": one.poller.missed,
        "offbox_lag_entries": one.lag.entries,
        "offbox_lag_seconds": one.lag.seconds,
        "mode": list(Mode).index(one.mode),
    }
