"""From a finger on a phone to the desk and back: our Telegram adapter against a real Bot API server.

The phone, Telegram and the network between are the sandbox's; door, inbox, Valkey, python-telegram-bot,
outbox and channel are the shipped ones. Only the desk, which decides, is the test's own.
"""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

import orjson
import pytest
from aiohttp import web

from bot.channels.telegram import (
    GIVEN_UP,
    TelegramChannel,
    TelegramReceiver,
    build_application,
    builder,
)
from bot.ingress import Arrived, Inbox, TelegramDoor
from bot.outbox import Outbox
from bot.ports import Address, Answer, Button, Card, Document, Ring, SendError, Verb
from bot.sandbox.chats import ANONYMOUS, User
from bot.sandbox.loopback import Bell, Served, serve
from bot.sandbox.telegram import QUERY_LIVES, Telegram
from bot.tokens import Tokens
from ledger.clock import WallClock
from ledger.store import StoreDown
from tests.valkey import a_valkey, connected

pytestmark = pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")

TOKEN, SECRET = "100200:sandbox", "s3cret-of-the-webhook"
ALERT_SECRET = b"a secret of the operator, 32 bytes or more"
RUDO, TENDAI, STRANGER, GROUP, OTHER = 1001, 1002, 6666, -100200300, -100200400
TENANTS = {str(GROUP): "acme", str(OTHER): "umbrella", str(RUDO): "acme", str(TENDAI): "acme"}
HASH = "7f3a91c2" * 8
TO_GROUP = Address("telegram", str(GROUP), "chat1")
TO_RUDO = Address("telegram", str(RUDO), "rudo", "rudo")
APPROVED = Answer("Approved 03:14:02. Restart is running. #45", alert=False)


@dataclass
class TestDesk:
    """Decides as it is told: `verdict` is the answer, `gate` lets it be slow, `errors` are raised first."""

    __test__ = False

    bell: Bell
    verdict: Answer = APPROVED
    reply: Answer | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[Exception] = field(default_factory=list)
    taps: list = field(default_factory=list)
    words: list = field(default_factory=list)

    async def tapped(self, tenant, tap):
        self.taps.append((tenant, tap))
        self.bell.ring()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self.verdict

    async def said(self, tenant, said):
        self.words.append((tenant, said))
        self.bell.ring()
        return self.reply


@dataclass
class House:
    """The wired program, and the world around it."""

    server: Telegram
    channel: TelegramChannel
    receiver: TelegramReceiver
    outbox: Outbox
    desk: TestDesk
    tokens: Tokens
    inbox: Inbox
    door: TelegramDoor
    moves: list[tuple[str, str]]
    served: Served | None = None
    running: list[asyncio.Task] = field(default_factory=list)

    async def with_webhook(self):
        app = web.Application()
        app.router.add_post("/telegram/webhook", self.door.webhook)
        self.served = await serve(app)
        await self.channel.set_webhook(f"{self.served.url}/telegram/webhook", SECRET)
        return self

    async def until(self, look, within=10):
        found = await self.server.chats.bell.until(look, within)
        assert found, self.server.calls[-8:]
        return found

    def messages(self, chat=GROUP):
        return list(self.server.chats.chats[chat].messages.values())

    def ours(self, chat=GROUP):
        return [m for m in self.messages(chat) if m.sender.is_bot]

    def called(self, method):
        return [call for call in self.server.calls if call.method.lower() == method.lower()]

    async def card(self, to=TO_GROUP, **more):
        message = await self.channel.send("acme", to, card(**more))
        return self.server.chats.chats[int(to.to)].messages[int(message)]


APPROVE = Button(Verb.APPROVE, "✅ Approve: restart workers", HASH, "1", "success")
DENY = Button(Verb.DENY, "✖ Deny", HASH, "", "danger")
ACK = Button(Verb.ACK, "👀 I am on it", HASH)


def card(html="<b>🔴 checkout: 19 % fail</b>", plain="checkout: 19 % fail", ring=Ring.RING, rows=None):
    rows = ((APPROVE, DENY), (ACK,)) if rows is None else rows
    return Card("checkout-3", 42, 42, ring, html, plain, rows)


@pytest.fixture
async def server():
    telegram = Telegram(TOKEN)
    for user in (User(RUDO, "Rudo", "rudo"), User(TENDAI, "Tendai"), User(STRANGER, "Mallory")):
        telegram.chats.add_person(user)
    telegram.chats.add_group(GROUP, "acme on-call", {RUDO, TENDAI, STRANGER}, topics={7})
    telegram.chats.add_group(OTHER, "umbrella", {STRANGER})
    await telegram.start()
    yield telegram
    await telegram.close()


@pytest.fixture
def unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture
async def house(server, redis):
    clock, desk, moves = WallClock(), TestDesk(server.chats.bell), []
    desk.gate.set()
    application = build_application(builder(TOKEN, server.url, read_s=0.5))
    tokens, outbox = Tokens(ALERT_SECRET, clock), Outbox(clock)
    channel = TelegramChannel(application.bot, tokens)

    def tenants(channel, chat, person):
        found = TENANTS.get(chat) or TENANTS.get(person)
        return [found] if found else []

    async def moved(old, new):
        moves.append((old, new))
        server.chats.bell.ring()

    receiver = TelegramReceiver(application, channel, outbox, desk, tokens, tenants, moved)
    inbox = Inbox(redis, "test", idle_s=3)
    door = TelegramDoor(inbox, clock, SECRET, channel.not_run)
    house = House(server, channel, receiver, outbox, desk, tokens, inbox, door, moves)
    house.running.append(asyncio.create_task(inbox.run({"telegram": receiver})))
    yield house
    server.unhang()
    for task in house.running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await outbox.close()
    await receiver.close()
    if house.served:
        await house.served.close()


def data(message, label):
    return next(b["callback_data"] for b in message.buttons() if label in b["text"])


def tap(house, person, message, label):
    return house.server.tap(person, message, data(message, label))


# --- taps -------------------------------------------------------------------------------------------------


async def test_a_tap_reaches_the_desk_whole_and_gets_one_answer(house):
    await house.with_webhook()
    shown = await house.card()
    query = tap(house, RUDO, shown, "Approve")
    await house.until(lambda: query.answer)
    ((tenant, got),) = house.desk.taps
    assert (tenant, got.channel, got.vendor_id, got.chat) == ("acme", "telegram", str(RUDO), str(GROUP))
    assert (got.verb, got.option, got.anchor) == (Verb.APPROVE, "1", HASH[:16])
    assert got.genuine
    assert not got.private
    assert got.act.message == str(shown.id)
    assert len(got.act.digest) == 64
    assert got.act.at_ms > 0
    assert (query.answer.text, query.answer.alert) == ("Approved 03:14:02. Restart is running. #45", False)
    assert [call.method for call in house.called("answerCallbackQuery")] == ["answerCallbackQuery"]
    assert house.ours() == [shown]


async def test_a_refusal_is_shown_in_a_box(house):
    await house.with_webhook()
    house.desk.verdict = Answer("You are not an approver of this.")
    query = tap(house, TENDAI, await house.card(), "Approve")
    await house.until(lambda: query.answer)
    assert query.answer.alert


async def test_a_verdict_that_takes_long_follows_as_a_reply(house):
    await house.with_webhook()
    house.desk.gate.clear()
    shown = await house.card()
    query = tap(house, RUDO, shown, "Approve")
    answer = await house.until(lambda: query.answer)
    assert 1.4 < answer.at - query.at < 2.5
    assert (answer.text, answer.alert) == ("Received, deciding. The answer follows here.", False)
    house.desk.gate.set()
    await house.until(lambda: len(house.ours()) == 2)
    assert (house.ours()[1].text, house.ours()[1].reply_to) == (house.desk.verdict.text, shown.id)
    assert len(house.called("answerCallbackQuery")) == 1


async def test_a_tap_that_telegram_forgot_is_answered_by_a_reply(house):
    await house.with_webhook()
    house.desk.gate.clear()
    shown = await house.card()
    query = tap(house, RUDO, shown, "Approve")
    await house.until(lambda: house.desk.taps)
    query.at -= QUERY_LIVES + 1
    house.desk.gate.set()
    await house.until(lambda: len(house.ours()) == 2)
    assert house.ours()[1].text == house.desk.verdict.text
    assert len(house.desk.taps) == 1


async def test_a_button_copied_into_another_chat_is_not_genuine(house):
    await house.with_webhook()
    shown = await house.card()
    elsewhere = house.server.chats.post(house.server.chats.chats[OTHER], house.server.chats.bot, "copy")
    query = house.server.tap(STRANGER, elsewhere, data(shown, "Approve"))
    await house.until(lambda: query.answer)
    ((tenant, got),) = house.desk.taps
    assert (tenant, got.genuine, got.verb) == ("umbrella", False, Verb.APPROVE)


@pytest.mark.parametrize("forged", ["1|ap|1|7f3a91c27f3a91c2|AAAAAAAAAAAA", "approve", "1|ap", "x" * 64])
async def test_a_forged_tap_is_answered_like_any_other(house, forged):
    await house.with_webhook()
    house.desk.verdict = Answer("This button is not one of mine.")
    query = house.server.tap(RUDO, await house.card(), forged)
    await house.until(lambda: query.answer)
    assert not house.desk.taps[0][1].genuine


async def test_a_strangers_tap_in_private_belongs_to_nobody(house):
    await house.with_webhook()
    mallory = house.server.chats.chats[STRANGER]
    message = house.server.chats.post(mallory, house.server.chats.bot, "x")
    query = house.server.tap(STRANGER, message, "1|ap|1|7f3a91c27f3a91c2|AAAAAAAAAAAA")
    await house.until(lambda: query.answer)
    assert [(t, tap.vendor_id, tap.private) for t, tap in house.desk.taps] == [("", str(STRANGER), True)]


async def test_a_tap_that_fails_once_is_decided_again_and_answered(house):
    await house.with_webhook()
    house.desk.errors = [StoreDown("away for a moment")]
    query = tap(house, RUDO, await house.card(), "Approve")
    await house.until(lambda: query.answer, 20)
    assert len(house.desk.taps) == 2
    assert query.answer.text == house.desk.verdict.text


async def test_an_answer_with_more_than_a_line_is_a_message_as_well(house):
    await house.with_webhook()
    house.desk.verdict = Answer(
        "Sent below.", html="<b>rows</b>", documents=(Document("audit.jsonl", b"{}", "rows\n#7 · X"),)
    )
    shown = await house.card()
    query = tap(house, RUDO, shown, "on it")
    await house.until(lambda: len(house.ours()) == 3)
    assert query.answer.text == "Sent below."
    rows, document = house.ours()[1:]
    assert document.text == "rows\n#7 · X"
    assert (rows.text, rows.reply_to) == ("rows", shown.id)
    assert (document.media.name, document.media.content) == ("audit.jsonl", b"{}")


async def test_an_update_that_comes_twice_is_decided_once(house):
    await house.with_webhook()
    house.server.delivery.repeat = 1
    query = tap(house, RUDO, await house.card(), "Approve")
    await house.until(lambda: query.answer)
    await house.server.delivery.bell.until(lambda: not house.server.delivery.pending(), 5)
    assert len([t for t in house.server.delivery.tries if t.status == 200]) == 2
    assert len(house.desk.taps) == 1


# --- who acts ---------------------------------------------------------------------------------------------


def arrived(update):
    raw = orjson.dumps(update)
    return Arrived("telegram", "1", raw, {"digest": sha256(raw).hexdigest(), "at_ms": "1"})


GROUP_JSON = {"id": GROUP, "type": "group", "title": "acme"}
RUDO_JSON = {"id": RUDO, "is_bot": False, "first_name": "Rudo", "last_name": "M"}
CHANNEL_JSON = {"id": -1003, "type": "channel", "title": "news"}
FORWARDED = {"type": "user", "date": 1, "sender_user": RUDO_JSON}


def said_update(**more):
    message = {"message_id": 5, "date": 1, "chat": GROUP_JSON, "from": RUDO_JSON, "text": "/approve 4812"}
    return {"update_id": 7, "message": {k: v for k, v in (message | more).items() if v is not None}}


def tap_update(house, sender=RUDO_JSON, message=None, **more):
    shown = {"message_id": 5, "date": 1, "chat": GROUP_JSON, "text": "card"} if message is None else message
    choice = house.tokens.mint("acme", str(GROUP), Verb.APPROVE, "1", HASH)
    query = {"id": "q", "from": sender, "chat_instance": "1", "data": choice, "message": shown} | more
    return {"update_id": 7, "callback_query": {k: v for k, v in query.items() if v is not None}}


async def test_a_person_has_a_numeric_id(house):
    await house.receiver.handle(arrived(said_update()))
    await house.receiver.handle(arrived(tap_update(house)))
    assert house.desk.words[0][1].vendor_id == house.desk.taps[0][1].vendor_id == str(RUDO)
    assert house.desk.words[0][1].name == "Rudo M"


@pytest.mark.parametrize(
    "who",
    [
        {"from": {"id": ANONYMOUS, "is_bot": True, "first_name": "Group"}, "sender_chat": GROUP_JSON},
        {"sender_chat": CHANNEL_JSON},
        {"from": {"id": 136817688, "is_bot": True, "first_name": "Channel"}},
        {"from": {"id": 777000, "is_bot": False, "first_name": "Telegram"}},
        {"from": {"id": 4242, "is_bot": True, "first_name": "Other bot"}},
        {"from": None},
        {"forward_origin": FORWARDED},
        {"via_bot": {"id": 4242, "is_bot": True, "first_name": "Other bot"}},
    ],
)
async def test_who_hides_or_forwards_is_a_stranger(house, who):
    await house.receiver.handle(arrived(said_update(**who)))
    assert [(tenant, said.vendor_id) for tenant, said in house.desk.words] == [("acme", "")]


@pytest.mark.parametrize(
    "how",
    [
        {"sender": {"id": ANONYMOUS, "is_bot": True, "first_name": "Group"}},
        {
            "message": {
                "message_id": 5,
                "date": 1,
                "chat": GROUP_JSON,
                "text": "card",
                "forward_origin": FORWARDED,
            }
        },
    ],
)
async def test_a_tap_by_an_anonymous_admin_or_on_a_forwarded_copy_is_a_strangers(house, how):
    await house.receiver.handle(arrived(tap_update(house, **how)))
    assert [tap.vendor_id for _, tap in house.desk.taps] == [""]


async def test_a_tap_under_an_inline_message_is_not_genuine(house):
    update = tap_update(house)
    del update["callback_query"]["message"]
    update["callback_query"]["inline_message_id"] = "abc"
    await house.receiver.handle(arrived(update))
    assert not house.desk.taps[0][1].genuine


async def test_a_tap_on_a_message_that_telegram_no_longer_shows_still_counts(house):
    await house.receiver.handle(
        arrived(tap_update(house, message={"message_id": 5, "date": 0, "chat": GROUP_JSON}))
    )
    assert house.desk.taps[0][1].genuine
    assert house.desk.taps[0][1].vendor_id == str(RUDO)


@pytest.mark.parametrize("kind", ["edited_message", "channel_post", "edited_channel_post"])
async def test_edited_messages_and_channel_posts_decide_nothing(house, kind):
    update = said_update()
    update[kind] = update.pop("message") | ({"chat": CHANNEL_JSON} if "channel" in kind else {"edit_date": 2})
    await house.receiver.handle(arrived(update))
    assert house.desk.words == []


# --- words ------------------------------------------------------------------------------------------------


async def test_a_command_is_answered_under_it(house):
    await house.with_webhook()
    house.desk.reply = Answer("1 open: checkout", html="<b>1 open</b>: checkout &amp; co")
    asked = house.server.write(RUDO, GROUP, "/status@countersign_sandbox_bot now")
    await house.until(lambda: house.ours())
    ((tenant, got),) = house.desk.words
    assert (tenant, got.text, got.private, got.chat) == ("acme", "/status now", False, str(GROUP))
    assert (house.ours()[0].text, house.ours()[0].reply_to) == ("1 open: checkout & co", asked.id)


async def test_another_bots_command_is_none_of_ours(house):
    await house.receiver.handle(arrived(said_update(text="/status@other_bot")))
    await house.receiver.handle(arrived(said_update(text="/status@Countersign_Sandbox_Bot")))
    assert [said.text for _, said in house.desk.words] == ["/status"]


async def test_a_typed_reason_says_to_what_it_replies(house):
    await house.with_webhook()
    shown = await house.card()
    house.server.write(TENDAI, GROUP, "because it is flaky", reply_to=shown.id)
    await house.until(lambda: house.desk.words)
    assert house.desk.words[0][1].reply_to == str(shown.id)


async def test_words_in_a_topic_are_answered_in_it(house):
    house.desk.reply = Answer("here")
    await house.receiver.handle(arrived(said_update(message_thread_id=7, is_topic_message=True)))
    assert house.ours()[0].thread == 7


async def test_a_long_answer_comes_in_parts_with_the_buttons_under_the_last(house):
    rows = "\n".join(f"<code>{n:04}</code> somebody did something" for n in range(400))
    await house.channel.say("acme", TO_RUDO, Answer("audit", html=rows, rows=((ACK,),)))
    parts = house.ours(RUDO)
    assert len(parts) > 2
    assert "\n".join(part.text for part in parts) == "\n".join(
        f"{n:04} somebody did something" for n in range(400)
    )
    assert [bool(part.keyboard) for part in parts] == [False] * (len(parts) - 1) + [True]


async def test_a_group_that_became_a_supergroup_is_told_on(house):
    await house.with_webhook()
    house.server.write(RUDO, GROUP, "/hello")
    new = house.server.migrate(GROUP)
    await house.until(lambda: house.moves)
    assert house.moves == [(str(GROUP), str(new.id))]


async def test_an_update_that_was_given_up_is_told_to_whoever_sent_it(house):
    await house.receiver.give_up(arrived(said_update()))
    assert [m.text for m in house.ours()] == [GIVEN_UP]
    shown = await house.card()
    query = tap(house, RUDO, shown, "Approve")
    update = tap_update(house)
    update["callback_query"]["id"] = query.id
    await house.receiver.give_up(arrived(update))
    assert query.answer.text == GIVEN_UP


# --- cards ------------------------------------------------------------------------------------------------


async def test_a_card_is_sent_as_it_is_meant(house):
    first = await house.card()
    sent = await house.channel.send("acme", TO_GROUP, card(ring=Ring.QUIET), reply_to=str(first.id))
    quiet = house.ours()[1]
    assert (sent, quiet.silent, quiet.reply_to) == (str(quiet.id), True, first.id)
    assert not first.silent
    assert [[b["text"] for b in row] for row in first.keyboard] == [[APPROVE.label, DENY.label], [ACK.label]]
    assert [b.get("style") for b in first.buttons()] == ["success", "danger", None]
    params = house.called("sendMessage")[0].params
    assert params["link_preview_options"] == {"is_disabled": True}
    assert params["parse_mode"] == "HTML"


async def test_a_card_goes_into_its_topic_or_beside_it_when_that_is_gone(house):
    in_topic = Address("telegram", str(GROUP), "chat1", topic=7)
    gone = Address("telegram", str(GROUP), "chat1", topic=8)
    assert (await house.card(in_topic)).thread == 7
    assert (await house.card(gone)).thread is None


async def test_a_card_that_cannot_be_parsed_is_sent_and_edited_as_plain_text(house):
    shown = await house.card(html="<b>broken <i>card</b>", plain="broken card")
    assert shown.text == "broken card"
    assert len(shown.buttons()) == 3
    await house.channel.edit("acme", TO_GROUP, str(shown.id), card(html="<x>still", plain="still broken"))
    assert house.ours()[0].text == "still broken"


async def test_an_edit_changes_text_and_buttons_and_the_same_again_is_no_error(house):
    shown = await house.card()
    for _ in range(2):
        await house.channel.edit("acme", TO_GROUP, str(shown.id), card(html="<b>decided</b>", rows=((ACK,),)))
    assert house.ours()[0].text == "decided"
    assert [b["text"] for b in house.ours()[0].buttons()] == [ACK.label]


async def test_an_old_card_loses_its_buttons_and_keeps_its_text(house):
    shown = await house.card()
    for _ in range(2):
        await house.channel.retire("acme", TO_GROUP, str(shown.id))
    assert (house.ours()[0].text, house.ours()[0].keyboard) == (shown.text, [])


# --- refusals ---------------------------------------------------------------------------------------------


async def refused(house, to=TO_GROUP):
    with pytest.raises(SendError) as caught:
        await house.channel.send("acme", to, card())
    return caught.value


async def test_a_flood_says_how_long_to_wait(house):
    house.server.flood(GROUP, 9)
    error = await refused(house)
    assert 8 <= error.retry_after_s <= 9
    assert not error.permanent


async def test_a_chat_that_moved_says_where_it_is(house):
    new = house.server.migrate(GROUP)
    assert (await refused(house)).moved_to == str(new.id)


@pytest.mark.parametrize("to", [TO_RUDO, TO_GROUP])
async def test_who_blocks_us_is_not_asked_again(house, to):
    house.server.block(int(to.to))
    assert (await refused(house, to)).permanent


async def test_a_chat_that_nobody_knows_is_not_asked_again(house):
    assert (await refused(house, Address("telegram", "4242", "x"))).permanent


async def test_a_send_that_hangs_may_have_been_sent(house):
    house.server.hang("sendMessage", after=True)
    error = await refused(house)
    assert error.unknown
    assert not error.permanent
    assert len(house.ours()) == 1


async def test_a_telegram_that_is_not_there_got_nothing(unused_port):
    application = build_application(builder(TOKEN, f"http://127.0.0.1:{unused_port}"))
    channel = TelegramChannel(application.bot, Tokens(ALERT_SECRET, WallClock()))
    with pytest.raises(SendError) as caught:
        await channel.send("acme", TO_GROUP, card())
    assert not caught.value.unknown
    assert not caught.value.permanent
    await application.bot.request.shutdown()


async def test_a_message_that_was_deleted_is_gone(house):
    shown = await house.card()
    del house.server.chats.chats[GROUP].messages[shown.id]
    with pytest.raises(SendError) as caught:
        await house.channel.edit("acme", TO_GROUP, str(shown.id), card())
    assert caught.value.gone


async def test_what_comes_while_telegram_is_away_is_handled_when_it_is_back(house):
    house.server.hang("getMe")
    with pytest.raises(SendError):
        await house.receiver.handle(arrived(said_update()))
    house.server.unhang()
    await house.receiver.handle(arrived(said_update()))
    assert len(house.desk.words) == 1


async def test_a_wrong_token_is_told(server):
    application = build_application(builder("1:wrong", server.url))
    with pytest.raises(SendError) as caught:
        await TelegramChannel(application.bot, Tokens(ALERT_SECRET, WallClock())).me()
    assert caught.value.permanent
    await application.bot.request.shutdown()


async def test_a_flood_in_one_chat_does_not_delay_a_verdict_in_another(house):
    await house.with_webhook()
    shown = await house.card(TO_RUDO)
    house.server.flood(GROUP, 30)
    page = asyncio.ensure_future(house.outbox.send(house.channel, "acme", TO_GROUP, card()))
    await house.until(lambda: [c for c in house.called("sendMessage") if c.refusal])
    query = tap(house, RUDO, shown, "Approve")
    answer = await house.until(lambda: query.answer)
    assert answer.at - query.at < 1
    assert await house.outbox.send(house.channel, "acme", TO_RUDO, card())
    assert not page.done()
    page.cancel()


# --- start, and Redis away --------------------------------------------------------------------------------


async def test_the_menu_is_set_for_private_chats_and_groups(house):
    await house.channel.set_commands([("status", "How things are"), ("help", "What I can do")])
    assert len(house.server.commands) == 2
    assert all(len(menu) == 2 for menu in house.server.commands.values())
    assert await house.channel.me() == house.server.chats.bot.username


async def test_while_the_inbox_is_away_a_tap_is_told_that_nothing_was_run(house):
    async def away(*_):
        raise StoreDown("Redis does not answer")

    house.inbox._redis = away
    await house.with_webhook()
    query = tap(house, RUDO, await house.card(), "Approve")
    await house.until(lambda: query.answer)
    assert query.answer.text.startswith("Not run: the ledger cannot be written.")
    assert query.answer.alert
    await house.server.delivery.bell.until(lambda: not house.server.delivery.pending(), 5)
    assert house.desk.taps == []


async def test_polling_confirms_an_update_only_when_it_is_stored(house):
    refuse, taken = [True], []

    async def take(raw):
        if refuse:
            refuse.pop()
            return False
        taken.append(raw)
        return await house.door.take(raw)

    await house.with_webhook()
    house.running.append(asyncio.create_task(house.channel.poll(take)))
    await house.until(lambda: house.called("deleteWebhook"))
    query = tap(house, RUDO, await house.card(), "Approve")
    await house.until(lambda: query.answer)
    house.server.write(RUDO, RUDO, "/status")
    await house.until(lambda: house.desk.words)
    assert not refuse
    assert [next(iter(orjson.loads(raw).keys() - {"update_id"})) for raw in taken] == [
        "callback_query",
        "message",
    ]
    assert len(house.desk.taps) == 1
