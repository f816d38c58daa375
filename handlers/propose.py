"""Turns opinions into a request that a person can decide on: the exact action, then its gates.

1. Propose. Due when every lens of the newest round has spoken or twelve seconds after asking began; at once
   when a person asked again or when what ran did not help. It names the options: the charter's actions alone.
2. Validate. Each option passes the gates on its own. One that runs something and passes makes a request with
   a deadline; otherwise the incident is withheld, and the entry says why and until when.

Without models nobody is waited for. While an incident is withheld, nothing is proposed until a person asks
again.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from handlers import council, gates, manual
from handlers.charter import Charter
from handlers.council import Verdict
from handlers.offers import NO_ACTION, offer
from handlers.ports import Rulebook, Watch
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.events import Actor, Event, Held
from ledger.ledger import Ledger, Refusal
from ledger.machine import Incident, Stage
from ledger.view import View, epoch_ms


class Propose:
    """Reconciler. *lenses* are those that have a model; nobody else is waited for."""

    name = "propose"

    def __init__(self, ledger: Ledger, rulebook: Rulebook, lenses: Collection[str], process: str) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._lenses = tuple(lenses)
        self._actor = Actor.orchestrator(process)

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        charter = self._rulebook.charter(view)
        if charter is None:
            return ()
        return [
            Work(f"{incident.id}:{incident.stage}:{incident.entered_ms}", at_ms, incident.id)
            for incident in view.open()
            if (at_ms := self._due_ms(incident, charter)) is not None
        ]

    async def do(self, work: Work) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            incident, charter = view.incidents[work.incident], self._rulebook.charter(view)
            due_ms = self._due_ms(incident, charter) if charter else None
            if charter is None or due_ms is None or epoch_ms(now) < due_ms:
                return MOVED
            return proposal(incident, charter)

        insist(await self._ledger.record(self._actor, decide))

    def _due_ms(self, incident: Incident, charter: Charter) -> int | None:
        """When to propose for *incident*, in epoch ms; None when nothing is to be proposed."""
        if incident.stage is Stage.NOT_RECOVERED:
            return incident.entered_ms
        if incident.stage is not Stage.DETECTED:
            return None
        heard = charter.service(incident.service) is None or not council.waiting_for(incident, self._lenses)
        if incident.asked_again or heard:
            return incident.entered_ms
        return incident.asked_ms + council.DEADLINE_MS


class Validate:
    """Reconciler. Asks the gates about what was proposed, by the council or by a person."""

    name = "validate"

    def __init__(self, ledger: Ledger, rulebook: Rulebook, watch: Watch) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._watch = watch

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        if self._rulebook.charter(view) is None:
            return ()
        return [
            Work(f"{incident.id}:{incident.facts[-1].seq}", incident.entered_ms, incident.id)
            for incident in view.open()
            if incident.stage is Stage.PROPOSED
        ]

    async def do(self, work: Work) -> None:
        service = self._ledger.view.incidents[work.incident].service
        down = not self._watch.reachable(self._ledger.tenant, service)

        def decide(view: View, now: datetime) -> Event | Refusal:
            incident, charter = view.incidents[work.incident], self._rulebook.charter(view)
            if charter is None or incident.stage is not Stage.PROPOSED:
                return MOVED
            return request(incident, charter, view, epoch_ms(now), down=down)

        insist(await self._ledger.record(Actor.policy(), decide))


def proposal(incident: Incident, charter: Charter) -> ev.Proposed:
    """What is proposed for *incident* as it stands. An offer that rests on no theory is NONE, whatever was
    said."""
    service = charter.service(incident.service)
    if again := manual.renewed(incident, service):
        reason = f"{again.title}: proposed by a person, asked again"
        return ev.Proposed(incident_id=incident.id, decision="propose", reason=reason, options=(again,))
    counsel = council.judge(incident.diagnoses())
    made = offer(incident, counsel, service)
    alone = made.options and not any(one.theory for one in made.options)
    confidence = made.options[0].confidence if len(made.options) == 1 else None
    return ev.Proposed(
        incident_id=incident.id,
        decision="propose",
        reason=made.reason,
        confidence=confidence,
        options=made.options,
        verdict=Verdict.NONE if alone else counsel.verdict,
    )


def request(
    incident: Incident, charter: Charter, view: View, now_ms: int, *, down: bool
) -> ev.Validated | ev.Withheld:
    """What became of the newest proposal at its gates: a request, or why there is none."""
    proposed = incident.latest(ev.Proposed) or ev.Proposed(options=())
    service = charter.service(incident.service)
    if service is None or not proposed.options:
        return _withheld(incident, (), proposed.reason or NO_ACTION)
    present = gates.Present(view, now_ms, charter, service, down)
    asked = [(one, gates.held(one, present)) for one in proposed.options]
    held = tuple(why for _, why in asked if why)
    passed = tuple(one for one, why in asked if why is None)
    life_ms = min((one.expires_ms for one in passed if one.action), default=None)
    if life_ms is None:
        return _withheld(incident, held, _reason(held))
    return ev.Validated(
        incident_id=incident.id,
        decision="ask",
        reason=proposed.reason,
        confidence=proposed.confidence,
        options=passed,
        held=held,
        verdict=proposed.verdict,
        deadline_ms=now_ms + life_ms,
        charter_digest=view.rules.charter,
        policy_digest=view.rules.policy,
    )


def _withheld(incident: Incident, held: tuple[Held, ...], reason: str) -> ev.Withheld:
    until_ms = min((one.until_ms for one in held if one.until_ms), default=0)
    return ev.Withheld(
        incident_id=incident.id,
        decision="withhold",
        reason=reason,
        held=held or (Held(action="", title="", why=reason),),
        until_ms=until_ms,
    )


def _reason(held: Sequence[Held]) -> str:
    """Why nothing may run, in one line."""
    return "; ".join(dict.fromkeys(f"{one.title}: {one.why}" for one in held)) or NO_ACTION
