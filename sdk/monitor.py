"""What an instrumented app knows of itself, and tells at ``GET /health/alerts``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from . import health, wire
from .asgi import App, Receive, Reply, Scope, Send
from .cell import Closed
from .endpoints import View, endpoints
from .push import Pusher
from .sharing import Place, Sharing
from .together import Word, dated
from .told import Told
from .window import Window
from .worker import Speaker, Worker

log = logging.getLogger(__name__)
NEVER = 1 << 52
Usage = Callable[[], tuple[float, float]]


class Monitor:
    """The handle that ``instrument`` returns; *app* is the instrumented app. Where that is ASGI, so is it."""

    def __init__(self, service: str, window: Window, token: str | None = None) -> None:
        self.service = service
        self.app: App
        self._window = window
        self._token = token
        self._usages: dict[str, Usage] = {}
        self._faults: dict[str, None] = {}
        self._sharing: Sharing | None = None
        self._pusher: Pusher | None = None
        self._worker = Worker(self._word, window.turn_when_due, lambda: window.threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def saturation(self, name: str, usage: Usage) -> None:
        """Report how full something is; *usage* returns (used, limit), and is asked at each answer."""
        self._usages[name[: wire.MAX_NAME]] = usage

    def dependency(self, name: str) -> Call:
        """Return a context manager, sync and async, that counts one call to something the app depends on."""
        return Call(self._window, name)

    def fault(self, name: str, *, on: bool = True) -> None:
        """Mark a simulated fault, so that nobody takes the numbers for real ones."""
        if on:
            self._faults[name[: wire.MAX_NAME]] = None
        else:
            self._faults.pop(name[: wire.MAX_NAME], None)

    def snapshot(self, since: int = 0) -> wire.Snapshot:
        """Return the present and the closed slots of this worker after epoch second *since*."""
        return self._present(tuple(one.slot() for one in self._window.closed(since)))

    def health(self) -> health.Document:
        """Return the ``health/1`` document of this worker, for people and readers of fastapi-alertengine."""
        return self._own().health()

    def share(self, place: Callable[[str], Place]) -> None:
        """Tell the workers that meet in *place* what we count, and answer for all of them."""
        self._sharing = Sharing(place)
        self.tell(self._sharing)

    def push(self, pusher: Pusher) -> None:
        """Tell the bot what we count."""
        self._pusher = pusher
        self.tell(pusher)

    def tell(self, speaker: Speaker) -> None:
        """Let *speaker* say what we count, in each process from its first request on."""
        self._worker.speakers.append(speaker)
        self._window.woken = self._worker.wake
        self._window.turn_at = 0  # so that the first request, of whichever process, begins

    def close(self) -> None:
        """Tell the others the last that we counted, and stop telling."""
        self._window.turn_when_due()
        self._worker.close()

    def _word(self) -> Word:
        """Return what this worker has to say, from any thread."""
        kept, through = self._window.kept()
        with self._window.lock:
            totals = self._window.totals.copy()
        return Word(
            self._present(),
            through,
            {one.t: one for one in kept},
            self._peak(kept),
            len(self._window.streams),
            totals,
        )

    def _present(self, slots: tuple[wire.Slot, ...] = ()) -> wire.Snapshot:
        return wire.Snapshot(
            self.service,
            dated(time.time_ns() // 1_000_000, self._window.through),
            slots[-wire.MAX_SLOTS :],
            inflight=len(self._window.inflight),
            oldest_ms=self._window.oldest_ms(),
            saturation=self._gauges(),
            faults=tuple(self._faults),
        )

    def _peak(self, closed: Sequence[Closed]) -> int:
        return max([one.peak for one in closed] + [self._window.peak])

    def endpoints(self, health_path: str, metrics_path: str | None = None) -> dict[str, App]:
        """Return our GET endpoints by path."""
        return endpoints(self._tell, self._token, health_path, metrics_path)

    async def _tell(self, view: View) -> Reply:
        """Return a view of what this worker knows, or of what all do, which takes a thread."""
        self._window.turn_when_due()
        sharing = self._sharing
        if sharing is None:
            return view(self._own())
        return await asyncio.wrap_future(sharing.answers.submit(lambda: view(self._whole(sharing))))

    def _own(self) -> Told:
        """Return what this worker knows alone; where others count meanwhile, a copy."""
        window = self._window
        with window.lock:
            closed, minute, totals = window.closed(), window.minute, window.totals
            if window.threads:
                minute, totals = minute.copy(), totals.copy()
        peak, streams = self._peak(closed), len(window.streams)
        return Told(self._present(), closed, minute, peak, streams, {"": totals}, self._notes())

    def _whole(self, sharing: Sharing) -> Told:
        """Return what all workers know. It blocks."""
        all = sharing.all()
        notes = {**self._notes(), "stale": bool(sharing.stale), "stale_reason": sharing.stale}
        return Told(all.snapshot(NEVER), all.closed(), all.minute, all.peak, all.streams, all.totals, notes)

    def _notes(self) -> dict[str, object]:
        pushed = self._pusher
        return {} if pushed is None else {"push": {"trouble": pushed.trouble, "lost_seconds": pushed.lost}}

    def _gauges(self) -> tuple[wire.Gauge, ...]:
        read = (_read(name, usage) for name, usage in self._usages.items())
        return tuple(gauge for gauge in read if gauge is not None)


def _read(name: str, usage: Usage) -> wire.Gauge | None:
    """Return the gauge, or None when the app's own callback breaks: that must not silence the rest."""
    try:
        used, limit = usage()
        return wire.Gauge(name, max(0, int(used)), max(0, int(limit)))
    except Exception:  # foreign code, called while someone waits for the health of the app
        log.warning("the saturation callback %r failed", name, exc_info=True)
        return None


class Call:
    """One call to a dependency, from entering to leaving; an exception makes it an error."""

    __slots__ = ("_begun", "_name", "_window")

    def __init__(self, window: Window, name: str) -> None:
        self._window = window
        self._name = name

    def __enter__(self) -> None:
        self._begun = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        ns = time.perf_counter_ns() - self._begun
        self._window.call(self._name, ns, kind.__name__ if kind is not None and failed else None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, e, tb)
