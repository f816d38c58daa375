"""`/erase PERSON`: what a person typed leaves the vault, when two admins say so. Proofs stay as they are.

1. The first admin asks and gets a code; another admin sends it within the hour. Nobody is both.
2. The code is a MAC over team, subject, who asked and the hour: nothing is stored, so nothing is lost.
3. The values go first, then the entry says so: cut off in between, the same code does it again.
4. Where the server lets only its own privacy user erase, the command for that is told.
"""

import base64
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from bot.errands import Errands
from bot.order import Order, person_named
from bot.ports import Answer
from bot.room import Room
from bot.tokens import derived
from handlers.charter import Person
from ledger import events as ev
from ledger.chain import receipt
from ledger.events import Event
from ledger.ledger import Refusal
from ledger.store import StoreDown
from ledger.view import View

HOUR_MS = 3_600_000
SUBJECT = re.compile(r"[a-z][a-z0-9_-]{0,63}")
HOW = "Send /erase PERSON, or /erase INCIDENT: what they typed leaves the vault. It takes two admins."
REMAINS = "The server's file forgets them when it is next written anew (BGREWRITEAOF); old backups do not."
ANEW = "The server writes its file anew, without them; old backups still have them."
ONLY_ADMINS = "Only admins can have words erased, and it takes two of them."


@dataclass(frozen=True, slots=True)
class Gone:
    """How many values were erased, and whether the server now writes its file *anew*, without them."""

    count: int
    anew: bool = False


type Eraser = Callable[[Room, str], Awaitable[Gone]]
"""Erases the words of a person or an incident. Raises StoreDown."""


class Erasing:
    def __init__(self, errands: Errands, secret: bytes, eraser: Eraser) -> None:
        self._errands = errands
        self._key = derived(secret, b"countersign/erase/1")
        self._eraser = eraser

    async def erase(self, order: Order) -> Answer:
        """`/erase PERSON`, then by another admin `/erase PERSON CODE`."""
        if "admin" not in order.person.roles:
            return Answer(ONLY_ADMINS)
        if not order.said.private:
            return Answer("Whose words are erased is not for a group. Send me this in a private chat.")
        subject = _subject(order)
        if not subject:
            return Answer(HOW)
        if not order.rest:
            return self._asked(order, subject)
        asker = self._asker(order, subject)
        if asker is None:
            return Answer("That code is not for this, or is over an hour old. Nothing was erased. " + HOW)
        if asker.id == order.person.id:
            return Answer(
                "You asked for this yourself: another admin must send the code. Nothing was erased."
            )
        return await self._errands.do(order, self._erased(order, subject, asker))

    def _asked(self, order: Order, subject: str) -> Answer:
        code = self._code(order.room, subject, order.person.id, order.room.now_ms() // HOUR_MS)
        others = [p.name for p in order.room.people.people if _is_other_admin(p, order.person)]
        if not others:
            return Answer("It takes two admins, and the charter names only you. Nothing was erased.")
        return Answer(
            f"Nothing is erased yet. What {subject} typed leaves the vault for good once another admin "
            f"({', '.join(others[:4])}) sends me, in private, within the hour:\n/erase {subject} {code}\n"
            "Entries and proofs stay as they are."
        )

    def _asker(self, order: Order, subject: str) -> Person | None:
        """The admin whose code was sent."""
        hour, given = order.room.now_ms() // HOUR_MS, order.rest.upper().encode()
        admins = (p for p in order.room.people.people if "admin" in p.roles)
        codes = ((p, self._code(order.room, subject, p.id, h)) for p in admins for h in (hour, hour - 1))
        return next((p for p, code in codes if hmac.compare_digest(code.encode(), given)), None)

    def _code(self, room: Room, subject: str, asker: str, hour: int) -> str:
        said = "\x00".join((room.tenant, subject, asker, str(hour))).encode()
        return base64.b32encode(hmac.digest(self._key, said, sha256)[:5]).decode()

    async def _erased(self, order: Order, subject: str, asker: Person) -> Answer:
        try:
            gone = await self._eraser(order.room, subject)
        except StoreDown as down:
            command = f"python -m ledger erase --tenant {order.room.tenant} --by {order.person.id} {subject}"
            return Answer(f"Nothing was erased: {down} On the server this does it:\n{command}")
        act = order.said.act

        def decide(view: View, now: datetime) -> Event | Refusal:
            reason = f"{gone.count} values erased from the vault, asked by {asker.id}"
            return ev.Erased(decision="erase", reason=reason, subject=subject, asked_by=asker.id, act=act)

        made = await order.room.record(order.person, act, decide)
        if isinstance(made, Refusal):
            return Answer(f"{gone.count} values are gone, and the ledger does not say so yet: {made.why}")
        rest = ANEW if gone.anew else REMAINS
        return Answer(
            f"{gone.count} values of {subject} left the vault. {rest}\n#{made.seq} · {receipt(made)}"
        )


def _subject(order: Order) -> str:
    """A person of the charter, one who left it, or an incident."""
    person = person_named(order.room, order.first)
    found = person.id if person else order.first
    return found if SUBJECT.fullmatch(found) else ""


def _is_other_admin(person: Person, me: Person) -> bool:
    return "admin" in person.roles and person.id != me.id
