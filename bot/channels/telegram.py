"""Telegram: cards and answers out, taps and words in. The only file that knows python-telegram-bot.

1. A tap gets one callback answer, the verdict, within 1.5 s; else "Received, deciding", and the verdict as a
   reply. When Telegram has forgotten the tap meanwhile, the verdict is a reply as well.
2. Identity is the numeric id of the person who acts. Who acts as a channel, as an anonymous admin, or by a
   forwarded copy has none here, and is a stranger to whoever decides.
3. HTML alone, no link previews. What Telegram cannot parse goes out as plain text at once.
4. Every refusal of Telegram's becomes a SendError. Nothing is retried here: the outbox does that.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape, unescape
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from telegram import (
    Bot,
    BotCommand,
    BotCommandScope,
    BotCommandScopeAllGroupChats,
    BotCommandScopeDefault,
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    InputMediaPhoto,
    LinkPreviewOptions,
    MaybeInaccessibleMessage,
    Message,
    ReplyParameters,
    Update,
    User,
)
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)
from telegram.ext import (
    Application,
    ApplicationBuilder,
    CallbackContext,
    CallbackQueryHandler,
    MessageHandler,
    filters,
)
from telegram.request import BaseRequest, RequestData

from bot import phrases
from bot.channels.cutting import clip, cut
from bot.ingress import AT_ONCE, Arrived
from bot.outbox import Outbox
from bot.ports import Address, Answer, Button, Card, Desk, Document, Picture, Ring, Said, SendError, Tap
from bot.tokens import Choice, Tokens
from ledger.events import Act

log = logging.getLogger(__name__)

API = "https://api.telegram.org"
TOAST_UNITS = 200
CAPTION_UNITS = 1024
MOST_FILE = 50 * 10**6
CHART = "chart.png"
VERDICT_S = 1.5
REPLY_S = 5.0
CONNECT_S, READ_S, UPLOAD_S = 3.0, 5.0, 20.0
CONNECTIONS = 32
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
POLL_S = 25
LONGEST_PAUSE_S = 30.0
WANTED = ["message", "callback_query"]
NOBODY = {1087968824, 136817688, 777000}
"""GroupAnonymousBot, Channel Bot, Telegram itself: ids behind which anybody may stand."""
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Errors after which Telegram cannot have taken the message. After any other of aiohttp's it may have."""
GONE = ("message to edit not found", "message can't be edited", "message_id_invalid")
TOO_OLD = ("query is too old", "query_id_invalid")
SAME = "message is not modified"
SCOPES: tuple[BotCommandScope, ...] = (BotCommandScopeDefault(), BotCommandScopeAllGroupChats())

GIVEN_UP = "This could not be handled and is not tried again. Look at the card, then act again."

type App = Application[Any, Any, Any, Any, Any, Any]
type Builder = ApplicationBuilder[Any, Any, Any, Any, Any, Any]
type Context = CallbackContext[Any, Any, Any, Any]
type Tenants = Callable[[str, str, str], Sequence[str]]
"""The tenants that (channel, chat, vendor id) may belong to, the likeliest first."""


class AiohttpRequest(BaseRequest):
    """The library's way to the Bot API, by aiohttp: a third of what httpx costs a call (bench/taps.py)."""

    def __init__(self, read_s: float = READ_S) -> None:
        self._read_s = read_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def read_timeout(self) -> float:
        return self._read_s

    async def initialize(self) -> None:
        """Nothing: the first call opens the session."""

    async def shutdown(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: object = BaseRequest.DEFAULT_NONE,
        write_timeout: object = BaseRequest.DEFAULT_NONE,
        connect_timeout: object = BaseRequest.DEFAULT_NONE,
        pool_timeout: object = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """One call, one try. Raises NetworkError or TimedOut, caused by aiohttp's own error."""
        uploads = bool(request_data and request_data.contains_files)
        read_s = read_timeout if isinstance(read_timeout, float | int) else self._read_s
        limits, (data, headers) = _limits(max(read_s, UPLOAD_S * uploads)), _form(request_data)
        try:
            async with self._opened().request(
                method, url, data=data, headers=headers, timeout=limits
            ) as answer:
                return answer.status, await answer.read()
        except TimeoutError as error:
            raise TimedOut from error
        except aiohttp.ClientError as error:
            raise NetworkError(f"{type(error).__name__}: {error}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _form(data: RequestData | None) -> tuple[aiohttp.FormData | bytes | None, Mapping[str, str] | None]:
    """The body and its kind; `FormData` says its own, and takes five times as long where there is no file."""
    if data is None:
        return None, None
    if not data.contains_files:
        return urlencode(data.json_parameters).encode(), URLENCODED
    form = aiohttp.FormData(data.json_parameters)
    for name, (filename, content, kind) in data.multipart_data.items():
        form.add_field(name, content, filename=filename, content_type=kind)
    return form, None


@lru_cache(maxsize=8)
def _limits(read_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=CONNECT_S, sock_read=read_s)


def builder(token: str, api_base: str = API, *, read_s: float = READ_S) -> Builder:
    """An application's builder for the Bot API at *api_base*, the part before `/bot<token>`."""
    base, request = api_base.rstrip("/"), AiohttpRequest(read_s)
    return (
        ApplicationBuilder()
        .token(token)
        .base_url(f"{base}/bot")
        .base_file_url(f"{base}/file/bot")
        .request(request)
        .get_updates_request(request)
    )


def build_application(builder: Builder) -> App:
    """The application without updater: updates come from our own inbox, few at once: many slow each other."""
    return builder.updater(None).job_queue(None).concurrent_updates(AT_ONCE).build()


@asynccontextmanager
async def speaking(token: str, api_base: str, tokens: Tokens) -> AsyncIterator["TelegramChannel"]:
    """The channel alone, for a command that ends at once. Raises SendError for what cannot be a token."""
    request = AiohttpRequest()
    try:
        with _translated():
            bot = Bot(token, f"{api_base.rstrip('/')}/bot", request=request, get_updates_request=request)
        yield TelegramChannel(bot, tokens)
    finally:
        await request.shutdown()


@dataclass(frozen=True, slots=True)
class Hook:
    """The webhook as Telegram has it: its address, empty for none, what waits there, and its last error."""

    url: str
    pending: int
    error: str


class TelegramChannel:
    """What we say on Telegram."""

    name = "telegram"
    edits = True

    def __init__(self, bot: Bot, tokens: Tokens) -> None:
        self._bot = bot
        self._tokens = tokens

    async def send(
        self, tenant: str, to: Address, card: Card, *, reply_to: str = "", silent: bool = False
    ) -> str:
        message = await self._post(
            to,
            _one_message(card.html),
            card.plain,
            self._keyboard(tenant, to.to, card.rows),
            reply_to,
            silent=silent or card.ring is Ring.QUIET,
        )
        return str(message)

    async def edit(self, tenant: str, to: Address, message: str, card: Card) -> None:
        about: dict[str, Any] = {
            "chat_id": to.to,
            "message_id": int(message),
            "link_preview_options": _NO_PREVIEW,
            "reply_markup": self._keyboard(tenant, to.to, card.rows),
        }
        with _translated(), _same_is_fine():
            try:
                html = _one_message(card.html)
                await self._bot.edit_message_text(html, parse_mode=ParseMode.HTML, **about)
            except BadRequest as error:
                if not _says(error, "parse entities"):
                    raise
                await self._bot.edit_message_text(card.plain, **about)

    async def retire(self, tenant: str, to: Address, message: str) -> None:
        with _translated(), _same_is_fine():
            await self._bot.edit_message_reply_markup(to.to, int(message))

    async def say(self, tenant: str, to: Address, answer: Answer, *, reply_to: str = "") -> str:
        """Long words become several messages; the last one has the buttons and is the one returned."""
        parts = cut(answer.html or escape(answer.text, quote=False))
        message = ""
        for n, html in enumerate(parts, 1):
            keyboard = self._keyboard(tenant, to.to, answer.rows if n == len(parts) else ())
            sent = await self._post(to, html, _plain(html), keyboard, reply_to if n == 1 else "")
            message = str(sent)
        return message

    async def hand(self, tenant: str, to: Address, document: Document, *, reply_to: str = "") -> str:
        """One sendDocument. Telegram takes 50 MB; what is longer is refused here, before the upload."""
        if len(document.content) > MOST_FILE:
            raise SendError(f"{document.name} is over Telegram's 50 MB.", permanent=True)
        with _translated():
            sent = await self._bot.send_document(
                document=InputFile(document.content, document.name),
                caption=clip(document.caption, CAPTION_UNITS) or None,
                **self._about(to, reply_to),
            )
        return str(sent.message_id)

    async def show(self, to: Address, picture: Picture, *, reply_to: str = "", message: str = "") -> str:
        """One sendPhoto without a sound, its sentence as the caption; or editMessageMedia of *message*."""
        alt = clip(picture.alt, CAPTION_UNITS)
        with _translated(), _same_is_fine():
            if not message:
                return await self._photo(to, InputFile(picture.png, CHART), alt, reply_to)
            media = InputMediaPhoto(picture.png, alt, filename=CHART)
            await self._bot.edit_message_media(media, chat_id=to.to, message_id=int(message))
        return message

    async def _photo(self, to: Address, photo: InputFile, alt: str, reply_to: str) -> str:
        about = self._about(to, reply_to) | {"caption": alt, "disable_notification": True}
        try:
            return str((await self._bot.send_photo(photo=photo, **about)).message_id)
        except BadRequest as error:
            if not (to.topic and _says(error, "message thread not found")):
                raise
        return await self._photo(replace(to, topic=None), photo, alt, reply_to)

    async def toast(self, query: str, text: str, *, alert: bool = True) -> bool:
        """Answer a tap; False if Telegram has forgotten it. Raises SendError."""
        with _translated():
            try:
                await self._bot.answer_callback_query(query, clip(text, TOAST_UNITS), show_alert=alert)
            except BadRequest as error:
                if not _says(error, *TOO_OLD):
                    raise
                return False
        return True

    async def not_run(self, query: str) -> None:
        """Tell a tap that the ledger is away and nothing was run. Raises SendError."""
        await self.toast(query, phrases.ledger_away())

    async def me(self) -> str:
        """The bot's username. Raises SendError, permanent for a token that Telegram does not know."""
        with _translated():
            return (await self._bot.get_me()).username or ""

    async def hook(self) -> "Hook":
        """Where updates are sent to. Raises SendError."""
        with _translated():
            found = await self._bot.get_webhook_info()
        return Hook(found.url, found.pending_update_count, found.last_error_message or "")

    async def knows(self, chat: str) -> bool:
        """Whether *chat* can be written to: a person has to have opened the bot once. Raises SendError."""
        with _translated():
            try:
                await self._bot.get_chat(chat)
            except (BadRequest, Forbidden):
                return False
        return True

    async def set_webhook(self, url: str, secret: str) -> None:
        """Have updates sent to *url*. Pending ones are kept. Raises SendError."""
        with _translated():
            await self._bot.set_webhook(url, secret_token=secret, allowed_updates=WANTED)

    async def set_commands(self, commands: Sequence[tuple[str, str]]) -> None:
        """The menu of (command, description), for private chats and for groups. Raises SendError."""
        menu = [BotCommand(command, description) for command, description in commands]
        with _translated():
            for scope in SCOPES:
                await self._bot.set_my_commands(menu, scope=scope)

    async def poll(self, take: Callable[[bytes], Awaitable[bool]]) -> None:
        """Fetch updates until cancelled: for development, where Telegram cannot reach us.

        An update is confirmed to Telegram only after *take* said that it is dealt with.
        """
        offset, pause, alone = 0, 1.0, False
        while True:
            try:
                alone = alone or await self._without_webhook()
                offset = await self._take_all(offset, take)
                pause = 1.0
            except SendError as error:
                log.warning("Polling: %s Again in %d s.", error, pause)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_S, pause * 2)

    async def _without_webhook(self) -> bool:
        with _translated():
            return await self._bot.delete_webhook(drop_pending_updates=False)

    async def _take_all(self, offset: int, take: Callable[[bytes], Awaitable[bool]]) -> int:
        """The offset from which to go on: behind the last update that was taken, in their order."""
        for update in await self._fetch(offset):
            if not await take(orjson.dumps(update)):
                log.warning("The inbox does not take updates now.")
                await asyncio.sleep(1)
                break
            offset = update["update_id"] + 1
        return offset

    async def _fetch(self, offset: int) -> list[dict[str, Any]]:
        """The updates as Telegram wrote them. Written small, the method is not taken for PTB's own."""
        ask = {"offset": offset, "timeout": POLL_S, "allowed_updates": WANTED}
        with _translated():
            found: list[dict[str, Any]] = await self._bot.do_api_request(
                "getupdates", api_kwargs=ask, read_timeout=POLL_S + READ_S
            )
        return found

    async def _post(
        self,
        to: Address,
        html: str,
        plain: str,
        keyboard: InlineKeyboardMarkup | None,
        reply_to: str,
        *,
        silent: bool = False,
    ) -> int:
        about = self._about(to, reply_to) | {
            "text": html,
            "parse_mode": ParseMode.HTML,
            "link_preview_options": _NO_PREVIEW,
            "reply_markup": keyboard,
            "disable_notification": silent,
        }
        remedies: dict[str, dict[str, Any]] = {
            "parse entities": {"text": clip(plain, 4096), "parse_mode": None},
            "message thread not found": {"message_thread_id": None},
        }
        with _translated():
            while True:
                try:
                    return (await self._bot.send_message(**about)).message_id
                except BadRequest as error:
                    remedy = next((remedies.pop(words) for words in [*remedies] if _says(error, words)), None)
                    if remedy is None:
                        raise
                    log.warning("Telegram says %r to %s; sending it otherwise.", error.message, to.recipient)
                    about |= remedy

    @staticmethod
    def _about(to: Address, reply_to: str) -> dict[str, Any]:
        reply = ReplyParameters(int(reply_to), allow_sending_without_reply=True) if reply_to else None
        return {"chat_id": to.to, "message_thread_id": to.topic, "reply_parameters": reply}

    def _keyboard(
        self, tenant: str, chat: str, rows: Sequence[Sequence[Button]]
    ) -> InlineKeyboardMarkup | None:
        if not rows:
            return None
        return InlineKeyboardMarkup([[self._button(tenant, chat, button) for button in row] for row in rows])

    def _button(self, tenant: str, chat: str, button: Button) -> InlineKeyboardButton:
        data = self._tokens.mint(tenant, chat, button.verb, button.option, button.anchor)
        return InlineKeyboardButton(button.label, callback_data=data, style=button.style or None)


class TelegramReceiver:
    """What we hear on Telegram: turns updates from the inbox into taps and words for the desk.

    *moved* is told when a group became a supergroup: the tenants it may belong to, the old id, the new one.
    """

    def __init__(
        self,
        application: App,
        channel: TelegramChannel,
        outbox: Outbox,
        desk: Desk,
        tokens: Tokens,
        tenants: Tenants,
        moved: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._application = application
        self._channel = channel
        self._outbox = outbox
        self._desk = desk
        self._tokens = tokens
        self._tenants = tenants
        self._moved = moved
        self._failed: dict[int, Exception] = {}
        self._opening = asyncio.Lock()
        self._open = False
        application.add_handler(CallbackQueryHandler(self._tapped))
        application.add_handler(MessageHandler(filters.UpdateType.MESSAGE & filters.TEXT, self._said))
        application.add_handler(MessageHandler(filters.StatusUpdate.MIGRATE, self._migrated))
        application.add_error_handler(self._remember_error)

    async def open(self) -> None:
        """Learn who we are, once: needed to hear, not to speak. Raises SendError."""
        async with self._opening:
            if not self._open:
                with _translated():
                    await self._application.initialize()
                self._open = True

    async def close(self) -> None:
        await self._application.shutdown()
        await self._application.bot.request.shutdown()

    async def handle(self, arrived: Arrived) -> None:
        """Process one update. Raises what its handler raised, or SendError while Telegram is away."""
        await self.open()
        update = self._update(arrived)
        await self._application.process_update(update)
        error = self._failed.pop(update.update_id, None)
        if error is not None:
            raise error

    async def give_up(self, arrived: Arrived) -> None:
        """Tell the person that we could not make anything of what they did."""
        update = self._update(arrived)
        query, message = update.callback_query, update.effective_message
        answer = Answer(GIVEN_UP)
        if query and await self._toast(query, answer.text, alert=True):
            return
        if message:
            await self._reply("", message, answer)

    def _update(self, arrived: Arrived) -> Update:
        data = orjson.loads(arrived.raw) | {"arrived": dict(arrived.meta)}
        return Update.de_json(data, self._application.bot)

    async def _remember_error(self, update: object, context: Context) -> None:
        if isinstance(update, Update) and isinstance(context.error, Exception):
            self._failed[update.update_id] = context.error

    async def _tapped(self, update: Update, context: Context) -> None:
        query = update.callback_query
        if query is None:
            return
        tenant, tap = self._tap(update, query)
        deciding = asyncio.ensure_future(self._desk.tapped(tenant, tap))
        try:
            done, _ = await asyncio.wait([deciding], timeout=VERDICT_S)
            if not done:
                await self._toast(query, phrases.slow(), alert=False)
            answer = await deciding
        finally:
            deciding.cancel()
        told = bool(done) and await self._toast(query, answer.text, alert=answer.alert)
        if query.message and (not told or answer.html or answer.documents):
            await self._reply(tenant, query.message, answer)

    def _tap(self, update: Update, query: CallbackQuery) -> tuple[str, Tap]:
        message = query.message
        chat = str(message.chat.id) if message else ""
        person = "" if _is_copy(message) else _person(query.from_user)
        tenant, choice = self._read(query.data or "", chat, person)
        return tenant, Tap(
            channel=self._channel.name,
            vendor_id=person,
            chat=chat,
            verb=choice.verb,
            anchor=choice.anchor,
            act=self._act(update, message),
            option=choice.option,
            genuine=choice.genuine and bool(message),
            private=bool(message and message.chat.type == "private"),
        )

    def _read(self, data: str, chat: str, person: str) -> tuple[str, Choice]:
        """The choice and its tenant: the one whose button it is, else the likeliest."""
        tenants = self._tenants(self._channel.name, chat, person) or [""]
        read = [(tenant, self._tokens.read(data, tenant, chat)) for tenant in tenants]
        return next((found for found in read if found[1].genuine), read[0])

    async def _said(self, update: Update, context: Context) -> None:
        message = update.message
        text = self._words(message.text or "") if message else ""
        if message is None or not text:
            return
        said = self._heard(update, message, text)
        tenants = self._tenants(said.channel, said.chat, said.vendor_id) or [""]
        answer = await self._desk.said(tenants[0], said)
        if answer is not None:
            await self._reply(tenants[0], message, answer)

    def _heard(self, update: Update, message: Message, text: str) -> Said:
        replied = message.reply_to_message
        user = message.from_user
        return Said(
            channel=self._channel.name,
            vendor_id="" if message.sender_chat or _is_copy(message) else _person(user),
            chat=str(message.chat.id),
            text=text,
            act=self._act(update, message),
            private=message.chat.type == "private",
            name=user.full_name if user else "",
            reply_to=str(replied.message_id) if replied else "",
        )

    def _words(self, text: str) -> str:
        """*text* with `/cmd@our_bot` as `/cmd`; empty for another bot's command."""
        found = re.match(r"(/\w+)@(\w+)", text)
        if not found:
            return text
        ours = found[2].lower() == self._application.bot.username.lower()
        return found[1] + text[found.end() :] if ours else ""

    async def _migrated(self, update: Update, context: Context) -> None:
        message = update.message
        if message and message.migrate_to_chat_id:
            await self._moved(str(message.chat.id), str(message.migrate_to_chat_id))

    @staticmethod
    def _act(update: Update, message: MaybeInaccessibleMessage | None) -> Act:
        arrived = update.api_kwargs.get("arrived", {})
        return Act(
            channel=TelegramChannel.name,
            update=str(update.update_id),
            message=str(message.message_id) if message else "",
            digest=arrived.get("digest", ""),
            at_ms=int(arrived.get("at_ms", 0)),
        )

    async def _toast(self, query: CallbackQuery, text: str, *, alert: bool) -> bool:
        """Whether the tap was answered. Telegram being away must not have the tap decided again."""
        try:
            return await self._channel.toast(query.id, text, alert=alert)
        except SendError as error:
            log.warning("A tap could not be answered: %s", error)
            return False

    async def _reply(self, tenant: str, message: MaybeInaccessibleMessage, answer: Answer) -> None:
        """Say it under *message*. What takes longer is in the outbox's hands."""
        topic = (
            message.message_thread_id if isinstance(message, Message) and message.is_topic_message else None
        )
        to = Address(self._channel.name, str(message.chat.id), "", topic=topic)
        reply = self._outbox.say(self._channel, tenant, to, answer, reply_to=str(message.message_id))
        try:
            async with asyncio.timeout(REPLY_S):
                await reply
        except (SendError, TimeoutError) as error:
            log.warning("An answer was not delivered yet: %r", error)


_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


def _person(user: User | None) -> str:
    """The numeric id of a person; empty for whoever cannot be named."""
    return "" if user is None or user.is_bot or user.id in NOBODY else str(user.id)


def _is_copy(message: MaybeInaccessibleMessage | None) -> bool:
    return isinstance(message, Message) and bool(message.forward_origin or message.via_bot)


def _one_message(html: str) -> str:
    return (cut(html) or [""])[0]


def _plain(html: str) -> str:
    return unescape(re.sub(r"<[^<>]*>", "", html))


def _says(error: TelegramError, *words: str) -> bool:
    return any(word in error.message.lower() for word in words)


@contextmanager
def _same_is_fine() -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        if not _says(error, SAME):
            raise


@contextmanager
def _translated() -> Iterator[None]:
    """Telegram's errors as SendError. BadRequest and TimedOut are kinds of NetworkError: order matters."""
    try:
        yield
    except TelegramError as error:
        raise _send_error(error) from error


def _send_error(error: TelegramError) -> SendError:
    match error:
        case RetryAfter():
            seconds = error._retry_after.total_seconds()  # noqa: SLF001  the public one warns in 22.x
            return SendError(error.message, retry_after_s=seconds)
        case ChatMigrated():
            return SendError(error.message, moved_to=str(error.new_chat_id))
        case BadRequest() if _says(error, *GONE):
            return SendError(error.message, gone=True)
        case BadRequest() | Forbidden() | InvalidToken():
            return SendError(error.message, permanent=True)
        case NetworkError():
            cause = error.__cause__
            maybe = isinstance(cause, aiohttp.ClientError | TimeoutError) and not isinstance(cause, NOT_SENT)
            return SendError(error.message, unknown=maybe)
    return SendError(error.message)
