"""How the workers of one server tell each other what they counted: one file a worker, in shared memory.

Once a second a thread of each worker writes its last minute, under another name, then renames it: a reader
sees a whole word or the one before. Who is asked reads the others' files, and of these only seconds that it
has not read. Nothing of this is on the path of a request; a disk that fails makes the answer say ``stale``.

The first line of a file is the worker's present, the second on are its seconds, as ``slots/1`` has them. The
files belong to one user; what is malformed in one is as if it had not been said. A file that has not been
written for two minutes is deleted by whoever finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import wire
from .cell import Closed
from .together import KEEP_S, Together, Word

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")  # noqa: S108 - our folder in it is checked to be ours
FORGET_S = 120
SECOND_NS = 1_000_000_000
TURN_S = 0.25
SETTLE_S = 0.02
SERVERS = frozenset({"gunicorn.arbiter", "uwsgi"})


def is_one_of_many() -> bool:
    """Return whether this process looks like one worker of a server: it was spawned or forked as one."""
    return multiprocessing.parent_process() is not None or not SERVERS.isdisjoint(sys.modules)


def private_folder(base: Path, name: str) -> Path:
    """Return our folder *name* in *base*, made for us alone; PermissionError when it is another user's."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    folder = base / f"countersign-{user}-{safe}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise PermissionError(f"{folder} belongs to another user: name a folder of your own")
    return folder


def common_folder(service: str) -> Path:
    """Return the folder that the workers of this server share: those that have our parent."""
    base = SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())
    return private_folder(base, f"{service}-{os.getppid()}")


class Files:
    """The files of one folder, as *worker* writes and reads them."""

    def __init__(self, folder: Path, worker: str, wall: Callable[[], int] = time.time_ns) -> None:
        self._folder, self._worker, self._wall = folder, worker, wall
        self._read: dict[str, tuple[int, Word]] = {}

    def write(self, word: Word) -> None:
        """Replace what we said. Raises OSError."""
        unfinished = self._folder / f".{self._worker}"
        unfinished.write_bytes(encode(word))
        unfinished.replace(self._folder / self._worker)

    def others(self) -> dict[str, Word]:
        """Return the last word of every other worker. Raises OSError."""
        found = {}
        for path in self._folder.iterdir():
            if path.name == self._worker or path.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError, wire.Malformed):
                found[path.name] = self._hear(path)
        self._read = {worker: self._read[worker] for worker in found}
        return {worker: word for worker, word in found.items() if self._is_recent(word)}

    def _hear(self, path: Path) -> Word:
        at, known = self._read.get(path.name, (0, None))
        written = path.stat().st_mtime_ns
        if known is None or written != at:
            known = decode(path.read_bytes(), known)
            self._read[path.name] = written, known
        if self._wall() - written > FORGET_S * SECOND_NS:
            path.unlink(missing_ok=True)
        return known

    def _is_recent(self, word: Word) -> bool:
        return word.through > self._wall() // SECOND_NS - KEEP_S - 1


def encode(word: Word) -> bytes:
    """Return the lines of a word."""
    head = {
        **wire.document(word.present),
        "through": word.through,
        "peak": word.peak,
        "streams": word.streams,
        "index": list(word.seconds),
    }
    lines = [json.dumps(head, separators=(",", ":")), *(one.line for one in word.seconds.values())]
    return "\n".join(lines).encode()


def decode(raw: bytes, known: Word | None = None) -> Word:
    """Return the word in *raw*, with the seconds that we *know* as they were; Malformed when it is none."""
    head, *lines = raw.split(b"\n")
    try:
        return _word(json.loads(head), lines, {} if known is None else known.seconds)
    except wire.Malformed:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise wire.Malformed(f"a worker's file is no word: {e!r}") from None


def _word(head: dict[str, Any], lines: list[bytes], had: Mapping[int, Closed]) -> Word:
    index, through, peak, streams = (head[key] for key in ("index", "through", "peak", "streams"))
    if not all(type(n) is int for n in (*index, through, peak, streams)):
        raise wire.Malformed("a worker's file has no whole numbers")
    seconds = {
        t: had[t] if t in had else Closed.of(wire.read_slot(json.loads(line)))
        for t, line in zip(index, lines, strict=True)
    }
    return Word(wire.parse(head), through, seconds, peak, streams)


class Sharing:
    """A worker among others: writes *word* once a second, and answers for all when asked.

    *word* returns what this worker has to say; *turn* closes its second when that is due, and is only run
    where the worker's cells may be touched: *anywhere*, or on its event loop.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        word: Callable[[], Word],
        turn: Callable[[], None],
        anywhere: Callable[[], bool],
    ) -> None:
        self._folder, self._word, self._turn, self._anywhere = folder, word, turn, anywhere
        self._pid = 0
        self._home: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._together = Together()
        self.is_stale = False

    def wake(self) -> None:
        """Be called from where the cells are touched; in a new process, begin. Costs nothing after that."""
        try:
            self._home = asyncio.get_running_loop()
        except RuntimeError:
            self._home = None
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._begin()

    def _begin(self) -> None:
        self.worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._files: Files | None = None
        self._answers = ThreadPoolExecutor(1, "countersign-answers")
        self._saying = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._keep, args=(self._stop,), name="countersign", daemon=True).start()

    def _keep(self, stop: threading.Event) -> None:
        while True:
            self.publish()
            if stop.wait(1 + SETTLE_S - time.time_ns() % SECOND_NS / SECOND_NS):
                return

    def close(self) -> None:
        """Say the last word, and no more."""
        self._stop.set()
        self.publish()

    def publish(self) -> None:
        """Say what we have counted. A disk that fails is told, and tried again a second later."""
        self._turn_at_home()
        try:
            with self._saying:  # else two would rename one unfinished file, and an older word come last
                self._open().write(self._word())
            self.is_stale = False
        except OSError as e:
            if not self.is_stale:
                log.warning("workers cannot tell each other what they counted: %s", e)
            self.is_stale = True

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

    def _open(self) -> Files:
        if self._files is None:
            self._files = Files(self._folder(), self.worker)
        return self._files

    def all(self) -> Together:
        """Return what all workers say, ourselves included. Reads files: call it from ``answers``."""
        words = {}
        try:
            words = self._open().others()
        except OSError:
            self.is_stale = True
        self._together.hear({**words, self.worker: self._word()})
        return self._together

    @property
    def answers(self) -> ThreadPoolExecutor:
        """The one thread in which ``all`` and what is made of it belong."""
        return self._answers
