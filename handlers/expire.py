"""Lets a request lapse at its deadline: nothing was run, and the ledger says so."""

from collections.abc import Sequence
from datetime import datetime

from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.events import Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.machine import Fact, Incident
from ledger.view import View, epoch_ms


class Expire:
    """Reconciler. A tap and the clock cannot both win: the ledger refuses a vote from the deadline on."""

    name = "expire"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        asked = [(incident, incident.request) for incident in view.open()]
        return [
            Work(f"{incident.id}:{fact.seq}", _deadline_ms(fact), incident.id)
            for incident, fact in asked
            if fact is not None
        ]

    async def do(self, work: Work) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            incident = view.incidents[work.incident]
            request = incident.request
            if request is None or epoch_ms(now) < _deadline_ms(request):
                return MOVED
            return ev.Expired(
                incident_id=incident.id, ref=request.ref, decision="expire", reason=_reason(incident)
            )

        insist(await self._ledger.record(Actor.policy(), decide))


def _deadline_ms(request: Fact) -> int:
    return request.event.deadline_ms if isinstance(request.event, ev.Validated) else 0


def _reason(incident: Incident) -> str:
    if any(incident.votes().values()):
        return "Not enough approvals in time, nothing was run"
    return "No answer in time, nothing was run"
