"""Policy's voice in the ledger: folds what polls bring, and opens, worsens, reopens and closes incidents.

1. One incident a service. Its severity only rises; after a quiet minute it closes; within ten it reopens.
2. What a person closed opens again only where it was quiet in between, or is worse than it was.
3. When more than half of at least three services stop answering at once, that is one card about the network
   in between, and no action is offered for it.
4. What other tools alert of is an incident too. It closes when nothing of it fires and nothing is sick.
5. The folded state is kept outside the process: a restart neither forgets nor pages again.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from pydantic import ValidationError

from detectors import history
from detectors.history import History
from detectors.policy import Policy
from detectors.suspects import Candidate, rank
from detectors.suspects import Suspect as Ranked
from detectors.verdict import (
    ServiceState,
    Verdict,
    judge,
    settled,
    should_open,
    should_recover,
    suspects,
    worse,
)
from detectors.window import Missed, Tick
from handlers.alerts import SIGNAL, Alerts, reading_of_alerts
from handlers.changes import Change, Changes, candidates
from handlers.council import SEES
from handlers.ports import Rulebook
from handlers.readings import reading_of
from handlers.sanitise import clean
from ledger import events as ev
from ledger.events import Actor, Event, Reading, Suspect
from ledger.ledger import Decide, Ledger, Refusal
from ledger.machine import IN_HAND, Incident, Stage
from ledger.view import View, epoch_ms

NETWORK = "network"
"""The service that stands for what lies between us and all the others."""
NOTHING = Refusal("nothing")
Ranking = Callable[[Iterable[Candidate]], tuple[Ranked, ...]]
"""Ranks what was measured together with what was changed."""


class States(Protocol):
    """Where folded states outlive the process: a text a service."""

    async def load(self, tenant: str) -> Mapping[str, str]: ...

    async def save(self, tenant: str, states: Mapping[str, str]) -> None: ...


@dataclass(slots=True)
class Seen:
    """What is known of one service now."""

    state: ServiceState
    verdict: Verdict | None = None
    cursor: int = 0
    missed: int = 0
    opened: bool = False
    history: History = ()


@dataclass
class Detect:
    """Detection for one tenant. It is the `Watch` port that other handlers ask."""

    ledger: Ledger
    rulebook: Rulebook
    changes: Changes = field(default_factory=Changes)
    alerts: Alerts = field(default_factory=Alerts)
    seen: dict[str, Seen] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)
    turned: bool = False
    """Whether a service turned sick or well since the last `keep`: then it is worth keeping at once."""

    def verdict(self, tenant: str, service: str) -> Verdict | None:
        found = self.seen.get(service)
        return found.verdict if found else None

    def reachable(self, tenant: str, service: str) -> bool:
        found = self.seen.get(service)
        return found is None or found.missed == 0

    def deploy(self, tenant: str, service: str) -> str:
        return self.changes.live(self._repository(service))

    def cursor(self, service: str) -> int:
        found = self.seen.get(service)
        return found.cursor if found else 0

    async def see(self, service: str, what: Tick | Missed, cursor: int) -> None:
        """Fold one poll's result and append what policy says of it, if anything."""
        view = self.ledger.view
        policy = self.rulebook.policy(view)
        kept = self.seen.get(service) or Seen(ServiceState.fresh(policy))
        opened = view.open_for(service) is not None
        before = settled(kept.state) if kept.opened and _closed_in_quiet(view, service) else kept.state
        state, verdict = judge(before, what, policy, open_incident=opened)
        missed = kept.missed + 1 if isinstance(what, Missed) else 0
        past = history.remember(kept.history, state)
        self.seen[service] = Seen(state, verdict, cursor, missed, opened, past)
        self.dirty.add(service)
        self.turned |= bool(verdict.alarms) != bool(kept.verdict and kept.verdict.alarms)
        if self._network_is_gone(verdict):
            await self._say(network_down(self._reading_of_network()))
            return
        if view.open_for(NETWORK) and not self._most_are_missed():
            await self._say(network_back(self._reading_of_network()))
        reading = reading_of(service, verdict, self.deploy(self.ledger.tenant, service))
        alerted = bool(self.alerts.of(service, epoch_ms(self.ledger.now())))
        if self._is_news(detect(service, verdict, reading, (), policy, alerted)):
            since_ms = verdict.alarms[0].since_ms if verdict.alarms else 0
            found = self._suspects(service, since_ms, partial(suspects, state, verdict))
            await self._say(detect(service, verdict, reading, found, policy, alerted))

    async def hear(self) -> None:
        """Append what policy says of other tools' alerts, if anything."""
        view, now_ms = self.ledger.view, epoch_ms(self.ledger.now())
        policy = self.rulebook.policy(view)
        open_ones = {one.service for one in view.open() if one.reading.signal == SIGNAL}
        for service in sorted(open_ones | {one.service for one in self.alerts.known.values()}):
            firing = self.alerts.of(service, now_ms)
            reading = reading_of_alerts(service, firing, self.deploy(self.ledger.tenant, service))
            seen = self.seen.get(service)
            sick = bool(seen and seen.verdict and seen.verdict.alarms)
            if self._is_news(hear(service, reading, (), policy, sick=sick)):
                found = self._suspects(service, reading.since_ms, partial(rank, (), ()))
                await self._say(hear(service, reading, found, policy, sick=sick))

    async def restore(self, states: States) -> None:
        """Take up the states of the process before. A state that cannot be read starts fresh."""
        for service, text in (await states.load(self.ledger.tenant)).items():
            try:
                kept = json.loads(text)
                self.seen[service] = Seen(
                    ServiceState.load(kept["state"]),
                    cursor=int(kept["cursor"]),
                    history=history.load(kept.get("history")),
                )
            except (ValueError, KeyError, TypeError, ValidationError):
                continue

    async def keep(self, states: States) -> None:
        """Save what has changed since the last time."""
        changed, self.dirty, self.turned = self.dirty, set(), False
        texts = {
            name: json.dumps(
                {"state": one.state.dump(), "cursor": one.cursor, "history": history.dump(one.history)}
            )
            for name in changed
            if (one := self.seen.get(name))
        }
        if texts:
            await states.save(self.ledger.tenant, texts)

    def forget_all_but(self, services: Collection[str]) -> None:
        """The charter names these services now; what others did counts no more."""
        self.seen = {name: seen for name, seen in self.seen.items() if name in services}

    def _suspects(self, service: str, since_ms: int, ranked: Ranking) -> tuple[Suspect, ...]:
        """What shifted since *since_ms*, and what was changed before it; nothing when that is no time."""
        if not since_ms:
            return ()
        near = self.changes.before(self._repository(service), since_ms)
        return tuple(_suspect(one, near) for one in ranked(candidates(near, since_ms)))

    def _repository(self, service: str) -> str:
        charter = self.rulebook.charter(self.ledger.view)
        found = charter.service(service) if charter else None
        return found.repository if found else ""

    async def _say(self, decide: Decide) -> None:
        """Append, if there is anything to say."""
        if self._is_news(decide):
            await self.ledger.record(Actor.policy(), decide)

    def _is_news(self, decide: Decide) -> bool:
        """Whether there is anything to say: asked of the present, which costs no call."""
        return not isinstance(decide(self.ledger.view, self.ledger.now()), Refusal)

    def _most_are_missed(self) -> bool:
        missed = sum(1 for one in self.seen.values() if one.missed)
        return len(self.seen) >= 3 and 2 * missed > len(self.seen)

    def _network_is_gone(self, verdict: Verdict) -> bool:
        unreachable = any(alarm.signal == "unreachable" for alarm in verdict.alarms)
        return unreachable and self._most_are_missed()

    def _reading_of_network(self) -> Reading:
        missed = sum(1 for one in self.seen.values() if one.missed)
        text = f"{missed} of {len(self.seen)} services do not answer. It may be our own network."
        return Reading(
            service=NETWORK,
            rule="network",
            signal="unreachable",
            severity="critical",
            headline=f"{missed} of {len(self.seen)} services do not answer",
            explanation=text,
        )


def detect(
    service: str,
    verdict: Verdict,
    reading: Reading,
    found: tuple[Suspect, ...],
    policy: Policy,
    alerted: bool = False,
) -> Decide:
    """What policy appends for *verdict*: Detected, Reopened, Worsened, Recovered, or nothing.

    *alerted*: another tool's alert about the service fires, so it is not well whatever was measured.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(service)
        if standing is not None:
            return _while_open(standing, verdict, reading, found, policy, alerted)
        return _opened(view, reading, found, policy, now) if should_open(verdict) else NOTHING

    return decide


def hear(service: str, reading: Reading, found: tuple[Suspect, ...], policy: Policy, *, sick: bool) -> Decide:
    """What policy appends for the alerts of other tools that *reading* sums up: those that `detect` may.

    *sick*: our own measurements say so as well, and decide when it is over.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(service)
        if standing is None:
            return _opened(view, reading, found, policy, now) if reading.signal else NOTHING
        if standing.reading.severity == "warning" and reading.severity == "critical":
            return _worsened(standing, reading, found)
        over = not reading.signal and not sick and standing.reading.signal == SIGNAL
        return _recovered(standing, reading) if over and standing.stage not in IN_HAND else NOTHING

    return decide


def _opened(
    view: View, reading: Reading, found: tuple[Suspect, ...], policy: Policy, now: datetime
) -> Event | Refusal:
    before = view.newest_for(reading.service)
    if before and _is_recent(before, policy, epoch_ms(now)):
        return _reopened(before, reading, found) if _may_reopen(before, reading) else NOTHING
    return ev.Detected(
        incident_id=view.next_incident_id(reading.service),
        decision="open",
        reason=reading.headline,
        reading=reading,
        suspects=found,
    )


def network_down(reading: Reading) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        if view.open_for(NETWORK):
            return NOTHING
        name = view.next_incident_id(NETWORK)
        return ev.Detected(incident_id=name, decision="open", reason=reading.headline, reading=reading)

    return decide


def network_back(reading: Reading) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(NETWORK)
        if standing is None:
            return NOTHING
        return ev.Recovered(
            incident_id=standing.id, decision="close", reason="The services answer again", after=reading
        )

    return decide


def _while_open(
    standing: Incident,
    verdict: Verdict,
    reading: Reading,
    found: tuple[Suspect, ...],
    policy: Policy,
    alerted: bool,
) -> Event | Refusal:
    by_policy = standing.opened.origin == "policy"
    if by_policy and not alerted and should_recover(verdict, policy) and standing.stage not in IN_HAND:
        return _recovered(standing, reading)
    if verdict.alarms and standing.reading.severity == "warning" and worse("warning", verdict):
        return _worsened(standing, reading, found)
    return NOTHING


def _recovered(standing: Incident, reading: Reading) -> Event:
    return ev.Recovered(incident_id=standing.id, decision="close", reason=reading.explanation, after=reading)


def _worsened(standing: Incident, reading: Reading, found: tuple[Suspect, ...]) -> Event:
    return ev.Worsened(
        incident_id=standing.id, decision="worsen", reason=reading.headline, reading=reading, suspects=found
    )


def _closed_in_quiet(view: View, service: str) -> bool:
    """Whether policy closed the newest incident: it had been quiet, and what spoke for it is spent."""
    newest = view.newest_for(service)
    last = newest.last(ev.Recovered, ev.Verified, ev.Resolved) if newest and not newest.is_open else None
    return last is not None and not isinstance(last.event, ev.Resolved)


def _is_recent(before: Incident, policy: Policy, now_ms: int) -> bool:
    return now_ms - before.entered_ms < policy.reopen_ms


def _may_reopen(before: Incident, reading: Reading) -> bool:
    if before.stage is Stage.RECOVERED or before.last(ev.Resolved) is None:
        return True
    quiet_between = reading.since_ms > before.entered_ms
    return quiet_between or (before.reading.severity == "warning" and reading.severity == "critical")


def _reopened(before: Incident, reading: Reading, found: tuple[Suspect, ...]) -> Event:
    return ev.Reopened(
        incident_id=before.id, decision="reopen", reason=reading.headline, reading=reading, suspects=found
    )


def _suspect(one: Ranked, near: Iterable[Change]) -> Suspect:
    commits = {change.sha[:12]: change.at_ms for change in near} if one.kind == "commit" else {}
    return Suspect(
        id=one.id,
        kind=one.kind,
        name=clean(one.component),
        text=clean(one.text),
        lens=SEES.get(one.kind, "AB"),
        since_ms=commits.get(one.component, 0),
    )
