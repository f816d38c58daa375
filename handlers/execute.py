"""The executor: what a person authorized is run, once, and its one outcome is put on record.

For each try, in this order, and the first failure ends it:

1. The preconditions are read again (preconditions.py). An objection before the first try is StoodDown.
2. ExecutionStarted is appended, with `by` and `until`, by a decision that reads all of it once more.
3. Only when that is durable, and the ledger may be acted on, is the webhook called.
4. What the answer means (outcome.py) is appended, or another try becomes due: after 2 s, then 4 s.

Another process takes over after `until` alone. What this process remembers of its own tries is only why it
need not wait so long; without it a try counts as cut off, and nobody knows whether it ran.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from handlers.calls import REAL, Vendors, call, key_of
from handlers.charter import Action
from handlers.outcome import Ran, Tried, cut_off, not_sent, outcome, tried
from handlers.ports import PortError, Rulebook, Secrets, Watch, Webhook
from handlers.preconditions import LAPSE_MS, Case, Objection, Seen, objection
from handlers.receipts import Asked
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.chain import Entry
from ledger.clock import Clock
from ledger.events import Actor, Event
from ledger.ledger import Decide, Ledger, Refusal
from ledger.machine import Fact, Incident, Stage
from ledger.view import View, epoch_ms
from sdk import receipt

TRY_MS = 10_000
UNTIL_MS = 12_000
PAUSES_MS = {1: 2_000, 2: 4_000}
REPORTABLE = frozenset({Stage.UNKNOWN, Stage.WEBHOOK_FAILED})


class Executor:
    """Runs what was authorized. *process* names this process, and no other and no earlier one.

    *vendors* are the addresses for actions that need no endpoint.
    """

    name = "execute"

    def __init__(
        self,
        ledger: Ledger,
        rulebook: Rulebook,
        watch: Watch,
        secrets: Secrets,
        webhook: Webhook,
        clock: Clock,
        process: str,
        vendors: Vendors = REAL,
    ) -> None:
        self._vendors = vendors
        self._ledger = ledger
        self._rulebook = rulebook
        self._watch = watch
        self._secrets = secrets
        self._webhook = webhook
        self._clock = clock
        self._process = process
        self._actor = Actor.orchestrator(process)
        self._tried: dict[tuple[str, int], tuple[int, Tried]] = {}

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        found = (self._next(incident, now_ms) for incident in view.open())
        return [work for work in found if work]

    async def do(self, work: Work) -> None:
        """One try, or what follows the last. Raises PortError while the ledger takes no outcome."""
        view, now_ms = self._ledger.view, self._now_ms()
        incident = view.incidents[work.incident]
        last = self._last(incident, now_ms)
        if incident.stage is Stage.EXECUTING and last is None:
            return  # a try is under way, here or elsewhere
        case = self._case(view, now_ms, incident, last)
        if case is None or (last and await self._ended(case, last)):
            return
        found = objection(case)
        if found is None:
            await self._try(case, last.attempt + 1 if last else 1)
        elif last:
            await self._ended(case, last, f"Not tried again: {found.sentence}")
        else:
            await self._stand_down(case, found)

    # --- what is due ----------------------------------------------------------------------------------

    def _next(self, incident: Incident, now_ms: int) -> Work | None:
        if incident.authorization is None:
            return None
        authorized, _ = incident.authorization
        if incident.stage is Stage.AUTHORIZED:
            at_ms = now_ms if self._ledger.may_act() else max(now_ms, authorized.at_ms + LAPSE_MS + 1)
            return Work(f"{authorized.hash}:0", at_ms, incident.id)
        started = incident.latest(ev.ExecutionStarted)
        if incident.stage is not Stage.EXECUTING or started is None:
            return None
        return Work(f"{authorized.hash}:{started.attempt}", self._then_ms(authorized, started), incident.id)

    def _then_ms(self, authorized: Fact, started: ev.ExecutionStarted) -> int:
        """When what follows this try is due."""
        known = self._known(authorized, started)
        if known is None:
            return started.until_ms
        ended_ms, last = known
        return ended_ms if last.final else ended_ms + PAUSES_MS.get(last.attempt, 0)

    def _known(self, authorized: Fact, started: ev.ExecutionStarted) -> tuple[int, Tried] | None:
        """When this try ended and how, if it was ours and has."""
        if started.by != self._process:
            return None
        return self._tried.get((authorized.hash, started.attempt))

    def _last(self, incident: Incident, now_ms: int) -> Tried | None:
        """How the newest try ended; None before the first and while it may still be running."""
        started = incident.latest(ev.ExecutionStarted)
        if incident.stage is not Stage.EXECUTING or started is None or incident.authorization is None:
            return None
        known = self._known(incident.authorization[0], started)
        if known:
            return known[1]
        return cut_off(started.attempt) if now_ms >= started.until_ms else None

    # --- trying ---------------------------------------------------------------------------------------

    def _case(self, view: View, now_ms: int, incident: Incident, last: Tried | None) -> Case | None:
        if incident.authorization is None or incident.stage not in {Stage.AUTHORIZED, Stage.EXECUTING}:
            return None
        fact, authorized = incident.authorization
        charter = self._rulebook.charter(view)
        action = charter.action(incident.service, authorized.action) if charter else None
        seen = Seen(
            verdict=self._watch.verdict(view.tenant, incident.service),
            deploy=self._watch.deploy(view.tenant, incident.service),
            has_secret=action is not None and self._key(action) is not None,
        )
        return Case(
            view=view,
            now_ms=now_ms,
            incident=incident,
            fact=fact,
            authorized=authorized,
            charter=charter,
            close_ms=self._rulebook.policy(view).of(incident.service).close_ms,
            seen=seen,
            again=last is not None,
            may_have_run=last is not None and last.ran is Ran.PERHAPS,
        )

    async def _stand_down(self, case: Case, found: Objection) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            if _moved(view, case):
                return MOVED
            return ev.StoodDown(
                incident_id=case.incident.id,
                decision="stand_down",
                reason=f"Not run: {found.sentence}",
                why=found.why,
                ref=case.fact.ref,
            )

        insist(await self._ledger.record(Actor.policy(), decide))

    async def _try(self, case: Case, attempt: int) -> None:
        action = case.action
        key = self._key(action) if action else None
        if action is None or key is None:
            return
        started = await self._start(case, attempt)
        if started is None:
            return
        found = await self._ask(case, action, key, started, attempt)
        self._tried[case.fact.hash, attempt] = self._now_ms(), found
        await self._ended(case, found)

    async def _start(self, case: Case, attempt: int) -> Entry | None:
        """The ExecutionStarted of this try, durable; None where there is none, and nothing may be sent."""
        self._tried.pop((case.fact.hash, attempt), None)
        answer = await self._ledger.record(self._actor, self._starting(case, attempt))
        if isinstance(answer, Entry):
            return answer
        if answer.kind == "busy":  # should it stand after all, then we know that nothing was sent for it
            unsent = not_sent(attempt, "Nothing was sent: the ledger was too slow.")
            self._tried[case.fact.hash, attempt] = self._now_ms(), unsent
        insist(answer)
        return None

    def _starting(self, case: Case, attempt: int) -> Decide:
        def decide(view: View, now: datetime) -> Event | Refusal:
            now_ms = epoch_ms(now)
            present = replace(case, view=view, now_ms=now_ms, charter=self._rulebook.charter(view))
            if _moved(view, case) or present.action != case.action or objection(present):
                return MOVED
            return ev.ExecutionStarted(
                incident_id=case.incident.id,
                decision="execute",
                reason=f"Try {attempt} of {case.authorized.action}{_blind(case)}",
                ref=case.fact.ref,
                attempt=attempt,
                by=self._process,
                until_ms=now_ms + UNTIL_MS,
                digest=case.authorized.digest,
            )

        return decide

    async def _ask(self, case: Case, action: Action, key: bytes, started: Entry, attempt: int) -> Tried:
        """Call the webhook, once. *started* is what allows it."""
        now_ms = self._now_ms()
        if not self._ledger.may_act():
            return not_sent(attempt, "Nothing was sent: the ledger cannot be acted on.")
        if now_ms + TRY_MS > epoch_ms(started.at) + UNTIL_MS:
            return not_sent(attempt, "Nothing was sent: it took too long to begin.")
        asked = Asked(action.id, case.fact.hash, receipt.key(key))
        try:
            sent = call(case, action, key, attempt, now_ms, self._vendors)
            return tried(attempt, asked, await self._webhook.post(sent))
        except PortError as error:
            return tried(attempt, asked, error)

    # --- the outcome ----------------------------------------------------------------------------------

    async def _ended(self, case: Case, last: Tried, stop: str = "") -> bool:
        """Append the outcome, if *last* is one. Raises PortError while the ledger does not take it."""
        idempotent = case.action is not None and case.action.idempotent
        event = outcome(last, case.incident.id, case.fact.ref, idempotent=idempotent, stop=stop)
        if event is None:
            return False
        insist(await self._ledger.record(self._actor, _ending(case, last, event)))
        self._tried = {at: known for at, known in self._tried.items() if at[0] != case.fact.hash}
        return True

    def _key(self, action: Action) -> bytes | None:
        return key_of(action, self._secrets.get(action.secret_env))

    def _now_ms(self) -> int:
        return epoch_ms(self._clock.now())


def _blind(case: Case) -> str:
    """What the entry says where nobody knows how the service is; what was authorized runs all the same."""
    known = case.seen.verdict is not None or case.incident.opened.origin != "policy"
    return "" if known else f". How {case.incident.service} is, was not known"


def _moved(view: View, case: Case) -> bool:
    """Whether anything was tried, decided or settled for this incident since *case* was looked at."""
    incident = view.incidents[case.incident.id]
    looked = case.incident
    return (
        incident.stage is not looked.stage
        or incident.authorization != looked.authorization
        or incident.last(ev.ExecutionStarted) != looked.last(ev.ExecutionStarted)
    )


def _ending(case: Case, last: Tried, event: Event) -> Decide:
    """Append *event* unless an outcome stands. A failure counts of the newest try alone, a success of any."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        incident = view.incidents[case.incident.id]
        started = incident.latest(ev.ExecutionStarted)
        found = incident.authorization
        if found is None or found[0] != case.fact or started is None:
            return MOVED
        if incident.stage in REPORTABLE and isinstance(event, ev.Executed):
            return ev.OutcomeReported(
                incident_id=incident.id,
                decision="executed",
                reason=f"Try {last.attempt} was answered {last.status} after all.",
                outcome="executed",
            )
        if incident.stage is not Stage.EXECUTING:
            return MOVED
        if started.attempt != last.attempt and not isinstance(event, ev.Executed):
            return MOVED
        return event

    return decide
