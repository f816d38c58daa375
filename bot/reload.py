"""Follows the charters' files while the program runs, and asks admins to adopt what has changed.

1. A file is read again when it has changed, within five seconds. Each is its tenant's alone: a mistake in it
   is told in that tenant's `/status`, and nobody loses the charter in force.
2. A good one becomes the room's proposal. That changes nothing else: an admin of the charter in force adopts.
3. Admins are asked in private, once for each change, whichever process sees it first; after a start, too.
4. A tenant that a file adds or renames needs a restart; the log says so.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bot.adoption import Adoption
from bot.ports import Answer
from bot.room import Room
from bot.settings import NAMES
from bot.words import cap
from detectors.policy import BadOverride
from handlers.charter import Charter, CharterError, Mistake, Person, foreign_secrets, load
from handlers.charter import files as charter_files
from ledger.clock import Clock
from ledger.store import StoreDown

log = logging.getLogger(__name__)

LOOK_S = 5.0
AGAIN_MS = 60_000
MOST_MISTAKE = 600

type Post = Callable[[Room, Person, Answer], Awaitable[bool]]
type Stamp = tuple[int, int]


class Condition(Protocol):
    """How one tenant is: here, whether its file is wrong."""

    room: Room
    charter_mistake: str


class Asked(Protocol):
    """What a tenant's admins were last asked to adopt, known to every process."""

    async def first(self, tenant: str, what: str) -> bool:
        """Whether *what* is news; from now on it is what was asked. Raises StoreDown."""

    async def forget(self, tenant: str) -> None: ...


@dataclass
class Reload:
    """The files at *path*, the tenants' conditions by name, and who is told by *post*."""

    path: Path
    overrides: Mapping[str, str]
    conditions: Mapping[str, Condition]
    adoption: Adoption
    asked: Asked
    post: Post
    clock: Clock
    _stamps: dict[Path, Stamp] = field(default_factory=dict)
    _tenants: dict[Path, str] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _not_before: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            for condition in self.conditions.values():
                await self.ask(condition.room)
            await self.clock.sleep(LOOK_S)

    def look(self) -> None:
        """Read every file that is not as it was."""
        for file in sorted({*charter_files(self.path), *self._tenants}):
            stamp = _stamp(file)
            if self._stamps.get(file) != stamp:
                self._stamps[file] = stamp
                self._read(file)

    def _read(self, file: Path) -> None:
        known = self._tenants.get(file, "")
        try:
            charter = load(file, NAMES)
            policy = charter.effective_policy(self.overrides)
            condition = self._whose(file, known, charter)
        except (CharterError, BadOverride) as error:
            log.warning("A charter was not taken: %s", error)
            if known:
                self.conditions[known].charter_mistake = cap(str(error), MOST_MISTAKE)
            return
        self._tenants[file] = charter.tenant.id
        condition.charter_mistake = ""
        condition.room.proposed, condition.room.proposed_policy = charter, policy
        condition.room.rulebook.add(charter, policy)

    def _whose(self, file: Path, known: str, charter: Charter) -> Condition:
        """The condition of the charter's tenant. Raises CharterError where the file is not that tenant's."""
        name = charter.tenant.id
        if name not in self.conditions or (known and known != name):
            raise _no(
                file, "tenant.id", f"{name!r} is not whom this file was for", "Restart to change tenants."
            )
        if any(kept == name and other != file for other, kept in self._tenants.items()):
            raise _no(file, "tenant.id", f"{name!r} stands in two files", "Rename one.")
        chats = {chat.telegram for chat in charter.chats}
        for other in self.conditions.values():
            room = other.room
            taken = chats & {chat.telegram for kept in (room.proposed, room.people) for chat in kept.chats}
            if other.room.tenant != name and taken:
                reason = f"the chat {min(taken)} is already {other.room.tenant}'s"
                raise _no(file, "chats", reason, "A chat belongs to one tenant.")
        foreign = foreign_secrets(charter, self.conditions)
        if foreign:
            raise CharterError(foreign)
        return self.conditions[name]

    async def ask(self, room: Room) -> None:
        """Ask the admins of *room*, where something waits to be adopted and nobody was asked yet."""
        rules = room.ledger.view.rules
        if not rules.charter or not self.adoption.pending(room):
            return
        what = f"{rules.charter}/{room.proposed.digest()}/{room.proposed_policy.digest()}"
        if self._told.get(room.tenant) == what or room.now_ms() < self._not_before.get(room.tenant, 0):
            return
        try:
            if not await self.asked.first(room.tenant, what) or await self._ask(room):
                self._told[room.tenant] = what
            else:
                await self.asked.forget(room.tenant)
                self._not_before[room.tenant] = room.now_ms() + AGAIN_MS
        except StoreDown as down:
            log.warning("Nobody was asked to adopt: %s", down)

    async def _ask(self, room: Room) -> bool:
        """Whether an admin was reached."""
        question = self.adoption.question(room)
        admins = [person for person in room.people.people if "admin" in person.roles]
        return any([await self.post(room, person, question) for person in admins])


def _stamp(file: Path) -> Stamp:
    """What changes when the file does; zeros where it cannot be seen."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _no(file: Path, key: str, reason: str, remedy: str) -> CharterError:
    return CharterError([Mistake(str(file), key, reason, remedy)])
