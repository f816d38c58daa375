"""Learns how many lines the newest changes added and removed, where the process may ask GitHub.

1. Due are changes of the repositories that the charter names, while they may be suspect: for eight hours.
2. A commit that GitHub does not know is asked for once. A refused token or a limit rests them all.
3. It is advice for people and models: a card never waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from handlers.changes import Change, Changes
from handlers.ports import PortError, Rulebook
from handlers.reconciler import Work
from ledger.clock import Clock
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

SUSPECT_MS = 8 * 3_600_000
NEWEST = 20
REST_MS = 15 * 60_000


class Commits(Protocol):
    """Who knows what a commit changed."""

    async def told(self, change: Change) -> Change:
        """*change* with its lines. Raises PortError."""


class Kept(Protocol):
    """Where changes are kept."""

    def of(self, tenant: str) -> Changes: ...

    async def put(self, tenant: str, delivery: str, changes: Sequence[Change]) -> bool: ...


@dataclass
class Lines:
    """One tenant's."""

    tenant: str
    rulebook: Rulebook
    kept: Kept
    commits: Commits
    clock: Clock
    name: str = "lines"
    _unknown: set[str] = field(default_factory=set)
    _rests_until_ms: int = 0

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        charter = self.rulebook.charter(view)
        ours = {service.repository.lower() for service in charter.services} if charter else set()
        newest = self.kept.of(self.tenant).known[:NEWEST]
        return [
            Work(one.sha, self._rests_until_ms)
            for one in newest
            if one.added < 0 and one.repository.lower() in ours and self._may_matter(one, now_ms)
        ]

    async def do(self, work: Work) -> None:
        change = next((one for one in self.kept.of(self.tenant).known if one.sha == work.key), None)
        if change is None:
            return
        try:
            told = await self.commits.told(change)
        except PortError as error:
            if error.permanent:
                self._unknown.add(work.key)
            elif error.status in {401, 403, 429}:
                self._rests_until_ms = epoch_ms(self.clock.now()) + REST_MS
            raise
        try:
            await self.kept.put(self.tenant, f"lines:{change.at_ms}:{change.sha}", [told])
        except StoreDown as down:
            raise PortError(str(down)) from None

    def _may_matter(self, change: Change, now_ms: int) -> bool:
        return change.sha not in self._unknown and now_ms - change.at_ms < SUSPECT_MS
