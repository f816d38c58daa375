"""What we hear on WhatsApp: messages become taps and words for the desk, callbacks the state of what we sent.

1. A button's token says whose it is and what it wants. Where there is none (a template made by hand) or words
   answer a message by swipe, the message that they answer says it: it is ours and went to this very number.
2. A forwarded message decides nothing, and a bare yes approves nothing. Both are told so.
3. A number that no tenant knows gets one polite line an hour, and nothing of any tenant.
4. What was written while we were away is read from Twilio's list. It is never acted upon: its writer is asked
   to send it again. Only questions are answered, while they are fresh.
5. A message that did not arrive is told to *undelivered*, once it is certain; WhatsApp's "24 hours are over"
   (63016) is believed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import urlencode

from bot import phrases
from bot.channels.twilio_api import Received, TwilioApi
from bot.channels.whatsapp import how_to_answer
from bot.channels.whatsapp_book import FAILED, Book, Sent
from bot.channels.whatsapp_contents import Offer
from bot.channels.whatsapp_door import MESSAGES, read
from bot.channels.whatsapp_words import Wish, code, decides_nothing, opinion, wish
from bot.ingress import Arrived, Inbox
from bot.outbox import Outbox
from bot.ports import Address, Answer, Channel, Desk, Said, SendError, Tap, Verb
from bot.tokens import Tokens
from bot.words import about, cap
from ledger import events as ev
from ledger.clock import Clock
from ledger.events import Act, Event
from ledger.ledger import Decide, Refusal
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

log = logging.getLogger(__name__)

REPLY_S = 5.0
HOUR_S = 3600
LOOK_BACK = timedelta(hours=24)
LOOK_AGAIN_S = 30.0
FRESH_MS = 600_000
STOP, START = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE"}), frozenset({"START", "UNSTOP"})
QUESTIONS = frozenset({"status", "incidents", "incident", "audit", "help", "whoami"})
TOKEN_BARS = 4
APPROVES = frozenset({Verb.APPROVE, Verb.CONFIRM, Verb.ADOPT})

GIVEN_UP = "This could not be handled and is not tried again. Look at the card, then act again."
STOPPED = "Stopped: you get no more cards here. What is asked of you goes elsewhere. START brings them back."
STARTED = "Cards come here again. Send status, audit or help."
NOT_OFFERED = "That message does not offer this, and nothing was run. Send status to see where things stand."
WHICH = "Two theories stand there, so say which: reply RUN A or RUN B. Nothing was run."
WHY: Mapping[str, str] = {
    "63016": "its 24 hours were over and the message was not an approved template",
    "63018": "WhatsApp's rate limit was reached",
    "63024": "the number takes no WhatsApp",
}
"""What Twilio's errors mean (twilio.com/docs/whatsapp/api/error-code-mapping)."""

type Tenants = Callable[[str, str, str], Sequence[str]]
"""The tenants that (channel, chat, vendor id) may belong to, the likeliest first."""
type HasCode = Callable[[str, str], Awaitable[bool]]
"""Whether this tenant has this code open."""
type Undelivered = Callable[[str, str, str, str], Awaitable[None]]
"""Told tenant, incident, recipient and why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message from a person, and the message of ours that it answers, if it does."""

    sid: str
    number: str
    text: str
    act: Act
    payload: str = ""
    title: str = ""
    forwarded: bool = False
    late: bool = False
    to: Sent | None = None
    name: str = ""


class WhatsAppReceiver:
    """Handles what people write."""

    def __init__(
        self,
        channel: Channel,
        book: Book,
        outbox: Outbox,
        desk: Desk,
        tokens: Tokens,
        tenants: Tenants,
        has_code: HasCode,
        own_number: str,
        clock: Clock,
    ) -> None:
        self._channel = channel
        self._book = book
        self._outbox = outbox
        self._desk = desk
        self._tokens = tokens
        self._tenants = tenants
        self._has_code = has_code
        self._own = own_number
        self._clock = clock

    async def handle(self, arrived: Arrived) -> None:
        """Answer one message, in the chat where it was written. Raises StoreDown."""
        fields = dict(read(arrived.raw))
        number = fields.get("From", "").removeprefix("whatsapp:")
        if number == self._own:
            return
        await self._book.heard(number, int(arrived.meta["at_ms"]))
        replied = await self._book.sent(fields.get("OriginalRepliedMessageSid", ""), number)
        heard = _heard(arrived, fields, number, replied)
        tenant, answer = await self._answer(heard)
        if answer is not None:
            await self._reply(tenant, number, answer)

    async def give_up(self, arrived: Arrived) -> None:
        """Tell the person that we could not make anything of what they wrote."""
        number = dict(read(arrived.raw)).get("From", "").removeprefix("whatsapp:")
        if self._known(number):
            await self._reply("", number, Answer(GIVEN_UP))

    def known(self, number: str) -> bool:
        """Whether *number* is a person's of any tenant."""
        return bool(self._known(number))

    async def _answer(self, heard: Heard) -> tuple[str, Answer | None]:
        """Whose it is, and what is said to it."""
        if heard.late:
            return "", await self._late(heard)
        if not (heard.to or self.known(heard.number)):
            return "", await self._stranger(heard)
        if heard.payload or heard.title:
            return await self._tapped(heard)
        tenant = await self._tenant(heard)
        if heard.forwarded:
            await self._desk.tapped(tenant, self._tap(heard, Verb.AUDIT, "", genuine=False))
            return tenant, Answer(phrases.forwarded())
        return tenant, await self._words(tenant, heard)

    # taps

    async def _tapped(self, heard: Heard) -> tuple[str, Answer]:
        """A button: what it wants stands in its token, else in the message that it stood under."""
        tenant, tap = self._by_token(heard)
        if tap is None and heard.to:
            tenant = heard.to.tenant
            offer = next((one for one in heard.to.offers if one.title == heard.title), None)
            if offer is None and not heard.forwarded:
                return tenant, Answer(NOT_OFFERED)
            tap = self._offered(heard, offer) if offer else None
        tap = tap or self._tap(heard, Verb.AUDIT, "", genuine=False)
        if heard.forwarded:
            await self._desk.tapped(tenant, replace(tap, genuine=False))
            return tenant, Answer(phrases.forwarded())
        return tenant, await self._desk.tapped(tenant, tap)

    def _by_token(self, heard: Heard) -> tuple[str, Tap | None]:
        """The tap that its token names; none where the payload is no token of anybody's."""
        tenants = [*([heard.to.tenant] if heard.to else []), *self._known(heard.number)]
        for tenant in tenants:
            choice = self._tokens.read(heard.payload, tenant, heard.number)
            if choice.genuine:
                return tenant, self._tap(heard, choice.verb, choice.anchor, choice.option)
        if heard.payload.count("|") < TOKEN_BARS:
            return tenants[0], None
        return tenants[0], self._tap(heard, Verb.AUDIT, "", genuine=False)

    def _offered(self, heard: Heard, offer: Offer, words: str = "") -> Tap:
        tap = self._tap(heard, offer.verb, offer.anchor, offer.option)
        return replace(tap, words=words)

    def _tap(self, heard: Heard, verb: Verb, anchor: str, option: str = "", *, genuine: bool = True) -> Tap:
        return Tap(
            channel=self._channel.name,
            vendor_id=heard.number,
            chat=heard.number,
            verb=verb,
            anchor=anchor,
            act=heard.act,
            option=option,
            genuine=genuine,
            private=True,
        )

    # words

    async def _words(self, tenant: str, heard: Heard) -> Answer | None:
        if answer := await self._stop_or_start(heard):
            return answer
        if heard.to and (said := opinion(heard.text, heard.to.incident)):
            return await self._desk.said(heard.to.tenant, replace(self._said(heard), text=said))
        asked = wish(heard.text) if heard.to and heard.to.offers else None
        if heard.to and asked:
            return await self._wished(heard, heard.to, asked)
        if decides_nothing(heard.text):
            return await self._decides_nothing(tenant, heard)
        return await self._desk.said(tenant, self._said(heard))

    async def _wished(self, heard: Heard, to: Sent, asked: Wish) -> Answer:
        """Words that answer a card by swipe: the tap on its button, where it has exactly one such."""
        verbs = APPROVES if asked.verb is Verb.APPROVE else {asked.verb}
        fit = [o for o in to.offers if o.verb in verbs and asked.option in {"", o.option}]
        if not fit:
            return Answer(NOT_OFFERED)
        if len(fit) > 1:
            return Answer(WHICH)
        return await self._desk.tapped(to.tenant, self._offered(heard, fit[0], asked.words))

    async def _decides_nothing(self, tenant: str, heard: Heard) -> Answer:
        """A bare yes, or RUN without saying what, is on record. Which words would decide."""
        await self._desk.tapped(tenant, self._tap(heard, Verb.AUDIT, ""))
        newest = heard.to or await self._book.newest(heard.number)
        words = how_to_answer(newest.codes) if newest else ""
        if not words and heard.to and any(one.verb in APPROVES for one in heard.to.offers):
            words = "Reply to that message with RUN."
        words = words or "Send RUN and the code of the request, or NO and the code."
        return Answer(f"“{cap(heard.text, 20)}” alone decides nothing, and nothing was run. {words}")

    async def _stop_or_start(self, heard: Heard) -> Answer | None:
        word = heard.text.strip().upper()
        if word in STOP:
            await self._book.stop(heard.number)
            return Answer(STOPPED)
        if word in START and await self._book.resume(heard.number):
            return Answer(STARTED)
        return None

    async def _stranger(self, heard: Heard) -> Answer | None:
        """A link code makes a stranger known; else one line an hour."""
        answer = await self._desk.said("", self._said(heard))
        if self._known(heard.number):
            return answer
        first = await self._book.first(f"stranger:{heard.number}", heard.sid, HOUR_S)
        return answer if first else None

    async def _late(self, heard: Heard) -> Answer | None:
        """Something from Twilio's list. Questions are answered; what would act is to be sent again."""
        if not self._known(heard.number) or heard.forwarded:
            return None
        age_ms = epoch_ms(self._clock.now()) - heard.act.at_ms
        question = heard.text.strip().lstrip("/").partition(" ")[0].lower() in QUESTIONS
        if question and age_ms < FRESH_MS:
            return await self._desk.said(await self._tenant(heard), self._said(heard))
        if not await self._book.first(f"late:{heard.number}", heard.sid, HOUR_S):
            return None
        said = f"While I was away, {about(age_ms)} ago, you wrote “{cap(heard.text, 60)}”."
        return Answer(f"{said} Nothing was done with it. Send it again if it still holds.")

    def _said(self, heard: Heard) -> Said:
        return Said(
            channel=self._channel.name,
            vendor_id=heard.number,
            chat=heard.number,
            text=heard.text,
            act=heard.act,
            private=True,
            name=heard.name,
            reply_to=heard.act.message,
        )

    async def _tenant(self, heard: Heard) -> str:
        """Whom words are for: whose message they answer, whose code they name, whose card came last."""
        tenants = self._known(heard.number)
        if heard.to:
            return heard.to.tenant
        if len(tenants) < 2:
            return next(iter(tenants), "")
        if digits := code(heard.text):
            for tenant in tenants:
                if await self._has_code(tenant, digits):
                    return tenant
        newest = await self._book.newest(heard.number)
        return newest.tenant if newest and newest.tenant in tenants else tenants[0]

    def _known(self, number: str) -> Sequence[str]:
        return self._tenants(self._channel.name, number, number)

    async def _reply(self, tenant: str, number: str, answer: Answer) -> None:
        """Say it. What takes longer is in the outbox's hands; Twilio being away must not decide twice."""
        saying = self._outbox.say(self._channel, tenant, Address(self._channel.name, number, ""), answer)
        try:
            async with asyncio.timeout(REPLY_S):
                await saying
        except (SendError, TimeoutError) as error:
            log.warning("An answer was not delivered yet: %r", error)


class StatusReceiver:
    """Handles what Twilio says of the messages that we sent."""

    def __init__(self, book: Book, undelivered: Undelivered) -> None:
        self._book = book
        self._undelivered = undelivered

    async def handle(self, arrived: Arrived) -> None:
        """Note it; tell *undelivered* of a card that did not arrive. Raises StoreDown."""
        fields = dict(read(arrived.raw))
        status, error = fields["MessageStatus"], fields.get("ErrorCode", "")
        moved = await self._book.move(fields["MessageSid"], status, error)
        if status not in FAILED:
            return
        log.warning("A WhatsApp message was not delivered, error %s%s.", error, "" if moved else ", again")
        if error == "63016":
            await self._book.shut(fields.get("To", "").removeprefix("whatsapp:"))
        tenant, incident, recipient = (arrived.meta.get(n, "") for n in ("tenant", "incident", "recipient"))
        if incident and recipient:
            await self._undelivered(tenant, incident, recipient, why(error))

    async def give_up(self, arrived: Arrived) -> None:
        """Nobody waits for it."""


def why(error: str) -> str:
    """What an error code of Twilio's means, in words that may stand in the ledger."""
    known = WHY.get(error)
    return f"{known} (Twilio error {error})" if known else f"Twilio error {error or 'unknown'}"


class Missed:
    """Brings what was written while we were away, from Twilio's list, into the inbox."""

    def __init__(self, api: TwilioApi, inbox: Inbox, book: Book, clock: Clock, lost: asyncio.Event) -> None:
        self._api = api
        self._inbox = inbox
        self._book = book
        self._clock = clock
        self._lost = lost

    async def run(self) -> None:
        """Look at the start, and again whenever something was lost, until cancelled."""
        while True:
            self._lost.clear()
            try:
                await self.look()
            except (SendError, StoreDown) as error:
                log.warning("What was missed on WhatsApp is not known yet: %s", error)
                self._lost.set()
                await self._clock.sleep(LOOK_AGAIN_S)
            await self._lost.wait()

    async def look(self) -> int:
        """Put what the inbox has not seen into it; returns how many. Raises SendError, StoreDown."""
        found = await self._api.received(self._clock.now() - LOOK_BACK)
        return sum([await self._put(one) for one in found])

    async def _put(self, one: Received) -> bool:
        await self._book.heard(one.number, one.at_ms)
        raw = urlencode({"MessageSid": one.sid, "From": f"whatsapp:{one.number}", "Body": one.body}).encode()
        meta = {
            "digest": sha256(raw).hexdigest(),
            "at_ms": str(one.at_ms),
            "order": one.number,
            "late": "1",
        }
        return await self._inbox.put(MESSAGES, one.sid, raw, meta)


def page_failed(incident: str, recipient: str, why: str) -> Decide:
    """That a card did not arrive, once for each incident and recipient."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        found = view.incidents.get(incident)
        if found is None:
            return Refusal("unknown")
        noted = found.every(ev.PageFailed)
        if any((event.recipient, event.channel) == (recipient, "whatsapp") for _, event in noted):
            return Refusal("noted")
        return ev.PageFailed(
            incident_id=incident,
            decision="page_failed",
            reason=f"WhatsApp did not deliver to {recipient}",
            recipient=recipient,
            channel="whatsapp",
            why=why,
        )

    return decide


def _heard(arrived: Arrived, fields: Mapping[str, str], number: str, to: Sent | None) -> Heard:
    act = Act(
        channel="whatsapp",
        update=arrived.id,
        message=fields.get("OriginalRepliedMessageSid", ""),
        digest=arrived.meta.get("digest", ""),
        at_ms=int(arrived.meta["at_ms"]),
    )
    forwarded = (fields.get(name, "") == "true" for name in ("Forwarded", "FrequentlyForwarded"))
    return Heard(
        sid=arrived.id,
        number=number,
        text=fields.get("Body", ""),
        act=act,
        payload=fields.get("ButtonPayload", ""),
        title=fields.get("ButtonText", ""),
        forwarded=any(forwarded),
        late="late" in arrived.meta,
        to=to,
        name=fields.get("ProfileName", ""),
    )
