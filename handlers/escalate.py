"""Wakes the next people while nobody has said a word.

1. Where the charter names steps, each is taken once in a round of asking, so long after it began, and says
   who is woken and on which channels. They end when somebody decides.
2. Where it names none: half of a request's life after it was made, and again at four fifths, first the
   approvers who were not paged yet are told, then everybody who may approve.
3. Who acknowledges has ten minutes of peace. A service in maintenance wakes nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from handlers import maintenance, rota
from handlers.charter import Charter, Quorum
from handlers.ports import Rulebook
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.events import POLICY, Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.machine import Fact, Incident, Stage
from ledger.view import View, epoch_ms

STEPS_PERCENT = (50, 80)
PEACE_MS = 600_000
UNDECIDED = frozenset({Stage.DETECTED, Stage.PROPOSED, Stage.VALIDATED, Stage.WITHHELD, Stage.EXPIRED})
"""As long as an incident is here, a person is waited for."""


@dataclass(frozen=True, slots=True)
class Next:
    """The fact that steps are counted from, how many were taken, and when the next is due, in epoch ms."""

    since: Fact
    taken: int
    at_ms: int


class Escalate:
    """Reconciler. Each step of a request is taken once; an answer to the request ends them."""

    name = "escalate"

    def __init__(self, ledger: Ledger, rulebook: Rulebook) -> None:
        self._ledger = ledger
        self._rulebook = rulebook

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        charter = self._rulebook.charter(view)
        if charter is None:
            return []
        found = ((incident, next_step(incident, charter, view, now_ms)) for incident in view.open())
        return [Work(f"{i.id}:{step.since.seq}:{step.taken}", step.at_ms, i.id) for i, step in found if step]

    async def do(self, work: Work) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            incident, charter, now_ms = (
                view.incidents[work.incident],
                self._rulebook.charter(view),
                epoch_ms(now),
            )
            step = next_step(incident, charter, view, now_ms) if charter else None
            if charter is None or step is None or now_ms < step.at_ms:
                return MOVED
            return _escalated(incident, charter, view, step, now_ms)

        insist(await self._ledger.record(Actor.policy(), decide))


def _escalated(incident: Incident, charter: Charter, view: View, step: Next, now_ms: int) -> ev.Escalated:
    if not charter.escalation:
        return ev.Escalated(
            incident_id=incident.id,
            decision="escalate",
            reason=f"Nobody answered in {STEPS_PERCENT[step.taken]} % of the time",
            to=people(incident, charter, everybody=step.taken > 0),
        )
    named = charter.escalation[step.taken]
    return ev.Escalated(
        incident_id=incident.id,
        decision="escalate",
        reason=f"Step {step.taken + 1}: nobody answered in {named.after // 1000} s",
        to=rota.named(named.to, charter, view, now_ms),
        channels=named.channels,
        step=step.taken + 1,
    )


def next_step(incident: Incident, charter: Charter, view: View, now_ms: int) -> Next | None:
    """The next step, or None where none is left."""
    found = _of_the_charter(incident, charter) if charter.escalation else _of_the_request(incident)
    if found is None:
        return None
    since, taken, at_ms, until_ms = found
    silent_ms = maintenance.silent_until_ms(charter, view, incident, max(now_ms, at_ms))
    at_ms = max(at_ms, _peace_until_ms(incident), silent_ms)
    return Next(since, taken, at_ms) if not until_ms or at_ms < until_ms else None


def next_call(incident: Incident, charter: Charter, view: View, now_ms: int) -> tuple[str, int] | None:
    """Who is woken next and when, where the charter's steps say so."""
    step = next_step(incident, charter, view, now_ms) if charter.escalation else None
    if step is None:
        return None
    to = rota.named(charter.escalation[step.taken].to, charter, view, step.at_ms)
    return (to[0], step.at_ms) if to else None


def _of_the_charter(incident: Incident, charter: Charter) -> tuple[Fact, int, int, int] | None:
    since = incident.last(ev.Detected, ev.Reopened, ev.AskedAgain) or incident.facts[0]
    taken = _taken(incident, since)
    if incident.stage not in UNDECIDED or taken >= len(charter.escalation):
        return None
    return since, taken, since.at_ms + charter.escalation[taken].after, 0


def _of_the_request(incident: Incident) -> tuple[Fact, int, int, int] | None:
    request = incident.request
    if request is None or not isinstance(request.event, ev.Validated):
        return None
    taken, deadline_ms = _taken(incident, request), request.event.deadline_ms
    if taken >= len(STEPS_PERCENT):
        return None
    life_ms = deadline_ms - request.at_ms
    return request, taken, request.at_ms + life_ms * STEPS_PERCENT[taken] // 100, deadline_ms


def _taken(incident: Incident, since: Fact) -> int:
    escalated = incident.every(ev.Escalated)
    return sum(1 for fact, _ in escalated if fact.seq > since.seq and fact.actor.kind is POLICY)


def people(incident: Incident, charter: Charter, *, everybody: bool) -> tuple[str, ...]:
    """Who is told: approvers of the present request by charter id, those who were not paged yet first.

    Who stands for an option already is not asked again.
    """
    request = incident.request.event if incident.request else None
    options = request.options if isinstance(request, ev.Validated) else ()
    quorums = [Quorum.parse(option.approve) for option in options if option.action]
    voted = set().union(*incident.votes().values())
    able = [p.id for p in charter.people if any(quorum.admits(p.roles) for quorum in quorums)]
    may = [person for person in able if person not in voted]
    paged = {event.recipient for _, event in incident.every(ev.Paged)}
    fresh, again = [p for p in may if p not in paged], [p for p in may if p in paged]
    return tuple(fresh + again) if everybody or not fresh else tuple(fresh)


def _peace_until_ms(incident: Incident) -> int:
    """Until when an acknowledgement or a snooze keeps people from being woken."""
    acknowledged, snoozed = incident.acknowledged, incident.latest(ev.Snoozed)
    peace_ms = acknowledged.at_ms + PEACE_MS if acknowledged else 0
    return max(peace_ms, snoozed.until_ms if snoozed else 0)
