"""What a person may be offered: the charter's actions, chosen by the council's theories. Pure.

1. One sure theory: the action that the charter names for its cause.
2. Dissent: an option a theory, A and B, each with its own action or with none ("run nothing, you look").
3. No sure theory: the charter's default action, marked as policy's alone.
4. An action that did not help is not offered again while there is another: the next theory's, its undo, the
   one for a deploy that is among the suspects, the default, any other, in this order.

A model never names an action, and an action that the charter does not name is never offered.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from handlers import council
from handlers.charter import Action, Service
from handlers.council import Counsel, Theory, Verdict
from ledger import events as ev
from ledger.events import Cause, Given, Option
from ledger.machine import Incident

NO_ACTION = "no action in the charter"
ONE = "1"


@dataclass(frozen=True, slots=True)
class Offer:
    """The options, and why these, in a sentence."""

    options: tuple[Option, ...]
    reason: str


def offer(incident: Incident, counsel: Counsel, service: Service | None) -> Offer:
    """What is on offer for *incident* now. No options: the charter names none, and `reason` says so."""
    said = council.say(counsel, incident.diagnoses())
    if service is None or not service.actions:
        return Offer((), NO_ACTION)
    options = _advised(counsel, service)
    failed = unhelpful(incident, service)
    if failed:
        return _next(incident, service, options, failed)
    if not options:
        return Offer((), f"{NO_ACTION} for {_causes(counsel)}" if counsel.theories else NO_ACTION)
    if counsel.theories and not any(one.theory for one in options):
        return Offer(options, "No confident diagnosis: this is policy alone")
    return Offer(options, said)


def unhelpful(incident: Incident, service: Service) -> list[Action]:
    """The actions that ran and did not help since the incident last opened, the newest last."""
    tried: list[Action] = []
    authorized: Action | None = None
    for fact in incident.facts:
        match fact.event:
            case ev.Detected() | ev.Reopened():
                tried.clear()
            case ev.Authorized(action=name):
                authorized = service.action(name)
            case ev.NotRecovered() if authorized is not None:
                tried.append(authorized)
            case _:
                pass
    return tried


def option(
    key: str,
    action: Action | None,
    service: Service,
    theory: Theory | None = None,
    given: tuple[Given, ...] | None = None,
) -> Option:
    """*action* as a person may choose it, bound to exactly this request. Without an action: run nothing.

    *given* are its parameters; without them the defaults. Raises BadParameter where one has none.
    """
    named = Option(key=key)
    if theory:
        named = Option(
            key=key,
            theory=theory.lens,
            cause=theory.cause,
            component=theory.component,
            confidence=theory.percent,
        )
    if action is None:
        return named
    undo, filled = service.action(action.undo), action.fill() if given is None else given
    return named.model_copy(
        update={
            "action": action.id,
            "title": action.title,
            "request": action.request,
            "digest": action.digest(service.id, filled),
            "risk": action.risk,
            "impact": action.impact,
            "undo": undo.title if undo else action.undo,
            "approve": action.approve,
            "expires_ms": action.expires,
            "parameters": filled,
            "blast_radius": action.blast_radius,
            "change_ref": action.change_ref,
        }
    )


def _advised(counsel: Counsel, service: Service) -> tuple[Option, ...]:
    """What the theories lead to, failures of the past aside."""
    if counsel.verdict is Verdict.DISSENT:
        return tuple(
            option(theory.lens, service.action_for(theory.cause), service, theory)
            for theory in counsel.theories
        )
    theory = counsel.advised
    action = service.action_for(theory.cause) if theory else service.default_action
    return (option(ONE, action, service, theory),) if action else ()


def _next(incident: Incident, service: Service, options: Sequence[Option], failed: Sequence[Action]) -> Offer:
    """What comes after *failed*, which did not help."""
    tried = {action.id for action in failed}
    said = f"{failed[-1].title} did not help"
    left = [one for one in options if one.action and one.action not in tried]
    if left:
        theory = left[0]
        return Offer(
            (theory.model_copy(update={"key": ONE}),),
            f"{said}. Next theory: {theory.cause}" if theory.theory else f"{said}. Next: {theory.title}",
        )
    other = next((action for action in _others(incident, service, failed) if action.id not in tried), None)
    if other:
        return Offer((option(ONE, other, service),), f"{said}. Next: {other.title}")
    if not failed[-1].offers_itself:
        return Offer((), f"{said}, and the charter names no other action")
    again = (option(ONE, failed[-1], service),)
    return Offer(again, f"{said}, and the charter names no other action")


def _others(incident: Incident, service: Service, failed: Iterable[Action]) -> Iterator[Action]:
    wanted = [service.action(action.undo) for action in reversed(list(failed))]
    if any(suspect.kind == "commit" for suspect in incident.suspects):
        wanted.append(service.action_for(Cause.DEPLOY))
    wanted.append(service.default_action)
    wanted += service.actions
    yield from (action for action in wanted if action and action.offers_itself)


def _causes(counsel: Counsel) -> str:
    return " or ".join(dict.fromkeys(str(theory.cause) for theory in counsel.theories))
