"""Policy's voice in the ledger: folds what polls bring, and opens, worsens, reopens and closes incidents.

1. One incident a service. Its severity only rises; after a quiet minute it closes; within ten it reopens.
   One that keeps coming back stays open for longer (handlers/flapping.py). A new exception or dependency
   among its failures is said once.
2. What a person closed opens again only where it was quiet in between, or is worse than it was.
3. When more than half of at least three services stop answering at once, that is one card about the network
   in between, and no action is offered for it.
4. What other tools alert of is an incident too. It closes when nothing of it fires and nothing is sick.
5. The folded state is kept outside the process: a restart neither forgets nor pages again, and who takes a
   service over (handlers/crew.py) goes on where the other ended.
6. When a person calls it the new normal, what is usual is learned anew, once: the state says which word of
   the ledger it followed last.
7. What a rule in shadow finds opens nothing, worsens nothing and keeps nothing open (handlers/shadow.py).
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Protocol
from zlib import crc32

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
    kinds,
    new_normal,
    settled,
    should_open,
    should_recover,
    suspects,
    worse,
)
from detectors.window import Missed, Tick
from handlers import flapping, network
from handlers.alerts import SIGNAL, Alerts, reading_of_alerts
from handlers.changes import Change, Changes, candidates
from handlers.council import MOST_ROUNDS, SEES, exceptions
from handlers.crew import Heard, Word
from handlers.network import NETWORK, NOTHING, TOLD_MS, most, unanswered
from handlers.ports import Rulebook
from handlers.readings import reading_of
from handlers.sanitise import clean
from handlers.shadow import Shadow
from handlers.sights import Counts, Sight, Sights
from ledger import events as ev
from ledger.events import Actor, Event, Reading, Suspect
from ledger.ledger import Decide, Ledger, Refusal
from ledger.machine import IN_HAND, Incident, Stage
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

KEEP_MS = 60_000
"""What was learned is kept once a minute, and at once when a service turned sick or well."""
AT_ONCE = 8
"""So many states are written down in one go."""
Ranking = Callable[[Iterable[Candidate]], tuple[Ranked, ...]]
"""Ranks what was measured together with what was changed."""


class States(Protocol):
    """Where folded states outlive the process: a text a service. Both raise StoreDown."""

    async def load(self, tenant: str, service: str) -> str | None: ...

    async def save(self, tenant: str, states: Mapping[str, str]) -> None: ...


@dataclass(slots=True)
class Seen:
    """What is known of one service now."""

    state: ServiceState
    verdict: Verdict | None = None
    cursor: int = 0
    missed: int = 0
    opened: bool = False
    at_ms: int = 0
    """When it was looked at; 0: not by this process yet."""
    history: History = ()


@dataclass
class Detect:
    """Detection for one tenant. It is the `Watch` port that other handlers ask."""

    ledger: Ledger
    rulebook: Rulebook
    changes: Changes = field(default_factory=Changes)
    alerts: Alerts = field(default_factory=Alerts)
    seen: dict[str, Seen] = field(default_factory=dict)
    others: Sights = field(default_factory=Sights)
    fresh_ms: int = 10_000
    """For how long a look is news: two intervals."""
    dirty: dict[str, int] = field(default_factory=dict)
    """What is not kept yet, and since when."""
    turned: set[str] = field(default_factory=set)
    """What turned sick or well since it was kept: it is worth keeping at once."""
    looked: set[str] = field(default_factory=set)
    """What the others have not been told yet."""
    silent: set[str] = field(default_factory=set)
    """What does not answer, of `seen`."""
    shadow: Shadow = field(default_factory=Shadow)
    """What rules in shadow would have said."""

    def verdict(self, tenant: str, service: str) -> Verdict | None:
        found = self._news(service)
        return found.verdict if found else None

    def reachable(self, tenant: str, service: str) -> bool:
        found = self._news(service)
        return found is None or found.missed == 0

    def deploy(self, tenant: str, service: str) -> str:
        return self.changes.live(self._repository(service))

    def latest(self, service: str) -> Sight | None:
        """What was seen last of *service*, here or by another process, however old."""
        seen = self.seen.get(service)
        if seen and seen.verdict:
            return Sight("", seen.at_ms, seen.missed, seen.verdict)
        return self.others.of(service)

    def _news(self, service: str) -> Sight | None:
        found = self.latest(service)
        return found if found and found.is_news(epoch_ms(self.ledger.now()), self.fresh_ms) else None

    def cursor(self, service: str) -> int:
        found = self.seen.get(service)
        return found.cursor if found else 0

    async def see(self, service: str, what: Tick | Missed, cursor: int) -> None:
        """Fold one poll's result and append what policy says of it, if anything."""
        view = self.ledger.view
        policy = self.rulebook.policy(view).of(service)
        kept = self.seen.get(service) or Seen(ServiceState.fresh(policy))
        opened = view.open_for(service) is not None
        before = settled(kept.state) if kept.opened and _closed_in_quiet(view, service) else kept.state
        if (number := view.normals.get(service, 0)) > before.normal:
            before = new_normal(before, policy, number)
            self.turned.add(service)
        state, verdict = judge(before, what, policy, open_incident=opened)
        missed = kept.missed + 1 if isinstance(what, Missed) else 0
        past = history.remember(kept.history, state)
        self.seen[service] = Seen(state, verdict, cursor, missed, opened, epoch_ms(self.ledger.now()), past)
        self._note(service, kept, self.seen[service])
        await self._speak(service, state, verdict, policy, opened=opened)
        await self.shadow.see(service, verdict.shadowed, policy, self.seen[service].at_ms, is_open=opened)

    async def _speak(
        self, service: str, state: ServiceState, verdict: Verdict, policy: Policy, *, opened: bool
    ) -> None:
        """Append what policy says, if anything; *opened*: an incident of the service was open."""
        if self._network_is_gone(verdict):
            await self._say(network.down(self.unanswered()))
            return
        if (gone := self.ledger.view.open_for(NETWORK)) and self._network_is_back(gone):
            await self._say(network.back(self.unanswered()))
        if not opened and verdict.healthy:
            return
        reading = reading_of(service, verdict, self.deploy(self.ledger.tenant, service))
        alerted = bool(self.alerts.of(service, epoch_ms(self.ledger.now()))) and not policy.shadows(SIGNAL)
        fresh = kinds(state, policy) if opened and verdict.alarms else ()
        if self._is_news(detect(service, verdict, reading, (), policy, alerted, fresh)):
            since_ms = verdict.alarms[0].since_ms if verdict.alarms else 0
            found = self._suspects(service, since_ms, partial(suspects, state, verdict, lately=bool(fresh)))
            await self._say(detect(service, verdict, reading, found, policy, alerted, fresh))

    def _note(self, service: str, kept: Seen, now: Seen) -> None:
        """Note what is to be kept and told of *service*. The first time is spread over a minute by its name,
        so that many services that begin together are not kept together for ever after."""
        spread = 0 if kept.at_ms else crc32(service.encode()) % KEEP_MS
        self.dirty.setdefault(service, now.at_ms - spread)
        self.looked.add(service)
        (self.silent.add if now.missed else self.silent.discard)(service)
        if now.verdict and bool(now.verdict.alarms) != bool(kept.verdict and kept.verdict.alarms):
            self.turned.add(service)

    async def hear(self, owns: Callable[[str], bool] = lambda service: True) -> None:
        """Append what policy says of other tools' alerts about the services that this process *owns*."""
        view, now_ms = self.ledger.view, epoch_ms(self.ledger.now())
        open_ones = {one.service for one in view.open() if one.reading.signal == SIGNAL}
        for service in sorted(open_ones | {one.service for one in self.alerts.known.values()}):
            if not owns(service):
                continue
            policy, deploy = self.rulebook.policy(view).of(service), self.deploy(self.ledger.tenant, service)
            reading = reading_of_alerts(service, self.alerts.of(service, now_ms), deploy)
            if reading.signal and policy.shadows(SIGNAL):
                is_open = view.open_for(service) is not None
                await self.shadow.see(service, [reading], policy, now_ms, is_open=is_open)
                reading = reading_of_alerts(service, (), deploy)
            seen = self.seen.get(service)
            sick = bool(seen and seen.verdict and seen.verdict.alarms)
            if self._is_news(hear(service, reading, (), policy, sick=sick)):
                found = self._suspects(service, reading.since_ms, partial(rank, (), ()))
                await self._say(hear(service, reading, found, policy, sick=sick))

    async def restore(self, states: States, service: str) -> None:
        """Take up the state of whoever looked at *service* before. One that cannot be read starts fresh."""
        text = await states.load(self.ledger.tenant, service)
        try:
            kept = json.loads(text or "null")
            found = Seen(
                ServiceState.load(kept["state"]),
                cursor=int(kept["cursor"]),
                history=history.load(kept.get("history")),
            )
        except (ValueError, KeyError, TypeError, ValidationError):
            return
        self.seen[service] = found
        if found.state.missed:
            self.silent.add(service)

    async def keep(self, states: States, services: Iterable[str] | None = None) -> None:
        """Save *services*, or all that has changed, a few at a time: whatever else waits goes in between."""
        wanted = [name for name in (self.dirty if services is None else services) if name in self.dirty]
        for few in batched(wanted, AT_ONCE):
            texts = {name: _text(one) for name in few if (one := self.seen.get(name))}
            since = {name: self.dirty.pop(name) for name in texts}
            self.turned -= since.keys()
            try:
                await states.save(self.ledger.tenant, texts)
            except StoreDown:
                self.dirty = since | self.dirty
                raise

    def due(self, now_ms: int) -> list[str]:
        """What is to be kept now: what turned, and what has not been kept for a minute."""
        return [
            name for name, since in self.dirty.items() if name in self.turned or since <= now_ms - KEEP_MS
        ]

    def words(self, *, all: bool) -> tuple[Word, ...]:
        """What to tell the others: what was looked at since the last time, or *all*."""
        names, self.looked = self.seen if all else self.looked, set()
        now_ms = epoch_ms(self.ledger.now())
        found = ((name, self.seen[name]) for name in names if name in self.seen)
        return tuple(
            Word(name, max(0, now_ms - one.at_ms), one.missed, one.verdict)
            for name, one in found
            if one.verdict
        )

    def hear_of(self, heard: Iterable[Heard]) -> None:
        """Take up what the others saw."""
        self.others.hear(heard, epoch_ms(self.ledger.now()), self.fresh_ms, self.seen)

    def give_up(self, services: Iterable[str]) -> None:
        """Others look at these *services* now: what we saw last stands until they tell."""
        for name in services:
            seen = self.seen.pop(name, None)
            if seen and seen.verdict:
                self.others.put(name, Sight("", seen.at_ms, seen.missed, seen.verdict))
            self.dirty.pop(name, None)
            for names in (self.turned, self.looked, self.silent):
                names.discard(name)
            self.shadow.forget(name)

    def forget_all_but(self, services: Collection[str]) -> None:
        """The charter names these services now; what others did counts no more."""
        self.give_up([name for name in self.seen if name not in services])
        self.others.forget_all_but(services)

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

    def _ours(self) -> Counts:
        return len(self.silent), len(self.seen)

    def unanswered(self) -> Counts:
        """How many services do not answer, of how many."""
        return unanswered(self._ours(), self.others.counts.values())

    def _network_is_gone(self, verdict: Verdict) -> bool:
        unreachable = any(alarm.signal == "unreachable" for alarm in verdict.alarms)
        return unreachable and most(self.unanswered())

    def _network_is_back(self, gone: Incident) -> bool:
        """Whether it is gone for nobody any more. What another process said just now, it has not told yet."""
        told = epoch_ms(self.ledger.now()) - gone.entered_ms > TOLD_MS
        return told and not any(most(one) for one in (self.unanswered(), *self.others.counts.values()))


def _text(seen: Seen) -> str:
    kept = {"state": seen.state.dump(), "cursor": seen.cursor, "history": history.dump(seen.history)}
    return json.dumps(kept)


def detect(
    service: str,
    verdict: Verdict,
    reading: Reading,
    found: tuple[Suspect, ...],
    policy: Policy,
    alerted: bool = False,
    fresh: tuple[str, ...] = (),
) -> Decide:
    """What policy appends for *verdict*: Detected, Reopened, Worsened, Recovered, or nothing.

    *alerted*: another tool's alert about the service fires, so it is not well whatever was measured.
    *fresh*: the exceptions and dependencies that fail, and did not before it began.
    """

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(service)
        if standing is not None:
            return _while_open(standing, verdict, reading, found, policy, alerted, fresh)
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
        return _reopened(before, reading, found, policy, now) if _may_reopen(before, reading) else NOTHING
    return ev.Detected(
        incident_id=view.next_incident_id(reading.service),
        decision="open",
        reason=reading.headline,
        reading=reading,
        suspects=found,
    )


def _while_open(
    standing: Incident,
    verdict: Verdict,
    reading: Reading,
    found: tuple[Suspect, ...],
    policy: Policy,
    alerted: bool,
    fresh: tuple[str, ...],
) -> Event | Refusal:
    by_policy = standing.opened.origin == "policy"
    over = should_recover(verdict, policy, flapping.quiet_ms(standing, policy))
    if by_policy and not alerted and over and standing.stage not in IN_HAND:
        return _recovered(standing, reading)
    if verdict.alarms and standing.reading.severity == "warning" and worse("warning", verdict):
        return _worsened(standing, reading, found)
    if new := _news(standing, reading, fresh):
        return _worsened(standing, reading, found, new)
    return NOTHING


def _news(standing: Incident, reading: Reading, fresh: Iterable[str]) -> tuple[str, ...]:
    """What of *fresh* nobody was told yet: each once, in as many entries as the council has rounds."""
    told = [one for _, one in standing.every(ev.Worsened) if one.kinds]
    if reading.severity != standing.reading.severity or len(told) >= MOST_ROUNDS:
        return ()
    known = {kind for one in told for kind in one.kinds}
    for fact in standing.facts:
        if isinstance(fact.event, ev.Detected | ev.Worsened | ev.Reopened):
            known |= exceptions(fact.event.suspects)
            known |= {one.name for one in fact.event.suspects if one.kind == "dependency_errors"}
    return tuple(name for kind in fresh if (name := clean(kind)) not in known)


def _recovered(standing: Incident, reading: Reading) -> Event:
    return ev.Recovered(incident_id=standing.id, decision="close", reason=reading.explanation, after=reading)


def _worsened(
    standing: Incident, reading: Reading, found: tuple[Suspect, ...], new: tuple[str, ...] = ()
) -> Event:
    return ev.Worsened(
        incident_id=standing.id,
        decision="worsen",
        reason=f"new among the failures: {', '.join(new)}"[:300] if new else reading.headline,
        reading=reading,
        suspects=found,
        kinds=new,
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


def _reopened(
    before: Incident, reading: Reading, found: tuple[Suspect, ...], policy: Policy, now: datetime
) -> Event:
    asked_ms = flapping.asks_ms(before, policy)
    return ev.Reopened(
        incident_id=before.id,
        decision="reopen",
        reason=f"{reading.headline}{flapping.sentence(before, asked_ms, epoch_ms(now))}",
        reading=reading,
        suspects=found,
        quiet_ms=asked_ms,
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
