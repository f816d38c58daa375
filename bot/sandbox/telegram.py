"""A Bot API server: Telegram as far as a bot can see it, and the hands of the people who use it.

It takes what libraries send (forms with nested JSON, JSON bodies, multipart), enforces Telegram's limits in
Telegram's words, and keeps a journal of every call. Telegram's moods are set from outside: `flood` (429 in
one chat), `block` (403), `hang` (no answer), `migrate` (group to supergroup), `delivery.drop` and `.repeat`.

Sources: core.telegram.org/bots/api; error texts from tdlib/telegram-bot-api 10.0 `Client.cpp`.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from aiohttp import web
from aiohttp.web_request import FileField

from bot.sandbox import markup
from bot.sandbox.chats import Chat, Chats, Json, Keyboard, Kind, Media, Message, Refused, User
from bot.sandbox.delivery import Delivery
from bot.sandbox.files import Files, input_media
from bot.sandbox.loopback import Served, serve

TEXT_UNITS, CAPTION_UNITS, ANSWER_UNITS, DATA_BYTES = 4096, 1024, 200, 64
ACTIONS = {"url", "callback_data", "web_app", "login_url", "switch_inline_query", "copy_text", "pay"}
QUERY_LIVES = 15.0
SECRET_FORM = re.compile(r"[A-Za-z0-9_-]{1,256}")
COMMAND_FORM = re.compile(r"[a-z0-9_]{1,32}")
TAP_QUEUE = 3 << 33
NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the "
    "same as a current content and reply markup of the message"
)
TOO_OLD = "Bad Request: query is too old and response timeout expired or query ID is invalid"


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `at` is monotonic seconds at its arrival, `refusal` is empty when it was carried out."""

    at: float
    method: str
    params: Json
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tap was answered: a toast, or an alert that must be dismissed."""

    at: float
    user_id: int
    text: str
    alert: bool
    query_id: str


@dataclass(slots=True)
class Query:
    """A tap that waits for its answer."""

    id: str
    user_id: int
    chat_id: int
    at: float
    answer: Answer | None = None


@dataclass(slots=True)
class Hang:
    """Calls of `method` (to `chat_id`, if given) get no answer; with `after` they are carried out first."""

    method: str
    chat_id: int | None
    after: bool


class Params:
    """The parameters of one call, whichever way they came."""

    def __init__(self, raw: Json) -> None:
        self.raw = raw

    def __contains__(self, name: str) -> bool:
        return self.raw.get(name) not in (None, "")

    def text(self, name: str) -> str:
        value = self.raw.get(name, "")
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    def integer(self, name: str, default: int | None = None) -> int:
        try:
            return int(self.raw[name]) if name in self or default is None else default
        except (KeyError, ValueError, TypeError):
            raise Refused(f"Bad Request: parameter {name} is missing or not a number") from None

    def optional(self, name: str) -> int | None:
        return self.integer(name) if name in self else None

    def flag(self, name: str) -> bool:
        return str(self.raw.get(name, "")).lower() in {"true", "1", "yes"}

    def json(self, name: str, default: Any = None) -> Any:
        value = self.raw.get(name)
        if not isinstance(value, str):
            return default if value is None else value
        try:
            return orjson.loads(value) if value else default
        except orjson.JSONDecodeError:
            raise Refused(f"Bad Request: can't parse {name} JSON object") from None

    def file(self, name: str) -> Media | None:
        value = self.raw.get(name)
        if isinstance(value, str) and value.startswith("attach://"):
            value = self.raw.get(value.removeprefix("attach://"))
        return value if isinstance(value, Media) else None

    def shown(self) -> Json:
        """As the journal keeps them: files by name and size, nested JSON parsed."""
        return {name: _shown(value) for name, value in self.raw.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Media):
        return {"file": value.name, "size": len(value.content)}
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


async def read_params(request: web.Request) -> Params:
    """The parameters from the address, a form, a multipart form or a JSON body."""
    raw: Json = dict(request.query)
    if request.content_type == "application/json":
        raw |= orjson.loads(await request.read() or b"{}")
        return Params(raw)
    for name, value in (await request.post()).items():
        raw[name] = _media(name, value) if isinstance(value, FileField) else value
    return Params(raw)


def _media(name: str, value: FileField) -> Media:
    return Media(name, value.filename, value.file.read(), value.content_type)


def keyboard(params: Params) -> Keyboard:
    """The inline keyboard of a call; raises Refused for a button that Telegram would not take."""
    asked = params.json("reply_markup") or {}
    rows: Keyboard = asked.get("inline_keyboard", []) if isinstance(asked, dict) else []
    for button in (button for row in rows for button in row):
        _check_button(button)
    return [row for row in rows if row]


def _check_button(button: Json) -> None:
    if not str(button.get("text", "")).strip():
        raise Refused("Bad Request: text buttons are unallowed in the inline keyboard")
    if len(ACTIONS & button.keys()) != 1:
        raise Refused("Bad Request: BUTTON_TYPE_INVALID")
    data = button.get("callback_data")
    if data is not None and not 1 <= len(str(data).encode()) <= DATA_BYTES:
        raise Refused("Bad Request: BUTTON_DATA_INVALID")
    if button.get("style") not in {None, "danger", "success", "primary"}:
        raise Refused("Bad Request: BUTTON_STYLE_INVALID")


def written(params: Params, name: str, limit: int) -> markup.Parsed:
    """The text of a call with its entities; raises Refused when it is too long or cannot be parsed."""
    source, mode = params.text(name), params.text("parse_mode").lower()
    if mode not in {"", "html"}:
        raise Refused("Bad Request: unsupported parse_mode: the sandbox reads HTML alone")
    try:
        parsed = markup.parse(source) if mode else markup.Parsed(source, params.json("entities", []))
    except markup.CannotParse as error:
        raise Refused(f"Bad Request: can't parse entities: {error}") from None
    parsed = markup.Parsed(parsed.text.rstrip(), parsed.entities)
    if markup.units(parsed.text) > limit:
        raise Refused(f"Bad Request: message {'caption ' if name == 'caption' else ''}is too long")
    return parsed


class Telegram:
    """The server; `url` is what the bot is told as TELEGRAM_API_BASE."""

    def __init__(self, token: str, username: str = "countersign_sandbox_bot") -> None:
        self.token = token
        self.chats = Chats(User(int(token.split(":")[0]), "Countersign", username, is_bot=True))
        self.delivery = Delivery(self._carry_out)
        self.calls: list[Call] = []
        self.answers: list[Answer] = []
        self.queries: dict[str, Query] = {}
        self.files = Files()
        self.commands: dict[str, list[Json]] = {}
        self.profile: dict[str, str] = {}
        self.url = ""
        self._served: Served | None = None
        self._flooded: dict[int, float] = {}
        self._hangs: list[Hang] = []
        self._unhung = asyncio.Event()
        self._methods = self._table()

    def _table(self) -> dict[str, Callable[[Params], Any]]:
        profile = partial(self._set_profile)
        return {
            "getme": self._get_me,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": lambda _: self.delivery.info(),
            "getupdates": self._get_updates,
            "sendmessage": self._send_message,
            "sendphoto": partial(self._send_file, "photo"),
            "senddocument": partial(self._send_file, "document"),
            "editmessagetext": self._edit_text,
            "editmessagecaption": self._edit_caption,
            "editmessagemedia": self._edit_media,
            "editmessagereplymarkup": self._edit_keyboard,
            "deletemessage": self._delete,
            "pinchatmessage": self._pin,
            "unpinchatmessage": self._unpin,
            "answercallbackquery": self._answer,
            "sendchataction": self._action,
            "getchat": self._get_chat,
            "getchatmember": self._get_member,
            "setmycommands": self._set_commands,
            "getmycommands": lambda p: self.commands.get(self._scope(p), []),
            "deletemycommands": self._delete_commands,
            "setmydescription": profile,
            "setmyshortdescription": profile,
            "setmyname": profile,
            "logout": lambda _: True,
            "close": lambda _: True,
        }

    # up and down

    async def start(self, port: int = 0) -> str:
        """Listens, and returns the address."""
        app = web.Application(client_max_size=60 * 2**20)
        app.router.add_route("*", "/bot{token}/{method}", self._handle)
        self._served = await serve(app, port)
        self.url = self._served.url
        return self.url

    async def close(self) -> None:
        self.unhang()
        await self.delivery.close()
        if self._served:
            await self._served.close()

    # one call

    async def _handle(self, request: web.Request) -> web.Response:
        at, method = time.monotonic(), request.match_info["method"]
        if request.match_info["token"] != self.token:
            return _json({"ok": False, "error_code": 401, "description": "Unauthorized"})
        try:
            params = await read_params(request)
        except (orjson.JSONDecodeError, ValueError):
            return _json(Refused("Bad Request: can't parse the body").body())
        hang = self._hanging(method, params)
        if hang and not hang.after:
            self._keep(Call(at, method, params.shown(), "hangs"))
            await self._unhung.wait()
        body = await self._body(at, method, params)
        if hang and hang.after:
            await self._unhung.wait()
        return _json(body)

    async def _body(self, at: float, method: str, params: Params) -> Json:
        try:
            result = await self._do(method, params)
        except Refused as refused:
            self._keep(Call(at, method, params.shown(), refused.description))
            return refused.body()
        self._keep(Call(at, method, params.shown()))
        return {"ok": True, "result": result}

    async def _do(self, method: str, params: Params) -> Any:
        act = self._methods.get(method.lower())
        if act is None:
            raise Refused("Not Found: method not found", 404)
        if "chat_id" in params:
            self._check_flood(params.integer("chat_id"))
        result = act(params)
        return await result if isinstance(result, Awaitable) else result

    async def _carry_out(self, call: Json) -> None:
        await self._body(time.monotonic(), str(call.pop("method")), Params(call))

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        self.chats.bell.ring()

    def menu(self, user_id: int) -> list[Json]:
        """The commands that a person sees in a private chat, from the narrowest scope that has any."""
        scopes = ({"type": "chat", "chat_id": user_id}, {"type": "all_private_chats"}, {"type": "default"})
        menus = (self.commands.get(_scope(scope, "")) for scope in scopes)
        return next((menu for menu in menus if menu), [])

    # moods

    def flood(self, chat_id: int, retry_after: int) -> None:
        """For *retry_after* seconds every call to this chat is answered 429."""
        self._flooded[chat_id] = time.monotonic() + retry_after

    def block(self, chat_id: int, *, blocked: bool = True) -> None:
        """The person blocks the bot, or the group throws it out."""
        self.chats.chats[chat_id].blocked = blocked

    def hang(self, method: str = "*", chat_id: int | None = None, *, after: bool = False) -> None:
        """Calls of *method* get no answer until `unhang`; with *after* they are carried out nevertheless."""
        self._hangs.append(Hang(method.lower(), chat_id, after))

    def unhang(self) -> None:
        self._hangs.clear()
        self._unhung.set()
        self._unhung = asyncio.Event()

    def migrate(self, chat_id: int, to: int = 0) -> Chat:
        """The group becomes a supergroup, and the bot is told so."""
        new = self.chats.migrate(chat_id, to or -1_000_000_000_000 + chat_id)
        old = self.chats.chats[chat_id]
        for chat, fact in ((old, {"migrate_to_chat_id": new.id}), (new, {"migrate_from_chat_id": chat_id})):
            message = self.chats.post(chat, self._anyone(chat), "")
            self.delivery.put(chat.id, "message", self.chats.message_json(message) | fact)
        return new

    def _anyone(self, chat: Chat) -> User:
        return self.chats.users[min(chat.members)]

    def _check_flood(self, chat_id: int) -> None:
        left = self._flooded.get(chat_id, 0.0) - time.monotonic()
        if left > 0:
            seconds = int(left) + 1
            raise Refused(f"Too Many Requests: retry after {seconds}", 429, retry_after=seconds)

    def _hanging(self, method: str, params: Params) -> Hang | None:
        chat = params.raw.get("chat_id")
        matching = (
            hang
            for hang in self._hangs
            if hang.method in {"*", method.lower()}
            and (hang.chat_id is None or str(hang.chat_id) == str(chat))
        )
        return next(matching, None)

    # what people do

    def write(self, user_id: int, chat_id: int, text: str, **more: Any) -> Message:
        """A person writes. In a group the bot sees only commands, mentions and replies to itself."""
        chat = self.chats.chats[chat_id]
        if chat.kind == "private":
            chat.opened, chat.blocked = True, False
        message = self.chats.post(
            chat, self.chats.users[user_id], text, entities=markup.commands(text), **more
        )
        if chat.kind == "private" or self._meant_for_bot(message):
            self.delivery.put(chat.id, "message", self.chats.message_json(message))
        return message

    def _meant_for_bot(self, message: Message) -> bool:
        replied = self.chats.chats[message.chat_id].messages.get(message.reply_to or 0)
        mentions = f"@{self.chats.bot.username}".lower() in message.text.lower()
        return bool(message.entities) or mentions or bool(replied and replied.sender.is_bot)

    def tap(self, user_id: int, message: Message, data: str) -> Query:
        """A person presses a button with *data* under *message*, whether or not it is there."""
        query = Query(str(secrets.randbits(62)), user_id, message.chat_id, time.monotonic())
        self.queries[query.id] = query
        self.chats.note(Kind.TAPPED, message.chat_id, message.id, data, who=user_id)
        self.delivery.put(
            user_id + TAP_QUEUE,
            "callback_query",
            {
                "id": query.id,
                "from": self.chats.users[user_id].json(),
                "message": self._as_seen(message),
                "chat_instance": str(abs(message.chat_id) * 7919),
                "data": data,
            },
        )
        return query

    def _as_seen(self, message: Message) -> Json:
        chat = self.chats.chats[message.chat_id]
        if message.id in chat.messages:
            return self.chats.message_json(chat.messages[message.id])
        return {"chat": chat.json(), "message_id": message.id, "date": 0}

    # methods

    def _get_me(self, _: Params) -> Json:
        return self.chats.bot.json() | {
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    async def _set_webhook(self, params: Params) -> bool:
        secret = params.text("secret_token")
        if secret and not SECRET_FORM.fullmatch(secret):
            raise Refused("Bad Request: secret token contains unallowed characters")
        allowed = params.json("allowed_updates", [])
        await self.delivery.set_webhook(
            params.text("url"), secret, allowed, drop_pending=params.flag("drop_pending_updates")
        )
        return True

    async def _delete_webhook(self, params: Params) -> bool:
        await self.delivery.set_webhook("", "", [], drop_pending=params.flag("drop_pending_updates"))
        return True

    async def _get_updates(self, params: Params) -> list[Json]:
        limit = min(100, max(1, params.integer("limit", 100)))
        return await self.delivery.get_updates(
            params.integer("offset", 0), limit, min(50, params.integer("timeout", 0))
        )

    def _send_message(self, params: Params) -> Json:
        chat = self.chats.reachable(params.integer("chat_id"))
        parsed = written(params, "text", TEXT_UNITS)
        if not parsed.text.strip():
            raise Refused("Bad Request: message text is empty")
        return self._post(chat, params, parsed)

    def _send_file(self, kind: str, params: Params) -> Json:
        chat = self.chats.reachable(params.integer("chat_id"))
        media = self.files.sent(kind, params.file(kind), params.raw.get(kind))
        return self._post(chat, params, written(params, "caption", CAPTION_UNITS), media=media)

    def _post(self, chat: Chat, params: Params, parsed: markup.Parsed, **more: Any) -> Json:
        thread = params.optional("message_thread_id")
        if thread is not None and thread not in chat.topics:
            raise Refused("Bad Request: message thread not found")
        message = self.chats.post(
            chat,
            self.chats.bot,
            parsed.text,
            entities=parsed.entities,
            keyboard=keyboard(params),
            silent=params.flag("disable_notification"),
            thread=thread,
            reply_to=self._reply_to(chat, params),
            **more,
        )
        return self.chats.message_json(message)

    @staticmethod
    def _reply_to(chat: Chat, params: Params) -> int | None:
        reply = Params(params.json("reply_parameters") or {})
        wanted = reply.optional("message_id") or params.optional("reply_to_message_id")
        if wanted is None or wanted in chat.messages:
            return wanted
        if reply.flag("allow_sending_without_reply") or params.flag("allow_sending_without_reply"):
            return None
        raise Refused("Bad Request: message to be replied not found")

    def _own(self, params: Params, act: str = "edit") -> Message:
        chat = self.chats.reachable(params.integer("chat_id"))
        message = chat.messages.get(params.integer("message_id"))
        if message is None:
            raise Refused(f"Bad Request: message to {act} not found")
        if not message.sender.is_bot:
            raise Refused(f"Bad Request: message can't be {act}ed")
        return message

    def _edit_text(self, params: Params) -> Json:
        message, parsed = self._own(params), written(params, "text", TEXT_UNITS)
        if message.media:
            raise Refused("Bad Request: there is no text in the message to edit")
        if not parsed.text.strip():
            raise Refused("Bad Request: message text is empty")
        return self._edit(message, parsed, keyboard(params))

    def _edit_caption(self, params: Params) -> Json:
        message, parsed = self._own(params), written(params, "caption", CAPTION_UNITS)
        if not message.media:
            raise Refused("Bad Request: there is no caption in the message to edit")
        return self._edit(message, parsed, keyboard(params))

    def _edit_media(self, params: Params) -> Json:
        """A text may become a picture, and a picture another; a picture never becomes a text again."""
        told = Params(params.raw | input_media(params.json("media")))
        parsed, value = written(told, "caption", CAPTION_UNITS), told.text("media")
        media = self.files.sent(told.text("type"), told.file("media"), value)
        return self._edit(self._own(params), parsed, keyboard(params), media)

    def _edit(
        self, message: Message, parsed: markup.Parsed, buttons: Keyboard, media: Media | None = None
    ) -> Json:
        shown = media or message.media
        before = (message.text, message.entities, message.keyboard, message.media)
        if before == (parsed.text, parsed.entities, buttons, shown):
            raise Refused(NOT_MODIFIED)
        changed = self.chats.change(
            message, Kind.EDITED, text=parsed.text, entities=parsed.entities, keyboard=buttons, media=shown
        )
        return self.chats.message_json(changed)

    def _edit_keyboard(self, params: Params) -> Json:
        message, buttons = self._own(params), keyboard(params)
        if message.keyboard == buttons:
            raise Refused(NOT_MODIFIED)
        return self.chats.message_json(self.chats.change(message, Kind.KEYBOARD, keyboard=buttons))

    def _delete(self, params: Params) -> bool:
        message = self._own(params, "delete")
        del self.chats.chats[message.chat_id].messages[message.id]
        self.chats.note(Kind.DELETED, message.chat_id, message.id)
        return True

    def _pin(self, params: Params) -> bool:
        message = self._own(params, "pin")
        self.chats.chats[message.chat_id].pinned = message.id
        self.chats.note(Kind.PINNED, message.chat_id, message.id)
        return True

    def _unpin(self, params: Params) -> bool:
        self.chats.reachable(params.integer("chat_id")).pinned = None
        self.chats.bell.ring()
        return True

    def _answer(self, params: Params) -> bool:
        query = self.queries.get(params.text("callback_query_id"))
        if query is None or query.answer or time.monotonic() - query.at > QUERY_LIVES:
            raise Refused(TOO_OLD)
        text = params.text("text")
        if markup.units(text) > ANSWER_UNITS:
            raise Refused("Bad Request: MESSAGE_TOO_LONG")
        query.answer = Answer(time.monotonic(), query.user_id, text, params.flag("show_alert"), query.id)
        self.answers.append(query.answer)
        self.chats.note(
            Kind.ANSWERED, query.chat_id, text=text, who=query.user_id, alert=query.answer.alert, silent=True
        )
        return True

    def _action(self, params: Params) -> bool:
        return bool(self.chats.reachable(params.integer("chat_id")))

    def _get_chat(self, params: Params) -> Json:
        chat = self.chats.reachable(params.integer("chat_id"))
        about: Json = {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": _NO_GIFTS}
        if chat.pinned in chat.messages:
            about["pinned_message"] = self.chats.message_json(chat.messages[chat.pinned])
        return chat.json() | about

    def _get_member(self, params: Params) -> Json:
        chat = self.chats.reachable(params.integer("chat_id"))
        user = self.chats.users.get(params.integer("user_id"))
        if user is None:
            raise Refused("Bad Request: user not found")
        return {"status": "member" if user.id in chat.members else "left", "user": user.json()}

    def _set_commands(self, params: Params) -> bool:
        commands = params.json("commands", [])
        if len(commands) > 100:
            raise Refused("Bad Request: BOT_COMMANDS_TOO_MUCH")
        for command in commands:
            if not COMMAND_FORM.fullmatch(command["command"]):
                raise Refused("Bad Request: BOT_COMMAND_INVALID")
            if not 1 <= markup.units(command["description"]) <= 256:
                raise Refused("Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
        self.commands[self._scope(params)] = commands
        return True

    def _delete_commands(self, params: Params) -> bool:
        self.commands.pop(self._scope(params), None)
        return True

    @staticmethod
    def _scope(params: Params) -> str:
        return _scope(params.json("scope") or {"type": "default"}, params.text("language_code"))

    def _set_profile(self, params: Params) -> bool:
        self.profile |= {name: str(value) for name, value in params.raw.items()}
        return True


_NO_GIFTS = dict.fromkeys(
    ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels"), False
)


def _scope(scope: Json, language: str) -> str:
    return orjson.dumps([scope, language], option=orjson.OPT_SORT_KEYS).decode()


def _json(body: Json) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=body.get("error_code", 200), content_type="application/json"
    )
