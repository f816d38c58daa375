"""Asks the council: one piece of work a lens, so that neither hears of the other nor waits for it.

1. A round is due when the incident opens or reopens, becomes more severe, or shows a new type of exception;
   never where a person asked for a run by hand: there is nothing to find out.
2. Each lens gets one Diagnosed entry a round, also when its model failed: then `outcome` says how.
3. Where today's budget does not cover what a question may cost, it is not asked, and the entry says so.
4. Twelve seconds after the round began the entry is written, answer or not. What comes later is not heard.

Nothing else happens here. A model that hangs, fails or lies delays no page and no request.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from handlers import budget, council
from handlers.charter import Charter, Tenant
from handlers.manual import RUN
from handlers.ports import Brief, Model, NoOpinion, Opinion, Outcome, PortError, Rulebook, Usage
from handlers.reconciler import MOVED, Work, insist
from handlers.sanitise import clean
from ledger import events as ev
from ledger.chain import canonical
from ledger.clock import Clock
from ledger.events import Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.machine import Incident
from ledger.view import View, epoch_ms

WHY = 160
NOBODY = Charter(tenant=Tenant(id="nobody"))
"""The limits that hold where the charter in force went away this moment."""

SAID: Mapping[Outcome, str] = {
    Outcome.TIMEOUT: "gave no answer in time",
    Outcome.OVERLOADED: "is overloaded",
    Outcome.RATE_LIMITED: "is rate limited",
    Outcome.UNAUTHORIZED: "refused the API key",
    Outcome.REFUSED: "declined to answer",
    Outcome.TRUNCATED: "was cut off in its answer",
    Outcome.MALFORMED: "gave an answer that cannot be used",
    Outcome.UNAVAILABLE: "cannot be reached",
    Outcome.NO_KEY: "has no API key",
    Outcome.SPENT: "was not asked: today's budget for models is spent",
}
"""How a person reads that a model had nothing to say."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one question: an opinion, or why there is none."""

    opinion: Opinion | None
    outcome: Outcome
    took_ms: int
    usage: Usage


UNASKED = Heard(None, Outcome.SPENT, 0, budget.NOTHING)


class Diagnose:
    """Reconciler. *models* are the models by lens; without any, nothing is ever due."""

    name = "diagnose"

    def __init__(self, ledger: Ledger, rulebook: Rulebook, models: Mapping[str, Model], clock: Clock) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._models = dict(models)
        self._clock = clock
        self._reserved_micros = 0

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        charter = self._rulebook.charter(view)
        if charter is None:
            return ()
        return [
            Work(f"{incident.id}:{len(asked)}:{lens}", asked[-1], incident.id, lens)
            for incident in view.open()
            if charter.service(incident.service) and incident.opened.origin != RUN
            for asked in [council.rounds(incident)]
            for lens in council.waiting_for(incident, self._models)
        ]

    async def do(self, work: Work) -> None:
        """Ask one lens and append what it said, or that it said nothing."""
        incident = self._ledger.view.incidents[work.incident]
        brief = self._brief(work.detail, incident)
        if brief is None:
            return
        model, charter = self._models[work.detail], self._rulebook.charter(self._ledger.view) or NOBODY
        reserved = self._reserve(charter, model)
        self._reserved_micros += reserved
        try:
            await self._ask_and_enter(incident, charter, model, brief, reserved)
        finally:
            self._reserved_micros -= reserved

    def _reserve(self, charter: Charter, model: Model) -> int:
        """What a question may cost at most; 0 where the budget does not cover it beside those under way."""
        now_ms = epoch_ms(self._clock.now())
        if budget.is_spent(charter, model.name, self._ledger.view, now_ms, self._reserved_micros):
            return 0
        return budget.cost_micros(charter, model.name, budget.MOST)

    async def _ask_and_enter(
        self, incident: Incident, charter: Charter, model: Model, brief: Brief, reserved: int
    ) -> None:
        asked = council.rounds(incident)
        heard = await self._ask(model, brief, asked[-1] + council.DEADLINE_MS) if reserved else UNASKED
        said = _diagnosed(heard, brief, model, len(asked), charter)

        def decide(view: View, now: datetime) -> Event | Refusal:
            present = view.incidents[said.incident_id]
            stands = any((d.round, d.lens) == (said.round, said.lens) for _, d in present.every(ev.Diagnosed))
            return MOVED if stands or not present.is_open else said

        insist(await self._ledger.record(Actor.model(model.name), decide))

    def _brief(self, lens: str, incident: Incident) -> Brief | None:
        charter = self._rulebook.charter(self._ledger.view)
        service = charter.service(incident.service) if charter else None
        return council.brief_for(lens, incident, service) if service else None

    async def _ask(self, model: Model, brief: Brief, until_ms: int) -> Heard:
        began_ms = epoch_ms(self._clock.now())
        left_ms = until_ms - began_ms
        answer: Opinion | NoOpinion = NoOpinion(Outcome.TIMEOUT, usage=budget.NOTHING)
        if left_ms > 0:
            answer = await self._answer_within(left_ms / 1000, model, brief)
        took_ms = epoch_ms(self._clock.now()) - began_ms
        if isinstance(answer, NoOpinion):
            return Heard(None, answer.outcome, took_ms, budget.used(answer.outcome, answer.usage))
        usage = budget.used(Outcome.ANSWERED, answer.usage)
        return Heard(answer, Outcome.ANSWERED, answer.took_ms, usage)

    async def _answer_within(self, seconds: float, model: Model, brief: Brief) -> Opinion | NoOpinion:
        asking = asyncio.ensure_future(model.ask(brief))
        bell = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({asking, bell}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else NoOpinion(Outcome.TIMEOUT)
        except NoOpinion as none:
            return none
        except PortError:
            return NoOpinion(Outcome.UNAVAILABLE)
        finally:
            asking.cancel()
            bell.cancel()


def _diagnosed(heard: Heard, brief: Brief, model: Model, number: int, charter: Charter) -> ev.Diagnosed:
    said = ev.Diagnosed(
        incident_id=brief.incident,
        decision="no theory",
        reason=f"{model.name} {SAID.get(heard.outcome, '')}",
        lens=brief.lens,
        round=number,
        outcome=heard.outcome,
        model=model.name,
        took_ms=heard.took_ms,
        input_tokens=heard.usage.input_tokens,
        output_tokens=heard.usage.output_tokens,
        cost_micros=budget.cost_micros(charter, model.name, heard.usage),
        prompt_digest=model.prompt_digest(brief),
        evidence_digest=sha256(canonical([dict(piece) for piece in brief.evidence])).hexdigest(),
    )
    if heard.opinion is None:
        return said
    opinion = heard.opinion
    why = clean(opinion.why, WHY)
    return said.model_copy(
        update={
            "decision": str(opinion.cause),
            "reason": why,
            "confidence": opinion.percent,
            "cause": opinion.cause,
            "component": opinion.component,
            "evidence": opinion.evidence,
            "check": opinion.check,
            "why": why,
        }
    )
