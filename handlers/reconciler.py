"""Reconcile, do not react: look at what is, do what is due, append what came of it.

1. `due(view, now_ms)` is a pure question. Work with a later `at_ms` is a deadline: the loop comes back then.
2. The loop runs after every change of the ledger and at the next deadline. It then asks about the incidents
   that changed, and once a second about all: a lost wake-up changes nothing.
3. Work in flight is not started twice; work that failed backs off, by its key, in memory.
4. All is safe to run twice, late, or on two machines: the ledger fences what must not happen twice.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from handlers.ports import PortError
from ledger.chain import Entry
from ledger.clock import Clock
from ledger.ledger import Ledger, Refusal
from ledger.view import View, epoch_ms

log = logging.getLogger(__name__)

SWEEP_MS = 1_000
PAUSE_MS = 50
"""The least time between two runs of the same work, so that a fact that cannot be appended never spins."""
LONGEST_BACKOFF_MS = 60_000


MOVED = Refusal("moved", "This is no longer due.")


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do. `key` tells it from all other work of its reconciler and is stable over restarts."""

    key: str
    at_ms: int
    incident: str = ""
    detail: str = ""


class Reconciler(Protocol):
    name: str

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        """What is to be done, now or at `at_ms`."""

    async def do(self, work: Work) -> None:
        """Do it and append what came of it. Raises PortError to be asked again later."""


def insist(answer: Entry | Refusal) -> None:
    """Accept what became of a decision. Raises PortError where it must be tried again later.

    A decision that found itself no longer due refuses with MOVED, and that is well.
    """
    if isinstance(answer, Refusal) and answer.kind != MOVED.kind:
        raise PortError(answer.why or answer.kind)


class Loop:
    """Runs the reconcilers of one tenant while this process holds its lease: *may* it start anything now?"""

    def __init__(
        self,
        ledger: Ledger,
        reconcilers: Sequence[Reconciler],
        clock: Clock,
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._reconcilers = tuple(reconcilers)
        self._clock = clock
        self._may = may
        self._wake = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, int]] = {}
        self._due: dict[str, list[tuple[Reconciler, Work]]] = {}
        self._changed: set[str] = set()
        self._looked_seq = 0
        self._sweep_ms = 0
        ledger.on_change(self._wake.set)

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Work in flight is then cancelled too; what it had appended stands."""
        try:
            while True:
                self._wake.clear()
                await self._until(self._look())
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def step(self) -> int:
        """Look at everything and start what is due. Returns when to look again, in epoch ms."""
        self._sweep_ms = 0
        return self._look()

    def _look(self) -> int:
        """Start what is due, having looked at what changed. Returns when to look again."""
        now_ms = epoch_ms(self._clock.now())
        if not self._may():
            return now_ms + SWEEP_MS
        self._ask(now_ms)
        next_ms = self._sweep_ms
        for works in list(self._due.values()):
            for reconciler, work in works:
                key = f"{reconciler.name}:{work.key}"
                at_ms = max(work.at_ms, self._failed.get(key, (0, 0))[1])
                if key in self._running:
                    continue
                if at_ms <= now_ms:
                    self._start(key, reconciler, work)
                else:
                    next_ms = min(next_ms, at_ms)
        return next_ms

    def _ask(self, now_ms: int) -> None:
        """Ask every reconciler what is due: for the incidents that changed, or for all when it is time."""
        view = self._ledger.view
        touched = view.touched_since(self._looked_seq) if now_ms < self._sweep_ms else None
        self._looked_seq = view.head.seq
        if touched is None:
            self._sweep_ms = now_ms + SWEEP_MS
            self._failed = {
                k: kept for k, kept in self._failed.items() if kept[1] > now_ms - LONGEST_BACKOFF_MS
            }
            self._due = {}
        else:
            touched |= self._changed
            for name in touched:
                self._due.pop(name, None)
            view = view.narrowed(touched)
        self._changed = set()
        for reconciler in self._reconcilers:
            for work in reconciler.due(view, now_ms):
                self._due.setdefault(work.incident, []).append((reconciler, work))

    async def settle(self) -> None:
        """Wait until nothing is in flight: for tests and the simulator."""
        while self._running:
            await asyncio.wait(set(self._running.values()))

    def _start(self, key: str, reconciler: Reconciler, work: Work) -> None:
        task = asyncio.create_task(reconciler.do(work), name=key)
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, work, done))

    def _finished(self, key: str, work: Work, task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        self._changed.add(work.incident)
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._failed[key] = (0, epoch_ms(self._clock.now()) + PAUSE_MS)
        else:
            times = self._failed.get(key, (0, 0))[0] + 1
            pause = min(LONGEST_BACKOFF_MS, 500 * 2 ** min(times, 8))
            self._failed[key] = (times, epoch_ms(self._clock.now()) + pause)
            log.log(
                logging.WARNING if isinstance(error, PortError) else logging.ERROR,
                "%s failed, again in %d ms: %s",
                key,
                pause,
                error,
                exc_info=None if isinstance(error, PortError) else error,
            )
        self._wake.set()

    async def _until(self, at_ms: int) -> None:
        delay = max(0, at_ms - epoch_ms(self._clock.now())) / 1000
        sleep = asyncio.ensure_future(self._clock.sleep(delay))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleep, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
