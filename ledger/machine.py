"""The rules: what may follow what, who may say it, and what it must refer to. Nothing else knows them.

TRANSITIONS, MAY_WRITE and REFERS are data; `apply` is the ten lines that read them. The promises of
the README are properties of these tables and are tested as such.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from ledger import events as ev
from ledger.events import ENGINEER, MODEL, ORCHESTRATOR, POLICY, Actor, ActorKind, Event, Ref

E = TypeVar("E", bound=Event)


class Stage(StrEnum):
    DETECTED = "DETECTED"
    PROPOSED = "PROPOSED"
    WITHHELD = "WITHHELD"
    VALIDATED = "VALIDATED"
    AUTHORIZED = "AUTHORIZED"
    DENIED = "DENIED"
    EXPIRED = "EXPIRED"
    STOOD_DOWN = "STOOD_DOWN"
    EXECUTING = "EXECUTING"
    EXECUTED = "EXECUTED"
    WEBHOOK_FAILED = "WEBHOOK_FAILED"
    UNKNOWN = "UNKNOWN"
    NOT_RECOVERED = "NOT_RECOVERED"
    INCONCLUSIVE = "INCONCLUSIVE"
    RECOVERED = "RECOVERED"
    RESOLVED = "RESOLVED"


S = Stage
CLOSED = frozenset({S.RECOVERED, S.RESOLVED})
OPEN = frozenset(S) - CLOSED
IN_HAND = frozenset({S.AUTHORIZED, S.EXECUTING, S.EXECUTED})
"""A person decided and the world has not answered yet: policy does not close these over their head."""

MOST_ATTEMPTS = 3

_ANNOTATES_OPEN: tuple[type[Event], ...] = (
    ev.Diagnosed,
    ev.Worsened,
    ev.Acknowledged,
    ev.Snoozed,
    ev.Noted,
    ev.Escalated,
)
_ANNOTATES_ANY: tuple[type[Event], ...] = (
    ev.Paged,
    ev.PageFailed,
    ev.Refused,
    ev.OutcomeReported,
    ev.Feedback,
    ev.Reviewed,
)

_MOVES: dict[Stage | None, dict[type[Event], Stage]] = {
    None: {ev.Detected: S.DETECTED},
    S.DETECTED: {ev.Proposed: S.PROPOSED},
    S.PROPOSED: {ev.Withheld: S.WITHHELD, ev.Validated: S.VALIDATED},
    S.VALIDATED: {
        ev.Approved: S.VALIDATED,
        ev.Withdrawn: S.VALIDATED,
        ev.Authorized: S.AUTHORIZED,
        ev.Denied: S.DENIED,
        ev.Expired: S.EXPIRED,
    },
    S.AUTHORIZED: {ev.StoodDown: S.STOOD_DOWN, ev.ExecutionStarted: S.EXECUTING},
    S.EXECUTING: {
        ev.ExecutionStarted: S.EXECUTING,
        ev.Executed: S.EXECUTED,
        ev.WebhookFailed: S.WEBHOOK_FAILED,
        ev.OutcomeUnknown: S.UNKNOWN,
    },
    S.EXECUTED: {ev.Verified: S.RESOLVED, ev.NotRecovered: S.NOT_RECOVERED, ev.Inconclusive: S.INCONCLUSIVE},
    S.NOT_RECOVERED: {ev.Proposed: S.PROPOSED},
    S.RECOVERED: {ev.Reopened: S.DETECTED},
    S.RESOLVED: {ev.Reopened: S.DETECTED},
}
ASKABLE = frozenset(
    {
        S.WITHHELD,
        S.DENIED,
        S.EXPIRED,
        S.STOOD_DOWN,
        S.WEBHOOK_FAILED,
        S.NOT_RECOVERED,
        S.INCONCLUSIVE,
        S.UNKNOWN,
    }
)


def _row(stage: Stage | None) -> dict[type[Event], Stage]:
    row: dict[type[Event], Stage] = {}
    if stage is not None:
        row |= dict.fromkeys(_ANNOTATES_ANY, stage)
    if stage in OPEN and stage is not None:
        row |= dict.fromkeys(_ANNOTATES_OPEN, stage)
        if stage not in IN_HAND:
            row[ev.Recovered] = S.RECOVERED
        if stage not in {S.AUTHORIZED, S.EXECUTING}:
            row[ev.Resolved] = S.RESOLVED
    if stage in ASKABLE:
        row[ev.AskedAgain] = S.DETECTED
    return row | _MOVES.get(stage, {})


TRANSITIONS: Mapping[Stage | None, Mapping[type[Event], Stage]] = {
    stage: _row(stage) for stage in (None, *Stage)
}

TENANT_FACTS: frozenset[type[Event]] = frozenset(
    {
        ev.CharterAdopted, ev.PolicyAdopted, ev.Linked, ev.Unlinked, ev.Paused, ev.Resumed,
        ev.MaintenanceDeclared, ev.OncallOverridden, ev.Started, ev.Stopped, ev.Watched, ev.LedgerChecked,
        ev.Reconciled, ev.KeyRotated, ev.Exported, ev.Archived, ev.Erased, ev.AccessReviewed, ev.Refused,
    }
)  # fmt: skip
"""Facts without an incident. Refused is also one of an incident, when the act named one."""

MAY_WRITE: Mapping[type[Event], frozenset[ActorKind]] = {
    kind: frozenset(actors)
    for actors, kinds in (
        ({POLICY, ENGINEER}, (ev.Detected, ev.Escalated, ev.StoodDown)),
        ({MODEL}, (ev.Diagnosed,)),
        (
            {POLICY},
            (
                ev.Worsened, ev.Withheld, ev.Validated, ev.Expired, ev.Verified, ev.NotRecovered,
                ev.Inconclusive, ev.Recovered, ev.Reopened,
            ),
        ),
        (
            {ENGINEER},
            (
                ev.Acknowledged, ev.Snoozed, ev.Noted, ev.Feedback, ev.AskedAgain, ev.Approved, ev.Withdrawn,
                ev.Authorized, ev.Denied, ev.Resolved, ev.CharterAdopted, ev.PolicyAdopted, ev.Linked,
                ev.Unlinked, ev.Paused, ev.MaintenanceDeclared, ev.Erased, ev.AccessReviewed,
                ev.OncallOverridden, ev.Reviewed,
            ),
        ),
        ({ENGINEER, ORCHESTRATOR}, (ev.Proposed, ev.OutcomeReported, ev.Exported, ev.KeyRotated)),
        ({ENGINEER, POLICY}, (ev.Resumed,)),
        (
            {ORCHESTRATOR},
            (
                ev.Paged, ev.PageFailed, ev.Refused, ev.ExecutionStarted, ev.Executed, ev.WebhookFailed,
                ev.OutcomeUnknown, ev.Started, ev.Stopped, ev.Watched, ev.LedgerChecked, ev.Reconciled,
                ev.Archived,
            ),
        ),
    )
    for kind in kinds
}  # fmt: skip

REFERS: Mapping[type[Event], type[Event]] = {
    ev.Approved: ev.Validated,
    ev.Withdrawn: ev.Validated,
    ev.Authorized: ev.Validated,
    ev.Denied: ev.Validated,
    ev.Expired: ev.Validated,
    ev.StoodDown: ev.Authorized,
    ev.ExecutionStarted: ev.Authorized,
    ev.Executed: ev.Authorized,
    ev.WebhookFailed: ev.Authorized,
    ev.OutcomeUnknown: ev.Authorized,
}
"""What an entry's `ref` must name: the newest entry of that kind in its incident."""

VOTES: frozenset[type[Event]] = frozenset({ev.Approved, ev.Authorized})
"""These name an option of the request, and are refused from its deadline on."""

OUTCOMES: frozenset[type[Event]] = frozenset({ev.Executed, ev.WebhookFailed, ev.StoodDown, ev.OutcomeUnknown})
"""Every authorization meets exactly one of these."""


class Illegal(Exception):
    """This fact cannot stand here; nothing was appended.

    Illegal
    ├── IllegalTransition   the stage does not allow it
    ├── WrongActor          this kind of actor may not say it
    └── BadReference        its `ref`, deadline or attempt does not fit what stands before it
    """


class IllegalTransition(Illegal):
    pass


class WrongActor(Illegal):
    pass


class BadReference(Illegal):
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """One event as it stands in the ledger. Its hash is its identity: the entry of that hash says it all."""

    seq: int
    hash: str
    at_ms: int
    actor: Actor
    event: Event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def ref(self) -> Ref:
        return Ref(seq=self.seq, hash=self.hash)


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as its facts tell it, oldest first."""

    id: str
    stage: Stage
    entered_ms: int
    facts: tuple[Fact, ...]

    def last(self, *kinds: type[Event]) -> Fact | None:
        """The newest fact of one of *kinds*."""
        for fact in reversed(self.facts):
            if isinstance(fact.event, kinds):
                return fact
        return None

    def every(self, kind: type[E]) -> list[tuple[Fact, E]]:
        return [(fact, fact.event) for fact in self.facts if isinstance(fact.event, kind)]

    def latest(self, kind: type[E]) -> E | None:
        for fact in reversed(self.facts):
            if isinstance(event := fact.event, kind):
                return event
        return None

    @property
    def opened(self) -> ev.Detected:
        event = self.facts[0].event
        assert isinstance(event, ev.Detected)  # noqa: S101  TRANSITIONS[None] allows nothing else
        return event

    @property
    def opened_ms(self) -> int:
        return self.facts[0].at_ms

    @property
    def service(self) -> str:
        return self.opened.reading.service

    @property
    def is_open(self) -> bool:
        return self.stage in OPEN

    @property
    def reading(self) -> ev.Reading:
        """The worst that policy has said of it since it opened or reopened."""
        fact = self.last(ev.Detected, ev.Worsened, ev.Reopened)
        event = fact.event if fact else self.opened
        return (
            event.reading
            if isinstance(event, ev.Detected | ev.Worsened | ev.Reopened)
            else self.opened.reading
        )

    @property
    def suspects(self) -> tuple[ev.Suspect, ...]:
        found = (
            f.event.suspects
            for f in reversed(self.facts)
            if isinstance(f.event, ev.Detected | ev.Worsened | ev.Reopened) and f.event.suspects
        )
        return next(found, ())

    @property
    def asked_ms(self) -> int:
        """When the present round of asking began: opened, reopened or asked again."""
        fact = self.last(ev.Detected, ev.Reopened, ev.AskedAgain)
        return fact.at_ms if fact else self.opened_ms

    @property
    def asked_again(self) -> bool:
        fact = self.last(ev.Detected, ev.Reopened, ev.AskedAgain)
        return fact is not None and isinstance(fact.event, ev.AskedAgain)

    @property
    def rounds(self) -> int:
        """How many times the council has been asked."""
        return max((d.round for _, d in self.every(ev.Diagnosed)), default=0)

    def diagnoses(self) -> dict[str, ev.Diagnosed]:
        """The answers of the newest round, by lens."""
        newest = self.rounds
        return {d.lens: d for _, d in self.every(ev.Diagnosed) if d.round == newest}

    @property
    def request(self) -> Fact | None:
        """The Validated entry that can be voted on now."""
        return self.last(ev.Validated) if self.stage is S.VALIDATED else None

    def votes(self) -> dict[str, set[str]]:
        """Who stands for which option of the present request: option key to person ids."""
        request = self.last(ev.Validated)
        tally: dict[str, set[str]] = {}
        for fact in self.facts:
            if request is None or fact.event.ref != request.ref:
                continue
            if isinstance(fact.event, ev.Approved | ev.Authorized):
                tally.setdefault(fact.event.option, set()).add(fact.actor.id)
            elif isinstance(fact.event, ev.Withdrawn):
                tally.get(fact.event.option, set()).discard(fact.actor.id)
        return tally

    @property
    def authorization(self) -> tuple[Fact, ev.Authorized] | None:
        fact = self.last(ev.Authorized)
        return (fact, fact.event) if fact and isinstance(fact.event, ev.Authorized) else None

    @property
    def unreviewed(self) -> list[tuple[Fact, ev.Authorized]]:
        """The authorizations by break-glass that nobody has signed off."""
        signed = {event.ref for _, event in self.every(ev.Reviewed)}
        return [
            (f, made) for f, made in self.every(ev.Authorized) if made.break_glass and f.ref not in signed
        ]

    @property
    def acknowledged(self) -> Fact | None:
        """The newest acknowledgement since the present round of asking began."""
        fact = self.last(ev.Acknowledged)
        return fact if fact and fact.at_ms >= self.asked_ms else None


def apply(incident: Incident | None, incident_id: str, fact: Fact) -> Incident:
    """The incident after *fact*. Raises Illegal, and then nothing has happened."""
    event, stage = fact.event, incident.stage if incident else None
    to = TRANSITIONS[stage].get(type(event))
    if to is None:
        raise IllegalTransition(f"{type(event).__name__} cannot follow {stage or 'nothing'} in {incident_id}")
    check_actor(event, fact.actor)
    if incident is None:
        return Incident(incident_id, to, fact.at_ms, (fact,))
    _check_reference(incident, event, fact.at_ms)
    if isinstance(event, ev.Reviewed):
        _check_review(incident, fact)
    entered = fact.at_ms if to is not stage else incident.entered_ms
    return Incident(incident_id, to, entered, (*incident.facts, fact))


def check_actor(event: Event, actor: Actor) -> None:
    if actor.kind not in MAY_WRITE[type(event)]:
        raise WrongActor(f"{actor.kind} may not write {type(event).__name__}")


def _check_reference(incident: Incident, event: Event, at_ms: int) -> None:
    target = REFERS.get(type(event))
    stands = incident.last(target) if target else None
    if target and (stands is None or event.ref != stands.ref):
        raise BadReference(
            f"{type(event).__name__} must refer to the newest {target.__name__} of {incident.id}"
        )
    if stands and isinstance(stands.event, ev.Validated):
        _check_request(stands.event, event, at_ms)
    if isinstance(event, ev.ExecutionStarted):
        _check_attempt(incident, event)


def _check_request(request: ev.Validated, event: Event, at_ms: int) -> None:
    option = event.option if isinstance(event, ev.Authorized | ev.Approved) else ""
    why = objection_to_answer(
        type(event), option, (one.key for one in request.options), at_ms, request.deadline_ms
    )
    if why:
        raise BadReference(why)


def _check_attempt(incident: Incident, event: ev.ExecutionStarted) -> None:
    authorized = incident.last(ev.Authorized)
    since = authorized.seq if authorized else 0
    made = sum(1 for fact, _ in incident.every(ev.ExecutionStarted) if fact.seq > since)
    if why := objection_to_attempt(event.attempt, made):
        raise BadReference(why)


def _check_review(incident: Incident, fact: Fact) -> None:
    broke = next((f.actor.id for f, _ in incident.unreviewed if f.ref == fact.event.ref), "")
    if why := objection_to_review(broke, fact.actor.id):
        raise BadReference(why)


def objection_to_review(broke: str, by: str) -> str:
    """Why *by* may not sign off what *broke* did, or an empty text. *broke* empty: there is no such thing."""
    if not broke:
        return "it signs off no break-glass that waits for it"
    return "who broke the glass does not sign it off" if broke == by else ""


def objection_to_answer(
    kind: type[Event], option: str, options: Iterable[str], at_ms: int, deadline_ms: int
) -> str:
    """Why an answer of this *kind* to a request may not stand, or an empty text."""
    late = at_ms >= deadline_ms
    if kind is ev.Expired:
        return "" if late else "the request's deadline has not passed yet"
    if kind not in VOTES:
        return ""
    if late:
        return "the request's deadline has passed"
    return "" if option in options else f"the request has no option {option!r}"


def objection_to_attempt(attempt: int, made: int) -> str:
    """Why a try of this number may not begin after *made* others, or an empty text."""
    if attempt == made + 1 and attempt <= MOST_ATTEMPTS:
        return ""
    return f"attempt {attempt} cannot follow {made} attempts; {MOST_ATTEMPTS} is the most"


def unsettled(incidents: Iterable[Incident]) -> list[tuple[Incident, Fact]]:
    """Every authorization that has no outcome yet. The books balance when this is empty."""
    found: list[tuple[Incident, Fact]] = []
    for incident in incidents:
        settled = {f.event.ref.hash for f in incident.facts if type(f.event) in OUTCOMES and f.event.ref}
        found += [(incident, f) for f, _ in incident.every(ev.Authorized) if f.hash not in settled]
    return found
