"""Twilio's door: what it posts is stored durably before it is told so.

1. A post counts only with Twilio's signature over PUBLIC_BASE_URL and the path as it came, and over every
   field that came: a proxy's own idea of the address is never used. Without PUBLIC_BASE_URL nothing counts.
2. The same message twice is one message, by its MessageSid; the same step of a delivery is one step.
3. While Redis is away, a person we know is told at once that nothing was run, and that holds. Twilio does
   not send it again, so *lost* asks for a look at its list.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from html import escape
from urllib.parse import parse_qsl

from aiohttp import web

from bot import phrases
from bot.ingress import Inbox, TurnedAway, body, unseen
from ledger.clock import Clock
from ledger.events import Act
from ledger.store import StoreDown
from ledger.view import epoch_ms

log = logging.getLogger(__name__)

MESSAGES, STATUSES = "whatsapp", "whatsapp-status"
MOST_BODY = 2**17
MOST_FIELDS = 200
ABOUT = ("tenant", "incident", "recipient")

type Fields = Sequence[tuple[str, str]]
type Signed = Callable[[str, Fields, Mapping[str, str]], bool]
"""Whether Twilio sent these fields to this address, by the request's headers."""


class WhatsAppDoor:
    """*signed* checks a signature; *known* tells the numbers of people from all others."""

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        base_url: str,
        signed: Signed,
        known: Callable[[str], bool],
        turned_away: TurnedAway = unseen,
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._signed = signed
        self._known = known
        self._turned_away = turned_away
        self.lost = asyncio.Event()

    async def message(self, request: web.Request) -> web.Response:
        """`POST /twilio/whatsapp`: somebody wrote. 200 means: durably stored, or answered as not run."""
        raw, fields = await self._form(request)
        sid, number = fields.get("MessageSid", ""), fields.get("From", "").removeprefix("whatsapp:")
        if not sid or not number:
            raise web.HTTPBadRequest(text="A message has a MessageSid and a From.")
        meta = self._meta(raw) | {"order": number}
        try:
            await self._inbox.put(MESSAGES, sid, raw, meta)
        except StoreDown as error:
            log.warning("Message %s was not stored: %s", sid, error)
            self.lost.set()
            if not self._inbox.disown(MESSAGES, sid):
                return _twiml()
            return _twiml(phrases.ledger_away() if self._known(number) else "")
        return _twiml()

    async def status(self, request: web.Request) -> web.Response:
        """`POST /twilio/status`: how far a message of ours has come. What it is about stands in the query."""
        raw, fields = await self._form(request)
        sid, status = fields.get("MessageSid", ""), fields.get("MessageStatus", "")
        if not sid or not status:
            raise web.HTTPBadRequest(text="A status has a MessageSid and a MessageStatus.")
        about = {name: request.query.get(name, "") for name in ABOUT}
        try:
            await self._inbox.put(STATUSES, f"{sid}:{status}", raw, self._meta(raw) | about | {"order": sid})
        except StoreDown as error:
            log.warning("Status %s of %s was not stored: %s", status, sid, error)
            raise web.HTTPServiceUnavailable(text="Redis is away.") from None
        return _twiml()

    async def _form(self, request: web.Request) -> tuple[bytes, Mapping[str, str]]:
        if not self._base_url:
            raise web.HTTPServiceUnavailable(
                text="PUBLIC_BASE_URL is not set, so no signature can be checked."
            )
        raw = await body(request, MOST_BODY)
        try:
            fields = read(raw)
        except ValueError:
            raise web.HTTPBadRequest(text="This is not a form.") from None
        if not self._signed(self._base_url + request.raw_path, fields, request.headers):
            digest = sha256(raw).hexdigest()
            at_ms = epoch_ms(self._clock.now())
            await self._turned_away("forged_update", Act(channel=MESSAGES, digest=digest, at_ms=at_ms))
            raise web.HTTPForbidden(text="This is not Twilio's signature for this address.")
        return raw, dict(fields)

    def _meta(self, raw: bytes) -> dict[str, str]:
        return {"digest": sha256(raw).hexdigest(), "at_ms": str(epoch_ms(self._clock.now()))}


def read(raw: bytes) -> list[tuple[str, str]]:
    """Every field of a form, blank ones too: the signature is over all of them. Raises ValueError."""
    return parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, strict_parsing=False)


def _twiml(text: str = "") -> web.Response:
    said = f"<Message>{escape(text, quote=False)}</Message>" if text else ""
    return web.Response(
        text=f"<Response>{said}</Response>" if said else "<Response/>", content_type="text/xml"
    )
