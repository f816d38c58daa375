"""The last half hour of a service, wherever it is watched: here, or as another process kept it."""

import json
from dataclasses import dataclass

from pydantic import ValidationError

from bot.chart import Chart, began_ms, marks, window_ms
from detectors import history
from detectors.history import History
from detectors.policy import Policy
from detectors.state import ServiceState
from handlers.detect import Detect, States
from ledger.machine import Incident
from ledger.store import StoreDown
from ledger.view import epoch_ms

OLD_MS = 15_000
"""What was folded here longer ago may be watched by another process now."""
NOW_MS = 90_000
"""A chart ends with what was measured last, where that is not longer ago; else with the present."""


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of one service: its folded state, and its half hour until then."""

    state: ServiceState
    points: History


class Lookback:
    """Finds the past of one tenant's services."""

    def __init__(self, detect: Detect, states: States) -> None:
        self._detect = detect
        self._states = states

    async def of(self, service: str) -> Past | None:
        """The newest that is known; None where nothing is."""
        seen = self._detect.seen.get(service)
        here = Past(seen.state, history.until_now(seen.history, seen.state)) if seen else None
        if here and epoch_ms(self._detect.ledger.now()) - here.state.at_ms < OLD_MS:
            return here
        there = await self._kept(service)
        return max((one for one in (here, there) if one), key=lambda one: one.state.at_ms, default=None)

    async def _kept(self, service: str) -> Past | None:
        """What some process wrote down; None where that is away or cannot be read."""
        try:
            kept = json.loads(await self._states.load(self._detect.ledger.tenant, service) or "null")
            state, points = ServiceState.load(kept["state"]), history.load(kept.get("history"))
        except (StoreDown, ValueError, KeyError, TypeError, ValidationError):
            return None
        return Past(state, history.until_now(points, state))


def chart_of(
    service: str, past: Past, incident: Incident | None, timezone: str, policy: Policy, now_ms: int
) -> Chart:
    """The chart of *service* as a reader in *timezone* sees it, with the marks of *incident*, if any."""
    known_ms, marked = past.state.at_ms, marks(incident) if incident else ()
    until_ms = known_ms if 0 <= now_ms - known_ms < NOW_MS else now_ms
    return Chart(
        service,
        window_ms(past.points, marked, until_ms),
        until_ms,
        timezone,
        past.points,
        marked,
        began_ms(incident) if incident else 0,
        history.usual_rps_milli(past.state.baseline),
        round(policy.rows[0].p0 * 1000),
    )
