"""The sandbox's Bot API server, driven by python-telegram-bot and held against the published schema."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, InputFile
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TimedOut,
)
from telegram.ext import ApplicationBuilder, CallbackQueryHandler, CommandHandler
from telegram.request import HTTPXRequest

from bot.sandbox.chats import User
from bot.sandbox.loopback import Bell, epoch, serve
from bot.sandbox.telegram import QUERY_LIVES, Telegram

TOKEN = "100200:sandbox"
RUDO, TENDAI, STRANGER, GROUP = 1001, 1002, 6666, -100200300
SCHEMA = Path(__file__).parents[3] / "shared" / "specs" / "telegram_api_10.1.json"


@pytest.fixture
async def server():
    telegram = Telegram(TOKEN)
    telegram.chats.add_person(User(RUDO, "Rudo", "rudo"))
    telegram.chats.add_person(User(TENDAI, "Tendai"), opened=False)
    telegram.chats.add_group(GROUP, "acme on-call", {RUDO, TENDAI}, topics={7})
    await telegram.start()
    yield telegram
    await telegram.close()


@pytest.fixture
async def bot(server):
    async with Bot(TOKEN, base_url=f"{server.url}/bot", request=HTTPXRequest(read_timeout=5)) as bot:
        yield bot


def buttons(*data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(d[:20], callback_data=d, style="success") for d in data]]
    )


class Hook:
    """A webhook that answers what it is told, and keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.got, self.secrets, self.bell = list(statuses), [], [], Bell()

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        self.secrets.append(request.headers.get("X-Telegram-Bot-Api-Secret-Token"))
        self.bell.ring()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def hook():
    hook = Hook()
    app = web.Application()
    app.router.add_post("/telegram/webhook", hook.take)
    served = await serve(app)
    hook.url = f"{served.url}/telegram/webhook"
    yield hook
    await served.close()


async def test_a_bot_knows_its_own_name(bot):
    assert bot.username == "countersign_sandbox_bot"


async def test_a_message_is_kept_as_people_see_it(server, bot):
    sent = await bot.send_message(
        GROUP, "<b>checkout</b> &lt;3 <code>a</code>", "HTML", reply_markup=buttons("v1|ap")
    )
    kept = server.chats.chats[GROUP].messages[sent.message_id]
    assert kept.text == sent.text == "checkout <3 a"
    assert [(e.type, e.offset, e.length) for e in sent.entities] == [("bold", 0, 8), ("code", 12, 1)]
    assert kept.keyboard == [[{"text": "v1|ap", "callback_data": "v1|ap", "style": "success"}]]
    assert server.chats.journal[-1].rings


async def test_a_silent_message_does_not_ring_and_an_edit_never_does(server, bot):
    sent = await bot.send_message(GROUP, "quiet", disable_notification=True)
    await bot.edit_message_text("edited", GROUP, sent.message_id)
    assert [(h.kind, h.rings) for h in server.chats.journal] == [("sent", False), ("edited", False)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "message text is empty"),
        ("x" * 4097, "message is too long"),
        ("<b>open", "can't parse entities: Can't find end tag corresponding to start tag \"b\""),
        ("<script>x</script>", 'can\'t parse entities: Unsupported start tag "script" at byte offset 0'),
        ("é</b>", "can't parse entities: Unexpected end tag at byte offset 2"),
        (
            "<b><i>x</b></i>",
            'can\'t parse entities: Unmatched end tag at byte offset 7, expected "</i>", found "</b>"',
        ),
        ("1 < 2", "can't parse entities: Unclosed start tag at byte offset 2"),
    ],
)
async def test_a_text_that_telegram_would_not_take_is_refused(bot, text, says):
    with pytest.raises(BadRequest) as refused:
        await bot.send_message(GROUP, text, parse_mode="HTML")
    assert refused.value.message == says.capitalize()


async def test_4096_characters_are_counted_after_the_tags_are_gone(server, bot):
    await bot.send_message(GROUP, "<b>" + "x" * 4096 + "</b>", parse_mode="HTML")
    assert server.chats.journal[-1].kind == "sent"


@pytest.mark.parametrize("data", ["x" * 65, "é" * 33])
async def test_callback_data_is_at_most_64_bytes(bot, data):
    with pytest.raises(BadRequest, match="Button_data_invalid"):
        await bot.send_message(GROUP, "hi", reply_markup=buttons(data))


async def test_nobody_is_written_to_who_did_not_open_the_bot(server, bot):
    with pytest.raises(Forbidden, match="can't initiate conversation"):
        await bot.send_message(TENDAI, "hi")
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(4242, "hi")
    server.block(RUDO)
    with pytest.raises(Forbidden, match="blocked by the user"):
        await bot.send_message(RUDO, "hi")


async def test_edits_are_refused_as_telegram_does(bot, server):
    sent = await bot.send_message(GROUP, "same")
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_text("same", GROUP, sent.message_id)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_reply_markup(GROUP, sent.message_id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("gone", GROUP, 999)
    await bot.delete_message(GROUP, sent.message_id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("gone", GROUP, sent.message_id)


async def test_an_edit_without_a_keyboard_takes_the_keyboard_away(server, bot):
    sent = await bot.send_message(GROUP, "ask", reply_markup=buttons("a"))
    await bot.edit_message_text("asked", GROUP, sent.message_id)
    assert server.chats.chats[GROUP].messages[sent.message_id].keyboard == []


async def test_a_group_that_became_a_supergroup_says_where_it_went(server, bot):
    new = server.migrate(GROUP)
    with pytest.raises(ChatMigrated) as moved:
        await bot.send_message(GROUP, "hi")
    assert moved.value.new_chat_id == new.id
    sent = await bot.send_message(new.id, "hi")
    assert sent.chat.type == "supergroup"


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
async def test_a_flood_in_one_chat_leaves_the_others_alone(server, bot):
    server.flood(GROUP, 5)
    with pytest.raises(RetryAfter) as flood:
        await bot.send_message(GROUP, "hi")
    assert flood.value.retry_after in (4, 5)
    await bot.send_message(RUDO, "hi")


async def test_a_call_that_hangs_may_have_been_carried_out(server):
    request = HTTPXRequest(read_timeout=0.2)
    async with Bot(TOKEN, base_url=f"{server.url}/bot", request=request) as bot:
        server.hang("sendMessage", GROUP, after=True)
        with pytest.raises(TimedOut):
            await bot.send_message(GROUP, "was it sent?")
        server.unhang()
        assert [m.text for m in server.chats.chats[GROUP].messages.values()] == ["was it sent?"]


async def test_a_tap_is_answered_once_and_only_while_it_is_young(server, bot):
    sent = await bot.send_message(GROUP, "ask", reply_markup=buttons("yes"))
    kept = server.chats.chats[GROUP].messages[sent.message_id]
    tap = server.tap(RUDO, kept, "yes")
    await bot.answer_callback_query(tap.id, "Approved", show_alert=True)
    assert (tap.answer.text, tap.answer.alert, tap.answer.user_id) == ("Approved", True, RUDO)
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query(tap.id, "Again")
    old = server.tap(RUDO, kept, "yes")
    old.at -= QUERY_LIVES + 1
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query(old.id, "Late")
    with pytest.raises(BadRequest, match="Message_too_long"):
        await bot.answer_callback_query(server.tap(RUDO, kept, "yes").id, "x" * 201)


async def test_files_come_in_multipart(server, bot):
    sent = await bot.send_document(
        RUDO, InputFile(b"audit", "audit.jsonl"), caption="<b>export</b>", parse_mode="HTML"
    )
    assert server.chats.chats[RUDO].messages[sent.message_id].media.content == b"audit"
    assert (sent.document.file_name, sent.caption) == ("audit.jsonl", "export")


@pytest.mark.skipif(not SCHEMA.exists(), reason="the published Bot API schema is not beside this repository")
async def test_a_document_is_one_of_the_published_schema_and_has_its_limits(server, bot):
    sent = await bot.send_document(GROUP, InputFile(b"PK", "export.zip"), "#7 · 7F3A", message_thread_id=7)
    document = server.chats.message_json(server.chats.chats[GROUP].messages[sent.message_id])["document"]
    fields = {f["name"]: f for f in json.loads(SCHEMA.read_text())["types"]["Document"]["fields"]}
    assert document.keys() <= fields.keys()
    assert {name for name, field in fields.items() if field["required"]} <= document.keys()
    assert (document["file_size"], document["mime_type"]) == (2, "application/zip")
    with pytest.raises(BadRequest, match="caption is too long"):
        await bot.send_document(GROUP, InputFile(b"PK", "export.zip"), "x" * 1025)
    with pytest.raises(BadRequest, match="There is no document"):
        await bot.send_document(GROUP, "https://example.org/export.zip")
    with pytest.raises(NetworkError, match="Too Large"):
        await bot.send_document(GROUP, InputFile(bytes(50 * 2**20 + 1), "export.zip"), write_timeout=20)


async def test_a_topic_that_is_not_there_is_told(bot):
    assert (await bot.send_message(GROUP, "in topic", message_thread_id=7)).message_thread_id == 7
    with pytest.raises(BadRequest, match="Message thread not found"):
        await bot.send_message(GROUP, "nowhere", message_thread_id=8)


async def test_the_menu_is_kept_by_scope(bot):
    from telegram import BotCommandScopeAllGroupChats

    await bot.set_my_commands([("status", "How things are")], scope=BotCommandScopeAllGroupChats())
    assert await bot.get_my_commands() == ()
    assert (await bot.get_my_commands(scope=BotCommandScopeAllGroupChats()))[0].command == "status"
    with pytest.raises(BadRequest, match="Bot_command_invalid"):
        await bot.set_my_commands([("Status!", "no")])


async def test_a_message_can_be_pinned(bot):
    sent = await bot.send_message(GROUP, "open incident")
    await bot.pin_chat_message(GROUP, sent.message_id)
    assert (await bot.get_chat(GROUP)).pinned_message.message_id == sent.message_id


async def test_the_webhook_is_tried_until_it_says_2xx(server, bot, hook):
    hook.statuses = [500, 502]
    await bot.set_webhook(hook.url, secret_token="s3cret", allowed_updates=["message", "callback_query"])
    server.write(RUDO, RUDO, "/status")
    await hook.bell.until(lambda: len(hook.got) == 3, 5)
    assert len({update["update_id"] for update in hook.got}) == 1
    assert set(hook.secrets) == {"s3cret"}
    await server.delivery.bell.until(lambda: not server.delivery.pending(), 5)
    assert (await bot.get_webhook_info()).last_error_message == "Wrong response from the webhook: 502"


async def test_a_slow_chat_does_not_hold_up_another(server, bot, hook):
    await bot.set_webhook(hook.url)
    hook.statuses = [500] * 3
    server.write(RUDO, RUDO, "/first")
    server.tap(RUDO, server.chats.post(server.chats.chats[RUDO], server.chats.bot, "card"), "x")
    await hook.bell.until(lambda: {"message", "callback_query"} <= {k for u in hook.got for k in u}, 5)
    await server.delivery.bell.until(lambda: not server.delivery.pending(), 5)
    assert len({u["update_id"] for u in hook.got}) == 2


async def test_updates_can_be_lost_or_come_twice(server, bot, hook):
    await bot.set_webhook(hook.url)
    server.delivery.drop, server.delivery.repeat = 1, 1
    server.write(RUDO, RUDO, "/lost")
    server.write(RUDO, RUDO, "/twice")
    await hook.bell.until(lambda: len(hook.got) == 2, 5)
    assert [u["message"]["text"] for u in hook.got] == ["/twice", "/twice"]


async def test_a_bad_secret_or_an_outside_address_is_refused(bot):
    with pytest.raises(BadRequest, match="unallowed characters"):
        await bot.set_webhook("http://127.0.0.1:1/x", secret_token="no spaces")
    with pytest.raises(BadRequest, match=r"127\.0\.0\.1 alone"):
        await bot.set_webhook("https://example.org/hook")


async def test_the_older_of_two_pollers_is_ended(server, bot):
    async with Bot(TOKEN, base_url=f"{server.url}/bot") as other:
        older = asyncio.create_task(bot.get_updates(timeout=5))
        await server.chats.bell.until(lambda: server.delivery._poller, 2) or await asyncio.sleep(0)
        newer = asyncio.create_task(other.get_updates(timeout=5))
        with pytest.raises(Conflict, match="terminated by other getUpdates"):
            await older
        server.write(RUDO, RUDO, "hi")
        assert (await newer)[0].message.text == "hi"


async def test_polling_under_a_webhook_is_a_conflict(bot, hook):
    await bot.set_webhook(hook.url)
    with pytest.raises(Conflict, match="while webhook is active"):
        await bot.get_updates()


async def test_an_update_comes_again_until_its_offset_is_confirmed(server, bot):
    server.write(RUDO, RUDO, "/status")
    first = (await bot.get_updates())[0]
    assert (await bot.get_updates())[0].update_id == first.update_id
    assert await bot.get_updates(offset=first.update_id + 1) == ()


async def test_in_a_group_the_bot_sees_only_what_is_meant_for_it(server, bot):
    card = await bot.send_message(GROUP, "card")
    server.write(RUDO, GROUP, "lunch?")
    server.write(RUDO, GROUP, "/status@countersign_sandbox_bot")
    server.write(TENDAI, GROUP, "because it is flaky", reply_to=card.message_id)
    seen = await bot.get_updates()
    assert [u.message.text for u in seen] == ["/status@countersign_sandbox_bot", "because it is flaky"]
    assert seen[1].message.reply_to_message.message_id == card.message_id


async def test_an_anonymous_admin_has_no_name(server, bot):
    server.write(RUDO, GROUP, "/status", anonymous=True)
    (update,) = await bot.get_updates()
    assert update.message.from_user.username == "GroupAnonymousBot"
    assert update.message.sender_chat.id == GROUP


async def test_no_id_comes_again_in_a_later_sandbox(server, bot, monkeypatch):
    """A program that outlives its sandbox keeps handles of messages and forgets updates that it has seen."""
    earlier = await bot.send_message(GROUP, "card")
    server.write(RUDO, RUDO, "/status")
    (update,) = await bot.get_updates()
    later = epoch() + 1
    monkeypatch.setattr("bot.sandbox.loopback.epoch", lambda: later)
    telegram = Telegram(TOKEN)
    telegram.chats.add_group(GROUP, "acme on-call", set())
    chat = telegram.chats.chats[GROUP]
    assert telegram.chats.post(chat, telegram.chats.bot, "new").id > earlier.message_id
    assert telegram.delivery.put(RUDO, "message", {}) > update.update_id
    await telegram.close()


async def test_a_wrong_token_is_nobody(server):
    wrong = Bot("1:wrong", base_url=f"{server.url}/bot")
    with pytest.raises(InvalidToken):
        await wrong.initialize()
    for request in wrong._request:
        await request.shutdown()


async def test_json_bodies_and_unknown_methods_are_understood(server):
    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/bot{TOKEN}"
        async with session.post(f"{url}/sendMessage", json={"chat_id": RUDO, "text": "json"}) as answer:
            assert (await answer.json())["result"]["text"] == "json"
        async with session.post(f"{url}/flyToTheMoon") as answer:
            assert answer.status == 404
        async with session.post(
            f"{url}/sendMessage", data=b"{", headers={"Content-Type": "application/json"}
        ) as a:
            assert a.status == 400
    assert server.calls[0].params == {"chat_id": RUDO, "text": "json"}


async def test_a_whole_application_works_against_it(server, bot):
    application = ApplicationBuilder().bot(bot).build()
    done = asyncio.Event()

    async def status(update, _):
        await update.message.reply_html("<b>fine</b>", reply_markup=buttons("ok"))

    async def tapped(update, _):
        await update.callback_query.answer("seen")
        done.set()

    application.add_handler(CommandHandler("status", status))
    application.add_handler(CallbackQueryHandler(tapped))
    async with application:
        await application.updater.start_polling(timeout=1)
        await application.start()
        server.write(RUDO, RUDO, "/status")
        card = await server.chats.bell.until(
            lambda: next((m for m in server.chats.chats[RUDO].messages.values() if m.text == "fine"), None), 5
        )
        tap = server.tap(RUDO, card, "ok")
        await server.chats.bell.until(lambda: tap.answer, 5)
        await application.updater.stop()
        await application.stop()
    assert tap.answer.text == "seen"


class Schema:
    """The published Bot API, as a judge of what our server says."""

    def __init__(self) -> None:
        spec = json.loads(SCHEMA.read_text())
        self.methods: dict[str, Any] = spec["methods"]
        self.types: dict[str, Any] = spec["types"]

    def faults(self, value: Any, kinds: list[str], where: str) -> list[str]:
        found = [self._faults(value, kind, where) for kind in kinds]
        return [] if [] in found else min(found, key=len)

    def _faults(self, value: Any, kind: str, where: str) -> list[str]:
        simple = {"Integer": int, "String": str, "Boolean": bool, "True": bool, "Float": float}
        if kind in simple:
            good = type(value) is simple[kind] or (kind == "Float" and type(value) is int)
            return [] if good else [f"{where}: {value!r} is not {kind}"]
        if kind.startswith("Array of "):
            if not isinstance(value, list):
                return [f"{where}: not a list"]
            return [f for i, v in enumerate(value) for f in self.faults(v, [kind[9:]], f"{where}[{i}]")]
        about = self.types[kind]
        if about.get("subtypes"):
            return self.faults(value, about["subtypes"], where)
        return self._object(value, about.get("fields", []), f"{where}:{kind}")

    def _object(self, value: Any, fields: list[Any], where: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where}: not an object"]
        known = {field["name"]: field for field in fields}
        faults = [f"{where}.{name} is unknown" for name in value.keys() - known.keys()]
        faults += [f"{where}.{n} is missing" for n, f in known.items() if f["required"] and n not in value]
        for name in value.keys() & known.keys():
            faults += self.faults(value[name], known[name]["types"], f"{where}.{name}")
        return faults


@pytest.mark.skipif(not SCHEMA.exists(), reason="the published Bot API schema is not beside this repository")
async def test_every_answer_and_update_has_the_published_shape(server, bot, hook):
    schema, raw = Schema(), []
    async with aiohttp.ClientSession() as session:

        async def call(method: str, **params: Any) -> Any:
            async with session.post(f"{server.url}/bot{TOKEN}/{method}", json=params) as answer:
                body = await answer.json()
            raw.append((method, params, body["result"]))
            return body["result"]

        keyboard = {"inline_keyboard": [[{"text": "Approve", "callback_data": "v", "style": "success"}]]}
        await call("getMe")
        card = await call(
            "sendMessage", chat_id=GROUP, text="<b>card</b>", parse_mode="HTML", reply_markup=keyboard
        )
        edit = {"chat_id": GROUP, "message_id": card["message_id"]}
        await call("editMessageText", text="edited", reply_markup=keyboard, **edit)
        server.write(RUDO, GROUP, "/deny it is noise", reply_to=card["message_id"])
        server.write(RUDO, GROUP, "/anonymous", anonymous=True)
        tap = server.tap(TENDAI, server.chats.chats[GROUP].messages[card["message_id"]], "v")
        await call("getUpdates", limit=100)
        await call("answerCallbackQuery", callback_query_id=tap.id, text="ok", show_alert=True)
        await call("editMessageReplyMarkup", **edit)
        await call("pinChatMessage", **edit)
        await call("getChat", chat_id=GROUP)
        await call("deleteMessage", **edit)
        await call("setMyCommands", commands=[{"command": "status", "description": "How things are"}])
        await call("getMyCommands")
        await call("setWebhook", url=hook.url, secret_token="s", allowed_updates=["message"])
        await call("getWebhookInfo")
    assert len(raw) == 13
    for method, params, result in raw:
        about = schema.methods[method]
        known = {field["name"] for field in about["fields"]} if about.get("fields") else set()
        assert params.keys() <= known
        assert schema.faults(result, about["returns"], method) == []
