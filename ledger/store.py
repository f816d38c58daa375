"""Where entries are kept: the port, its errors, and the store that is only memory.

The contract of `append`: *a durably assigned sequence number, or an error.*

1. All entries of a call are in the log, in order and next to each other, or none is.
2. They stand directly after *expected*, or nothing was written and the answer is `Conflict`.
3. When it returns None they are as durable as `durability()` says.
4. `StoreDown` leaves the outcome open: read what stands after the head you knew. Your own hash means yes.
5. `Sealed` means that the log is not the one we wrote. Nothing may execute until a person has looked.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ledger.chain import GENESIS, BrokenChain, Entry, Head, check_link

MOST_MISSED = 512


class StoreDown(Exception):
    """The store did not answer. Whether the last call was carried out is unknown."""


class Refused(StoreDown):
    """The store answered, and the answer was no: it is full, read-only, or does not know who asks."""


class Sealed(Exception):
    """The log has a form or a past that we did not write."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The ledger is sealed: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody was faster. *missed* is what stands after the expected head, in order, at most 512; *note*
    is what signs the log as it is now, where that is known."""

    missed: list[Entry]
    note: str = field(default="", compare=False)


class Durability(StrEnum):
    DURABLE = "durable"
    DECLARED = "declared"
    UNVERIFIED = "unverified"
    NOT_DURABLE = "not durable"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]

    @property
    def may_execute(self) -> bool:
        return self in {Durability.DURABLE, Durability.DECLARED}


_SENTENCES = {
    Durability.DURABLE: "Each entry is on disk before it counts.",
    Durability.DECLARED: "The server hides its settings; its operator declares that each entry is on disk "
    "before it counts (LEDGER_DURABILITY=declared).",
    Durability.UNVERIFIED: "The server hides its settings, so nobody knows whether entries outlive it. "
    "Nothing executes. If you know that it writes each entry to disk, set LEDGER_DURABILITY=declared.",
    Durability.NOT_DURABLE: "The server may lose entries. Nothing executes. It needs appendonly yes, "
    "appendfsync always and maxmemory-policy noeviction.",
}


class Store(Protocol):
    async def append(
        self, tenant: str, entries: Sequence[Entry], expected: Head, note: str = ""
    ) -> Conflict | None:
        """Append *entries* directly after *expected*: None once they are durable, or what was missed.

        In the same step *note* becomes the log's newest, unless it is empty.

        Raises BrokenChain, before anything has happened, if they do not follow *expected* or are another
        tenant's; Sealed if the log never had *expected* where it says; StoreDown if the outcome is unknown.
        """

    async def read(self, tenant: str, after: int, limit: int) -> list[Entry]:
        """At most *limit* entries with seq > *after*, in order."""

    async def elements(self, tenant: str, after: int, limit: int) -> list[bytes]:
        """As `read`, but what is kept, unjudged: `"<64 hex leaf hash> <canonical json>"` each."""

    async def head(self, tenant: str) -> Head:
        """Where the log of *tenant* ends now; GENESIS if it has none."""

    async def note(self, tenant: str) -> str:
        """The newest signed note of the log; empty if it has none."""

    async def keep_note(self, tenant: str, note: str) -> None:
        """Keep *note*, of a rotation of the key, for as long as the log."""

    async def kept_notes(self, tenant: str) -> list[str]:
        """The notes that were kept, oldest first."""

    async def keep_cosigned(self, tenant: str, note: str) -> None:
        """Keep *note*, the newest that a witness has signed too, instead of the one before."""

    async def cosigned(self, tenant: str) -> str:
        """The newest note that a witness has signed too; empty if there is none."""

    async def durability(self) -> Durability:
        """How well an appended entry is kept."""

    async def put_text(self, tenant: str, digest: str, text: str) -> None:
        """Keep the text of a charter or a policy under its digest. What is kept there already stays."""

    async def get_text(self, tenant: str, digest: str) -> str | None:
        """The text of that digest, or None."""

    async def put_secret_value(self, tenant: str, commitment: str, value: str) -> None:
        """Keep what a person typed (with its salt) beside the log, where it can be erased, not replaced."""

    async def get_secret_value(self, tenant: str, commitment: str) -> str | None:
        """What was kept under *commitment*, or None if it never was or has been erased."""

    async def erase_secret_values(self, tenant: str, commitments: Collection[str]) -> int:
        """Erase what was kept under *commitments*, and return how many values there were."""

    def changes(self) -> AsyncIterator[str]:
        """The tenants whose log has just grown: a hint, some may be missing. Raises StoreDown."""


def check_batch(tenant: str, entries: Sequence[Entry], expected: Head) -> None:
    """Raises BrokenChain unless *entries* are *tenant*'s and follow *expected* one by one."""
    if not entries:
        raise ValueError("An append needs an entry.")
    check_chain(expected, entries)
    for entry in entries:
        if entry.tenant_id != tenant:
            raise BrokenChain(entry.seq, f"it belongs to tenant {entry.tenant_id}, not to {tenant}")


def check_chain(head: Head, entries: Sequence[Entry]) -> Head:
    """The head after *entries*. Raises BrokenChain unless they follow *head* one by one."""
    before: Head | Entry = head
    for entry in entries:
        check_link(before, entry)
        before = entry
    return entries[-1].head if entries else head


def element_of(entry: Entry) -> bytes:
    """What is kept of *entry*: its hash, so that whoever cannot compute it can compare it, and its bytes."""
    return entry.hash.encode() + b" " + entry.line


class MemoryStore:
    """A store for tests and the simulator. It ends with the process, and claims what it is told."""

    def __init__(self, durability: Durability = Durability.DURABLE) -> None:
        self._logs: defaultdict[str, list[Entry]] = defaultdict(list)
        self._notes: defaultdict[str, str] = defaultdict(str)
        self._kept: defaultdict[str, list[str]] = defaultdict(list)
        self._cosigned: defaultdict[str, str] = defaultdict(str)
        self._texts: dict[tuple[str, str], str] = {}
        self._vault: dict[tuple[str, str], str] = {}
        self._listeners: set[asyncio.Queue[str]] = set()
        self._durability = durability

    async def append(
        self, tenant: str, entries: Sequence[Entry], expected: Head, note: str = ""
    ) -> Conflict | None:
        check_batch(tenant, entries, expected)
        log = self._logs[tenant]
        if expected != _head_at(log, expected.seq):
            raise Sealed(f"it has no entry {expected.seq} with the hash {expected.hash[:16]}…")
        if len(log) > expected.seq:
            return Conflict(log[expected.seq : expected.seq + MOST_MISSED], self._notes[tenant])
        log.extend(entries)
        self._notes[tenant] = note or self._notes[tenant]
        for listener in self._listeners:
            listener.put_nowait(tenant)
        return None

    async def read(self, tenant: str, after: int, limit: int) -> list[Entry]:
        return self._logs[tenant][after : after + limit]

    async def elements(self, tenant: str, after: int, limit: int) -> list[bytes]:
        return [element_of(entry) for entry in await self.read(tenant, after, limit)]

    async def head(self, tenant: str) -> Head:
        log = self._logs[tenant]
        return log[-1].head if log else GENESIS

    async def note(self, tenant: str) -> str:
        return self._notes[tenant]

    async def keep_note(self, tenant: str, note: str) -> None:
        self._kept[tenant].append(note)

    async def kept_notes(self, tenant: str) -> list[str]:
        return list(self._kept[tenant])

    async def keep_cosigned(self, tenant: str, note: str) -> None:
        self._cosigned[tenant] = note

    async def cosigned(self, tenant: str) -> str:
        return self._cosigned[tenant]

    async def durability(self) -> Durability:
        return self._durability

    async def put_text(self, tenant: str, digest: str, text: str) -> None:
        self._texts.setdefault((tenant, digest), text)

    async def get_text(self, tenant: str, digest: str) -> str | None:
        return self._texts.get((tenant, digest))

    async def put_secret_value(self, tenant: str, commitment: str, value: str) -> None:
        self._vault.setdefault((tenant, commitment), value)

    async def get_secret_value(self, tenant: str, commitment: str) -> str | None:
        return self._vault.get((tenant, commitment))

    async def erase_secret_values(self, tenant: str, commitments: Collection[str]) -> int:
        return sum(self._vault.pop((tenant, one), None) is not None for one in commitments)

    async def changes(self) -> AsyncIterator[str]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(heard)
        try:
            while True:
                yield await heard.get()
        finally:
            self._listeners.discard(heard)


def _head_at(log: Sequence[Entry], seq: int) -> Head | None:
    if seq == 0:
        return GENESIS
    return log[seq - 1].head if 0 < seq <= len(log) else None
