"""One web page with the whole world on it: a phone, the sick shop with its buttons, and the growing ledger.

    GET  /?key=…                    the page
    GET  /events?key=…&who=rudo     its state, pushed at every change
    POST /do                        one deed, with the key in a header; a tap returns the answer it got

The page is for the person at this machine: the Host header must name loopback (or a foreign site could reach
it through DNS), and every request but those for the static files must carry the page's key.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from aiohttp import web

from bot.sandbox.chats import Chat, Json, Kind, Message
from bot.sandbox.loopback import OURS, Served, serve
from bot.sandbox.markup import to_html
from bot.sandbox.phone import TelegramPhone
from bot.sandbox.premises import NotUp
from bot.sandbox.twilio import Text
from bot.sandbox.world import MODEL_A, MODEL_B, NUMBERS, PEOPLE, TIMEZONE, World

STATIC = Path(__file__).parent / "static"
FILES = {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}
SHOWN_MESSAGES, SHOWN_ROWS = 60, 200
AT_MOST_EVERY_S, AT_LEAST_EVERY_S = 0.15, 1.0
ANSWER_WITHIN_S = 16.0
ROLES = {"rudo": "on call, admin", "tendai": "on call", "stranger": "in the group, in no charter"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

type Ledger = Callable[[], list[dict[str, Any]]]


class Page:
    """The page of one world; `ledger_rows` gives seq, stage, event, actor, reason and receipt of entries."""

    def __init__(self, world: World, ledger_rows: Ledger = list, *, title: str = "") -> None:
        self.world, self.ledger_rows, self.title = world, ledger_rows, title
        self.key = world.keys["SANDBOX_PAGE"]
        self.script = "sensible"
        self.url = ""
        self._served: Served | None = None
        self._deeds: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "tap": self._tap,
            "send": self._send,
            "quick_reply": self._quick_reply,
            "window": self._window,
            "faults": self._faults,
            "models": self._models,
            "flood": self._flood,
        }

    async def start(self, port: int = 0) -> str:
        """Serves, and returns the address with its key."""
        app = web.Application(middlewares=[_on_loopback])
        app.router.add_get("/", self._index)
        app.router.add_get("/events", self._events)
        app.router.add_get("/file/{chat}/{message}/{file}", self._file)
        app.router.add_post("/do", self._do)
        for path in FILES:
            app.router.add_get(path, _static)
        self._served = await serve(app, port)
        self.url = f"{self._served.url}/?key={self.key}"
        return self.url

    async def close(self) -> None:
        served, self._served = self._served, None
        if served:
            await served.close()

    # requests

    async def _index(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(
            body=(STATIC / "index.html").read_bytes(), content_type="text/html", charset="utf-8"
        )

    async def _file(self, request: web.Request) -> web.Response:
        self._check(request)
        chat = self.world.telegram.chats.chats.get(int(request.match_info["chat"]))
        message = chat.messages.get(int(request.match_info["message"])) if chat else None
        if message is None or message.media is None or message.media.unique != request.match_info["file"]:
            raise web.HTTPNotFound
        shown = message.media.kind == "photo"
        return web.Response(
            body=message.media.content,
            content_type="image/png" if shown else "application/octet-stream",
            headers={} if shown else {"Content-Disposition": _attachment(message.media.name)},
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        who = request.query.get("who", "rudo")
        if who not in PEOPLE:
            raise web.HTTPNotFound
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while self._served:
                await response.write(b"data: " + orjson.dumps(await self.state(who)) + b"\n\n")
                await asyncio.sleep(AT_MOST_EVERY_S)
                await self._change()
        return response

    async def _change(self) -> None:
        """Returns when something changed in a chat, or after a second: the graphs move on."""
        rings = [bell.wait() for bell in (self.world.telegram.chats.bell, self.world.twilio.bell)]
        tasks = [asyncio.ensure_future(ring) for ring in rings]
        try:
            await asyncio.wait(tasks, timeout=AT_LEAST_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _do(self, request: web.Request) -> web.Response:
        self._check(request)
        order: Json = orjson.loads(await request.read())
        deed = self._deeds.get(str(order.pop("verb", "")))
        if deed is None:
            raise web.HTTPNotFound
        try:
            done = await deed(order)
        except (KeyError, LookupError, NotUp) as error:
            return _json({"error": str(error)}, 409)
        return _json(done)

    def _check(self, request: web.Request) -> None:
        given = request.headers.get("X-Page-Key") or request.query.get("key", "")
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            raise web.HTTPForbidden(
                text="Open the address that the console printed: it carries the page's key."
            )

    # deeds

    async def _tap(self, order: Json) -> Json:
        phone = self.world.phone(order["who"])
        message = self.world.telegram.chats.chats[int(order["chat"])].messages[int(order["message"])]
        query = self.world.telegram.tap(phone.user_id, message, str(order["data"]))
        answer = await phone.bell.until(lambda: query.answer, ANSWER_WITHIN_S)
        return {"answer": {"text": answer.text, "alert": answer.alert} if answer else None}

    async def _send(self, order: Json) -> Json:
        text, reply_to = str(order["text"])[:4096], order.get("reply_to")
        if order["channel"] == "whatsapp":
            replied = self.world.twilio.texts.get(str(reply_to))
            await self.world.twilio.say(NUMBERS[order["who"]], text, replied)
            return {}
        user_id, reply = PEOPLE[order["who"]][0], int(reply_to) if reply_to else None
        self.world.telegram.write(user_id, int(order["chat"]), text, reply_to=reply)
        return {}

    async def _quick_reply(self, order: Json) -> Json:
        text = self.world.twilio.texts[str(order["message"])]
        await self.world.twilio.tap(NUMBERS[order["who"]], text, str(order["title"]))
        return {}

    async def _window(self, order: Json) -> Json:
        self.world.twilio.open_window(NUMBERS[order["who"]], opened=bool(order["opened"]))
        self.world.twilio.bell.ring()
        return {}

    async def _faults(self, order: Json) -> Json:
        return await self.world.shop.faults(**order)

    async def _models(self, order: Json) -> Json:
        models, self.script = self.world.models, str(order["script"])
        match self.script:
            case "sensible":
                models.sensible()
            case "consensus":
                models.consensus()
            case "dissent":
                models.dissent(MODEL_A, MODEL_B)
            case behaviour:
                models.down(behaviour)
        self.world.models.bell.ring()
        return {"script": self.script}

    async def _flood(self, order: Json) -> Json:
        self.world.telegram.flood(int(order["chat"]), int(order.get("seconds", 10)))
        return {}

    # the state

    async def state(self, who: str) -> Json:
        """All that the page shows to *who*."""
        if self.world.shop.started:
            with suppress(NotUp):
                await self.world.shop.state()
        rows = self.ledger_rows()
        return {
            "title": self.title,
            "who": who,
            "timezone": TIMEZONE,
            "people": [{"id": p, "name": PEOPLE[p][1], "role": ROLES[p]} for p in PEOPLE],
            "telegram": self._telegram(who),
            "whatsapp": self._whatsapp(who),
            "shop": self.world.shop.last | {"points": self.world.load.points()},
            "models": self.script,
            "ledger": rows[-SHOWN_ROWS:],
            "entries": len(rows),
        }

    def _telegram(self, who: str) -> Json:
        phone, chats = self.world.phone(who), self.world.telegram.chats
        mine = sorted(chats.seen_by(phone.user_id), key=lambda chat: chat.id)
        menu = self.world.telegram.menu(phone.user_id)
        return {
            "chats": [self._chat(chat, phone) for chat in mine if chat.migrated_to is None],
            "ring": _last_ring(phone),
            "commands": menu[:12],
            "real": self.world.has_real_telegram,
        }

    def _chat(self, chat: Chat, phone: TelegramPhone) -> Json:
        messages = list(chat.messages.values())[-SHOWN_MESSAGES:]
        pinned = chat.messages.get(chat.pinned or 0)
        return {
            "id": chat.id,
            "title": "Countersign" if chat.kind == "private" else chat.title,
            "kind": chat.kind,
            "pinned": _first_line(pinned.text) if pinned else "",
            "messages": [self._message(message, chat, phone.user_id) for message in messages],
        }

    @staticmethod
    def _message(message: Message, chat: Chat, me: int) -> Json:
        replied = chat.messages.get(message.reply_to or 0)
        body: Json = {
            "id": message.id,
            "mine": message.sender.id == me,
            "bot": message.sender.is_bot,
            "name": message.sender.name,
            "html": to_html(message.text, message.entities),
            "date": message.date,
            "edited": bool(message.edited),
            "silent": message.silent and message.sender.is_bot,
            "keyboard": message.keyboard,
            "reply": _first_line(replied.text) if replied else "",
        }
        if message.media:
            address, media = f"/file/{chat.id}/{message.id}/{message.media.unique}", message.media
            about: Json = {"kind": media.kind, "name": media.name, "says": message.text, "size": media.size}
            body["file"] = about | {"url": address}
        return body

    def _whatsapp(self, who: str) -> Json:
        twilio, number = self.world.twilio, NUMBERS[who]
        texts = [t for t in twilio.texts.values() if t.number == number][-SHOWN_MESSAGES:]
        return {
            "messages": [self._text(text) for text in texts],
            "open": twilio.in_window(number),
            "number": number,
        }

    def _text(self, text: Text) -> Json:
        replied = self.world.twilio.texts.get(text.reply_to)
        return {
            "id": text.sid,
            "mine": text.inbound,
            "text": text.body,
            "buttons": [button.title for button in text.buttons],
            "status": text.status,
            "error": text.error,
            "sms": not text.is_whatsapp,
            "date": text.date,
            "reply": _first_line(replied.body) if replied else "",
        }


def _last_ring(phone: TelegramPhone) -> Json:
    """The last thing that made a sound: its number and its first line, as a locked phone shows it."""
    chats = phone.telegram.chats
    places = {chat.id: chat for chat in chats.seen_by(phone.user_id)}
    rings = [h for h in chats.journal if h.rings and h.kind is Kind.SENT and h.chat_id in places]
    if not rings:
        return {"count": 0}
    last = rings[-1]
    return {
        "count": len(rings),
        "text": _first_line(last.text),
        "chat": last.chat_id,
        "message": last.message_id,
    }


def _attachment(name: str) -> str:
    """As a browser keeps it under its own name: RFC 6266, the name encoded as in RFC 8187."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:120]


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def _static(request: web.Request) -> web.Response:
    return web.Response(
        body=(STATIC / request.path[1:]).read_bytes(), content_type=FILES[request.path], charset="utf-8"
    )


@web.middleware
async def _on_loopback(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers only who called us by a loopback name."""
    if urlsplit(f"//{request.host}").hostname not in OURS:
        raise web.HTTPForbidden(text="This page answers on 127.0.0.1 alone.")
    response = await handler(request)
    if not response.prepared:
        response.headers.update(HEADERS)
    return response
