"""This process as one worker among others: its name, what it has to say, and the threads that say it.

A process begins with its first request, so that forked workers are workers of their own. The cells of the
running second are only touched where they belong: anywhere, or on the event loop that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from .together import Word

log = logging.getLogger(__name__)

SECOND_NS = 1_000_000_000
TURN_S = 0.25
SETTLE_S = 0.02


def until_next_second() -> float:
    """Return how many seconds are left of this one, and a little, so that it has been closed."""
    return 1 + SETTLE_S - time.time_ns() % SECOND_NS / SECOND_NS


class Speaker(ABC):
    """Says what a worker counted, again and again, from a thread of its own."""

    def begin(self, worker: Worker) -> None:
        """Start for *worker*, in a new process."""
        self._stop = threading.Event()
        self._saying = threading.Lock()
        threading.Thread(
            target=self._keep, args=(worker, self._stop), name="countersign", daemon=True
        ).start()

    def _keep(self, worker: Worker, stop: threading.Event) -> None:
        while True:
            try:
                pause = self.publish(worker)
            except Exception:  # the outermost loop of this thread: it must not fall silent
                log.exception("what this worker counted could not be said")
                pause = until_next_second()
            if stop.wait(pause):
                return

    def publish(self, worker: Worker) -> float:
        """Say it, one thread at a time; return in how many seconds to do so again."""
        with self._saying:  # else an older word might come last
            return self.say(worker.word())

    @abstractmethod
    def say(self, word: Word) -> float:
        """Say *word*; return in how many seconds the next is due. Raises nothing."""

    def close(self, worker: Worker) -> None:
        """Say the last word, and no more."""
        self._stop.set()
        self.publish(worker)


class Worker:
    """What this worker counts, and who tells it. *turn* closes its second when that is due."""

    def __init__(
        self, word: Callable[[], Word], turn: Callable[[], None], anywhere: Callable[[], bool]
    ) -> None:
        self._word, self._turn, self._anywhere = word, turn, anywhere
        self._pid = 0
        self._home: asyncio.AbstractEventLoop | None = None
        self.speakers: list[Speaker] = []
        self.name = ""

    def wake(self) -> None:
        """Be called from where the cells are touched; in a new process, begin. Costs nothing after that."""
        try:
            self._home = asyncio.get_running_loop()
        except RuntimeError:
            self._home = None
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.name = f"{socket.gethostname()[:48]}-{self._pid}-{secrets.token_hex(4)}"
            for speaker in self.speakers:
                speaker.begin(self)

    def word(self) -> Word:
        """Return what we have to say, with the second closed if it is over."""
        self._turn_at_home()
        return self._word()

    def said(self) -> Word:
        """Return what we have to say, from any thread, without waiting for the one that counts."""
        return self._word()

    def close(self) -> None:
        """Say the last words."""
        for speaker in self.speakers:
            speaker.close(self)

    def _turn_at_home(self) -> None:
        """Close our second in the thread that owns the cells; not waiting long for one that is busy."""
        if self._anywhere():
            self._turn()
            return
        home = self._home
        if home is None or home.is_closed():
            return
        turned = threading.Event()

        def turn() -> None:
            self._turn()
            turned.set()

        with contextlib.suppress(RuntimeError):  # closed in the meantime: nobody counts there any more
            home.call_soon_threadsafe(turn)
            turned.wait(TURN_S)
