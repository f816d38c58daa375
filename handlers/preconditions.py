"""Why what a person authorized may not run any more. Pure.

`OBJECTIONS` is the list, in the order in which people are told. It is read before each try, by the decision
that appends ExecutionStarted. It never finds a reason to run anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from detectors.verdict import Verdict
from handlers import governor, maintenance
from handlers.charter import Action, Charter
from handlers.readings import reading_before
from ledger import events as ev
from ledger.events import ENGINEER
from ledger.machine import Fact, Incident
from ledger.view import View

LAPSE_MS = 60_000
LAPSE_AGAIN_MS = 300_000
"""A first try starts within a minute of the tap; a later one, after a crash for example, within five."""
CALM_MS = 10_000
"""A service without an alarm for so long (or for all of close_ms, if that is less) has recovered."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known outside the ledger when a try is due."""

    verdict: Verdict | None
    deploy: str
    has_secret: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One authorization, about to run. `may_have_run`: an earlier try of it ended nobody knows how."""

    view: View
    now_ms: int
    incident: Incident
    fact: Fact
    authorized: ev.Authorized
    charter: Charter | None
    close_ms: int
    seen: Seen
    again: bool = False
    may_have_run: bool = False

    @property
    def action(self) -> Action | None:
        """The action that the charter in force names, if it is what was authorized."""
        found = self.charter.action(self.incident.service, self.authorized.action) if self.charter else None
        if found is None or not found.admits(self.given):
            return None
        same = found.digest(self.incident.service, self.given) == self.authorized.digest
        return found if same else None

    @property
    def given(self) -> tuple[ev.Given, ...]:
        """The parameters of what was authorized, as they stood in the request."""
        asked = (
            event for fact, event in self.incident.every(ev.Validated) if fact.ref == self.authorized.ref
        )
        chosen = (one for event in asked for one in event.options if one.key == self.authorized.option)
        return next((one.parameters for one in chosen), ())


@dataclass(frozen=True, slots=True)
class Objection:
    """Why it does not run: a word for programs and a sentence for people."""

    why: str
    sentence: str


def objection(case: Case) -> Objection | None:
    """The first reason not to run *case*, or None."""
    found = (Objection(why, sentence) for why, ask in OBJECTIONS if (sentence := ask(case)))
    return next(found, None)


def _lapsed(case: Case) -> str:
    limit = LAPSE_AGAIN_MS if case.again else LAPSE_MS
    age = case.now_ms - case.fact.at_ms
    return f"It was approved {age // 1000} s ago and could not run until now." if age > limit else ""


def _paused(case: Case) -> str:
    return "Countersign is paused." if case.view.is_paused(case.now_ms) else ""


def _maintenance(case: Case) -> str:
    if case.charter is None:
        return ""
    until_ms = maintenance.until_ms(case.charter, case.view, case.incident.service, case.now_ms)
    if not until_ms:
        return ""
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    return f"{case.incident.service} is in maintenance until {until:%H:%M} UTC."


def _charter(case: Case) -> str:
    if case.charter is None:
        return "The charter in force is not known here."
    action = case.action
    if action is None:
        return "The charter in force does not name this action any more, or names it differently."
    people = [case.charter.person(name) for name in case.authorized.voters or (case.fact.actor.id,)]
    quorum = case.charter.glass if case.authorized.break_glass else action.quorum
    if not quorum.met_by([person.roles for person in people if person]):
        return "Who approved it may not approve it any more."
    return "" if case.seen.has_secret else f"The secret {action.secret_env} is not set, or is none."


def _policy(case: Case) -> str:
    """A request names the policy under which it was made; one from before that names none."""
    request = case.incident.latest(ev.Validated)
    asked = request.policy_digest if request else ""
    if not asked or asked == case.view.rules.policy:
        return ""
    return "The policy changed after you were asked. Look again, then tap."


def _deploy(case: Case) -> str:
    asked, live = _deploy_when_asked(case), case.seen.deploy
    if not asked or not live or asked == live:
        return ""
    return f"The deploy changed to {live[:7]} after you were asked. Look again, then tap."


def _deploy_when_asked(case: Case) -> str:
    """The deploy that was live when people were asked, or nothing where that is not on record."""
    request = case.incident.latest(ev.Validated)
    if request and request.deploy:
        return request.deploy
    told = case.incident.last(ev.Detected, ev.Worsened, ev.Reopened, ev.AskedAgain, ev.Executed)
    stale = told is not None and isinstance(told.event, ev.AskedAgain | ev.Executed)
    return "" if stale else reading_before(case.incident, case.fact.seq).deploy


def _governor(case: Case) -> str:
    """What ran since people were asked may be reason enough to wait. A later try is the same run."""
    if case.again or case.charter is None or case.action is None:
        return ""
    closed = governor.too_fast(case.action, case.incident.service, case.charter, case.view, case.now_ms)
    return f"{closed.why[:1].upper()}{closed.why[1:]}." if closed else ""


def _recovered(case: Case) -> str:
    opened, verdict = case.incident.facts[0].actor.kind, case.seen.verdict
    if opened is ENGINEER or case.incident.opened.origin != "policy" or case.may_have_run:
        return ""
    if verdict is None or not verdict.healthy or verdict.quiet_ms < min(CALM_MS, case.close_ms):
        return ""
    return f"{case.incident.service} recovered {verdict.quiet_ms // 1000} s ago."


OBJECTIONS: tuple[tuple[str, Callable[[Case], str]], ...] = (
    ("lapsed", _lapsed),
    ("paused", _paused),
    ("maintenance", _maintenance),
    ("charter", _charter),
    ("policy", _policy),
    ("governor", _governor),
    ("deploy", _deploy),
    ("recovered", _recovered),
)
