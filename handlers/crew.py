"""Who looks at which service: the processes that are up share them, and hear what the others saw.

1. Once a second each process posts a beat to a board that all read: its name, and what it saw. Who has not
   been heard for five seconds is gone, by the reader's own monotonic clock: no wall clock has a say in it.
2. A service is looked at by the member with the highest weight for it (rendezvous hashing: Thaler and
   Ravishankar, 1998). Whoever comes or goes moves its own share and no other.
3. A member holds its share for five seconds from the moment at which it sent its last beat that arrived: the
   others wait for longer. After a pause it holds nothing, until it has posted and read again.
4. The share saves work and keeps looks on time. Two at once are harmless: the ledger fences what is said.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import msgspec

from detectors.verdict import Verdict

BEAT_S = 1.0
LEASE_S = 5.0


@dataclass(frozen=True, slots=True)
class Word:
    """What a process saw last of one service, and how long before it told."""

    service: str
    age_ms: int
    missed: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Said:
    """What a process tells with one beat: how many looks it has made, and what it saw since the last one."""

    made: int = 0
    leaves: bool = False
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Post:
    """One beat on the board: whose, when by the board's clock, and its text."""

    by: str
    at_ms: int
    text: bytes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What another process said, *age_ms* ago."""

    by: str
    age_ms: int
    said: Said


class Board(Protocol):
    async def post(self, tenant: str, by: str, text: bytes, after: str, most: int) -> Sequence[Post]:
        """Post, keep the newest *most*, and return what was posted after the id *after*, oldest first, ours
        included. Raises StoreDown."""


class Share(Protocol):
    """What this process may look at, and what it hears from the others."""

    @property
    def alone(self) -> bool:
        """Whether nobody else is there to hear us."""

    def holds(self) -> bool:
        """Whether this process may look at anything now."""

    def owns(self, service: str) -> bool:
        """Whether *service* is this process's."""

    async def beat(self, said: Said) -> Sequence[Heard]:
        """Tell the others, and hear them. Raises StoreDown."""

    async def leave(self) -> None:
        """Let the others take over at once. Raises StoreDown."""


@dataclass
class Sole:
    """All of it, for as long as *held* says so."""

    held: Callable[[], bool] = lambda: True
    alone: bool = True

    def holds(self) -> bool:
        return self.held()

    def owns(self, service: str) -> bool:
        return True

    async def beat(self, said: Said) -> Sequence[Heard]:
        return ()

    async def leave(self) -> None:
        pass


def owner(service: str, members: Collection[str]) -> str:
    """The one of *members*, at least one, that looks at *service*."""
    return max(members, key=lambda member: (_weight(member, service), member))


def _weight(member: str, service: str) -> bytes:
    return blake2b(f"{member}\0{service}".encode(), digest_size=8).digest()


@dataclass
class Crew:
    """The part of the process *me* in watching *tenant*."""

    board: Board
    tenant: str
    me: str
    monotonic: Callable[[], float] = time.monotonic
    members: tuple[str, ...] = ()
    _until: float = float("-inf")
    _read: str = ""
    _heard: dict[str, float] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        return len(self.members) < 2

    def holds(self) -> bool:
        return self.monotonic() < self._until

    def owns(self, service: str) -> bool:
        return bool(self.members) and owner(service, self.members) == self.me

    async def beat(self, said: Said) -> Sequence[Heard]:
        began, steady = self.monotonic(), self.holds()
        posts = await self._post(said)
        newest_ms = max((post.at_ms for post in posts), default=0)
        found = []
        for post in posts:
            age_ms = 0 if steady else max(0, newest_ms - post.at_ms)
            told = _said(post.text)
            self._note(post.by, None if told.leaves else began - age_ms / 1000)
            if post.by != self.me:
                found.append(Heard(post.by, age_ms, told))
        self._note(self.me, began)
        self._heard = {one: at for one, at in self._heard.items() if at > began - LEASE_S}
        self.members, self._until = tuple(sorted(self._heard)), began + LEASE_S
        return found

    async def leave(self) -> None:
        """Let the others take over at once."""
        self._until = float("-inf")
        self.members = ()
        await self._post(Said(leaves=True))

    def _note(self, member: str, at: float | None) -> None:
        """*member* was heard *at* that time; None: it left."""
        if at is None:
            self._heard.pop(member, None)
        else:
            self._heard[member] = at

    async def _post(self, said: Said) -> Sequence[Post]:
        most = 16 * max(2, len(self.members))
        posts = await self.board.post(self.tenant, self.me, msgspec.json.encode(said), self._read, most)
        self._read = posts[-1].id if posts else ""  # ours is missing: it is another board than before
        return posts


def _said(text: bytes) -> Said:
    """What *text* says. One of another version, that cannot be read, is a beat all the same."""
    try:
        return msgspec.json.decode(text, type=Said)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Said()
