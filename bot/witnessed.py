"""Has the witness cosign the newest checkpoint, so that not even who holds the key can sign another past.

1. Due at most once a minute, when the log has grown since: what was not cosigned yet is in the next one.
2. It sends the newest note, proved to begin with what was cosigned before (ledger/consistency.py). Who
   answers 409 says what that was; then it is asked once more from there.
3. Only a good signature of LEDGER_WITNESS_KEY counts. The note with it is kept beside the log, and exported.
4. A witness that knows more of this log than there is tells of a rollback. No append waits for any of this.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.room import Room
from handlers.adapters.witness import Vouched
from handlers.ports import PortError
from handlers.reconciler import Work
from ledger.chain import Frontier
from ledger.consistency import proof
from ledger.note import BadNote, Verifier, read_note
from ledger.store import StoreDown
from ledger.view import View
from ledger.witness import asked

EVERY_MS = 60_000
PAGE = 256


class Witness(Protocol):
    async def add(self, body: str, now_s: int, allow_networks: tuple[str, ...]) -> Vouched:
        """What the witness says to a request of `add-checkpoint`. Raises PortError where it says nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a witness has vouched: entries, of how many, and what hinders it."""

    name: str
    size: int
    of: int
    why: str = ""

    @property
    def sentence(self) -> str:
        upto = f"cosigned up to entry {self.size}" if self.size else "nothing cosigned yet"
        if not self.why:
            return f"Witness {self.name}: {upto}."
        return f"⚠️ Witness {self.name}: {upto}, of {self.of}. {self.why}"


class Witnessed:
    """The reconciler of one tenant's cosignatures. *key* is the witness's."""

    name = "witness"

    def __init__(self, room: Room, witness: Witness, key: Verifier) -> None:
        self._room = room
        self._witness = witness
        self._key = key
        self._tree: Frontier | None = None
        self._size = 0
        self._next_ms = 0
        self._why = ""

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        notary = self._room.ledger.notary
        if not notary.note or self._size >= notary.tree.size:
            return []
        return [Work("cosign", self._next_ms)]

    async def do(self, work: Work) -> None:
        self._next_ms = self._room.now_ms() + EVERY_MS
        try:
            await self._cosign()
        except (PortError, StoreDown, BadNote) as error:
            self._why = str(error)
            raise PortError(f"The witness: {error}") from None
        self._why = ""

    def seen(self) -> Seen:
        """As this process last knew."""
        return Seen(self._key.name, self._size, self._room.ledger.view.head.seq, self._why)

    async def refresh(self) -> None:
        """Learn what the process that does this work has kept. Raises StoreDown."""
        self._size = _size_of(await self._cosigned())

    async def _cosign(self) -> None:
        tree, note = self._room.ledger.notary.tree, self._room.ledger.notary.note
        if read_note(note)[0].size != tree.size:
            return  # another process appended: its note comes with the next look
        old = self._tree or await self._grown(_size_of(await self._cosigned()), tree.size)
        vouched = await self._ask(note, old, tree.size)
        if vouched.size is not None:
            vouched = await self._ask(note, await self._grown(vouched.size, tree.size), tree.size)
        await self._keep(note, vouched)
        self._tree, self._size = tree, tree.size

    async def _ask(self, note: str, old: Frontier, size: int) -> Vouched:
        leaves = [leaf async for leaf in self._leaves(old.size, size)] if old.size else []
        charter = self._room.charter
        networks = tuple(charter.tenant.allow_networks) if charter else ()
        body = asked(note, old.size, proof(old, leaves))
        return await self._witness.add(body, self._room.now_ms() // 1000, networks)

    async def _keep(self, note: str, vouched: Vouched) -> None:
        """Keep *note* with the witness's signature. Raises PortError unless that is good."""
        if vouched.size is not None:
            raise PortError(
                f"It says that it cosigned {vouched.size} entries, and takes no proof from there."
            )
        lines = [one.line() for one in read_note(note + vouched.lines)[1] if one.name == self._key.name]
        cosigned = note + "".join(lines)
        if not self._key.verify(cosigned):
            raise PortError("What it answered is no signature of LEDGER_WITNESS_KEY.")
        await self._room.store.keep_cosigned(self._room.tenant, cosigned)

    async def _grown(self, size: int, of: int) -> Frontier:
        """The tree of the first *size* entries. Raises PortError if the log, of *of* entries, is shorter."""
        if size > of:
            raise PortError(
                f"It has cosigned {size} entries of this log, and here are {of}: this ledger has lost some. "
                "Verify it, and compare it with your copies, before anything else."
            )
        tree = Frontier()
        async for leaf in self._leaves(0, size):
            tree = tree.append(leaf)
        return tree

    async def _leaves(self, after: int, size: int) -> AsyncIterator[bytes]:
        while after < size:
            page = await self._room.store.read(self._room.tenant, after, min(PAGE, size - after))
            if not page:
                raise PortError(f"Entry {after + 1} cannot be read.")
            for entry in page:
                yield bytes.fromhex(entry.hash)
            after += len(page)

    async def _cosigned(self) -> str:
        return await self._room.store.cosigned(self._room.tenant)


def _size_of(note: str) -> int:
    try:
        return read_note(note)[0].size if note else 0
    except BadNote:
        return 0
