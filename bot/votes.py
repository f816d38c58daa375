"""What a person's act may append, as pure decisions on the present.

They say who may; the machine says when. Each is made for one person and one incident and returns the event,
or a Refusal whose `kind` `bot.reasons` puts into words. All of them look at the charter in force at that
moment, never at what a button claims.
"""

from collections.abc import Sequence
from datetime import datetime

from handlers.charter import Action, Charter, Person, Quorum, Service
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.events import ENGINEER, Act, Event
from ledger.ledger import Decide, Refusal
from ledger.machine import ASKABLE, Fact, Incident, Stage
from ledger.view import View, epoch_ms

ACK_MS = 600_000
LINK = "link"


def approve(
    book: Rulebook,
    person: Person,
    incident: str,
    anchor: str,
    option: str,
    act: Act,
    card: str = "",
    *,
    stepped_up: bool = False,
) -> Decide:
    """A vote for *option* of the request *anchor*: Approved, or Authorized where it meets the quorum.

    An option that runs nothing is a denial with its theory named. *card* is the digest of what *person* saw;
    *stepped_up* whether a one-time code of theirs came with it.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        found = _request(view, incident, anchor, now)
        if isinstance(found, Refusal):
            return found
        request, validated = found
        standing, charter = view.incidents[incident], book.charter(view)
        chosen = next((o for o in validated.options if o.key == option), None)
        if outdated := _outdated(view, charter, validated):
            return outdated
        if chosen is None or charter is None:
            return Refusal("no_option")
        if _came_by_this_link(view, act):
            return Refusal("used")
        refused = _may_not(standing, validated, chosen, person)
        if refused:
            return refused
        if not chosen.action:
            return ev.Denied(
                incident_id=incident,
                decision=f"trust_{chosen.theory.lower()}",
                reason=f"Trusts theory {chosen.theory}, which runs nothing",
                theory=chosen.theory,
                ref=request.ref,
                act=act,
            )
        made = _count(standing, request, chosen, person, charter, act, card)
        return _with_code(made, charter.action(standing.service, chosen.action), stepped_up)

    return decide


def break_glass(
    book: Rulebook,
    person: Person,
    incident: str,
    anchor: str,
    option: str,
    act: Act,
    card: str = "",
    words: str = "",
    *,
    stepped_up: bool = False,
) -> Decide:
    """Authorized by *person* alone, whom the charter lets do that; *words* is the commitment to why.

    All but the number of people is as for any vote.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        found = _request(view, incident, anchor, now)
        if isinstance(found, Refusal):
            return found
        request, validated = found
        standing, charter = view.incidents[incident], book.charter(view)
        chosen = next((o for o in validated.options if o.key == option and o.action), None)
        if outdated := _outdated(view, charter, validated):
            return outdated
        if chosen is None or charter is None:
            return Refusal("no_option")
        if refused := _no_glass(standing, chosen, person, charter):
            return refused
        made = _authorized(request, chosen, (person.id,), card, act).model_copy(
            update={
                "decision": "break_glass",
                "reason": f"Break-glass: {chosen.title}",
                "break_glass": True,
                "words": words,
            }
        )
        return _with_code(made, charter.action(standing.service, chosen.action), stepped_up)

    return decide


def _no_glass(standing: Incident, chosen: ev.Option, person: Person, charter: Charter) -> Refusal | None:
    quorum = Quorum.parse(chosen.approve)
    if not quorum.needs() or not charter.glass.met_by([person.roles]):  # what nobody approves stays so
        return Refusal("no_glass")
    if person.id in _proposers(standing):
        return Refusal("own_proposal")
    present = standing.votes().get(chosen.key, set()) | {person.id}
    roles = [voter.roles for voter in map(charter.person, present) if voter]
    return Refusal("no_need") if quorum.met_by(roles) else None


def _with_code(made: Event | Refusal, action: Action | None, stepped_up: bool) -> Event | Refusal:
    """The vote *made* says that it came with a code; without one it is none where the charter asks for it."""
    if isinstance(made, Refusal):
        return made
    if not stepped_up:
        return Refusal("totp") if action and action.totp else made
    return made.model_copy(update={"stepped_up": True})


def _count(
    standing: Incident,
    request: Fact,
    chosen: ev.Option,
    person: Person,
    charter: Charter,
    act: Act,
    card: str,
) -> Event | Refusal:
    stood = standing.votes().get(chosen.key, set())
    if person.id in stood:
        return Refusal("again")
    voters = sorted(stood | {person.id})
    roles = [voter.roles for voter in map(charter.person, voters) if voter]
    if not Quorum.parse(chosen.approve).met_by(roles):
        return ev.Approved(
            incident_id=standing.id,
            decision=_decision(chosen),
            reason=f"Approves “{chosen.title}”",
            option=chosen.key,
            ref=request.ref,
            act=act,
        )
    return _authorized(request, chosen, voters, card, act)


def _authorized(
    request: Fact, chosen: ev.Option, voters: Sequence[str], card: str, act: Act
) -> ev.Authorized:
    return ev.Authorized(
        incident_id=request.event.incident_id,
        decision=_decision(chosen),
        reason=f"{chosen.title}: {_trusted(chosen)}",
        confidence=chosen.confidence,
        option=chosen.key,
        theory=chosen.theory,
        cause=chosen.cause,
        action=chosen.action,
        digest=chosen.digest,
        voters=tuple(voters),
        card_digest=card,
        ref=request.ref,
        act=act,
    )


def withdraw(person: Person, incident: str, act: Act) -> Decide:
    """*person* takes their vote back: Withdrawn while votes are counted, StoodDown where nothing ran yet."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.incidents[incident]
        found = standing.authorization
        if standing.stage is Stage.AUTHORIZED and found and person.id in found[1].voters:
            return ev.StoodDown(
                incident_id=incident,
                decision="withdraw",
                reason="Not run: the approval was withdrawn",
                why="withdrawn",
                ref=found[0].ref,
                act=act,
            )
        request = standing.request
        option = next((key for key, people in standing.votes().items() if person.id in people), None)
        if request is None or option is None:
            return Refusal("no_vote")
        return ev.Withdrawn(
            incident_id=incident,
            decision="withdraw",
            reason="Takes the approval back",
            option=option,
            ref=request.ref,
            act=act,
        )

    return decide


def deny(person: Person, incident: str, anchor: str, act: Act, words: str = "") -> Decide:
    """Denied, by anybody who could have approved one of its options. *words* is a commitment."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        found = _request(view, incident, anchor, now)
        if isinstance(found, Refusal):
            return found
        request, validated = found
        if not _admitted(validated, person):
            return Refusal("not_entitled")
        return ev.Denied(
            incident_id=incident,
            decision="deny",
            reason="Denied by a person",
            words=words,
            ref=request.ref,
            act=act,
        )

    return decide


def expire(incident: str) -> Decide:
    """The deadline has passed: said by policy before a late tap is answered."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        request = view.incidents[incident].request
        if request is None:
            return Refusal("not_open")
        return ev.Expired(
            incident_id=incident, decision="expire", reason="Nobody answered in time", ref=request.ref
        )

    return decide


def ask_again(book: Rulebook, person: Person, incident: str, act: Act) -> Decide:
    """AskedAgain, by anybody who may approve something for this service."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing, charter = view.incidents[incident], book.charter(view)
        if standing.stage not in ASKABLE:
            return Refusal("not_askable")
        service = charter.service(standing.service) if charter else None
        if service is None or not _has_a_say(service, person):
            return Refusal("not_entitled")
        return ev.AskedAgain(
            incident_id=incident, decision="ask_again", reason="Asked again by a person", act=act
        )

    return decide


def acknowledge(incident: str, act: Act) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        if not view.incidents[incident].is_open:
            return Refusal("closed")
        return ev.Acknowledged(
            incident_id=incident,
            decision="ack",
            reason="A person is on it",
            until_ms=epoch_ms(now) + ACK_MS,
            act=act,
        )

    return decide


def resolve(book: Rulebook, person: Person, incident: str, kind: str, act: Act, words: str = "") -> Decide:
    """A person closes it, and with it what is asked: who may approve something there, and no other.

    *kind* is resolved or not_an_incident. Where the charter names no action, anybody whom it names.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing, charter = view.incidents[incident], book.charter(view)
        if not standing.is_open:
            return Refusal("closed")
        if refused := may_not_close(charter, standing, person):
            return refused
        reason = "Closed as not an incident" if kind == "not_an_incident" else "Closed by a person"
        return ev.Resolved(
            incident_id=incident, decision=kind, reason=reason, kind=kind, words=words, act=act
        )

    return decide


def may_not_close(charter: Charter | None, standing: Incident, person: Person) -> Refusal | None:
    service = charter.service(standing.service) if charter else None
    if service and service.actions and not _has_a_say(service, person):
        return Refusal("not_entitled", service.actions[0].approve)
    return None


def escalate(incident: str, to: tuple[str, ...], act: Act) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        if not view.incidents[incident].is_open:
            return Refusal("closed")
        return ev.Escalated(
            incident_id=incident, decision="escalate", reason="Woken by a person", to=to, act=act
        )

    return decide


def refuse(kind: str, person: str, incident: str, act: Act) -> Decide:
    """An act that changed nothing, on record. Outside an incident where it named none."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        known = incident if incident in view.incidents else ""
        return ev.Refused(
            incident_id=known,
            decision="refuse",
            reason=kind.replace("_", " "),
            kind=kind,
            person=person,
            act=act,
        )

    return decide


def _request(view: View, incident: str, anchor: str, now: datetime) -> tuple[Fact, ev.Validated] | Refusal:
    request = _open_request(view.incidents[incident], anchor)
    if request is None or not isinstance(request.event, ev.Validated):
        return Refusal("not_open")
    if epoch_ms(now) >= request.event.deadline_ms:
        return Refusal("late")
    return request, request.event


def is_over(standing: Incident, anchor: str) -> bool:
    """Whether the request *anchor* of *standing* cannot be voted on any more: it never can be again."""
    return _open_request(standing, anchor) is None


def _open_request(standing: Incident, anchor: str) -> Fact | None:
    request = standing.request
    return request if request and request.hash.startswith(anchor) else None


def _outdated(view: View, charter: Charter | None, validated: ev.Validated) -> Refusal | None:
    """A request is answered under the rules under which it was made, or not at all."""
    if charter is None or view.rules.charter != validated.charter_digest:
        return Refusal("charter")
    if validated.policy_digest and view.rules.policy != validated.policy_digest:
        return Refusal("policy")
    return None


def _came_by_this_link(view: View, act: Act) -> bool:
    """Whether this very link decided something before. A copy of it, however spelled, has the same id."""
    return act.channel == LINK and (act.channel, act.update) in view.acts


def _may_not(
    standing: Incident, validated: ev.Validated, chosen: ev.Option, person: Person
) -> Refusal | None:
    if not (
        Quorum.parse(chosen.approve).admits(person.roles) if chosen.action else _admitted(validated, person)
    ):
        return Refusal("not_entitled", chosen.approve)
    if person.id in _proposers(standing):
        return Refusal("own_proposal")
    return None


def in_charge(charter: Charter, person: Person) -> bool:
    """Whether *person* may approve something at all, or is an admin."""
    return "admin" in person.roles or any(_has_a_say(service, person) for service in charter.services)


def _has_a_say(service: Service, person: Person) -> bool:
    """Whether *person* may approve something for *service*."""
    return any(action.quorum.admits(person.roles) for action in service.actions)


def _admitted(validated: ev.Validated, person: Person) -> bool:
    return any(Quorum.parse(option.approve).admits(person.roles) for option in validated.options)


def _proposers(standing: Incident) -> set[str]:
    """Who declared the incident or proposed its action by hand; they do not approve it."""
    return {
        fact.actor.id
        for fact in standing.facts
        if fact.actor.kind is ENGINEER and isinstance(fact.event, ev.Detected | ev.Proposed)
    }


def _decision(chosen: ev.Option) -> str:
    return f"trust_{chosen.theory.lower()}" if chosen.theory in {"A", "B"} else "approve"


def _trusted(chosen: ev.Option) -> str:
    return f"theory {chosen.theory}, {chosen.cause}" if chosen.theory in {"A", "B"} else str(chosen.cause)
