"""How workers tell each other what they counted: each writes its last minute to a place where all meet.

Once a second a thread of each worker writes there. Who is asked reads what the others wrote, and of these
only seconds that it has not read. Nothing of this is on the path of a request; a place that fails makes the
answer say ``stale``, and why, and the answer still covers this worker.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from .together import Together, Word
from .worker import Speaker, Worker, until_next_second

log = logging.getLogger(__name__)

SERVERS = frozenset({"gunicorn.arbiter", "uwsgi"})


class Place(Protocol):
    """Where workers meet. Its methods block, and raise OSError when the place fails."""

    def write(self, word: Word) -> None:
        """Replace what this worker said."""

    def others(self) -> dict[str, Word]:
        """Return the last word of every other worker."""

    def now_s(self) -> int:
        """Return the epoch second that it is for all who meet here."""

    def close(self) -> None:
        """Keep nothing open."""


def is_one_of_many() -> bool:
    """Return whether this process looks like one worker of a server: it was spawned or forked as one."""
    return multiprocessing.parent_process() is not None or not SERVERS.isdisjoint(sys.modules)


class Sharing(Speaker):
    """A worker among others: writes its word once a second, and answers for all when asked.

    *place* opens the place for a worker of that name. *stale* says why the answer covers less than it should.
    """

    def __init__(self, place: Callable[[str], Place]) -> None:
        self._opens = place
        self.stale = ""

    def begin(self, worker: Worker) -> None:
        self._worker = worker
        self._place: Place | None = None
        self._together = Together()
        self._heard: dict[str, Word] = {}
        self._answers = ThreadPoolExecutor(1, "countersign-answers")
        super().begin(worker)

    def say(self, word: Word) -> float:
        """Write *word*. A place that fails is told, and tried again a second later."""
        try:
            self._open().write(word)
            self.stale = ""
        except OSError as e:
            self._failed(e)
        return until_next_second()

    def all(self) -> Together:
        """Return what all workers say, ourselves included. It blocks: call it from ``answers``."""
        now_s = None
        try:
            place = self._open()
            self._heard = place.others()
            now_s = place.now_s()
        except OSError as e:
            self._failed(e)
        self._together.hear({**self._heard, self._worker.name: self._worker.said()}, now_s)
        return self._together

    def close(self, worker: Worker) -> None:
        super().close(worker)
        if self._place is not None:
            self._place.close()

    @property
    def answers(self) -> ThreadPoolExecutor:
        """The one thread in which ``all`` and what is made of it belong."""
        return self._answers

    def _open(self) -> Place:
        if self._place is None:
            self._place = self._opens(self._worker.name)
        return self._place

    def _failed(self, e: OSError) -> None:
        why = f"{type(e).__name__}: {e}"[:200]
        if not self.stale:
            log.warning("workers cannot tell each other what they counted: %s", why)
        self.stale = why
