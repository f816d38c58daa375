"""`/run`, `/declare` and `/dlq`: what a person begins, and what failed for good.

Nothing here runs anything. Each makes a request that others approve, or an incident that policy did not see.
"""

import asyncio

from bot.answer import receipted
from bot.duty import NO_CHARTER
from bot.order import Order
from bot.ports import Answer
from bot.words import at, foreign, plain
from handlers import manual
from handlers.charter import Action, Charter, Service
from handlers.charter_parameters import BadParameter, spoken
from ledger import events as ev
from ledger.events import Actor, Given, Ref
from ledger.ledger import Refusal

MOST = 8
RUN = "Send /run SERVICE ACTION, with name=value behind it where it takes parameters."
DECLARE = "Send /declare SERVICE and what you see."
REPLAY = "Send /dlq replay NUMBER: it asks again, with a fresh approval. /outcome tells what you found out."


async def run(order: Order) -> Answer:
    """`/run SERVICE ACTION [name=value …]`: the same request as policy's, approved by somebody else."""
    charter = order.room.charter
    if charter is None:
        return NO_CHARTER
    service, action = charter.service(order.first), None
    name, *values = order.rest.split() or [""]
    if service:
        action = service.action(name)
    if service is None or action is None:
        return Answer("\n".join([*_runnable(charter, service), RUN]))
    try:
        given = action.fill(dict(_pair(value) for value in values))
    except BadParameter as bad:
        return Answer(f"Nothing was asked. {bad}. {_form(service, action)}")
    return await propose(order, service.id, action.id, given)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise BadParameter(f"{word[:40]} is no name=value. Leave blanks out of it")
    return name, value


async def propose(order: Order, service: str, action: str, given: tuple[Given, ...]) -> Answer:
    """Make the request. Raises StoreDown."""
    room, person, act = order.room, order.person, order.said.act
    actor = Actor.engineer(person.id, act.channel)
    wish = manual.Wish(room.rulebook, person, service, action, given, act)
    _, made = await asyncio.gather(
        room.ledger.record(actor, wish.ready), room.record(person, act, wish.proposed)
    )
    if isinstance(made, Refusal):
        return Answer(f"Nothing was asked: {_why(made)}.")
    text = (
        f"{made.incident_id}: proposed. Policy looks, then others are asked; you do not approve it yourself."
    )
    return receipted(Answer(text, ref=Ref(seq=made.seq, hash=made.hash)))


def _why(refusal: Refusal) -> str:
    if refusal.kind == "taken":
        return f"{refusal.why or 'it'} is asking or running something already. Deny that first, or wait"
    return refusal.why or refusal.kind.replace("_", " ")


def _runnable(charter: Charter, service: Service | None) -> list[str]:
    """What there is, of one service or of all."""
    found = [(one, action) for one in ([service] if service else charter.services) for action in one.actions]
    return [_form(one, action) for one, action in found[:MOST]] or ["The charter names no action."]


def _form(service: Service, action: Action) -> str:
    values = " ".join(f"{one.id}={one.default or '…'}" for one in action.parameters if not one.fixed)
    return f"/run {service.id} {action.id} {values}".rstrip() + f": {plain(foreign(action.title, 60))}"


async def declare(order: Order) -> Answer:
    """`/declare SERVICE text`: an incident that policy did not see. People are told, models are asked."""
    charter = order.room.charter
    if charter is None:
        return NO_CHARTER
    service = charter.service(order.first)
    if service is None:
        names = ", ".join(one.id for one in charter.services) or "none"
        return Answer(f"There is no such service; there are {names}. {DECLARE}")
    if not manual.may(order.person, service):
        return Answer(f"Only an admin, or who may approve something of {service.id}, declares that.")
    if not order.rest:
        return Answer(f"What do you see? {DECLARE}")
    words = await order.room.keep_words(order.rest)
    made = await order.room.record(
        order.person, order.said.act, manual.declared(service.id, order.said.act, words)
    )
    if isinstance(made, Refusal):
        name = made.why if made.kind == "open" else ""
        return Answer(f"{name} is open already. /incident {name}" if name else f"Not declared: {made.why}")
    text = f"{made.incident_id} is open. People are told now. You close it with /resolve."
    return receipted(Answer(text, ref=Ref(seq=made.seq, hash=made.hash)))


async def dlq(order: Order) -> Answer:
    """`/dlq` and `/dlq replay NUMBER`."""
    if order.room.charter is None:
        return NO_CHARTER
    found = manual.dead(order.room.ledger.view)
    if order.first.lower() != "replay":
        lines = [_line(order, one) for one in found[:MOST]]
        more = [f"And {len(found) - MOST} older."] if len(found) > MOST else []
        return Answer(
            "\n".join([*lines, *more, REPLAY]) if lines else "Nothing failed for good. The queue is empty."
        )
    number = order.rest.removeprefix("#")
    letter = next((one for one in found if str(one.fact.seq) == number), None)
    if letter is None:
        return Answer(f"There is no such dead letter. {REPLAY}")
    return await propose(order, letter.service, letter.action, letter.given)


def _line(order: Order, one: manual.Dead) -> str:
    event = one.fact.event
    why = event.why if isinstance(event, ev.WebhookFailed | ev.OutcomeUnknown) else ""
    what = "nobody knows whether it ran" if one.unknown else "failed"
    values = f" with {spoken(one.given)}" if one.given else ""
    when = f"{at(one.fact.at_ms, order.zone):%a %H:%M}"
    said = f"#{one.fact.seq} {when} {one.incident}: {one.title}{values}: {what}."
    return f"{said} {plain(foreign(why, 90))}".rstrip()
