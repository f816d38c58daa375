"""Says once an hour that the control was on: how many looks were due and made, and how true the clock was.

1. The hour begins with the last report of any process, or when this process took the work up, if that was
   later: a restart never reports twice, and what nobody watched stands in no report.
2. `missed` are looks that were due and not made. A look that found no answer was made.
3. The clock is held against another machine's. Where there is none to ask, `clock` is empty.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from handlers.poll import Poller
from handlers.ports import Rulebook
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.view import View, epoch_ms

HOUR_MS = 3_600_000

type Offset = Callable[[], Awaitable[tuple[int, str]]]
"""How many ms our clock is ahead of another, and whose that is; (0, "") where there is none to ask."""


async def nobody() -> tuple[int, str]:
    return 0, ""


class Watching:
    """Reconciler."""

    name = "watched"

    def __init__(
        self, ledger: Ledger, rulebook: Rulebook, poller: Poller, process: str, offset: Offset = nobody
    ) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._poller = poller
        self._actor = Actor.orchestrator(process)
        self._offset = offset
        self._reported = (0, 0)
        """When our last report was written, and how many looks had been made then."""

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        if not self._poller.began_ms or self._rulebook.charter(view) is None:
            return ()
        since_ms = self._since(view)
        return [Work(str(since_ms), since_ms + HOUR_MS)]

    async def do(self, work: Work) -> None:
        """Append the report of the hour."""
        offset_ms, clock = await self._offset()
        since_ms, made_by_now = self._since(self._ledger.view), self._poller.made_by_all
        reported_ms, made_then = self._reported
        made = made_by_now - (made_then if since_ms == reported_ms else self._poller.made_at(since_ms))

        def decide(view: View, now: datetime) -> Event | Refusal:
            charter, now_ms = self._rulebook.charter(view), epoch_ms(now)
            if charter is None or self._since(view) != since_ms or now_ms < since_ms + HOUR_MS:
                return MOVED
            each = (now_ms - since_ms) / (self._poller.interval_s * 1000)
            due = int(each) * len(charter.services)
            missed = max(0, due - made)
            return ev.Watched(
                decision="watched",
                reason=f"{made} looks made, {missed} of {due} missed",
                due=due,
                made=made,
                missed=missed,
                since_ms=since_ms,
                clock_offset_ms=offset_ms,
                clock=clock,
            )

        answer = await self._ledger.record(self._actor, decide)
        insist(answer)
        if isinstance(answer, Entry):
            self._reported = epoch_ms(answer.at), made_by_now

    def _since(self, view: View) -> int:
        return max(view.noted.get(ev.Watched.__name__, 0), self._poller.began_ms)
