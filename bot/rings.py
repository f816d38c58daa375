"""When a card changes and when it rings: the table of what people hear, folded from an incident's facts.

* A revision is a stage change, a Diagnosed, a vote or a Worsened. Nothing else edits a card.
* RING is a new message with sound, QUIET a new one without, EDIT changes the one that is there. What needs
  no new message edits.
* What opens as a warning is QUIET, unless policy says `warnings_ring`; it rings when it gets worse.
* A request that somebody asked for again is a new message: its Approve must not appear under a finger that
  is still on Ask again.
* A channel that cannot edit is told milestones alone: opened, each request, each outcome, one expiry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bot.ports import Ring
from ledger import events as ev
from ledger.events import Event
from ledger.machine import Fact, Incident, Stage

S = Stage

SOUNDS: Mapping[type[Event], Ring] = {
    ev.Detected: Ring.RING,
    ev.Reopened: Ring.RING,
    ev.NotRecovered: Ring.RING,
    ev.WebhookFailed: Ring.RING,
    ev.OutcomeUnknown: Ring.RING,
    ev.StoodDown: Ring.RING,
    ev.Inconclusive: Ring.QUIET,
    ev.Verified: Ring.QUIET,
    ev.Recovered: Ring.QUIET,
    ev.Resolved: Ring.QUIET,
}
"""The facts that always make a new message. Worsened, Expired and Validated depend on what came before."""

SHOWS: frozenset[type[Event]] = frozenset(
    {
        *SOUNDS, ev.Diagnosed, ev.Worsened, ev.Approved, ev.Withdrawn, ev.AskedAgain, ev.Proposed,
        ev.Withheld, ev.Validated, ev.Authorized, ev.Denied, ev.Expired, ev.ExecutionStarted, ev.Executed,
    }
)  # fmt: skip
"""The facts that stand on a card."""

HEARD = SHOWS | {ev.Escalated, ev.Acknowledged}
"""No other fact is shown or rings: there may be a thousand refusals for one approval."""


class Milestone(StrEnum):
    NONE = "none"
    OPENED = "opened"
    REQUEST = "request"
    EXPIRED = "expired"
    OUTCOME = "outcome"


MILESTONES: Mapping[type[Event], Milestone] = {
    ev.Detected: Milestone.OPENED,
    ev.Reopened: Milestone.OPENED,
    ev.Validated: Milestone.REQUEST,
    ev.Withheld: Milestone.OUTCOME,
    ev.Expired: Milestone.EXPIRED,
    ev.WebhookFailed: Milestone.OUTCOME,
    ev.OutcomeUnknown: Milestone.OUTCOME,
    ev.StoodDown: Milestone.OUTCOME,
    ev.NotRecovered: Milestone.OUTCOME,
    ev.Inconclusive: Milestone.OUTCOME,
    ev.Verified: Milestone.OUTCOME,
    ev.Recovered: Milestone.OUTCOME,
    ev.Resolved: Milestone.OUTCOME,
}

_SEVERITY = {"warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a card stands: the newest fact on it, the newest that needs a message, and how that arrives."""

    revision: int = 0
    sounded: int = 0
    ring: Ring = Ring.EDIT


@dataclass(slots=True)
class _Told:
    """What people know so far: how severe it is, whether somebody is on it, whether it was asked again."""

    severity: int = 0
    acknowledged: bool = False
    asked_again: bool = False
    warnings_ring: bool = False

    def hear(self, event: Event, person: str, channel: str) -> Ring:
        ring = self._ring(event, person, channel)
        match event:
            case ev.Detected() | ev.Reopened():
                self.severity = rank(event.reading)
                self.acknowledged = self.asked_again = False
            case ev.Worsened():
                self.severity = max(self.severity, rank(event.reading))
            case ev.AskedAgain():
                self.acknowledged, self.asked_again = False, True
            case ev.Acknowledged():
                self.acknowledged = True
            case ev.Validated():
                self.asked_again = False
            case _:
                pass
        return ring

    def _ring(self, event: Event, person: str, channel: str) -> Ring:
        match event:
            case ev.Detected() | ev.Reopened() if event.reading.severity == "warning":
                return Ring.RING if self.warnings_ring else Ring.QUIET
            case ev.Worsened():
                return Ring.RING if rank(event.reading) > self.severity else Ring.EDIT
            case ev.Escalated():
                here = not event.channels or channel in {"", *event.channels}
                return Ring.RING if person and person in event.to and here else Ring.EDIT
            case ev.Expired():
                return Ring.QUIET if self.acknowledged else Ring.RING
            case ev.Validated():
                return Ring.QUIET if self.asked_again else Ring.EDIT
            case _:
                return SOUNDS.get(type(event), Ring.EDIT)


def rank(reading: ev.Reading) -> int:
    return _SEVERITY.get(reading.severity, 0)


def mark(incident: Incident, person: str = "", channel: str = "", *, warnings_ring: bool = False) -> Mark:
    """What the card of *incident* must show, and the newest fact for which *person* gets a new message.

    Who is named by an Escalated is woken, on the channels that it names; a group is not.
    """
    told, revision, sounded, how = _Told(warnings_ring=warnings_ring), 0, 0, Ring.EDIT
    for fact in incident.facts:
        if type(fact.event) not in HEARD:
            continue
        ring = told.hear(fact.event, person, channel)
        if type(fact.event) in SHOWS:
            revision = fact.seq
        if ring is not Ring.EDIT:
            sounded, how = fact.seq, ring
    return Mark(revision, sounded, how)


STAGES: Mapping[Milestone, frozenset[Stage]] = {
    Milestone.OPENED: frozenset({S.DETECTED, S.PROPOSED}),
    Milestone.REQUEST: frozenset({S.VALIDATED}),
    Milestone.EXPIRED: frozenset({S.EXPIRED}),
    Milestone.OUTCOME: frozenset(
        {
            S.WITHHELD, S.WEBHOOK_FAILED, S.UNKNOWN, S.STOOD_DOWN, S.NOT_RECOVERED, S.INCONCLUSIVE,
            S.PROPOSED, S.RECOVERED, S.RESOLVED,
        }
    ),
}  # fmt: skip
"""As long as these stages last, a milestone is worth telling."""


def milestone(incident: Incident) -> tuple[int, Milestone]:
    """The newest milestone and its seq, for a channel that cannot edit; none once life went on from it.

    A second expiry is none.
    """
    expired = 0
    newest = (0, Milestone.NONE)
    for fact in incident.facts:
        kind = MILESTONES.get(type(fact.event), Milestone.NONE)
        expired += kind is Milestone.EXPIRED
        if kind is not Milestone.NONE and not (kind is Milestone.EXPIRED and expired > 1):
            newest = (fact.seq, kind)
    return newest if incident.stage in STAGES.get(newest[1], ()) else (0, Milestone.NONE)


def entered(incident: Incident) -> Fact:
    """The fact with which the present stage began."""
    found = incident.last(*_ENTERS)
    return found or incident.facts[0]


_ENTERS = tuple(SHOWS - {ev.Diagnosed, ev.Worsened, ev.Approved, ev.Withdrawn})
