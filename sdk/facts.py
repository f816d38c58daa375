"""A file of facts, one JSON object a line, that the processes of one machine append to and read together.

1. Whoever holds the file has read everything that others wrote. What is appended is on disk before that ends.
2. A last line without its end was torn by a crash: it was never acknowledged, so it never was.
3. ``rewrite`` puts other facts in their place: a new file, on disk, then renamed over the old one. Whoever
   waited for the old one sees that it is not the file any more and opens the new one; whoever has read the
   old one sees another first line, forgets, and reads anew. A crash leaves the one or the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: one process a folder, and its file is not rewritten
    fcntl = None  # type: ignore[assignment]

Fact = dict[str, Any]
CAN_REWRITE = fcntl is not None


class Facts:
    """The file at *path*. *forget* empties what *take* made of the facts that were read."""

    def __init__(self, path: Path, take: Callable[[Fact], None], forget: Callable[[], None]) -> None:
        self._path, self._take, self._forget = path, take, forget
        self._lock = threading.Lock()
        self._file: BinaryIO
        self._first = b""
        self.size = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file, for this thread and process alone, with everything read."""
        with self._lock, ExitStack() as self._open:
            self._file = self._lock_file()
            self._catch_up()
            yield

    def append(self, facts: Iterable[Fact]) -> None:
        """Write *facts* behind the others, and take them. The file must be held."""
        raw = b"".join(map(_line, facts))
        if raw:
            self._file.write(raw)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._catch_up()

    def rewrite(self, facts: Iterable[Fact]) -> None:
        """Let *facts* be all that there is, behind a first line that no other file had. It must be held."""
        unfinished = self._path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        head: Fact = {"file": secrets.token_hex(8)}
        file = self._opened(unfinished)  # held before anybody can find it
        file.write(b"".join(map(_line, [head, *facts])))
        file.flush()
        os.fsync(file.fileno())
        unfinished.replace(self._path)
        _sync(self._path.parent)
        self._file = file
        self._catch_up()

    def _lock_file(self) -> BinaryIO:
        while True:
            file = self._opened(self._path)
            if self._is_at_path(file):
                return file
            file.close()

    def _opened(self, path: Path) -> BinaryIO:
        file = self._open.enter_context(path.open("a+b"))
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _is_at_path(self, file: BinaryIO) -> bool:
        """Return whether *file* is still the one, and not one that was replaced while we waited for it."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        return False

    def _catch_up(self) -> None:
        file = self._file
        file.seek(0)
        first = file.readline()
        if first != self._first:
            self._forget()
            self._first, self.size = b"", 0
        file.seek(self.size)
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(self.size)
                break
            self.size += len(line)
            self._first = self._first or line
            fact = json.loads(line)
            if "file" not in fact:
                self._take(fact)


def _line(fact: Fact) -> bytes:
    return json.dumps(fact, separators=(",", ":")).encode() + b"\n"


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk, where a folder can be opened."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
