"""Wakes the next people while a request is running out and nobody has said a word.

Half of a request's life after it was made, and again at four fifths, Escalated names who is told: first the
approvers who were not paged yet, then everybody who may approve. Who acknowledges has ten minutes of peace.
"""

from collections.abc import Sequence
from datetime import datetime

from handlers.charter import Charter, Quorum
from handlers.ports import Rulebook
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.events import POLICY, Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.machine import Fact, Incident
from ledger.view import View, epoch_ms

STEPS_PERCENT = (50, 80)
PEACE_MS = 600_000


class Escalate:
    """Reconciler. Each step of a request is taken once; an answer to the request ends them."""

    name = "escalate"

    def __init__(self, ledger: Ledger, rulebook: Rulebook) -> None:
        self._ledger = ledger
        self._rulebook = rulebook

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        if self._rulebook.charter(view) is None:
            return []
        found = ((incident, next_step(incident)) for incident in view.open())
        return [Work(f"{i.id}:{step[0].seq}:{step[1]}", step[2], i.id) for i, step in found if step]

    async def do(self, work: Work) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            incident, charter = view.incidents[work.incident], self._rulebook.charter(view)
            step = next_step(incident)
            if step is None or epoch_ms(now) < step[2] or charter is None:
                return MOVED
            _, number, _ = step
            return ev.Escalated(
                incident_id=incident.id,
                decision="escalate",
                reason=f"Nobody answered in {STEPS_PERCENT[number]} % of the time",
                to=people(incident, charter, everybody=number > 0),
            )

        insist(await self._ledger.record(Actor.policy(), decide))


def next_step(incident: Incident) -> tuple[Fact, int, int] | None:
    """The request, the number of its next step and when that is due, or None where none is left."""
    request = incident.request
    if request is None or not isinstance(request.event, ev.Validated):
        return None
    taken = [f for f, _ in incident.every(ev.Escalated) if f.seq > request.seq and f.actor.kind is POLICY]
    if len(taken) >= len(STEPS_PERCENT):
        return None
    life_ms = request.event.deadline_ms - request.at_ms
    at_ms = max(request.at_ms + life_ms * STEPS_PERCENT[len(taken)] // 100, _peace_until_ms(incident))
    return (request, len(taken), at_ms) if at_ms < request.event.deadline_ms else None


def people(incident: Incident, charter: Charter, *, everybody: bool) -> tuple[str, ...]:
    """Who is told: approvers of the present request by charter id, those who were not paged yet first."""
    request = incident.request.event if incident.request else None
    options = request.options if isinstance(request, ev.Validated) else ()
    quorums = [Quorum.parse(option.approve) for option in options if option.action]
    may = [p.id for p in charter.people if any(quorum.admits(p.roles) for quorum in quorums)]
    paged = {event.recipient for _, event in incident.every(ev.Paged)}
    fresh, again = [p for p in may if p not in paged], [p for p in may if p in paged]
    return tuple(fresh + again) if everybody or not fresh else tuple(fresh)


def _peace_until_ms(incident: Incident) -> int:
    """Until when an acknowledgement or a snooze keeps people from being woken."""
    acknowledged, snoozed = incident.acknowledged, incident.latest(ev.Snoozed)
    peace_ms = acknowledged.at_ms + PEACE_MS if acknowledged else 0
    return max(peace_ms, snoozed.until_ms if snoozed else 0)
