"""What rules in shadow would have said: recorded by the episode, never in the ledger, and nobody is told.

1. An episode is what would have been one incident: a rule that speaks again within the policy's `reopen_ms`
   goes on with the one before. Its severity only rises, its headline is that of its worst moment.
2. It is kept outside the process by whoever looks at the service, at once when it begins or worsens, and
   once a minute while it lasts. So a restart goes on with it, and every process can show it.
3. A service keeps its newest thirty, and none for longer than thirty days: a noisy rule costs no memory.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from detectors.policy import Policy
from ledger.store import StoreDown

DAY_MS = 86_400_000
KEPT_MS = 30 * DAY_MS
MOST = 30
KEEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Episode:
    """*ticks* looks from *since_ms* to *until_ms* in which *rule* would have alarmed.

    *alone*: nothing was open for the service when it began, so it would have opened an incident.
    """

    service: str
    rule: str
    severity: str
    headline: str
    since_ms: int
    until_ms: int
    ticks: int = 1
    alone: bool = True


class Speaks(Protocol):
    """What a rule says: an alarm of ours, or a reading of other tools' alerts."""

    @property
    def rule(self) -> str: ...

    @property
    def severity(self) -> str: ...

    @property
    def headline(self) -> str: ...

    @property
    def since_ms(self) -> int: ...


_KEPT = TypeAdapter(tuple[Episode, ...])


class Shelf(Protocol):
    """Where episodes outlive the process: a text a service. All raise StoreDown."""

    async def all(self, tenant: str) -> Mapping[str, str]: ...

    async def load(self, tenant: str, service: str) -> str | None: ...

    async def save(self, tenant: str, service: str, text: str) -> None: ...


class MemoryShelf:
    """For tests and the simulator."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    async def all(self, tenant: str) -> Mapping[str, str]:
        return {service: text for (owner, service), text in self.kept.items() if owner == tenant}

    async def load(self, tenant: str, service: str) -> str | None:
        return self.kept.get((tenant, service))

    async def save(self, tenant: str, service: str, text: str) -> None:
        self.kept[tenant, service] = text


@dataclass
class Shadow:
    """The episodes of one tenant's services that this process looks at."""

    tenant: str = ""
    shelf: Shelf = field(default_factory=MemoryShelf)
    _of: dict[str, tuple[Episode, ...]] = field(default_factory=dict)
    _dirty: dict[str, int] = field(default_factory=dict)
    """What is not kept yet, and when it is to be."""

    async def see(
        self, service: str, alarms: Sequence[Speaks], policy: Policy, now_ms: int, *, is_open: bool
    ) -> None:
        """Take up what rules in shadow say of *service* now, and keep what is due.

        While the store is away nothing is lost but what a restart would forget.
        """
        if not alarms and service not in self._dirty:
            return
        with suppress(StoreDown):
            if service not in self._of:
                self._of[service] = read(await self.shelf.load(self.tenant, service))
            for alarm in alarms:
                self._note(service, alarm, policy, now_ms, is_open=is_open)
            if self._dirty.get(service, now_ms + 1) <= now_ms:
                await self._keep(service, now_ms)

    def _note(self, service: str, alarm: Speaks, policy: Policy, now_ms: int, *, is_open: bool) -> None:
        known = self._of[service]
        before = next((one for one in reversed(known) if one.rule == alarm.rule), None)
        if before is None or now_ms - before.until_ms >= policy.reopen_ms:
            begun = Episode(
                service, alarm.rule, alarm.severity, alarm.headline, alarm.since_ms, now_ms, alone=not is_open
            )
            self._of[service] = (*known, begun)[-MOST:]
            self._dirty[service] = now_ms
            return
        after = _went_on(before, alarm, now_ms)
        self._of[service] = tuple(after if one is before else one for one in known)
        due_ms = now_ms if after.severity != before.severity else now_ms + KEEP_MS
        self._dirty[service] = min(due_ms, self._dirty.get(service, due_ms))

    async def _keep(self, service: str, now_ms: int) -> None:
        self._of[service] = tuple(one for one in self._of[service] if now_ms - one.until_ms < KEPT_MS)
        text = json.dumps([asdict(one) for one in self._of[service]])
        await self.shelf.save(self.tenant, service, text)
        self._dirty.pop(service, None)

    def forget(self, service: str) -> None:
        """Another process looks at *service* now, and reads what was kept."""
        self._of.pop(service, None)
        self._dirty.pop(service, None)


def _went_on(before: Episode, alarm: Speaks, now_ms: int) -> Episode:
    after = replace(before, until_ms=now_ms, ticks=before.ticks + 1)
    if alarm.severity == "critical" and before.severity != "critical":
        return replace(after, severity=alarm.severity, headline=alarm.headline)
    return after


def read(text: str | None) -> tuple[Episode, ...]:
    """The episodes of a service, the oldest first, as they were kept; none where that cannot be read."""
    try:
        return _KEPT.validate_json(text or "[]")
    except ValidationError:
        return ()


async def every(shelf: Shelf, tenant: str) -> list[Episode]:
    """The episodes of all services. Raises StoreDown."""
    return [one for text in (await shelf.all(tenant)).values() for one in read(text)]
