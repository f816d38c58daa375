"""Which keys have been run, durably: an append-only file, fsynced, shared by the workers of one machine.

A line is one fact: a message was accepted for a key, a run has begun, a run has ended. A run's line is on
disk before its handler starts, so a key never runs twice, whatever dies in between: a run without an end,
whose process is gone, was *interrupted*, and nobody knows how far it came.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .receipt import Receipt

try:
    import fcntl
except ImportError:  # Windows: one process a folder
    fcntl = None  # type: ignore[assignment]

GRACE_MS = 2_000


@dataclass(slots=True)
class Entry:
    """One key: its action, its place in the count, its time limit, and its receipt once it has one."""

    action: str
    counter: int
    until_ms: int
    pid: int
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Nobody ran this key: it is the caller's to run, once."""

    counter: int


@dataclass(frozen=True, slots=True)
class Done:
    """This key has ended with this receipt."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Running:
    """This key is being run."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """This key was begun by a process that is gone."""

    counter: int


@dataclass(frozen=True, slots=True)
class Misused:
    """The message or the key already stands for something else."""

    why: str


Answer = Begun | Done | Running | Interrupted | Misused


class Journal:
    """The journal of one folder. Its methods block (fsync): call them from a thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.jsonl"
        self._thread_lock = threading.Lock()
        self._read_to = 0
        self._entries: dict[str, Entry] = {}
        self._messages: dict[str, str] = {}
        self._mine: set[str] = set()

    def begin(self, key: str, message: str, action: str, now_ms: int, until_ms: int) -> Answer:
        """Return whose turn it is; when Begun, that is on disk and the caller has to call ``finish``."""
        with self._locked() as file:
            if self._messages.get(message, key) != key:
                return Misused("this message has already been used for another idempotency key")
            entry = self._entries.get(key)
            if entry is not None and entry.action != action:
                return Misused("this idempotency key has already been used for another action")
            facts: list[dict[str, object]] = []
            if message not in self._messages:
                facts.append({"message": message, "key": key})
            if entry is None:
                counter = max((e.counter for e in self._entries.values()), default=0) + 1
                facts.append(
                    {
                        "begun": action,
                        "key": key,
                        "counter": counter,
                        "until_ms": until_ms,
                        "pid": os.getpid(),
                    }
                )
            self._append(file, facts)
            if entry is None:
                self._mine.add(key)
                return Begun(counter)
            return self._standing(key, entry, now_ms)

    def finish(self, key: str, receipt: Receipt) -> Receipt:
        """Return the one receipt of *key*: this one, unless another was written first."""
        with self._locked() as file:
            self._mine.discard(key)
            entry = self._entries[key]
            if entry.receipt is None:
                self._append(file, [{"receipt": receipt, "key": key}])
            return entry.receipt or receipt

    def _standing(self, key: str, entry: Entry, now_ms: int) -> Answer:
        if entry.receipt is not None:
            return Done(entry.receipt)
        lives = key in self._mine if entry.pid == os.getpid() else _is_alive(entry.pid)
        return Running() if lives and now_ms <= entry.until_ms + GRACE_MS else Interrupted(entry.counter)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Open the file for this thread and process alone, with everything read that others wrote."""
        with self._thread_lock, self._path.open("a+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            self._catch_up(file)
            yield file

    def _catch_up(self, file: BinaryIO) -> None:
        file.seek(self._read_to)
        for line in file:
            if not line.endswith(b"\n"):
                # Torn by a crash: it was never acknowledged, so it never was.
                file.truncate(self._read_to)
                break
            self._read_to += len(line)
            self._apply(json.loads(line))

    def _append(self, file: BinaryIO, facts: list[dict[str, object]]) -> None:
        if not facts:
            return
        raw = b"".join(json.dumps(fact, separators=(",", ":")).encode() + b"\n" for fact in facts)
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
        self._catch_up(file)

    def _apply(self, fact: dict[str, Any]) -> None:
        key = fact["key"]
        if "message" in fact:
            self._messages[fact["message"]] = key
        elif "begun" in fact:
            self._entries[key] = Entry(fact["begun"], fact["counter"], fact["until_ms"], fact["pid"])
        else:
            self._entries[key].receipt = fact["receipt"]


def _is_alive(pid: int) -> bool:
    """Return whether a process of this machine lives; where that cannot be asked, its time limit decides."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
