"""What is wrong in a charter, in words: file, key, reason and remedy; and what is odd."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from pydantic import ValidationError

from detectors.policy import BadOverride, Policy
from handlers.charter_action import Action
from handlers.charter_duty import NEXT, ONCALL
from handlers.charter_kinds import Mistake
from handlers.charter_model import Charter, Service

type Found = Iterator[tuple[str, str, str]]
"""Key, reason and remedy of each."""

SHADOW = "it is in shadow, so nobody is told when it breaks. /policy shows what would have been said."
README = "Write it as in the README's charter"


def explained(file: str, error: ValidationError) -> list[Mistake]:
    """What pydantic found, in words."""
    return [_explained(file, one["loc"], one["type"], one["msg"]) for one in error.errors(include_url=False)]


def _explained(file: str, where: tuple[int | str, ...], kind: str, message: str) -> Mistake:
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in where) or "charter"
    reason, _, remedy = message.removeprefix("Value error, ").partition(". ")
    reason, known = _IN_WORDS.get(kind, (reason, ""))
    return Mistake(file, key, reason, _sentence(known or remedy or "See the README's charter"))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


_IN_WORDS: Mapping[str, tuple[str, str]] = {
    "extra_forbidden": (
        "there is no such key",
        "Remove it, or check its spelling against the README's charter",
    ),
    "missing": ("is missing", "Add it"),
    "string_pattern_mismatch": ("has a form that it may not have", README),
    "string_type": ("is no text", "Put it in quotes"),
    "int_type": ("is no whole number", "Write digits alone, without quotes"),
    "bool_type": ("is neither true nor false", "Write true or false, without quotes"),
    "tuple_type": ("is no list", 'Write it in brackets, such as ["database"]'),
    "dict_type": ("is no table", "Write it as a table, with its keys below it"),
    "mapping_type": ("is no table", "Write it as a table, with its keys below it"),
    "model_type": ("is no table", "Write it as a table, with its keys below it"),
    "string_too_long": ("is too long", "Say it shorter"),
    "string_too_short": ("is empty", "Write something"),
}


def mistakes(file: str, charter: Charter, forbidden: Collection[str]) -> list[Mistake]:
    """What does not fit together in a charter of well formed parts. *forbidden* are secrets of ours."""
    found: list[Mistake] = []
    for ask in _ASKED:
        found += [Mistake(file, *one) for one in ask(charter)]
    return found + [Mistake(file, *one) for one in _our_secrets(charter, forbidden)]


def hints(charter: Charter) -> list[str]:
    """What is allowed and yet worth a second look, a sentence each."""
    return [
        *(
            f"{key}: {said}"
            for key, action, service in _actions(charter)
            for said in _odd(charter, service, action)
        ),
        *(f"services.{service.id}: {SHADOW}" for service in charter.services if service.shadow),
    ]


# --- mistakes ---------------------------------------------------------------------------------------------


def _our_secrets(charter: Charter, forbidden: Collection[str]) -> Found:
    for service in charter.services:
        for name in service.secrets:
            if name in forbidden:
                yield (
                    f"services.{service.id}",
                    f"{name} is a secret of Countersign itself",
                    "Give the webhook a secret of its own.",
                )


def _bad_policy(charter: Charter) -> Found:
    try:
        common = Policy().with_overrides(charter.policy)
    except BadOverride as wrong:
        yield f"policy.{wrong.key}", wrong.reason.rstrip("."), wrong.remedy
        return
    for service in charter.services:
        try:
            common.with_services({service.id: service.overrides})
        except BadOverride as wrong:
            yield f"services.{service.id}.policy.{wrong.key}", wrong.reason.rstrip("."), wrong.remedy


def _unknown_services(charter: Charter) -> Found:
    known = [service.id for service in charter.services]
    named = [(f"rules.{number}", one.services) for number, one in enumerate(charter.rules, 1)]
    named += [(f"maintenance.{number}", one.services) for number, one in enumerate(charter.maintenance, 1)]
    for key, services in named:
        for name in services:
            if name not in known:
                yield f"{key}.services", f"there is no service {name}", _one_of(known)


def _too_many_services(charter: Charter) -> Found:
    most = charter.limits.services
    if len(charter.services) > most:
        yield (
            "services",
            f"{len(charter.services)} services, and limits.services allows {most}",
            "Remove some, or raise the limit.",
        )


def _bad_rota(charter: Charter) -> Found:
    for name in charter.rota.people if charter.rota else ():
        person = charter.person(name)
        if person is None:
            yield "rota.people", f"there is no person {name}", _one_of(p.id for p in charter.people)
        elif ONCALL not in person.roles:
            yield (
                "rota.people",
                f"{name} has not the role oncall, and would be woken in vain",
                f'Add "oncall" to the roles of {name}, or take {name} out.',
            )


def _bad_escalation(charter: Charter) -> Found:
    names = {ONCALL, NEXT, *(p.id for p in charter.people), *(r for p in charter.people for r in p.roles)}
    before = 0
    for number, step in enumerate(charter.escalation, 1):
        key = f"escalation.{number}"
        for name in step.to:
            if name not in names:
                yield f"{key}.to", f"{name} is neither a person nor a role", _one_of(sorted(names))
        if step.after <= before:
            yield f"{key}.after", "is not later than the step before", "Put the steps in their order."
        before = step.after


_ASKED: tuple[Callable[[Charter], Found], ...] = (
    _bad_policy,
    _unknown_services,
    _too_many_services,
    _bad_rota,
    _bad_escalation,
)


def _one_of(names: Iterable[str]) -> str:
    listed = ", ".join(list(names)[:8])
    return f"Write one of {listed}." if listed else "Add it first."


# --- hints ------------------------------------------------------------------------------------------------


def _actions(charter: Charter) -> Iterator[tuple[str, Action, Service]]:
    for service in charter.services:
        for action in service.actions:
            yield f"services.{service.id}.actions.{action.id}", action, service


def _odd(charter: Charter, service: Service, action: Action) -> Iterator[str]:
    if not action.quorum.met_by(person.roles for person in charter.people):
        yield f"nobody can approve it: it needs {action.approve or 'nobody'}, and too few people are named."
    for key, example in (("impact", "about 8 s of refused requests"), ("undo", "none: nothing to undo")):
        if not getattr(action, key):
            yield f'it has no {key}. Whoever approves reads it: {key} = "{example}".'
    if not (action.causes or action.default):
        yield "nothing offers it by itself: it has no causes and is no default. /run alone does."
    if action.github and action.idempotent:
        yield "GitHub runs a workflow again for each request: idempotent = true may run it twice."
    first = service.default_action
    if action.default and first and first.id != action.id:
        yield f"{first.id} is the default already, so this one never is."
