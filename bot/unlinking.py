"""How an account that was linked stops speaking for a person: by themself, by an admin, or by the charter.

1. Unlinked stands in the ledger first, an entry a channel; the vendor's id itself is forgotten after it.
2. Who is in no charter any more loses every link, in the name of the admin who adopted it: if they ever come
   back, no old account comes back with them. What a crash left over goes with the next adoption.
3. An id that is written in the charter is no link: it goes by a changed charter.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from bot.answer import receipted
from bot.order import Order, person_named
from bot.ports import Answer
from bot.room import Room
from bot.stepup import CHANNEL as SECOND_FACTOR
from handlers.charter import Charter, Person
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Act, Actor, Event
from ledger.ledger import Refusal
from ledger.view import View

HOW = "Send /unlink to unlink this account, or as an admin /unlink PERSON."


async def unlink(order: Order) -> Answer:
    """`/unlink`, of the account it comes from; by an admin `/unlink PERSON`, of every account of theirs."""
    room, me = order.room, order.person
    person = person_named(room, order.first) if order.words else me
    if person is None:
        return Answer(f"I know no such person. {HOW}")
    if order.words and "admin" not in me.roles:
        return Answer(f"Only an admin can unlink others. {HOW}")
    wanted = [channel for name, channel in room.ledger.view.links if name == person.id]
    if order.words:  # nobody takes their own second factor back
        wanted = [channel for channel in wanted if channel != SECOND_FACTOR or person.id != me.id]
    else:
        wanted = [channel for channel in wanted if channel == order.said.channel]
    made = await _all(room, me, order.said.act, [(person.id, channel) for channel in wanted])
    if not made:
        return Answer(f"No account of {person.name} is linked by a code here. {_written(room, person)}{HOW}")
    entry = made[-1]
    told = f"Unlinked: {person.name} on {', '.join(str(one.data['channel']) for one in made)}."
    return receipted(Answer(told, ref=ev.Ref(seq=entry.seq, hash=entry.hash)))


async def unlink_gone(room: Room, person: Person, act: Act, charter: Charter) -> None:
    """Unlink everybody whom *charter*, which *person* has just adopted, does not name."""
    gone = [link for link in room.ledger.view.links if charter.person(link[0]) is None]
    await _all(room, person, act, gone)


async def _all(room: Room, by: Person, act: Act, links: Collection[tuple[str, str]]) -> Sequence[Entry]:
    """What was appended. A link that is not there any more is left out."""
    made = [await _one(room, by, act, name, channel) for name, channel in links]
    return [entry for entry in made if isinstance(entry, Entry)]


async def _one(room: Room, by: Person, act: Act, name: str, channel: str) -> Entry | Refusal:
    def decide(view: View, now: datetime) -> Event | Refusal:
        if (name, channel) not in view.links:
            return Refusal("not_linked")
        reason = f"{name} on {channel}, by {by.id}"
        return ev.Unlinked(decision="unlink", reason=reason, person=name, channel=channel, act=act)

    made = await room.ledger.record(Actor.engineer(by.id, act.channel), decide)
    if isinstance(made, Entry):
        await room.roster.unlink(name, channel)
    return made


def _written(room: Room, person: Person) -> str:
    here = [channel for channel in ("telegram", "whatsapp") if room.roster.written(person, channel)]
    return f"On {' and '.join(here)} the charter itself names them. " if here else ""
