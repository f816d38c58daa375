"""Which keys have been run, durably: a file of facts that the workers of one machine share.

A fact is: a message was accepted for a key, a run has begun, a run has ended. A run's fact is on disk before
its handler starts, so a key never runs twice, whatever dies in between: a run without an end, whose process
is gone, was *interrupted*, and nobody knows how far it came.

The file does not grow for ever: once it is long, what is older than seven days is left out, except for the
newest hundred runs, which no clock can make old. A message could not come again long before that: its
signature is good for five minutes. Nothing is left out while more than half of it would remain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .facts import CAN_REWRITE, Fact, Facts
from .receipt import Receipt

GRACE_MS = 2_000
KEEP_MS = 7 * 86_400_000
KEEP_RUNS = 100
LONG = 256 * 1024


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
        self._facts = Facts(folder / "journal.jsonl", self._apply, self._forget)
        self._mine: set[str] = set()
        self._long = LONG
        self._forget()

    def begin(self, key: str, message: str, action: str, now_ms: int, until_ms: int) -> Answer:
        """Return whose turn it is; when Begun, that is on disk and the caller has to call ``finish``."""
        with self._facts.held():
            self._shorten(now_ms)
            if self._messages.get(message, key) != key:
                return Misused("this message has already been used for another idempotency key")
            entry = self._entries.get(key)
            if entry is not None and entry.action != action:
                return Misused("this idempotency key has already been used for another action")
            facts: list[Fact] = []
            if message not in self._messages:
                facts.append({"message": message, "key": key})
            if entry is None:
                begun = Entry(action, self._counter + 1, until_ms, os.getpid())
                facts.append(_begun(key, begun))
            self._facts.append(facts)
            if entry is None:
                self._mine.add(key)
                return Begun(begun.counter)
            return self._standing(key, entry, now_ms)

    def finish(self, key: str, receipt: Receipt) -> Receipt:
        """Return the one receipt of *key*: this one, unless another was written first."""
        with self._facts.held():
            self._mine.discard(key)
            entry = self._entries.get(key)
            if entry is not None and entry.receipt is None:
                self._facts.append([{"receipt": receipt, "key": key}])
            return (entry and entry.receipt) or receipt

    def _standing(self, key: str, entry: Entry, now_ms: int) -> Answer:
        if entry.receipt is not None:
            return Done(entry.receipt)
        lives = key in self._mine if entry.pid == os.getpid() else _is_alive(entry.pid)
        return Running() if lives and now_ms <= entry.until_ms + GRACE_MS else Interrupted(entry.counter)

    def _shorten(self, now_ms: int) -> None:
        """Leave out what is old, where that is at least half of a long file."""
        if self._facts.size <= self._long or not CAN_REWRITE:
            return
        since_ms = now_ms - KEEP_MS
        old = {
            key
            for key, entry in self._entries.items()
            if entry.until_ms < since_ms and entry.counter <= self._counter - KEEP_RUNS
        }
        if 2 * len(old) < len(self._entries):
            self._long = 2 * self._facts.size
            return
        self._facts.rewrite(self._all_but(old))
        self._long = LONG

    def _all_but(self, old: set[str]) -> Iterator[Fact]:
        for message, key in self._messages.items():
            if key not in old:
                yield {"message": message, "key": key}
        for key, entry in self._entries.items():
            if key not in old:
                yield _begun(key, entry)
                if entry.receipt is not None:
                    yield {"receipt": entry.receipt, "key": key}

    def _forget(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._messages: dict[str, str] = {}
        self._counter = 0

    def _apply(self, fact: Fact) -> None:
        key = fact["key"]
        if "message" in fact:
            self._messages[fact["message"]] = key
        elif "begun" in fact:
            self._entries[key] = Entry(fact["begun"], fact["counter"], fact["until_ms"], fact["pid"])
            self._counter = max(self._counter, fact["counter"])
        else:
            self._entries[key].receipt = fact["receipt"]


def _begun(key: str, entry: Entry) -> Fact:
    return {
        "begun": entry.action,
        "key": key,
        "counter": entry.counter,
        "until_ms": entry.until_ms,
        "pid": entry.pid,
    }


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
