"""A Twilio server: WhatsApp and SMS as far as a program can see them, and the hands of who uses them.

1. A number may be written to freely for 24 hours after it last wrote. Outside, only an approved template
   gets through; anything else is accepted, and then fails with 63016 in its status callback.
1. A number may be written to freely for 24 h after it last wrote. Outside, only an approved template gets
   through; anything else is accepted, and then fails with 63016 in its status callback.

Sources: twilio.com/docs/messaging/api/message-resource, /docs/usage/security (signature),
/docs/api/errors/63016; the inbound fields are those of a captured quick reply.
"""

import asyncio
import base64
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from bot.sandbox.content import SESSION_BUTTONS, BadContent, Button, Content, Json, read_content
from bot.sandbox.loopback import Bell, Served, epoch, is_loopback, serve

WINDOW_S = 24 * 3600.0
BODY_CHARACTERS = 1600
INBOUND_LASTS = aiohttp.ClientTimeout(total=15)
ADDRESS = re.compile(r"(whatsapp:)?\+[1-9]\d{6,14}")
GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWICE = frozenset("^{}\\[~]|€")

type Answer = tuple[Json, int]
type Form = dict[str, str]


class TwilioRefused(Exception):
    """What the REST API answers instead of a message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {
            "code": code,
            "message": message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        }


@dataclass(slots=True)
class Text:
    """One message; `at` is monotonic seconds, `trail` every state with its time."""

    sid: str
    sender: str
    to: str
    body: str
    at: float
    date: int
    inbound: bool = False
    buttons: list[Button] = field(default_factory=list)
    reply_to: str = ""
    template: str = ""
    callback: str = ""
    status: str = "queued"
    error: int | None = None
    trail: list[tuple[float, str]] = field(default_factory=list)

    @property
    def number(self) -> str:
        """The person's side of it."""
        return (self.sender if self.inbound else self.to).removeprefix("whatsapp:")

    @property
    def is_whatsapp(self) -> bool:
        return self.to.startswith("whatsapp:")


def segments(text: str) -> int:
    """How many SMS *text* is: 160 or 153 GSM-7 characters each, else 70 or 67 UTF-16 units."""
    if all(c in GSM or c in GSM_TWICE for c in text):
        size, one, more = sum(2 if c in GSM_TWICE else 1 for c in text), 160, 153
    else:
        size, one, more = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if size <= one else -(-size // more)


def signature(token: str, url: str, form: Form) -> str:
    """X-Twilio-Signature: HMAC-SHA1 over the address and the sorted fields."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()


class Twilio:
    """The server; `url` is what the bot is told as TWILIO_API_BASE_URL."""

    def __init__(self, account: str, token: str, sender: str = "+14155238886") -> None:
        self.account, self.token, self.sender = account, token, sender
        self.inbound_url = ""
        """Where a person's messages are posted: set in Twilio's console, never by a program."""
        self.names: Form = {}
        self.texts: dict[str, Text] = {}
        self.contents: dict[str, Content] = {}
        self.bell = Bell()
        self.mood: int | str = 0
        """An HTTP status that every call is answered with, or `hang`."""
        self.undeliverable: set[str] = set()
        self.inbound_statuses: list[int] = []
        self.url = ""
        self._wrote: dict[str, float] = {}
        self._served: Served | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # up and down

    async def start(self, port: int = 0) -> str:
        """Listens, and returns the address."""
        app = web.Application()
        messages = "/2010-04-01/Accounts/{account}/Messages"
        for method, path, handler in (
            ("POST", f"{messages}.json", self._create),
            ("GET", f"{messages}.json", self._list),
            ("GET", messages + "/{sid}.json", self._fetch),
            ("POST", "/v1/Content", self._create_content),
            ("GET", "/v1/Content", self._list_contents),
            ("GET", "/v1/Content/{sid}", self._fetch_content),
            ("DELETE", "/v1/Content/{sid}", self._delete_content),
            ("POST", "/v1/Content/{sid}/ApprovalRequests/whatsapp", self._submit),
            ("GET", "/v1/Content/{sid}/ApprovalRequests", self._approval),
        ):
            app.router.add_route(method, path, self._guarded(handler))
        self._served = await serve(app, port)
        self.url = self._served.url
        self._session = aiohttp.ClientSession(timeout=INBOUND_LASTS)
        return self.url

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()
        if self._served:
            await self._served.close()

    # people

    def add_person(self, number: str, name: str) -> None:
        self.names[number] = name

    def in_window(self, number: str) -> bool:
        """Whether *number* wrote within 24 hours."""
        return time.monotonic() - self._wrote.get(number, -WINDOW_S) < WINDOW_S

    def open_window(self, number: str, *, opened: bool = True) -> None:
        """As if the number had just written, or had not for a day."""
        self._wrote[number] = time.monotonic() - (0 if opened else WINDOW_S)

    async def say(self, number: str, text: str, reply_to: Text | None = None) -> Text:
        """The person writes, perhaps by swiping on *reply_to*."""
        return await self._arrive(number, text, {"MessageType": "text"}, reply_to)

    async def tap(self, number: str, message: Text, title: str) -> Text:
        """The person presses a quick reply of *message*; raises LookupError when it has none such."""
        button = next((b for b in message.buttons if b.title == title), None)
        if button is None:
            raise LookupError(f"{message.sid} has no button {title!r}")
        fields = {"MessageType": "interactive", "ButtonText": title, "ButtonPayload": button.id}
        return await self._arrive(number, title, fields, message)

    def read(self, message: Text) -> None:
        """The person opens the chat: blue ticks."""
        self._spawn(self._reach(message, "read"))

    async def _arrive(self, number: str, body: str, fields: Form, reply_to: Text | None) -> Text:
        text = self._keep(f"whatsapp:{number}", f"whatsapp:{self.sender}", body, inbound=True)
        text.status, text.reply_to = "received", reply_to.sid if reply_to else ""
        self._wrote[number] = time.monotonic()
        self.bell.ring()
        form = self._inbound_form(text, fields, reply_to)
        self.inbound_statuses.append(await self._post(self.inbound_url, form))
        self.bell.ring()
        return text

    def _inbound_form(self, text: Text, fields: Form, reply_to: Text | None) -> Form:
        digits, name = text.number.removeprefix("+"), self.names.get(text.number, "")
        context = {"Forwarded": "false", "FrequentlyForwarded": "false", "ProfileName": name, "WaId": digits}
        if "ButtonText" in fields:
            context = {"ButtonText": fields["ButtonText"], **context}
        form = {
            "AccountSid": self.account,
            "ApiVersion": "2010-04-01",
            "Body": text.body,
            "ChannelMetadata": orjson.dumps({"type": "whatsapp", "data": {"context": context}}).decode(),
            "ExternalUserId": f"whatsapp:ID.{int(digits):016d}",
            "Forwarded": "false",
            "FrequentlyForwarded": "false",
            "From": text.sender,
            "MessageSid": text.sid,
            "NumMedia": "0",
            "NumSegments": "1",
            "ProfileName": name,
            "ReferralNumMedia": "0",
            "SmsMessageSid": text.sid,
            "SmsSid": text.sid,
            "SmsStatus": "received",
            "To": text.to,
            "WaId": digits,
        }
        if reply_to:
            form["OriginalRepliedMessageSid"] = reply_to.sid
            form["OriginalRepliedMessageSender"] = reply_to.sender
        return form | fields

    # messages

    async def _create(self, request: web.Request) -> Answer:
        form = {name: str(value) for name, value in (await request.post()).items()}
        sender = form.get("From") or f"whatsapp:{self.sender}"
        to = form.get("To", "")
        if not ADDRESS.fullmatch(to):
            raise TwilioRefused(21211, f"Invalid 'To' Phone Number: {to}")
        if sender.startswith("whatsapp:") != to.startswith("whatsapp:"):
            raise TwilioRefused(63007, "Twilio could not find a Channel with the specified From address")
        text = self._compose(form, sender, to)
        text.callback = form.get("StatusCallback", "")
        self._spawn(self._travel(text))
        self.bell.ring()
        return self._json(text), 201

    def _compose(self, form: Form, sender: str, to: str) -> Text:
        if "ContentSid" in form:
            return self._from_template(form, sender, to)
        body = form.get("Body", "")
        if not body:
            raise TwilioRefused(21602, "Message body is required.")
        if len(body) > BODY_CHARACTERS:
            raise TwilioRefused(21617, "The concatenated message body exceeds the 1600 character limit")
        return self._keep(sender, to, body)

    def _from_template(self, form: Form, sender: str, to: str) -> Text:
        content = self.contents.get(form["ContentSid"])
        if content is None:
            raise TwilioRefused(21655, "The ContentSid is Invalid")
        try:
            given = orjson.loads(form.get("ContentVariables") or "{}")
            body, buttons = content.render({str(k): str(v) for k, v in given.items()})
        except (orjson.JSONDecodeError, AttributeError):
            raise TwilioRefused(21656, "The ContentVariables Parameter is invalid") from None
        except BadContent as error:
            raise TwilioRefused(21656, f"The ContentVariables Parameter is invalid: {error}") from None
        text = self._keep(sender, to, body)
        text.buttons, text.template = buttons, content.sid
        return text

    def _keep(self, sender: str, to: str, body: str, *, inbound: bool = False) -> Text:
        sid = "SM" + secrets.token_hex(16)
        self.texts[sid] = Text(sid, sender, to, body, time.monotonic(), epoch(), inbound)
        return self.texts[sid]

    async def _travel(self, text: Text) -> None:
        text.error = self._obstacle(text)
        if text.error:
            await self._reach(text, "failed" if text.error == 63016 else "undelivered")
            return
        await self._reach(text, "sent")
        await self._reach(text, "delivered")

    def _obstacle(self, text: Text) -> int | None:
        """The error that this message will meet, if any."""
        if text.number in self.undeliverable or text.number not in self.names:
            return 63024 if text.is_whatsapp else 30003
        if not text.is_whatsapp:
            return None
        content = self.contents.get(text.template)
        if content and content.approved:
            return None
        if not self.in_window(text.number):
            return 63016
        return 63021 if len(text.buttons) > SESSION_BUTTONS else None

    async def _reach(self, text: Text, status: str) -> None:
        text.status = status
        text.trail.append((time.monotonic(), status))
        self.bell.ring()
        if not text.callback:
            return
        form = {
            "AccountSid": self.account,
            "ApiVersion": "2010-04-01",
            "ChannelPrefix": "whatsapp" if text.is_whatsapp else "sms",
            "From": text.sender,
            "MessageSid": text.sid,
            "MessageStatus": status,
            "SmsSid": text.sid,
            "SmsStatus": status,
            "To": text.to,
        }
        if text.error:
            form |= {"ErrorCode": str(text.error), "ErrorMessage": f"Error {text.error}"}
        await self._post(text.callback, form)

    async def _post(self, url: str, form: Form) -> int:
        """One signed POST; returns the status, 0 when nobody answered. Leaves this machine never."""
        if not is_loopback(url) or self._session is None:
            return 0
        headers = {"X-Twilio-Signature": signature(self.token, url, form), "User-Agent": "TwilioProxy/1.1"}
        try:
            async with self._session.post(url, data=form, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def _list(self, request: web.Request) -> Answer:
        size = int(request.query.get("PageSize", 50))
        wanted = [
            self._json(text)
            for text in reversed(self.texts.values())
            if request.query.get("To", text.to) == text.to
            and request.query.get("From", text.sender) == text.sender
        ]
        uri = str(request.rel_url)
        page: Json = {"messages": wanted[:size], "page": 0, "page_size": size, "start": 0, "uri": uri}
        return page | {
            "end": max(0, len(wanted[:size]) - 1),
            "first_page_uri": uri,
            "next_page_uri": None,
            "previous_page_uri": None,
        }, 200

    async def _fetch(self, request: web.Request) -> Answer:
        text = self.texts.get(request.match_info["sid"])
        if text is None:
            raise _not_found(request)
        return self._json(text), 200

    def _json(self, text: Text) -> Json:
        uri = f"/2010-04-01/Accounts/{self.account}/Messages/{text.sid}"
        created = formatdate(text.date)
        return {
            "account_sid": self.account,
            "api_version": "2010-04-01",
            "body": text.body,
            "date_created": created,
            "date_sent": created,
            "date_updated": created,
            "direction": "inbound" if text.inbound else "outbound-api",
            "error_code": text.error if text.status in {"failed", "undelivered"} else None,
            "error_message": None,
            "from": text.sender,
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": str(1 if text.is_whatsapp else segments(text.body)),
            "price": None,
            "price_unit": "USD",
            "sid": text.sid,
            "status": text.status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": text.to,
            "uri": f"{uri}.json",
        }

    # templates

    async def _create_content(self, request: web.Request) -> Answer:
        if request.content_type != "application/json":
            raise TwilioRefused(20001, "Invalid request body: JSON is expected", 415)
        try:
            content = read_content(orjson.loads(await request.read()))
        except (orjson.JSONDecodeError, BadContent) as error:
            raise TwilioRefused(20001, f"Invalid request body: {error}") from None
        self.contents[content.sid] = content
        return content.json(self.url), 201

    async def _list_contents(self, request: web.Request) -> Answer:
        url = f"{self.url}/v1/Content"
        meta = {"key": "contents", "page": 0, "page_size": 50, "url": url, "first_page_url": url}
        contents = [content.json(self.url) for content in self.contents.values()]
        return {
            "contents": contents,
            "meta": meta | {"next_page_url": None, "previous_page_url": None},
        }, 200

    async def _fetch_content(self, request: web.Request) -> Answer:
        return self._content(request).json(self.url), 200

    async def _delete_content(self, request: web.Request) -> Answer:
        del self.contents[self._content(request).sid]
        return {}, 204

    async def _submit(self, request: web.Request) -> Answer:
        content = self._content(request)
        content.submit()
        return content.approval_json(), 201

    async def _approval(self, request: web.Request) -> Answer:
        content = self._content(request)
        return {
            "sid": content.sid,
            "account_sid": self.account,
            "url": f"{self.url}/v1/Content/{content.sid}/ApprovalRequests",
            "whatsapp": content.approval_json(),
        }, 200

    def _content(self, request: web.Request) -> Content:
        content = self.contents.get(request.match_info["sid"])
        if content is None:
            raise _not_found(request)
        return content

    # every call

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[Answer]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            if self.mood == "hang":
                await self.bell.until(lambda: self.mood != "hang", 600)
            try:
                self._check(request)
                body, status = await handler(request)
            except TwilioRefused as refused:
                body, status = refused.body, refused.status
            if status == 204:
                return web.Response(status=204)
            return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")

        return answer

    def _check(self, request: web.Request) -> None:
        if isinstance(self.mood, int) and self.mood:
            raise TwilioRefused(20429 if self.mood == 429 else 20500, "As the sandbox was told", self.mood)
        login = base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        if not hmac.compare_digest(given.encode(), login.encode()):
            raise TwilioRefused(20003, "Authenticate", 401)
        if request.match_info.get("account", self.account) != self.account:
            raise _not_found(request)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _not_found(request: web.Request) -> TwilioRefused:
    return TwilioRefused(20404, f"The requested resource {request.path} was not found", 404)
