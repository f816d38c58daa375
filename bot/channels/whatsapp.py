"""WhatsApp, through Twilio: cards and answers out. A message that was sent is never changed.

1. A card goes out as its template, with its buttons. Where the template is approved (its sid is set) it goes
   at any hour. Where it is not, the same content goes inside the 24 hours after its reader last wrote, and
   outside of them nothing does: a SendError says so, and nobody is told that it was sent.
2. Each button carries a token of its own. What the message offered is kept as well, by its sid, for replies
   by swipe and for templates whose buttons cannot carry one.
3. Where no content can be had, inside the 24 hours, the card goes out as text with the words that decide.
4. Whoever sent STOP gets no card until START. Their own questions are answered.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlencode

from bot.channels.twilio_api import TwilioApi
from bot.channels.whatsapp_book import Book, Sent
from bot.channels.whatsapp_contents import Json, Offer, asking, codes, content, digest, filled, offers, same
from bot.channels.whatsapp_templates import variable
from bot.letters import TEMPLATES, Template
from bot.ports import Address, Answer, Button, Card, Document, SendError
from bot.tokens import Tokens
from bot.words import cap, plain
from ledger.store import StoreDown

log = logging.getLogger(__name__)

MOST_BODY = 1600
MOST_VARIABLE = 160
NAME = "cs_session"
CLOSED = (
    "Outside 24 hours after its reader last wrote, WhatsApp takes approved templates alone, and {} is not "
    "set. `python -m bot templates` makes them."
)
CLOSED_TEXT = "Outside 24 hours after its reader last wrote, WhatsApp takes no free text."
STOPPED = "Its reader sent STOP, and gets nothing on WhatsApp until START."


class WhatsAppChannel:
    """What we say on WhatsApp. *sids* are the approved contents by template; *status_url* gets callbacks."""

    name = "whatsapp"
    edits = False

    def __init__(
        self, api: TwilioApi, book: Book, tokens: Tokens, sids: Mapping[str, str], status_url: str = ""
    ) -> None:
        self._api = api
        self._book = book
        self._tokens = tokens
        self._sids = sids
        self._status_url = status_url
        self._making = asyncio.Lock()

    async def send(
        self, tenant: str, to: Address, card: Card, *, reply_to: str = "", silent: bool = False
    ) -> str:
        """Send *card* as its template, or as text; returns the message's sid. Raises SendError."""
        is_open = await self._may(to)
        template = TEMPLATES.get(card.template)
        approved = self._sids.get(card.template, "")
        if not (approved or is_open):
            raise SendError(CLOSED.format(variable(card.template or "cs_outcome")), permanent=True)
        sent = Sent(tenant, to.to, card.incident, to.recipient, offers(card), codes(card))
        if template:
            sid = approved or await self._session(card.template, template)
            message = self._with_buttons(sid, template, card.variables, sent)
            if sid and (delivered := await self._unless_refused(sent, message, is_open=is_open)):
                return delivered
        return await self._deliver(sent, {"body": _as_text(card, sent)})

    async def _unless_refused(self, sent: Sent, message: Mapping[str, str], *, is_open: bool) -> str:
        """The sid; empty where this content is refused and text may go instead. Raises SendError."""
        try:
            return await self._deliver(sent, message)
        except SendError as error:
            if not (error.permanent and is_open):
                raise
            log.warning("A content is refused, so text goes out. %s", error)
            await self._forget_contents()
            return ""

    async def _forget_contents(self) -> None:
        with suppress(StoreDown):
            await self._book.forget_contents()

    async def edit(self, tenant: str, to: Address, message: str, card: Card) -> None:
        """Never asked for: `edits` is false. Raises SendError."""
        raise SendError("WhatsApp cannot change a message that was sent.", permanent=True)

    async def retire(self, tenant: str, to: Address, message: str) -> None:
        """Nothing to do: old buttons stay, and a tap on one is told that it is old."""

    async def say(self, tenant: str, to: Address, answer: Answer, *, reply_to: str = "") -> str:
        """Send words, in as many messages as they need, then their buttons. Raises SendError."""
        if not await self._open(to):
            raise SendError(CLOSED_TEXT, permanent=True)
        sent, sid = Sent(tenant, to.to, recipient=to.recipient), ""
        text = plain(answer.html) or answer.text
        for body in pages(text):
            sid = await self._deliver(sent, {"body": body})
        return await self._ask(tenant, to, answer.rows) if answer.rows else sid

    async def hand(self, tenant: str, to: Address, document: Document, *, reply_to: str = "") -> str:
        """Nothing can be handed here: a file for WhatsApp would have to lie open on the web. Says so."""
        said = f"{document.name}: I cannot send files on WhatsApp. Ask me for it in Telegram, in private."
        return await self.say(tenant, to, Answer(said))

    async def _ask(self, tenant: str, to: Address, rows: Sequence[Sequence[Button]]) -> str:
        """The buttons of an answer, in a message of their own that a swipe can answer as well."""
        buttons = [button for row in rows for button in row]
        template, offered = asking(buttons)
        sent = Sent(tenant, to.to, recipient=to.recipient, offers=offered)
        about = cap(buttons[0].label.lstrip("✅ "), MOST_VARIABLE)
        if made := await self._session(NAME, template):
            message = self._with_buttons(made, template, [about], sent)
            if delivered := await self._unless_refused(sent, message, is_open=True):
                return delivered
        return await self._deliver(sent, {"body": f"{about}? Reply to this message with RUN."})

    def _with_buttons(
        self, sid: str, template: Template, values: Sequence[str], sent: Sent
    ) -> dict[str, str]:
        ids = {offer.title: self._token(sent, offer) for offer in sent.offers}
        return {"content_sid": sid, "content_variables": filled(template, values, ids)}

    def _token(self, sent: Sent, offer: Offer) -> str:
        return self._tokens.mint(sent.tenant, sent.number, offer.verb, offer.option, offer.anchor)

    async def _deliver(self, sent: Sent, message: Mapping[str, str]) -> str:
        sid = await self._api.send(sent.number, message, self._callback(sent))
        try:
            await self._book.keep(sid, sent)
        except StoreDown as error:
            log.warning("What a message offered was not kept, its buttons still say it: %s", error)
        return sid

    def _callback(self, sent: Sent) -> str:
        """Where Twilio says what becomes of the message. It comes back signed, and says what it is about."""
        if not self._status_url:
            return ""
        about = {"tenant": sent.tenant, "incident": sent.incident, "recipient": sent.recipient}
        return f"{self._status_url}?{urlencode({k: v for k, v in about.items() if v})}"

    async def _may(self, to: Address) -> bool:
        """Whether anything may be written; False where an approved template alone. Raises SendError."""
        try:
            if await self._book.stopped(to.to):
                raise SendError(STOPPED, permanent=True)
        except StoreDown as error:
            raise SendError(f"Whether {to.recipient} sent STOP is not known: {error}") from error
        return await self._open(to)

    async def _open(self, to: Address) -> bool:
        try:
            return await self._book.may_write(to.to)
        except StoreDown as error:
            raise SendError(f"Whether {to.recipient} wrote lately is not known: {error}") from error

    async def _session(self, name: str, template: Template) -> str:
        """The content for a message inside the 24 hours, made once; empty where there is none to be had."""
        wanted = content(name, template)
        try:
            async with self._making:
                return await self._book.content(digest(wanted)) or await self._made(wanted)
        except (SendError, StoreDown) as error:
            log.warning("No content for %s: %s The card goes out as text.", name, error)
            return ""

    async def _made(self, wanted: Json) -> str:
        found = await self._api.contents()
        sid = next((str(one["sid"]) for one in found if same(one, wanted)), "")
        sid = sid or await self._api.make_content(wanted)
        await self._book.keep_content(digest(wanted), sid)
        return sid


def _as_text(card: Card, sent: Sent) -> str:
    """The card in words, and at its end those that decide."""
    how = how_to_answer(sent.codes)
    return (
        f"{_shortened(card.plain, MOST_BODY - len(how) - 2)}\n\n{how}".strip()
        if how
        else card.plain[:MOST_BODY]
    )


def how_to_answer(codes: Sequence[str]) -> str:
    """Reply RUN 4812 or NO 4812; for two theories, which code is whose."""
    if len(codes) == 1:
        return f"Reply RUN {codes[0]} or NO {codes[0]}."
    if len(codes) == 2:
        return (
            f"Reply RUN {codes[0]} for theory A, RUN {codes[1]} for theory B, or NO {codes[0]} for neither."
        )
    return ""


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def pages(text: str, most: int = MOST_BODY) -> list[str]:
    """*text* in messages of at most *most* characters, cut between lines where that can be."""
    found: list[str] = []
    while len(text) > most:
        at = text.rfind("\n", 1, most)
        at = at if at > 0 else most
        found.append(text[:at])
        text = text[at:].lstrip("\n")
    return [*found, text] if text.strip() else found
