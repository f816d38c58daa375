"""`/oncall`, `/maintenance` and `/pause`: who is woken, who takes over, what is left alone until when.

Each change is an entry. Who is on the rota or an admin may say who takes over; who may approve something of a
service, or an admin, may declare its maintenance.
"""

from datetime import datetime

from bot.answer import receipted
from bot.order import Order, person_named
from bot.ports import Answer
from bot.until import HOW, NoInstant, until
from bot.words import at, hm, listed
from handlers import maintenance, manual
from handlers.charter import Charter, Person, Service
from handlers.charter_duty import ONCALL
from handlers.rota import turn, woken
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Event, Ref
from ledger.ledger import Decide, Refusal
from ledger.view import View, epoch_ms

NO_CHARTER = Answer("No charter is in force yet. An admin sends the console's code.")
TAKE = "Send /oncall override PERSON until 18:00 and why, or /oncall override off."
DECLARE = f"Send /maintenance SERVICE until 14:00 and why, or /maintenance SERVICE off. {HOW}"


async def oncall(order: Order) -> Answer:
    """`/oncall`, `/oncall override PERSON until … reason`, `/oncall override off`."""
    charter = order.room.charter
    if charter is None:
        return NO_CHARTER
    if order.first.lower() == "override":
        return await _override(order, charter)
    return Answer(f"{_who(order, charter)}\n{TAKE}")


def _who(order: Order, charter: Charter) -> str:
    now_ms = order.room.now_ms()
    now = turn(charter, order.room.ledger.view, now_ms)
    if now is None:
        names = [person.name for person in woken(charter, order.room.ledger.view, now_ms)]
        return f"There is no rota: {listed(names, 'and') or 'nobody'} {_are(names)} on call, always."
    name, instead = _name(order, now.person), _name(order, now.instead)
    are = f"{name[:1].upper()}{name[1:]} {'are' if name == 'you' else 'is'}"
    said = f"{are} on call until {_when(order, now.until_ms)}"
    said += f", instead of {instead}." if instead and now.instead != now.person else "."
    if not now.next:
        return f"{said} Then everybody with the role oncall."
    return f"{said} Then {_name(order, now.next)}."


def _are(names: list[str]) -> str:
    return "is" if len(names) < 2 else "are"


async def _override(order: Order, charter: Charter) -> Answer:
    may = "admin" in order.person.roles or (charter.rota and order.person.id in charter.rota.people)
    if not may:
        return Answer("Only an admin, or who is on the rota, says who takes over.")
    asked = order.with_words(order.rest)
    if asked.first.lower() == "off":
        return await _give_back(order)
    person = person_named(order.room, asked.first)
    if person is None:
        return Answer(f"I know no such person. {TAKE}")
    if ONCALL not in person.roles:
        return Answer(f"{person.name} has not the role oncall, so could not approve what is asked.")
    try:
        until_ms, why = until(asked.rest, order.room.now_ms(), order.room.zone(order.person))
    except NoInstant as no:
        return Answer(str(no))
    return await _take(order, person, until_ms, why)


async def _take(order: Order, person: Person, until_ms: int, why: str) -> Answer:
    words = await order.room.keep_words(why)
    taken = ev.OncallOverridden(
        decision="override",
        reason=f"{person.id} is on call",
        person=person.id,
        until_ms=until_ms,
        words=words,
        act=order.said.act,
    )
    made = await _record(order, lambda view, now: taken)
    name = "You" if person.id == order.person.id else person.name
    are, them = ("are", "you") if name == "You" else ("is", person.name)
    return _done(made, f"{name} {are} on call until {_when(order, until_ms)}. What opens now wakes {them}.")


async def _give_back(order: Order) -> Answer:
    def decide(view: View, now: datetime) -> Event | Refusal:
        now_ms = epoch_ms(now)
        if view.overridden is None or view.overridden.until_ms <= now_ms:
            return Refusal("nothing", "nobody has taken over")
        return ev.OncallOverridden(
            decision="override_ended",
            reason="The rota holds again",
            person=view.overridden.person,
            until_ms=now_ms,
            act=order.said.act,
        )

    return _done(await _record(order, decide), "The rota holds again.")


async def pause(order: Order) -> Answer:
    """`/pause [until …] [reason]`, the kill switch: nothing executes. Detection and telling go on."""
    until_ms, why = 0, order.words
    try:
        if order.first.lower() == "until":
            until_ms, why = until(order.words, order.room.now_ms(), order.room.zone(order.person))
    except NoInstant as no:
        return Answer(f"Not paused. {no}")
    words = await order.room.keep_words(why)

    def decide(view: View, now: datetime) -> Event | Refusal:
        if view.is_paused(epoch_ms(now)):
            return Refusal("paused", "it is paused already")
        return ev.Paused(
            decision="pause",
            reason="Paused by a person",
            until_ms=until_ms,
            words=words,
            act=order.said.act,
        )

    ends = f"{_when(order, until_ms)} or /resume" if until_ms else "/resume"
    text = f"Paused. Nothing executes until {ends}. I go on telling you what breaks."
    return _done(await _record(order, decide), text)


async def declare(order: Order) -> Answer:
    """`/maintenance`, `/maintenance SERVICE until … reason`, `/maintenance SERVICE off`."""
    charter = order.room.charter
    if charter is None:
        return NO_CHARTER
    if not order.words:
        return Answer("\n".join([*_left_alone(order, charter), DECLARE]))
    service = charter.service(order.first)
    if service is None:
        return Answer(f"There is no service {order.first[:40]}. {DECLARE}")
    if not manual.may(order.person, service):
        return Answer(f"Only an admin, or who may approve something of {service.id}, declares that.")
    if order.rest.lower() == "off":
        return await _end(order, service)
    try:
        until_ms, why = until(order.rest, order.room.now_ms(), order.room.zone(order.person))
    except NoInstant as no:
        return Answer(str(no))
    return await _begin(order, service, until_ms, why)


async def _begin(order: Order, service: Service, until_ms: int, why: str) -> Answer:
    if not why:
        return Answer("Why? Send it again with a reason behind the time; whoever looks later wants to know.")
    words = await order.room.keep_words(why)
    declared = ev.MaintenanceDeclared(
        decision="maintenance",
        reason=f"{service.id} is in maintenance",
        service=service.id,
        until_ms=until_ms,
        words=words,
        act=order.said.act,
    )
    made = await _record(order, lambda view, now: declared)
    until_said = _when(order, until_ms)
    text = (
        f"{service.id} is in maintenance until {until_said}: nothing runs on it, and nobody is woken for it."
    )
    return _done(made, f"{text} What policy sees is recorded, and told after that if it is still so.")


async def _end(order: Order, service: Service) -> Answer:
    def decide(view: View, now: datetime) -> Event | Refusal:
        now_ms = epoch_ms(now)
        if view.maintenance.get(service.id, 0) <= now_ms:
            return Refusal("nothing", f"nobody declared a maintenance of {service.id}")
        return ev.MaintenanceDeclared(
            decision="maintenance_ended",
            reason=f"The maintenance of {service.id} is over",
            service=service.id,
            until_ms=now_ms,
            act=order.said.act,
        )

    return _done(await _record(order, decide), f"The maintenance of {service.id} is over.")


def _left_alone(order: Order, charter: Charter) -> list[str]:
    view, now_ms = order.room.ledger.view, order.room.now_ms()
    found = [(one.id, maintenance.until_ms(charter, view, one.id, now_ms)) for one in charter.services]
    lines = [f"{name} is in maintenance until {_when(order, ends)}." for name, ends in found if ends]
    return lines or ["No service is in maintenance."]


async def _record(order: Order, decide: Decide) -> Entry | Refusal:
    return await order.room.record(order.person, order.said.act, decide)


def _done(made: Entry | Refusal, text: str) -> Answer:
    if isinstance(made, Refusal):
        return Answer(f"Not changed: {made.why or made.kind}.")
    return receipted(Answer(text, ref=Ref(seq=made.seq, hash=made.hash)))


def _name(order: Order, person: str) -> str:
    known = order.room.people.person(person)
    return "you" if person and person == order.person.id else known.name if known else person


def _when(order: Order, ms: int) -> str:
    """14:00 today, else Thu 2026-06-04 08:00, on the reader's own clock."""
    there, here = at(ms, order.zone), at(order.room.now_ms(), order.zone)
    return hm(ms, order.zone) if there.date() == here.date() else f"{there:%a %Y-%m-%d %H:%M}"
