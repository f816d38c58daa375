"""What people say of a verdict or of a theory, each once, on record; and `/feedback`, which says it in words.

* It decides nothing. Of an incident that is over, "not an incident" is an opinion; of one that is open the
  same tap closes it, and the closing is the opinion.
* "New normal" makes detection learn anew what is usual (handlers/detect.py follows the ledger). So only who
  may close an incident says it, of the newest one of a service, of what is learned at all, and while that
  lasts: where policy saw the end of it, what is seen now is the old normal.
* `/policy` counts what was said, by rule.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from bot import phrases, votes
from bot.order import Order
from bot.ports import Answer, Tap, Verb
from detectors.baseline import LEARNED
from handlers.charter import Person
from handlers.ports import Rulebook
from ledger import events as ev
from ledger.events import Act, Event
from ledger.ledger import Decide, Refusal
from ledger.machine import Incident
from ledger.view import View

KINDS: Mapping[Verb, str] = {
    Verb.CAUSE_RIGHT: "cause_right",
    Verb.CAUSE_WRONG: "cause_wrong",
    Verb.NOT_INCIDENT: "not_incident",
    Verb.NEW_NORMAL: "new_normal",
}
"""Feedback's `kind`, by what was tapped."""
CAUSES = frozenset({"cause_right", "cause_wrong"})
WORDS: Mapping[str, Verb] = {
    "not": Verb.NOT_INCIDENT,
    "normal": Verb.NEW_NORMAL,
    "right": Verb.CAUSE_RIGHT,
    "wrong": Verb.CAUSE_WRONG,
}
HOW = (
    "Send /feedback INCIDENT and a word: not (no incident), normal (a new normal), right, wrong (the cause)."
)


def say(book: Rulebook, person: Person, incident: str, verb: Verb, act: Act) -> Decide:
    """Feedback by *person* on *incident*, which they have not said of it already since it opened."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing, kind = view.incidents[incident], KINDS[verb]
        if refused := _may_not(view, book, standing, person, kind):
            return refused
        found = standing.authorization
        theory = found[1].theory if found and kind in CAUSES else ""
        return ev.Feedback(
            incident_id=incident,
            decision=kind,
            reason=f"Theory {theory or '-'}" if kind in CAUSES else standing.reading.rule,
            kind=kind,
            theory=theory,
            act=act,
        )

    return decide


def _may_not(view: View, book: Rulebook, standing: Incident, person: Person, kind: str) -> Refusal | None:
    if _stands(standing, person, kind):
        return Refusal("said")
    if kind in CAUSES:
        return None
    if refused := votes.may_not_close(book.charter(view), standing, person):
        return refused
    if kind != "new_normal":
        return None
    newest = view.newest_for(standing.service)
    if newest and newest.id != standing.id:
        return Refusal("older", newest.id)
    if not is_learned(standing):
        return Refusal("not_learned", standing.reading.signal)
    return None if lasts(standing) else Refusal("recovered")


def _stands(standing: Incident, person: Person, kind: str) -> bool:
    """Whether that is the last that *person* said of it since it opened; a closing says it as well."""
    opened = standing.last(ev.Detected, ev.Reopened)
    since = opened.seq if opened else 0
    for fact in reversed(standing.facts):
        if fact.seq <= since:
            break
        said = _kind(fact.event)
        if said and fact.actor.id == person.id and (said in CAUSES) == (kind in CAUSES):
            return said == kind
    return False


def _kind(event: Event) -> str:
    match event:
        case ev.Feedback():
            return event.kind
        case ev.Resolved(kind="not_an_incident"):
            return "not_incident"
        case _:
            return ""


def is_learned(incident: Incident) -> bool:
    """Whether what is usual is learned of what *incident* is about, so that it can be learned anew."""
    return incident.reading.signal in LEARNED


def lasts(incident: Incident) -> bool:
    """Whether what *incident* is about may go on: it is open, or it was a person who closed it."""
    ended = incident.last(ev.Recovered, ev.Verified, ev.Resolved)
    return incident.is_open or (ended is not None and isinstance(ended.event, ev.Resolved))


def noted(incident: Incident, verb: Verb) -> str:
    """What is answered to who said it."""
    if verb is Verb.NEW_NORMAL:
        return phrases.new_normal(is_open=incident.is_open)
    if verb is Verb.NOT_INCIDENT:
        return phrases.noted_not_an_incident()
    found = incident.authorization
    return phrases.cause_noted(found[1].theory if found else "", right=verb is Verb.CAUSE_RIGHT)


def why_not(incident: Incident, refusal: Refusal) -> str:
    """Why it was not taken, where that is a matter of what was said; empty where others say why."""
    match refusal.kind:
        case "older":
            return phrases.older(incident.service, refusal.why)
        case "not_learned":
            return phrases.not_learned(refusal.why)
        case "recovered":
            return phrases.no_new_normal(incident.service)
        case _:
            return ""


async def feedback(order: Order, tapped: Callable[[str, Tap], Awaitable[Answer]]) -> Answer:
    """`/feedback checkout-3 not|normal|right|wrong`: the same as the buttons."""
    said = order.rest.lower().split()
    found = order.room.ledger.view.incidents.get(order.first)
    verb = WORDS.get(said[0]) if said else None
    if found is None or verb is None:
        return Answer(HOW)
    return await tapped(order.room.tenant, order.tap(verb, found.facts[0].hash))
