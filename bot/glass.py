"""`/breakglass` and `/review`: one person alone where more are needed, and who looks at it later.

1. The charter says who may: `break_glass = "1 admin"` of its tenant; left out, nobody. Only in a private
   chat, with a reason, and after the second look at the exact request.
2. Everybody else in the charter is told at once. It is one authorization like any other: it lapses, it runs
   once. Who proposed by hand does not approve it by breaking the glass either.
3. Until a second person signs it off, admins are reminded of it, at most once a day.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from bot.answer import receipted
from bot.auditing import AUDITORS
from bot.order import Order
from bot.ports import Answer
from bot.room import Room
from bot.votes import in_charge
from bot.words import at, cap, one_line
from handlers.charter import Person
from handlers.ports import PortError
from handlers.reconciler import Work
from ledger import events as ev
from ledger.events import Event, Ref
from ledger.ledger import Refusal
from ledger.machine import Fact, Incident
from ledger.store import StoreDown
from ledger.view import View

DAY_MS = 86_400_000
MOST = 8
HOW = "Send me in private /breakglass INCIDENT ACTION and why. It works while that action is asked for."
REVIEW = "A second person signs it off with /review INCIDENT."
OWN = "You broke this glass yourself, so somebody else signs it off."
NOT_YOURS = "Signing off is for who may approve something, for admins and auditors."

type Post = Callable[[Room, Person, Answer], Awaitable[bool]]


class Wish:
    """What `/breakglass INCIDENT ACTION reason` names: the option of an open request. Empty where none is."""

    def __init__(self, order: Order) -> None:
        action, _, self.why = order.rest.partition(" ")
        incident = order.room.ledger.view.incidents.get(order.first)
        request = incident.request if incident else None
        options = request.event.options if request and isinstance(request.event, ev.Validated) else ()
        self.option = next((one.key for one in options if action and one.action == action), "")
        self.anchor = request.hash if request else ""
        self.offered = [one.action for one in options if one.action]

    @property
    def unknown(self) -> str:
        return f"Asked for there: {', '.join(self.offered)}. {HOW}" if self.offered else HOW


async def review(order: Order) -> Answer:
    """`/review` lists what waits; `/review INCIDENT` signs it off. Raises StoreDown."""
    view = order.room.ledger.view
    if not order.words:
        waits = [(view.incidents[name], fact) for name in view.unreviewed for fact in _facts(view, name)]
        lines = [_line(order, incident, fact) for incident, fact in waits[:MOST]]
        return Answer("\n".join([*lines, REVIEW]) if lines else "No broken glass waits for a second person.")
    name, person = order.first, order.person
    if not in_charge(order.room.people, person) and not AUDITORS & set(person.roles):
        return Answer(NOT_YOURS)
    if name not in view.unreviewed:
        return Answer("Nothing of that incident waits for a second person. /review lists what does.")
    words = await order.room.keep_words(order.rest)

    def decide(view: View, now: datetime) -> Event | Refusal:
        broken = [fact for fact in _facts(view, name) if fact.actor.id != person.id]
        if not broken:
            return Refusal("own")
        reason = f"Signs off the break-glass of {broken[0].actor.id}"
        return ev.Reviewed(
            incident_id=name,
            decision="review",
            reason=reason,
            words=words,
            ref=broken[0].ref,
            act=order.said.act,
        )

    made = await order.room.record(person, order.said.act, decide)
    if isinstance(made, Refusal):
        return Answer(OWN if made.kind == "own" else f"Not signed off: {made.why}")
    return receipted(Answer(f"{name}: signed off by you.", ref=Ref(seq=made.seq, hash=made.hash)))


def _facts(view: View, name: str) -> list[Fact]:
    return [fact for fact, _ in view.incidents[name].unreviewed]


def _line(order: Order, incident: Incident, fact: Fact) -> str:
    when = f"{at(fact.at_ms, order.zone):%a %H:%M}"
    return f"#{fact.seq} {when} {incident.id}: {_name(order.room, fact.actor.id)}, {fact.event.reason}"


class Told(Protocol):
    """When people were last told of a broken glass, by the hash of its entry, in epoch ms; 0: never."""

    async def last(self, tenant: str, hash: str) -> int: ...

    async def tell(self, tenant: str, hash: str, at_ms: int) -> None: ...


class MemoryTold:
    """For tests and the simulator."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], int] = {}

    async def last(self, tenant: str, hash: str) -> int:
        return self._kept.get((tenant, hash), 0)

    async def tell(self, tenant: str, hash: str, at_ms: int) -> None:
        self._kept[tenant, hash] = at_ms


class Reviewing:
    """Reconciler: tells everybody at once, then admins once a day until a second person has signed it off."""

    name = "reviewing"

    def __init__(self, room: Room, told: Told, post: Post) -> None:
        self._room = room
        self._told = told
        self._post = post
        self._last: dict[str, int] = {}

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        waits = [(name, f) for name in view.unreviewed if name in view.incidents for f in _facts(view, name)]
        return [Work(f"{fact.hash}:{self._at(fact)}", self._at(fact), name) for name, fact in waits]

    def _at(self, fact: Fact) -> int:
        last = self._last.get(fact.hash, 0)
        return last + DAY_MS if last else fact.at_ms

    async def do(self, work: Work) -> None:
        """Raises PortError where nobody could be told."""
        incident = self._room.ledger.view.incidents[work.incident]
        hash = work.key.partition(":")[0]
        found = next(((f, made) for f, made in incident.unreviewed if f.hash == hash), None)
        try:
            last = await self._told.last(self._room.tenant, hash)
            if found and self._room.now_ms() >= (last + DAY_MS if last else 0):
                await self._tell(incident, *found, again=bool(last))
                last = self._room.now_ms()
                await self._told.tell(self._room.tenant, hash, last)
        except StoreDown as down:
            raise PortError(f"Who was told of a broken glass is not known now: {down}") from down
        self._last[hash] = last

    async def _tell(self, incident: Incident, fact: Fact, made: ev.Authorized, *, again: bool) -> None:
        others = [one for one in self._room.people.people if one.id != fact.actor.id]
        to = [one for one in self._room.people.people if "admin" in one.roles] if again else others
        why = cap(one_line(await self._room.words(made.words)), 300) or "erased"
        who = _name(self._room, fact.actor.id)
        text = (
            f"🔨 {who} broke the glass on {incident.id}: “{_title(made)}”, alone.\n"
            f"Why: {why}\n{'Nobody has signed it off yet. ' if again else ''}"
            f"/incident {incident.id} shows what came of it. /review {incident.id} signs it off."
        )
        sent = await asyncio.gather(*(self._post(self._room, one, Answer(text)) for one in to))
        if to and not any(sent):
            raise PortError(f"Nobody could be told of the broken glass on {incident.id}.")


def _title(made: ev.Authorized) -> str:
    return made.reason.partition(": ")[2] or made.action


def _name(room: Room, person: str) -> str:
    found = room.people.person(person)
    return found.name if found else person
