"""Why nothing happened, in words: by the refusal, and then by where the incident stands."""

from collections.abc import Callable, Mapping

from bot import phrases
from bot.ports import Tap, Verb
from bot.room import Room
from bot.second_look import chosen_of
from bot.words import hm, hms
from handlers.charter import Person, Quorum
from ledger import events as ev
from ledger.ledger import Refusal
from ledger.machine import CLOSED, Incident, Stage

S = Stage
LEDGER_SAYS: Mapping[str, Callable[[], str]] = {
    "ledger_away": phrases.ledger_away,
    "sealed": phrases.ledger_sealed,
    "busy": phrases.slow,
}
"""Refusals that have nothing to do with the person."""
RULES = frozenset({"charter", "policy"})
"""What a request is made under, and dies with."""


def explain(room: Room, person: Person, standing: Incident, tap: Tap, refusal: Refusal) -> str:
    match refusal.kind:
        case "not_entitled":
            approve = refusal.why or _approvers_text(standing)
            able = [p.name for p in room.people.approvers(Quorum.parse(approve))] if approve else []
            return phrases.not_entitled(approve, able)
        case "own_proposal":
            return phrases.own_proposal()
        case "again":
            have = len(standing.votes().get(tap.option, ()))
            return phrases.again_same("just now", have, need(standing, tap.option))
        case kind if kind in RULES:
            return phrases.rules_changed(kind)
        case "no_vote":
            return phrases.no_vote(standing.service)
        case "used":
            return phrases.used_link()
        case kind if kind in phrases.GLASS:
            return phrases.GLASS[kind]
        case "totp":
            return phrases.code_wanted()
        case "illegal" if standing.stage in {S.AUTHORIZED, S.EXECUTING}:
            return phrases.in_flight(_decider(room, standing)[0])
        case _:
            return _explain_stage(room, person, standing, tap)


def _explain_stage(room: Room, person: Person, standing: Incident, tap: Tap) -> str:
    zone = str(room.zone(person))
    who, at_ms, option = _decider(room, standing)
    at = hms(at_ms, zone) if at_ms else ""
    match standing.stage:
        case stage if stage in CLOSED:
            return _explain_closed(room, standing, zone)
        case S.AUTHORIZED | S.EXECUTING | S.EXECUTED if tap.verb is Verb.DENY:
            return phrases.deny_after_approve(who, at)
        case S.AUTHORIZED | S.EXECUTING | S.EXECUTED if tap.option not in {option, ""}:
            return phrases.second_other(who, at, option, tap.option)
        case S.AUTHORIZED | S.EXECUTING | S.EXECUTED:
            return phrases.second_same(who, at)
        case S.STOOD_DOWN:
            stood = standing.latest(ev.StoodDown)
            return phrases.stood_down(stood.why if stood else "", stood.reason if stood else "")
        case S.DENIED:
            denied = standing.last(ev.Denied)
            by = name_of(room, denied.actor.id) if denied else ""
            return phrases.already_denied(by, hms(denied.at_ms, zone) if denied else "")
        case S.VALIDATED:
            return phrases.superseded(standing.service)
        case _:
            return phrases.nothing_asked(standing.service)


def _explain_closed(room: Room, standing: Incident, zone: str) -> str:
    who, at_ms, _ = _decider(room, standing)
    closed = hm(standing.entered_ms, zone)
    resolved = standing.last(ev.Resolved)
    if resolved and standing.stage is S.RESOLVED and resolved.at_ms == standing.entered_ms:
        return phrases.closed(standing.service, closed, name_of(room, resolved.actor.id))
    return phrases.late_solved(standing.service, closed, who, hm(at_ms, zone) if at_ms else "")


def late_ms(room: Room, incident: str, anchor: str) -> int:
    """How long ago the deadline of the request *anchor* was."""
    asked = room.ledger.view.incidents[incident].every(ev.Validated)
    deadline = next((v.deadline_ms for f, v in asked if f.hash.startswith(anchor)), room.now_ms())
    return max(0, room.now_ms() - deadline)


def need(standing: Incident, option: str) -> int:
    """How many people *option* needs."""
    chosen = chosen_of(standing, option)
    return Quorum.parse(chosen.approve).needs() if chosen else 1


def name_of(room: Room, person: str) -> str:
    found = room.people.person(person)
    return found.name if found else person


def _decider(room: Room, standing: Incident) -> tuple[str, int, str]:
    """Who authorized, when, and which option; empty where nobody did."""
    found = standing.authorization
    return (name_of(room, found[0].actor.id), found[0].at_ms, found[1].option) if found else ("", 0, "")


def _approvers_text(standing: Incident) -> str:
    validated = standing.latest(ev.Validated)
    return next((o.approve for o in validated.options if o.approve), "") if validated else ""
