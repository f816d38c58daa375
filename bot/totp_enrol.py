"""`/totp`: a person's second factor, shown once in private, and how it is taken back.

The first enrolment believes the private chat. After that the chat alone changes nothing: another admin takes
an enrolment back, `/totp reset PERSON`, so that a stolen chat cannot make itself a new second factor.
"""

from datetime import datetime
from html import escape

from bot.answer import receipted
from bot.order import Order, person_named
from bot.ports import Answer
from bot.stepup import CHANNEL, StepUp
from bot.totp import address
from ledger import events as ev
from ledger.events import Event, Ref
from ledger.ledger import Refusal
from ledger.view import View

ENROLLED = (
    "You are enrolled. For a code, look into your app. A lost one is taken back by another admin, with "
    "/totp reset {}; then /totp enrols anew."
)
ALONE = "Only another admin takes an enrolment back: /totp reset PERSON. Nobody does it for themself."


async def totp(order: Order, step_up: StepUp | None) -> Answer:
    """`/totp` enrols; `/totp reset PERSON`, by another admin, ends an enrolment. Raises StoreDown."""
    if step_up is None:
        return Answer("One-time codes are not set up here.")
    if order.first.lower() == "reset":
        return await _reset(order.with_words(order.rest))
    if not order.said.private:
        return Answer("This is not for a group. Send me /totp in a private chat.")
    return await _enrol(order, step_up)


async def _enrol(order: Order, step_up: StepUp) -> Answer:
    room, person = order.room, order.person
    fresh = step_up.fresh(room, person)

    def decide(view: View, now: datetime) -> Event | Refusal:
        if step_up.enrolled(room, person) is not None:
            return Refusal("enrolled")
        return ev.Linked(
            decision="link",
            reason=f"{person.name} has a second factor",
            person=person.id,
            channel=CHANNEL,
            identity=fresh,
            issued_by=person.id,
            act=order.said.act,
        )

    made = await room.record(person, order.said.act, decide)
    if isinstance(made, Refusal):
        return Answer(ENROLLED.format(person.id) if made.kind == "enrolled" else f"Not enrolled: {made.why}")
    secret = step_up.secret(room, person, str(made.data["identity"]))
    uri = address(secret, f"Countersign {room.tenant}", person.id)
    text = "Put this into your authenticator app now, then delete this message. It is shown once."
    html = f"{text}\n<code>{escape(uri, quote=False)}</code>"
    return receipted(Answer(f"{text}\n{uri}", html=html, ref=Ref(seq=made.seq, hash=made.hash)))


async def _reset(order: Order) -> Answer:
    room, whose = order.room, person_named(order.room, order.first)
    if whose is None or whose.id == order.person.id or "admin" not in order.person.roles:
        return Answer(ALONE)
    name, act = whose.id, order.said.act

    def decide(view: View, now: datetime) -> Event | Refusal:
        if (name, CHANNEL) not in view.links:
            return Refusal("not_linked", f"{name} is not enrolled")
        reason = f"{name} on {CHANNEL}, by {order.person.id}"
        return ev.Unlinked(decision="unlink", reason=reason, person=name, channel=CHANNEL, act=act)

    made = await room.record(order.person, act, decide)
    if isinstance(made, Refusal):
        return Answer(f"Not changed: {made.why}.")
    told = f"The second factor of {whose.name} is taken back. They enrol anew with /totp."
    return receipted(Answer(told, ref=Ref(seq=made.seq, hash=made.hash)))
