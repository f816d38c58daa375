"""The newest signed note where whoever changes the store does not reach it: a file on this machine.

It lies in `DATA_DIR/state/`, is replaced whole and is on disk before the next is written. A rolled back or
shortened log contradicts it when a process begins. It may lag by what was signed in the last second before a
crash; then it notices less, and nothing that is not so.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ledger.durable import write_durably
from ledger.note import BadNote, read_note


class Outside(Protocol):
    """Keeps one note of one log. Both calls block."""

    where: str

    def read(self) -> str:
        """The note that is kept; empty if there is none. Raises OSError."""

    def keep(self, note: str) -> None:
        """Keep *note*, unless a newer one of the same log is kept. Raises OSError."""


class NoteFile:
    """The note of *tenant* in *folder*, for any number of processes. Who only looks does not keep."""

    def __init__(self, folder: Path, tenant: str, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._file = folder / f"{tenant}.note"
        self.where = str(self._file)

    def read(self) -> str:
        try:
            return self._file.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def keep(self, note: str) -> None:
        if not self._keeps:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not _is_newer(self.read(), note):
                write_durably(self._file, note.encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._file.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_newer(kept: str, note: str) -> bool:
    try:
        before, after = read_note(kept)[0], read_note(note)[0]
    except BadNote:
        return False
    return before.origin == after.origin and before.size >= after.size
