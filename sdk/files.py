"""The place where the workers of one server meet by default: one file a worker, in shared memory.

A word is written under another name, then renamed: a reader sees a whole word or the one before. The files
belong to one user; a file that has not been written for two minutes is deleted by whoever finds it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import wire
from .together import KEEP_S, Word
from .word import decode, encode

SHARED = Path("/dev/shm")  # noqa: S108 - our folder in it is checked to be ours
FORGET_S = 120
LEFT_S = 600
SECOND_NS = 1_000_000_000


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
    folder = private_folder(base, f"{service}-{os.getppid()}")
    sweep(folder)
    return folder


def sweep(folder: Path, wall: Callable[[], int] = time.time_ns) -> None:
    """Remove what servers of the same service left behind: not written to for long, and their parent gone."""
    for other in folder.parent.glob(f"{glob.escape(folder.name.rpartition('-')[0])}-*"):
        with contextlib.suppress(OSError):
            age = wall() - other.stat().st_mtime_ns
            if other == folder or age < LEFT_S * SECOND_NS or _lives(other.name.rpartition("-")[2]):
                continue
            for file in other.iterdir():
                file.unlink()
            other.rmdir()


def _lives(pid: str) -> bool:
    """Return whether there is such a process; what is no number is none of ours."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


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

    def now_s(self) -> int:
        """Return the epoch second that it is for all who meet here."""
        return self._wall() // SECOND_NS

    def close(self) -> None:
        """Have nothing open."""

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
        return word.through > self.now_s() - KEEP_S - 1
