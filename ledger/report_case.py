"""One incident as the auditor's page tells it: its requests, who decided each, and what came of it. Pure.

A `Case` has every figure of the page about an incident, each taken from one entry that it names.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger import events as ev
from ledger.events import Act, Event, Option, Reading
from ledger.machine import OUTCOMES, Fact, Incident
from ledger.report_gather import Gathered
from ledger.report_rule import Charter, Share, charter

ENDS = (ev.Verified, ev.NotRecovered, ev.Inconclusive, ev.Recovered, ev.Resolved)


@dataclass(frozen=True, slots=True)
class Deed:
    """What one person did, from which account, and who had linked it when. `linked` None: never by a code."""

    fact: Fact
    did: str
    option: str = ""
    linked: tuple[Fact, ev.Linked] | None = None
    shown: tuple[Fact, ev.Paged] | None = None

    @property
    def person(self) -> str:
        return self.fact.actor.id

    def did_any(self, kinds: tuple[type[Event], ...]) -> bool:
        return isinstance(self.fact.event, kinds)

    @property
    def act(self) -> Act | None:
        found = getattr(self.fact.event, "act", None)
        return found if isinstance(found, Act) else None


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened at *at_ms*, told by the entry *seq*."""

    name: str
    at_ms: int
    seq: int


@dataclass(frozen=True, slots=True)
class Case:
    incident: Incident
    request: Fact | None
    asked: ev.Validated | None
    requests: int
    chosen: Option | None
    authorized: tuple[Fact, ev.Authorized] | None
    deeds: tuple[Deed, ...]
    charter: Charter
    adopted: tuple[Fact, ev.CharterAdopted] | None
    shares: tuple[Share, ...]
    moments: tuple[Moment, ...]
    paged: int
    unpaged: int
    attempts: int
    outcome: Fact | None
    executed: ev.Executed | None
    end: Fact | None
    before: Reading
    after: Reading | None
    refused: Mapping[str, int]

    @property
    def others(self) -> tuple[Option, ...]:
        """What else was on offer in the same request; all of it where nothing was chosen."""
        options = self.asked.options if self.asked else ()
        return tuple(one for one in options if one is not self.chosen)

    @property
    def until_ms(self) -> int:
        """When it ended, or when the newest entry about it was written."""
        return self.incident.facts[-1].at_ms if self.incident.is_open else self.incident.entered_ms

    @property
    def proof(self) -> Fact:
        """The entry whose receipt proves most of the page: the authorization, or the newest one."""
        return self.authorized[0] if self.authorized else self.incident.facts[-1]


def case(incident: Incident, gathered: Gathered, texts: Mapping[str, str]) -> Case:
    """The last request of *incident* that a person authorized, or else its last one, and all around it."""
    authorized = incident.authorization
    request = _request(incident, authorized)
    asked = request.event if request and isinstance(request.event, ev.Validated) else None
    chosen = _chosen(asked, authorized)
    rules = _adopted(gathered, asked.charter_digest if asked else "")
    found = charter(asked.charter_digest if asked else "", texts)
    outcome = _settled(incident, authorized)
    end = _end(incident, outcome)
    return Case(
        incident=incident,
        request=request,
        asked=asked,
        requests=len(incident.every(ev.Validated)),
        chosen=chosen,
        authorized=authorized,
        deeds=tuple(_deeds(incident, gathered, request)),
        charter=found,
        adopted=rules,
        shares=found.shares(chosen.approve, authorized[1].voters) if authorized and chosen else (),
        moments=tuple(_moments(incident, request, authorized, outcome, end)),
        paged=len(incident.every(ev.Paged)),
        unpaged=len(incident.every(ev.PageFailed)),
        attempts=_attempts(incident, authorized),
        outcome=outcome,
        executed=outcome.event if outcome and isinstance(outcome.event, ev.Executed) else None,
        end=end,
        before=_before(incident, end),
        after=getattr(end.event, "after", None) if end else None,
        refused=Counter(refused.kind for _, refused in incident.every(ev.Refused)),
    )


def _request(incident: Incident, authorized: tuple[Fact, ev.Authorized] | None) -> Fact | None:
    if authorized and (ref := authorized[1].ref):
        return next((fact for fact in incident.facts if fact.ref == ref), None)
    return incident.last(ev.Validated)


def _chosen(asked: ev.Validated | None, authorized: tuple[Fact, ev.Authorized] | None) -> Option | None:
    if asked is None or authorized is None:
        return None
    return next((one for one in asked.options if one.key == authorized[1].option), None)


def _adopted(gathered: Gathered, digest: str) -> tuple[Fact, ev.CharterAdopted] | None:
    found = [(fact, event) for fact, event in gathered.every(ev.CharterAdopted) if event.digest == digest]
    return found[-1] if found else None


_DID: Mapping[type[Event], str] = {
    ev.Detected: "declared",
    ev.Proposed: "proposed by hand",
    ev.AskedAgain: "asked again",
    ev.Approved: "voted for",
    ev.Withdrawn: "withdrew the vote for",
    ev.Authorized: "authorized",
    ev.Denied: "denied",
    ev.StoodDown: "stopped it before it ran",
    ev.OutcomeReported: "reported the outcome",
    ev.Resolved: "closed it",
    ev.Reviewed: "signed the break-glass off",
}
GLASS = "broke the glass and authorized alone"


def _deeds(incident: Incident, gathered: Gathered, request: Fact | None) -> Sequence[Deed]:
    """What people did in *incident*, those about *request* first, each group in its order."""
    ours = [fact for fact in incident.facts if type(fact.event) in _DID and fact.actor.kind is ev.ENGINEER]
    about = [fact for fact in ours if request and fact.event.ref == request.ref]
    rest = [fact for fact in ours if fact not in about]
    return [_deed(fact, incident, gathered) for fact in (*about, *rest)]


def _deed(fact: Fact, incident: Incident, gathered: Gathered) -> Deed:
    person, channel = fact.actor.id, fact.actor.via
    links = [
        (at, linked)
        for at, linked in gathered.every(ev.Linked)
        if (linked.person, linked.channel) == (person, channel) and at.seq < fact.seq
    ]
    pages = [
        (at, paged)
        for at, paged in incident.every(ev.Paged)
        if paged.recipient == person and paged.channel == channel and at.seq < fact.seq
    ]
    return Deed(
        fact,
        GLASS if getattr(fact.event, "break_glass", False) else _DID[type(fact.event)],
        str(getattr(fact.event, "option", "")),
        links[-1] if links else None,
        pages[-1] if pages else None,
    )


def _settled(incident: Incident, authorized: tuple[Fact, ev.Authorized] | None) -> Fact | None:
    if authorized is None:
        return None
    ref = authorized[0].ref
    return next((f for f in incident.facts if type(f.event) in OUTCOMES and f.event.ref == ref), None)


def _end(incident: Incident, outcome: Fact | None) -> Fact | None:
    """What was found afterwards: after the outcome, or at the end where nothing was decided."""
    since = outcome.seq if outcome else 0
    found = [fact for fact in incident.facts if isinstance(fact.event, ENDS) and fact.seq > since]
    return (found[0] if outcome else found[-1]) if found else None


def _before(incident: Incident, end: Fact | None) -> Reading:
    found = getattr(end.event, "before", None) if end else None
    return found if isinstance(found, Reading) else incident.reading


def _attempts(incident: Incident, authorized: tuple[Fact, ev.Authorized] | None) -> int:
    ref = authorized[0].ref if authorized else None
    return sum(1 for fact, _ in incident.every(ev.ExecutionStarted) if ref and fact.event.ref == ref)


def _moments(
    incident: Incident,
    request: Fact | None,
    authorized: tuple[Fact, ev.Authorized] | None,
    outcome: Fact | None,
    end: Fact | None,
) -> Sequence[Moment]:
    told = next((fact for fact, _ in incident.every(ev.Paged)), None)
    tried = next(
        (
            f
            for f, _ in incident.every(ev.ExecutionStarted)
            if authorized and f.event.ref == authorized[0].ref
        ),
        None,
    )
    named = (
        ("detected", incident.facts[0]),
        ("told", told),
        ("asked", request),
        ("authorized", authorized[0] if authorized else None),
        ("execution began", tried),
        (_OUTCOME.get(type(outcome.event), "outcome") if outcome else "outcome", outcome),
        (_END.get(type(end.event), "ended") if end else "verified", end),
    )
    return [Moment(name, fact.at_ms, fact.seq) for name, fact in named if fact]


_OUTCOME: Mapping[type[Event], str] = {
    ev.Executed: "executed",
    ev.WebhookFailed: "failed",
    ev.StoodDown: "stood down",
    ev.OutcomeUnknown: "outcome unknown",
}
_END: Mapping[type[Event], str] = {
    ev.Verified: "verified",
    ev.NotRecovered: "found not recovered",
    ev.Inconclusive: "found inconclusive",
    ev.Recovered: "recovered",
    ev.Resolved: "closed by a person",
}
