"""The second factor of a person: how it is enrolled, and whether six digits are theirs and new.

1. No secret is stored. Each is derived from `ALERT_SECRET`, the tenant, the person and a number that the
   enrolment drew; the number stands in the ledger, as a link of the person on the channel `totp`.
2. Whoever changes `ALERT_SECRET` ends every enrolment: the link also has a check of the secret that it was
   made with. People then enrol anew.
3. A code counts once: its step is remembered for the person. The fifth wrong one within a minute locks.
"""

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from bot.room import Room
from bot.tokens import derived
from bot.totp import step_of
from handlers.charter import Person
from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.view import epoch_ms

CHANNEL = "totp"
SECRET_BYTES = 20
TRIES = 5
MINUTE_MS = 60_000
LOCK_S = 900
REMEMBER_S = 120
WRONG, USED, LOCKED = "wrong_totp", "used_totp", "locked_totp"


class Marks(Protocol):
    """What is remembered for some seconds: the first who sets a mark has it."""

    async def get(self, tenant: str, name: str) -> str: ...

    async def mark(self, tenant: str, name: str, text: str, seconds: int) -> str:
        """What stands under *name* now: *text*, or what was there before."""

    async def count(self, tenant: str, name: str, seconds: int) -> int:
        """How often *name* has been counted, this time included."""


class StepUp:
    """Raises StoreDown where the marks cannot be read: then no code is right."""

    def __init__(self, secret: bytes, marks: Marks, draw: Callable[[int], str] = secrets.token_hex) -> None:
        self._key = derived(secret, b"countersign/totp/1")
        self._marks = marks
        self._draw = draw

    def fresh(self, room: Room, person: Person) -> str:
        """A new enrolment, as the ledger keeps it: its number and the check of its secret."""
        number = self._draw(8)
        return f"{number}.{_check(self.secret(room, person, number))}"

    def secret(self, room: Room, person: Person, enrolment: str) -> bytes:
        """The 20 bytes that the authenticator app of *person* has for *enrolment*."""
        covered = "\x00".join((room.tenant, person.id, enrolment.partition(".")[0])).encode()
        return hmac.digest(self._key, covered, sha256)[:SECRET_BYTES]

    def enrolled(self, room: Room, person: Person) -> bytes | None:
        """The secret of the enrolment that holds, or None."""
        kept = room.ledger.view.links.get((person.id, CHANNEL))
        if kept is None:
            return None
        secret = self.secret(room, person, kept)
        return secret if hmac.compare_digest(kept.partition(".")[2], _check(secret)) else None

    async def judge(self, room: Room, person: Person, digits: str, by: str) -> str:
        """Empty where *digits* are right and new, else why not. *by* is the act: again, it means the same."""
        tenant, who, secret = room.tenant, person.id, self.enrolled(room, person)
        if secret is None:
            return WRONG
        if await self._marks.get(tenant, f"lock:{who}"):
            return LOCKED
        now_ms = room.now_ms()
        tries = await self._marks.count(tenant, f"tries:{who}:{now_ms // MINUTE_MS}", REMEMBER_S)
        step = step_of(secret, digits, now_ms) if tries <= TRIES else None
        if step is not None:
            return "" if await self._marks.mark(tenant, f"used:{who}:{step}", by, REMEMBER_S) == by else USED
        if tries >= TRIES:
            await self._marks.mark(tenant, f"lock:{who}", by, LOCK_S)
        return WRONG


def _check(secret: bytes) -> str:
    return sha256(b"countersign/totp/check\x00" + secret).hexdigest()[:8]


class MemoryMarks:
    """For tests and the simulator."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[int, str]] = {}

    async def get(self, tenant: str, name: str) -> str:
        until_ms, text = self._kept.get((tenant, name), (0, ""))
        return text if until_ms > epoch_ms(self._clock.now()) else ""

    async def mark(self, tenant: str, name: str, text: str, seconds: int) -> str:
        if found := await self.get(tenant, name):
            return found
        self._kept[tenant, name] = epoch_ms(self._clock.now()) + seconds * 1_000, text
        return text

    async def count(self, tenant: str, name: str, seconds: int) -> int:
        until_ms = epoch_ms(self._clock.now()) + seconds * 1_000
        number = int(await self.get(tenant, name) or 0) + 1
        self._kept[tenant, name] = until_ms, str(number)
        return number


class RedisMarks:
    """`bot:{tenant}:totp:name`, which Redis forgets in time. Raises StoreDown."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def get(self, tenant: str, name: str) -> str:
        kept: bytes | None = await self._redis("GET", _key(tenant, name))
        return kept.decode() if kept else ""

    async def mark(self, tenant: str, name: str, text: str, seconds: int) -> str:
        await self._redis("SET", _key(tenant, name), text, "NX", "EX", seconds)
        return await self.get(tenant, name)

    async def count(self, tenant: str, name: str, seconds: int) -> int:
        await self._redis("SET", _key(tenant, name), 0, "NX", "EX", seconds)
        return int(await self._redis("INCR", _key(tenant, name)))


def _key(tenant: str, name: str) -> str:
    return f"bot:{{{tenant}}}:totp:{name}"
