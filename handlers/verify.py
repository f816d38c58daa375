"""The verifier: whether what ran helped, by the numbers from before and after.

1. For ten seconds after the run, or the action's own `settle`, nothing is said: the service settles.
2. Then watched quiet for close_ms is Verified, the same rule that closes an incident.
3. Once one and a half close_ms have passed, or the action's own `within` if that is more, a service that
   still alarms is NotRecovered.
4. By then no requests is Inconclusive: silence proves nothing. A poll that just failed is waited out as long
   again: the service answers, or policy calls it unreachable, or nobody knows.

A person who declared the incident is answered in the same way: the rules need no alarm to have opened it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from detectors.policy import Policy
from detectors.verdict import Verdict, should_recover
from handlers.ports import Rulebook, Watch
from handlers.readings import reading_before, reading_of
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.events import Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.machine import Fact, Incident, Stage
from ledger.view import View, epoch_ms

STABILISE_MS = 10_000


SILENT = "No requests were seen after it ran, so nothing shows whether it helped."


class Effect(StrEnum):
    VERIFIED = "verified"
    NOT_RECOVERED = "not_recovered"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Seen:
    """What policy saw last of the service."""

    verdict: Verdict | None
    reachable: bool
    deploy: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an action takes to show: ms in which nothing is judged, and at least so many to help."""

    settle_ms: int = STABILISE_MS
    within_ms: int = 0


USUAL = Patience()


def bound_ms(policy: Policy, patience: Patience = USUAL) -> int:
    """How long after it settled a service may still alarm."""
    return max(policy.close_ms * 3 // 2, patience.within_ms)


def effect(run: Fact, now_ms: int, seen: Seen, policy: Policy, patience: Patience = USUAL) -> Effect | None:
    """What *run*, an Executed, came to; None while that cannot be said."""
    watched_ms, bound = now_ms - run.at_ms - patience.settle_ms, bound_ms(policy, patience)
    verdict = seen.verdict
    answers = verdict is not None and seen.reachable and verdict.numbers.n > 0
    if verdict and answers and watched_ms >= policy.close_ms and should_recover(verdict, policy):
        return Effect.VERIFIED
    if watched_ms < bound:
        return None
    if verdict and verdict.alarms:
        return Effect.NOT_RECOVERED
    blip = verdict is not None and verdict.numbers.n > 0 and watched_ms < 2 * bound
    return None if answers or blip else Effect.INCONCLUSIVE


class Verifier:
    """Says of each run what it came to."""

    name = "verify"

    def __init__(self, ledger: Ledger, rulebook: Rulebook, watch: Watch) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._watch = watch

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        found = (self._next(view, incident, now_ms) for incident in view.open())
        return [work for work in found if work]

    async def do(self, work: Work) -> None:
        seen = self._seen(self._ledger.view, self._ledger.view.incidents[work.incident])

        def decide(view: View, now: datetime) -> Event | Refusal:
            incident = view.incidents[work.incident]
            policy = self._rulebook.policy(view).of(incident.service)
            run, patience = _run(incident), self._patience(view, incident)
            came_to = effect(run, epoch_ms(now), seen, policy, patience) if run else None
            return _event(incident, came_to, seen) if came_to else MOVED

        insist(await self._ledger.record(Actor.policy(), decide))

    def _next(self, view: View, incident: Incident, now_ms: int) -> Work | None:
        """What can be said now, or the next hour at which something could be."""
        run = _run(incident)
        if run is None:
            return None
        policy = self._rulebook.policy(view).of(incident.service)
        patience = self._patience(view, incident)
        if effect(run, now_ms, self._seen(view, incident), policy, patience):
            return Work(run.hash, now_ms, incident.id)
        bound = bound_ms(policy, patience)
        hours = (run.at_ms + patience.settle_ms + wait for wait in (policy.close_ms, bound, 2 * bound))
        return next((Work(run.hash, hour, incident.id) for hour in hours if hour > now_ms), None)

    def _patience(self, view: View, incident: Incident) -> Patience:
        """What the charter in force says of the action that ran."""
        charter, found = self._rulebook.charter(view), incident.authorization
        action = charter.action(incident.service, found[1].action) if charter and found else None
        return Patience(action.settle, action.within or 0) if action else USUAL

    def _seen(self, view: View, incident: Incident) -> Seen:
        where = view.tenant, incident.service
        return Seen(self._watch.verdict(*where), self._watch.reachable(*where), self._watch.deploy(*where))


def _run(incident: Incident) -> Fact | None:
    """The run whose effect nobody has said yet."""
    return incident.last(ev.Executed) if incident.stage is Stage.EXECUTED else None


def _event(incident: Incident, came_to: Effect, seen: Seen) -> Event:
    authorized = incident.authorization
    before = reading_before(incident, authorized[0].seq if authorized else 0)
    after = reading_of(incident.service, seen.verdict, seen.deploy)
    common = {"incident_id": incident.id, "decision": came_to.value, "before": before, "after": after}
    match came_to:
        case Effect.VERIFIED:
            quiet_ms = seen.verdict.quiet_ms if seen.verdict else 0
            return ev.Verified(**common, reason=after.explanation, quiet_ms=quiet_ms)
        case Effect.NOT_RECOVERED:
            return ev.NotRecovered(**common, reason=after.explanation)
        case Effect.INCONCLUSIVE:
            return ev.Inconclusive(**common, reason=SILENT)
