"""The whole ledger checked again, from its bytes: chain, form, rules, signature. Off the event loop.

1. Each page is read, then checked in a thread; nobody waits for it but the one who asked.
2. It says what was checked and up to where, or the first bad entry and why.
3. It checks what the server holds. That nothing was rolled back only receipts and witnesses elsewhere show.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from bot.room import Room
from ledger.chain import BrokenChain, Entry, Frontier, Head, Malformed
from ledger.note import BadKey, BadNote, Checkpoint, Verifier, read_note, vkey
from ledger.replay import Replay
from ledger.store import Sealed
from ledger.verify import Tampered

PAGE = 1_000
FRESH_MS = 60_000
UNSIGNED = "No signed note: LEDGER_KEY is not set. `python -m ledger keygen` makes one."


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. *bad* is the first bad entry, 0 where none is; *why* says what is wrong.

    *signed* is how many of the entries the newest good signature covers, *signature* what to say of it.
    """

    size: int
    root: str
    bad: int = 0
    why: str = ""
    signed: int = 0
    signature: str = UNSIGNED
    unsettled: int = 0

    @property
    def intact(self) -> bool:
        return not self.why

    def sentence(self) -> str:
        """The verdict in one line."""
        if self.intact:
            return f"Intact: {self.size} entries, chain and rules. {self.signature}"
        where = f"The first bad entry is #{self.bad}: " if self.bad else ""
        return f"NOT intact. {where}{self.why}."


async def check(room: Room) -> Checked:
    """Read and check all of it, up to where it ends now. Raises StoreDown."""
    known, folding = room.ledger.view.head, _Folding(room.tenant)
    try:
        folding.note = await room.store.note(room.tenant)
        folding.checkpoint = read_note(folding.note)[0] if folding.note else None
        while page := await room.store.read(room.tenant, folding.size, PAGE):
            await asyncio.to_thread(folding.take, page, known)
        return folding.intact(known)
    except (Tampered, BrokenChain) as bad:
        return folding.broken(bad.seq or 0, str(bad).partition(": ")[2])
    except (BadNote, BadKey) as bad:
        return folding.broken(0, f"the signed note does not hold: {bad}")
    except (Malformed, Sealed) as bad:
        return folding.broken(folding.size + 1, bad.reason)


class Checks:
    """The newest check of each tenant, for those who need a verdict beside something else."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, asyncio.Task[Checked]]] = {}

    async def recent(self, room: Room) -> Checked:
        """A check of the last minute, made now if there is none. Raises StoreDown."""
        return await asyncio.shield(self._task(room))

    async def soon(self, room: Room, seconds: float) -> Checked | None:
        """The same, or None where it takes longer; it goes on. Raises StoreDown."""
        task = self._task(room)
        done, _ = await asyncio.wait([task], timeout=seconds)
        return task.result() if done else None

    def _task(self, room: Room) -> asyncio.Task[Checked]:
        at_ms, task = self._found.get(room.tenant, (0, None))
        if task is None or (task.done() and (_failed(task) or room.now_ms() - at_ms > FRESH_MS)):
            task = asyncio.create_task(check(room), name=f"check:{room.tenant}")
            self._found[room.tenant] = room.now_ms(), task
        return task


def _failed(task: asyncio.Task[Checked]) -> bool:
    return task.cancelled() or task.exception() is not None


class _Folding:
    """The log while it is read: its view under the rules, its Merkle tree, and the key that signs it."""

    def __init__(self, tenant: str) -> None:
        self.note = ""
        self.checkpoint: Checkpoint | None = None
        self._origin = f"countersign/{tenant}/"
        self._replay = Replay()
        self._tree = Frontier()
        self._root_there = b""

    @property
    def size(self) -> int:
        return self._tree.size

    def take(self, page: Sequence[Entry], known: Head) -> None:
        """Raises Tampered."""
        for entry in page:
            self._replay.take(entry.line)
            if entry.seq == known.seq and entry.head != known:
                raise Tampered(entry.seq, "it is not the one that was written")
            self._origin += entry.hash[:16] if entry.seq == 1 else ""
            self._tree = self._tree.append(bytes.fromhex(entry.hash))
            if self.checkpoint and self.checkpoint.size == entry.seq:
                self._root_there = self._tree.root()

    def intact(self, known: Head) -> Checked:
        """Raises Tampered if it ends too early; BadNote, BadKey if the note is not this log's."""
        if self.size < known.seq:
            raise Tampered(self.size + 1, f"it is gone; {known.seq} entries were written")
        covered, signature = self._signed()
        return Checked(
            self.size,
            self._tree.root().hex(),
            signed=covered,
            signature=signature,
            unsettled=self._replay.unsettled(),
        )

    def broken(self, seq: int, why: str) -> Checked:
        return Checked(self.size, self._tree.root().hex(), seq, why.rstrip("."))

    def _signed(self) -> tuple[int, str]:
        there = self.checkpoint
        if there is None:
            return 0, UNSIGNED
        if there.origin != self._origin:
            raise BadNote(f"it is of another log, {there.origin}")
        if there.size > self.size:
            raise BadNote(f"it covers {there.size} entries and here are {self.size}")
        if there.size and there.root != self._root_there:
            raise BadNote(f"its root is not that of the first {there.size} entries")
        keys = self._replay.view.signers
        verifier = Verifier.parse(vkey(there.origin, keys[-1])) if keys else None
        if verifier is None or not verifier.verify(self.note):
            raise BadNote("its signature is not of the key that the ledger names")
        return there.size, f"Signed up to #{there.size} with key {verifier.key_id}."
