"""What a person begins by hand: an incident, a run, a dead letter sent again. Pure decisions on the present.

A run by hand takes the road of all others: the same request, gates, quorum, executor and ledger. Who declared
the incident or proposed the action does not approve it. `Wish.ready` makes an incident in which it can be
proposed and `Wish.proposed` proposes it; both are queued at once, so that nothing comes between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from handlers.charter import Charter, Person, Service
from handlers.charter_parameters import BadParameter
from handlers.offers import ONE, option
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.events import ENGINEER, Act, Event, Given, Reading
from ledger.ledger import Decide, Refusal
from ledger.machine import ASKABLE, Fact, Incident, Stage
from ledger.view import View

DECLARED, RUN = "declared", "run"
HEADLINES = {DECLARED: "declared by hand", RUN: "asked for by hand"}
PROPOSABLE = frozenset({Stage.DETECTED, Stage.NOT_RECOVERED})


def may(person: Person, service: Service) -> bool:
    """Whether *person* may begin something at *service*: who may approve something of it, or an admin."""
    return "admin" in person.roles or any(one.quorum.admits(person.roles) for one in service.actions)


def declared(service: str, act: Act, words: str) -> Decide:
    """An incident that a person saw. *words* is a commitment to what they wrote."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(service)
        return Refusal("open", standing.id) if standing else _detected(view, service, DECLARED, words, act)

    return decide


@dataclass(frozen=True, slots=True)
class Wish:
    """What *person* proposes for *service*, by ids."""

    book: Rulebook
    person: Person
    service: str
    action: str
    given: tuple[Given, ...]
    act: Act

    def ready(self, view: View, now: datetime) -> Event | Refusal:
        """An incident that takes the proposal: a new one, or the open one asked again.

        Refused with `ready` where there is one already, with its id where it does not take one now.
        """
        standing = view.open_for(self.service)
        if (self.act.channel, self.act.update) in view.acts:
            return Refusal("came_before")
        found = self._option(view, standing)
        if isinstance(found, Refusal):
            return found
        if standing is None:
            return _detected(view, self.service, RUN, "", None)
        if standing.stage in PROPOSABLE:
            return Refusal("ready")
        if standing.stage in ASKABLE:
            return ev.AskedAgain(
                incident_id=standing.id, decision="ask_again", reason="A person proposes something else"
            )
        return Refusal("taken", standing.id)

    def proposed(self, view: View, now: datetime) -> Event | Refusal:
        """The proposal itself, in the open incident."""
        standing = view.open_for(self.service)
        found = self._option(view, standing)
        if isinstance(found, Refusal):
            return found
        if standing is None or standing.stage not in PROPOSABLE:
            return Refusal("taken", standing.id if standing else "")
        return ev.Proposed(
            incident_id=standing.id,
            decision="propose",
            reason=f"{found.title}: proposed by a person",
            options=(found,),
            act=self.act,
        )

    def _option(self, view: View, standing: Incident | None) -> ev.Option | Refusal:
        charter = self.book.charter(view)
        known = charter.service(self.service) if charter else None
        found = known.action(self.action) if known else None
        if charter is None or known is None or found is None:
            return Refusal("unknown", f"the charter in force names no {self.action} of {self.service}")
        if not may(self.person, known):
            return Refusal("not_entitled", "only an admin, or who may approve something of it, proposes that")
        if not found.quorum.met_by(_others(standing, charter, self.person)):
            return Refusal(
                "alone", f"it needs {found.approve or 'nobody'}, and who proposes does not approve"
            )
        try:
            given = found.fill({one.name: one.value for one in self.given})
        except BadParameter as bad:
            return Refusal("parameter", str(bad))
        return option(ONE, found, known, given=given)


def by_hand(incident: Incident) -> Fact | None:
    """A person's newest proposal, as long as asking again renews it.

    That ends when it ran and did not help, when policy opened the incident anew, and, where policy opened it,
    when somebody denied it: then policy asks.
    """
    found = [fact for fact, _ in incident.every(ev.Proposed) if fact.actor.kind is ENGINEER]
    ends: tuple[type[Event], ...] = (ev.NotRecovered, ev.Reopened)
    over = incident.last(*ends, *(() if incident.opened.origin == RUN else (ev.Denied,)))
    return found[-1] if found and not (over and over.seq > found[-1].seq) else None


def renewed(incident: Incident, service: Service | None) -> ev.Option | None:
    """What a person proposed before, as the charter names it now; None where policy is to propose."""
    fact = by_hand(incident)
    before = fact.event.options[0] if fact and isinstance(fact.event, ev.Proposed) else None
    action = service.action(before.action) if service and before else None
    if before is None or service is None or action is None or not action.admits(before.parameters):
        return None
    return option(ONE, action, service, given=before.parameters)


def _others(standing: Incident | None, charter: Charter, person: Person) -> list[tuple[str, ...]]:
    """The roles of those who could approve what *person* proposes: nobody who began something here."""
    by_hand = {
        fact.actor.id
        for fact in (standing.facts if standing else ())
        if fact.actor.kind is ENGINEER and isinstance(fact.event, ev.Detected | ev.Proposed)
    }
    return [one.roles for one in charter.people if one.id not in {*by_hand, person.id}]


def _detected(view: View, service: str, origin: str, words: str, act: Act | None) -> ev.Detected:
    headline = HEADLINES[origin]
    reading = Reading(
        service=service, rule="manual", signal="", severity="warning", headline=headline, explanation=""
    )
    return ev.Detected(
        incident_id=view.next_incident_id(service),
        decision="declare",
        reason=f"{service}: {headline}",
        reading=reading,
        origin=origin,
        words=words,
        act=act,
    )


@dataclass(frozen=True, slots=True)
class Dead:
    """A run that failed for good, or of which nobody knows whether it happened. *fact* is its outcome."""

    incident: str
    service: str
    fact: Fact
    action: str
    title: str
    given: tuple[Given, ...]

    @property
    def unknown(self) -> bool:
        return isinstance(self.fact.event, ev.OutcomeUnknown)


def dead(view: View) -> list[Dead]:
    """The dead letters, the newest first: no later run of the same, and no word of a person on them."""
    found = [one for incident in view.incidents.values() for one in _dead(incident)]
    began: dict[tuple[str, str], int] = {}
    for incident in view.incidents.values():
        for fact, chosen in incident.every(ev.Authorized):
            key = incident.service, chosen.action
            began[key] = max(began.get(key, 0), fact.seq)
    left = [one for one in found if began[one.service, one.action] < one.fact.seq]
    return sorted(left, key=lambda one: -one.fact.seq)


def _dead(incident: Incident) -> Iterator[Dead]:
    reported = max((fact.seq for fact, _ in incident.every(ev.OutcomeReported)), default=0)
    for given, chosen in incident.every(ev.Authorized):
        outcome = next((f for f in incident.facts if _buries(f) and f.event.ref == given.ref), None)
        if outcome is None or reported > outcome.seq:
            continue
        asked = next((e for f, e in incident.every(ev.Validated) if f.ref == chosen.ref), None)
        option_ = next((one for one in asked.options if one.key == chosen.option), None) if asked else None
        yield Dead(
            incident.id,
            incident.service,
            outcome,
            chosen.action,
            option_.title if option_ else chosen.action,
            option_.parameters if option_ else (),
        )


def _buries(fact: Fact) -> bool:
    return isinstance(fact.event, ev.WebhookFailed | ev.OutcomeUnknown)
