"""`/access`: who may do what here, by which accounts, and an admin's word that it is still right.

1. `/access review` lists the charter's people with roles, accounts, when each was linked and by whom, and
   their last act; and accounts of people whom the charter no longer names.
2. `/access confirm CODE` by an admin is the AccessReviewed entry. The code is the start of the digest of what
   was listed, so that nobody confirms another list than the one they read.
3. A list longer than a phone bears comes as a file, in private.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from html import escape

from bot.auditing import AUDITORS
from bot.auditing_entry import Readings
from bot.auditing_scope import pages
from bot.errands import Errands
from bot.order import Order
from bot.ports import Answer, Document
from bot.room import Room
from bot.roster import CHANNELS, Roster
from bot.stepup import CHANNEL as SECOND_FACTOR
from bot.words import at, foreign, plain
from handlers.charter import Person
from ledger import events as ev
from ledger.chain import BrokenChain, Entry, canonical, receipt
from ledger.events import ENGINEER, Event
from ledger.ledger import Refusal
from ledger.view import View, epoch_ms

MOST = 900
CODE = 8
HOW = "Send /access review to see who may do what, then /access confirm and the code that stands under it."
NOT_YOURS = "The list of who may do what goes to people with the role admin or auditor."


@dataclass
class Seen:
    """What the log says of people: the entry of each link that holds, and each person's last act."""

    links: dict[tuple[str, str], Entry] = field(default_factory=dict)
    acts: dict[str, Entry] = field(default_factory=dict)
    reviewed: Entry | None = None

    def take(self, entry: Entry) -> None:
        whose = (str(entry.data.get("person", "")), str(entry.data.get("channel", "")))
        match entry.event:
            case "Linked":
                self.links[whose] = entry
            case "Unlinked":
                self.links.pop(whose, None)
            case "AccessReviewed":
                self.reviewed = entry
        if entry.actor["kind"] == ENGINEER:
            self.acts[entry.actor["id"]] = entry


class Access:
    def __init__(self, errands: Errands) -> None:
        self._errands = errands
        self._readings = Readings()

    async def access(self, order: Order) -> Answer:
        """`/access review` and `/access confirm CODE`. Raises StoreDown."""
        if not AUDITORS & set(order.person.roles):
            return Answer(NOT_YOURS)
        match order.first.lower():
            case "review":
                await self._readings.note(order.room, order.person, order.said.act, "access")
                return await self._errands.do(order, _reviewed(order))
            case "confirm":
                return await self._errands.do(order, _confirmed(order))
        return Answer(HOW)


async def _reviewed(order: Order) -> Answer:
    if not order.said.private:
        return Answer("Who may do what is not for a group. Send me /access review in a private chat.")
    try:
        seen = await _seen(order.room)
    except BrokenChain as broken:
        return Answer(f"⚠️ The chain is broken. {broken} /audit verify says more.")
    people = [_person(order, person, seen) for person in order.room.people.people]
    code = digest(order.room, seen)[:CODE].upper()
    ask = f"Is this right? An admin sends\n<code>/access confirm {code}</code>"
    html = "\n\n".join([*people, *_gone(order, seen), _before(order, seen), ask])
    text = plain(html)
    if len(text) <= MOST or order.said.channel != "telegram":
        return Answer(text, html=html)
    short = f"{len(people)} people: the list is in the file.\n\n{_before(order, seen)}\n\n{ask}"
    file = Document(f"countersign-{order.room.tenant}-access.txt", text.encode())
    return Answer(plain(short), html=short, documents=(file,))


async def _confirmed(order: Order) -> Answer:
    """The review, if what was read is still so."""
    if "admin" not in order.person.roles:
        return Answer("Only an admin confirms who may do what.")
    try:
        seen = await _seen(order.room)
    except BrokenChain as broken:
        return Answer(f"⚠️ Not confirmed: the chain is broken. {broken}")
    found = digest(order.room, seen)
    if not order.rest or order.rest.upper() != found[:CODE].upper():
        return Answer(f"That code is not of the list as it is now. {HOW}")
    count, act = len(order.room.people.people), order.said.act

    def decide(view: View, now: datetime) -> Event | Refusal:
        reason = f"Roles and accounts of {count} people are right"
        return ev.AccessReviewed(decision="confirm", reason=reason, digest=found, people=count, act=act)

    made = await order.room.record(order.person, act, decide)
    if isinstance(made, Refusal):
        return Answer(f"Not confirmed: {made.why}")
    return Answer(f"On record: you reviewed {count} people.\n#{made.seq} · {receipt(made)}")


async def _seen(room: Room) -> Seen:
    seen = Seen()
    async for page in pages(room, 0, room.ledger.view.head.seq):
        for entry in page:
            seen.take(entry)
    return seen


def digest(room: Room, seen: Seen) -> str:
    """What a review is about: people, roles, and accounts, each by the entry that linked it or by charter."""
    people = [
        {"id": p.id, "roles": sorted(p.roles), "written": [c for c in CHANNELS if Roster.written(p, c)]}
        for p in room.people.people
    ]
    links = sorted(entry.hash for entry in seen.links.values())
    return sha256(canonical({"people": people, "links": links})).hexdigest()


def _person(order: Order, person: Person, seen: Seen) -> str:
    roles = ", ".join(person.roles) or "no role"
    accounts = [line for channel in CHANNELS if (line := _account(order, person, channel, seen))]
    factor = seen.links.get((person.id, SECOND_FACTOR))
    second = f" · second factor since {_when(order, factor)}" if factor else ""
    last = seen.acts.get(person.id)
    used = f"last act {_when(order, last)}, #{last.seq}" if last else "no act yet"
    lines = [
        f"<b>{foreign(person.name, 40)}</b> ({person.id}): {escape(roles, quote=False)}",
        (" · ".join(accounts) or "⚠️ no account: cannot be reached") + second,
        used,
    ]
    return "\n".join(lines)


def _account(order: Order, person: Person, channel: str, seen: Seen) -> str:
    if Roster.written(person, channel):
        return f"{channel} by charter"
    link = seen.links.get((person.id, channel))
    if link is None:
        return ""
    return f"{channel} since {_when(order, link)}, code from {link.data.get('issued_by', 'console')}"


def _gone(order: Order, seen: Seen) -> Sequence[str]:
    """Accounts of people whom the charter does not name any more. They count for nothing."""
    known = {person.id for person in order.room.people.people}
    lost = [f"{who} on {channel}" for who, channel in seen.links if who not in known]
    return [f"Linked once, in no charter now, so without any right: {', '.join(lost)}."] if lost else []


def _before(order: Order, seen: Seen) -> str:
    last = seen.reviewed
    if last is None:
        return "It was never reviewed before."
    return f"Last reviewed {_when(order, last)} by {last.actor['id']}, #{last.seq}."


def _when(order: Order, entry: Entry) -> str:
    return f"{at(epoch_ms(entry.at), order.zone):%Y-%m-%d %H:%M}"
