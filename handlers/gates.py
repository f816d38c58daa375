"""What holds an option back, however sure anybody is of it. Pure.

Each gate looks at one option and says why it may not be asked for now, and until when if that is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from handlers import governor, maintenance
from handlers.charter import Action, Charter, Service
from handlers.governor import Closed
from ledger.events import Held, Option
from ledger.view import View

RETIRED = "the charter changed and no longer names exactly this"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Present:
    """What the gates look at. *down*: the service did not answer policy's last polls."""

    view: View
    now_ms: int
    charter: Charter
    service: Service
    down: bool


def held(option: Option, present: Present) -> Held | None:
    """Why *option* may not be asked for, or None. An option that runs nothing passes."""
    if not option.action:
        return None
    action = present.service.action(option.action)
    if action is None or not _is_named(action, option, present.service.id):
        return Held(action=option.action, title=option.title, why=RETIRED)
    for gate in GATES:
        closed = gate(action, present)
        if closed:
            return Held(action=action.id, title=action.title, why=closed.why, until_ms=closed.until_ms)
    return None


def _is_named(action: Action, option: Option, service: str) -> bool:
    given = option.parameters
    return action.admits(given) and action.digest(service, given) == option.digest


def paused(action: Action, present: Present) -> Closed | None:
    pause = present.view.paused
    if pause is None or not present.view.is_paused(present.now_ms):
        return None
    return Closed("everything is paused", pause.until_ms)


def in_maintenance(action: Action, present: Present) -> Closed | None:
    until_ms = maintenance.until_ms(present.charter, present.view, present.service.id, present.now_ms)
    return Closed(f"{present.service.id} is in maintenance", until_ms) if until_ms else None


def nobody_may_approve(action: Action, present: Present) -> Closed | None:
    people = present.charter.people
    if not present.charter.approvers(action.quorum):
        return Closed("nobody may approve it")
    if not action.quorum.met_by(person.roles for person in people):
        return Closed(f"it needs {action.approve}, and the charter names fewer people")
    return None


def runs_inside_what_is_down(action: Action, present: Present) -> Closed | None:
    """A dead app cannot restart itself."""
    if not present.down or action.outside:
        return None
    if _origin(action.webhook) != _origin(present.service.health_url):
        return None
    return Closed(f"{present.service.id} does not answer, and this would run inside it")


def too_fast(action: Action, present: Present) -> Closed | None:
    return governor.too_fast(action, present.service.id, present.charter, present.view, present.now_ms)


GATES: tuple[Callable[[Action, Present], Closed | None], ...] = (
    nobody_may_approve,
    paused,
    in_maintenance,
    runs_inside_what_is_down,
    too_fast,
)
"""In the order in which a person wants to hear of them."""


def _origin(address: str) -> tuple[str, str, int]:
    parts: SplitResult = urlsplit(address)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
