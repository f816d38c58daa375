"""Keeps the copy off the box up to date: what the ledger has and the copy has not is due.

1. The cursor is how many entries the other side has, in `bot:sink:{tenant}`. It moves after the answer, so
   that a process killed in between sends the batch again: the other side takes it as the same.
2. Batches go one after the other, in order, for ever. A failure backs off as all work does.
3. Who answers 409 knows better where to go on, within what this ledger has. More than that is no copy of it.
4. No append waits for any of this.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.room import Room
from bot.tokens import derived
from handlers.adapters.sink import Told
from handlers.ports import PortError
from handlers.reconciler import Work
from ledger.note import BadNote, read_note
from ledger.offbox import MOST_ENTRIES, Batch
from ledger.redis_store import Commands
from ledger.store import StoreDown
from ledger.view import View, epoch_ms


def sink_key(alert_secret: bytes) -> bytes:
    """What batches are signed with. It outlives a new LEDGER_KEY."""
    return derived(alert_secret, b"countersign/sink/1")


def told_secret(alert_secret: bytes) -> str:
    """The same as its keeper is told it: `whsec_…`."""
    return "whsec_" + base64.b64encode(sink_key(alert_secret)).decode()


class Sink(Protocol):
    async def send(self, batch: Batch, now_s: int, allow_networks: tuple[str, ...]) -> Told:
        """What the other side has after *batch*. Raises PortError where it does not say."""


class Cursor(Protocol):
    async def load(self, tenant: str) -> int: ...

    async def save(self, tenant: str, size: int) -> None: ...


class RedisCursor:
    """`Cursor` in `bot:sink:{tenant}`."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def load(self, tenant: str) -> int:
        return int(await self._redis("GET", f"bot:sink:{{{tenant}}}") or 0)

    async def save(self, tenant: str, size: int) -> None:
        await self._redis("SET", f"bot:sink:{{{tenant}}}", size)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the copy is behind: entries, the age of the oldest in seconds, and what hinders it."""

    entries: int
    seconds: int = 0
    why: str = ""

    @property
    def sentence(self) -> str:
        if not self.entries:
            return "Off the box: every entry is copied."
        why = f" {self.why}" if self.why else ""
        return f"⚠️ Off the box: {_entries(self.entries)} behind for {self.seconds} s.{why}"


class OffBox:
    """The reconciler of one tenant's copy."""

    name = "offbox"

    def __init__(self, room: Room, sink: Sink, cursor: Cursor) -> None:
        self._room = room
        self._sink = sink
        self._cursor = cursor
        self._size = 0
        self._behind_ms = 0
        self._why = ""
        self._busy = False

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        if self._size >= view.head.seq:
            return []
        self._behind_ms = self._behind_ms or now_ms
        return [Work("copy", 0)]

    async def do(self, work: Work) -> None:
        self._busy = True
        try:
            await self._copy()
        except (PortError, StoreDown) as error:
            self._why = str(error)
            raise PortError(f"The copy off the box: {error}") from None
        finally:
            self._busy = False

    def lag(self) -> Lag:
        """As this process last knew."""
        entries = max(0, self._room.ledger.view.head.seq - self._size)
        seconds = max(0, self._room.now_ms() - self._behind_ms) // 1000 if self._behind_ms else 0
        return Lag(entries, seconds if entries else 0, self._why)

    async def refresh(self) -> None:
        """Learn what the process that does this work has written down. Raises StoreDown."""
        if not self._busy:  # then it is this process, and knows better
            self._moved(await self._cursor.load(self._room.tenant))

    async def _copy(self) -> None:
        self._size = await self._cursor.load(self._room.tenant)
        refused = False
        while self._size < self._room.ledger.view.head.seq:
            batch = await self._batch(self._size)
            told = await self._sink.send(batch, self._room.now_ms() // 1000, self._networks())
            self._judge(told, batch, again=refused)
            refused = bool(told.why)
            await self._cursor.save(self._room.tenant, told.size)
            self._moved(told.size)

    async def _batch(self, after: int) -> Batch:
        """What comes next. It ends where the key was rotated or the newest note does, if that is in it."""
        store, tenant = self._room.store, self._room.tenant
        newest = await store.note(tenant)
        rotations = await store.kept_notes(tenant)
        entries = await store.read(tenant, after, MOST_ENTRIES)
        self._behind_ms = epoch_ms(entries[0].at)
        for note in (*rotations, newest):
            if after < (size := _size_of(note)) <= after + len(entries):
                return Batch(tenant, entries[: size - after], note)
        return Batch(tenant, entries)

    def _judge(self, told: Told, batch: Batch, *, again: bool) -> None:
        """Raises PortError unless it makes sense to go on from there. *again*: it has just been refused."""
        ours = max(batch.last, self._room.ledger.view.head.seq)
        if told.size > ours:
            raise PortError(
                f"It has {told.size} entries and this ledger {ours}: this ledger has lost some, or that is "
                "the copy of another. Verify both before anything else."
            )
        if told.why and (again or told.size == self._size):
            raise PortError(f"It has {told.size} entries and takes no more. {told.why}")

    def _networks(self) -> tuple[str, ...]:
        charter = self._room.charter
        return tuple(charter.tenant.allow_networks) if charter else ()

    def _moved(self, size: int) -> None:
        self._size = size
        if size >= self._room.ledger.view.head.seq:
            self._behind_ms, self._why = 0, ""


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _size_of(note: str) -> int:
    try:
        return read_note(note)[0].size if note else 0
    except BadNote:
        return 0
