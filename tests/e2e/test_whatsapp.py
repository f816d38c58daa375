"""From a thumb on a phone to the desk and back: our WhatsApp against a real Twilio server.

The phone, Twilio and the signatures between are the sandbox's; door, inbox, Valkey, twilio's package,
outbox and channel are the shipped ones. The desk is the test's own, but where the ledger must tell.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import urlencode

import aiohttp
import orjson
import pytest
from aiohttp import web

from bot import phrases
from bot.adoption import Adoption
from bot.channels.twilio_api import TwilioApi
from bot.channels.whatsapp import CLOSED_TEXT, STOPPED, WhatsAppChannel
from bot.channels.whatsapp_book import WINDOW_MS, Book, Sent
from bot.channels.whatsapp_contents import content
from bot.channels.whatsapp_door import MESSAGES, STATUSES, WhatsAppDoor
from bot.channels.whatsapp_receiver import (
    NOT_OFFERED,
    STARTED,
    WHICH,
    Missed,
    StatusReceiver,
    WhatsAppReceiver,
    page_failed,
)
from bot.channels.whatsapp_receiver import STOPPED as STOPPED_NOW
from bot.channels.whatsapp_templates import make_templates
from bot.commands import STRANGER, Commands
from bot.conversation import MemoryConversations
from bot.ingress import UPDATES, Inbox
from bot.letters import TEMPLATES
from bot.outbox import Outbox
from bot.ports import Address, Answer, Button, Card, Ring, SendError, Verb
from bot.room import House as Rooms
from bot.sandbox.loopback import Bell, Served, serve
from bot.sandbox.twilio import Twilio as Server
from bot.sandbox.twilio import signature
from bot.settings import Twilio
from bot.state import RedisLinkCodes
from bot.tokens import RedisCodes, Tokens
from ledger import events as ev
from ledger.clock import WallClock
from ledger.machine import Stage
from ledger.store import StoreDown
from ledger.view import epoch_ms
from tests.rooms import BOT, charter, evidence, tenant
from tests.valkey import a_valkey, connected

ACCOUNT, TOKEN, SENDER = "AC" + "0" * 32, "t0ken", "+14155238886"
SECRET = b"a secret of the operator, 32 bytes or more"
RUDO, TENDAI, STRANGE = "+263770000001", "+263770000002", "+263770000666"
HASH, OPENED = "7f3a91c2" * 8, "0badcafe" * 8
TO_RUDO = Address("whatsapp", RUDO, "rudo", "rudo")
APPROVED = Answer("Approved 03:14:02. Restart is running. #45", alert=False)
REPLY = Answer("1 incident is open.")
APPROVE = Button(Verb.APPROVE, "✅ Approve: restart workers", HASH, "1")
DENY, ACK = Button(Verb.DENY, "✖ Deny", HASH), Button(Verb.ACK, "👀 I am on it", OPENED)
TRUST = tuple(Button(Verb.APPROVE, f"Trust theory {one}: …", HASH, one) for one in "AB")


def card(name="cs_request", rows=((APPROVE, DENY), (ACK,)), **more):
    plain = "🔴 checkout: 19 % fail"
    samples = TEMPLATES[name].samples if name else ()
    made = Card("checkout-3", 42, 42, Ring.RING, f"<b>{plain}</b>", plain, rows, name, samples)
    return replace(made, **more)


DISSENT = card("cs_dissent", ((TRUST[0],), (TRUST[1],), (replace(DENY, label="Neither"), ACK)))


@dataclass
class TestDesk:
    """Decides as it is told, and remembers what reached it."""

    __test__ = False

    bell: Bell
    verdict: Answer = APPROVED
    reply: Answer | None = REPLY
    errors: list[Exception] = field(default_factory=list)
    taps: list = field(default_factory=list)
    words: list = field(default_factory=list)

    async def tapped(self, tenant, tap):
        self.taps.append((tenant, tap))
        self.bell.ring()
        if self.errors:
            raise self.errors.pop(0)
        return self.verdict

    async def said(self, tenant, said):
        self.words.append((tenant, said))
        self.bell.ring()
        return self.reply if tenant else Answer(STRANGER)


@dataclass
class House:
    """The wired program, and the world around it."""

    server: Server
    redis: object
    desk: TestDesk
    tokens: Tokens
    api: TwilioApi
    book: Book
    channel: WhatsAppChannel
    receiver: WhatsAppReceiver
    outbox: Outbox
    inbox: Inbox
    door: WhatsAppDoor
    missed: Missed
    people: dict[str, list[str]]
    codes: dict[str, str]
    undelivered: list[tuple[str, ...]]
    served: Served

    async def until(self, look, within=10):
        found = await self.server.bell.until(look, within)
        assert found, [(t.inbound, t.body, t.status, t.error) for t in self.server.texts.values()]
        return found

    async def approve_templates(self):
        """What an operator does once: the four templates, approved and configured."""
        lines: list[str] = []
        assert await make_templates(settings(self.server), lines.append) == 0
        names = {f"TWILIO_CONTENT_SID_{n.removeprefix('cs_').upper()}": n for n in TEMPLATES}
        found = dict(line.split("=") for line in lines if not line.startswith("#"))
        self.channel._sids = {names[name]: sid for name, sid in found.items()}
        return lines

    async def shown(self, to=TO_RUDO, what=None, tenant="acme"):
        """A card on the phone."""
        sid = await self.channel.send(tenant, to, what or card())
        return self.server.texts[sid]

    def ours(self, number=RUDO):
        return [t for t in self.server.texts.values() if not t.inbound and t.number == number]

    async def told(self, text, number=RUDO):
        return await self.until(lambda: next((t for t in self.ours(number) if text in t.body), None))

    async def settled(self):
        """What Twilio had to say has arrived, and is dealt with."""
        while self.server._tasks:
            await asyncio.wait(self.server._tasks)
        while await self.inbox.waiting():  # noqa: ASYNC110  Redis rings no bell of ours
            await asyncio.sleep(0.005)

    async def post(self, path, form, *, key=TOKEN, url="", headers=None):
        url = url or f"{self.served.url}{path}"
        signed = {"X-Twilio-Signature": signature(key, f"{self.served.url}{path}", form)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=form, headers=signed if headers is None else headers) as answer,
        ):
            return answer.status, await answer.text()


def settings(server):
    return Twilio(ACCOUNT, TOKEN, f"whatsapp:{SENDER}", server.url)


@pytest.fixture
async def server():
    twilio = Server(ACCOUNT, TOKEN, SENDER)
    for number, name in ((RUDO, "Rudo"), (TENDAI, "Tendai"), (STRANGE, "Mallory")):
        twilio.add_person(number, name)
    await twilio.start()
    yield twilio
    await twilio.close()


@pytest.fixture
async def redis():
    async with a_valkey() as valkey, connected(valkey) as commands:
        yield commands


@pytest.fixture
async def house(server, redis):
    async with a_house(server, redis, TestDesk(server.bell)) as made:
        yield made


class a_house:  # noqa: N801  it is used as a verb's object: async with a_house(...)
    def __init__(self, server, redis, desk, **more):
        self.server, self.redis, self.desk, self.more = server, redis, desk, more

    async def __aenter__(self):
        server, redis, clock, app = self.server, self.redis, WallClock(), web.Application()
        people = self.more.get("people") or {RUDO: ["acme"], TENDAI: ["acme", "umbrella"]}
        codes: dict[str, str] = {}
        undelivered: list[tuple[str, ...]] = []

        async def has_code(tenant, code):
            return codes.get(code) == tenant

        async def not_delivered(*about):
            undelivered.append(about)
            server.bell.ring()

        tokens, outbox, api = Tokens(SECRET, clock), Outbox(clock), TwilioApi(settings(server))
        book, inbox = Book(redis, clock), Inbox(redis, "test", idle_s=3)
        known = people.__contains__
        door = WhatsAppDoor(inbox, clock, "", api.signed, known)
        app.router.add_post("/twilio/whatsapp", door.message)
        app.router.add_post("/twilio/status", door.status)
        served = await serve(app)
        door._base_url = served.url
        server.inbound_url = f"{served.url}/twilio/whatsapp"
        channel = WhatsAppChannel(api, book, tokens, {}, f"{served.url}/twilio/status")
        receiver = WhatsAppReceiver(
            channel, book, outbox, self.desk, tokens, lambda c, chat, person: people.get(person, []),
            has_code, SENDER, clock,
        )  # fmt: skip
        missed = Missed(api, inbox, book, clock, door.lost)
        statuses = StatusReceiver(book, self.more.get("undelivered") or not_delivered)
        self.running = asyncio.create_task(inbox.run({MESSAGES: receiver, STATUSES: statuses}))
        self.made = House(
            server, redis, self.desk, tokens, api, book, channel, receiver, outbox, inbox, door, missed,
            people, codes, undelivered, served,
        )  # fmt: skip
        return self.made

    async def __aexit__(self, *error):
        self.server.mood = 0
        self.server.bell.ring()
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running
        await self.made.outbox.close()
        await self.made.api.close()
        await self.made.served.close()


# --- cards: inside the 24 hours and outside of them -------------------------------------------------------


async def test_outside_its_24_hours_nothing_goes_out_without_an_approved_template(house):
    with pytest.raises(SendError, match="TWILIO_CONTENT_SID_REQUEST is not set") as refused:
        await house.channel.send("acme", TO_RUDO, card())
    assert refused.value.permanent
    assert RUDO not in str(refused.value)
    assert house.ours() == []


async def test_inside_its_24_hours_the_same_content_goes_out_unapproved_with_its_buttons(house):
    await house.server.say(RUDO, "status")
    await house.settled()
    shown = await house.shown()
    await house.until(lambda: shown.status == "delivered")
    assert [button.title for button in shown.buttons] == ["Approve", "Deny", "I am on it"]
    assert "RUN 4812" in shown.body
    assert not house.server.contents[shown.template].approved


async def test_an_approved_template_reaches_who_has_not_written_for_a_day(house):
    await house.approve_templates()
    shown = await house.shown()
    await house.until(lambda: shown.status == "delivered")
    assert shown.body.startswith("Approval needed for checkout: 19 % of requests fail.")
    assert len(shown.buttons) == 3


@pytest.mark.parametrize("name", list(TEMPLATES))
async def test_whatsapp_approves_every_template_as_we_write_it(house, name):
    sid = await house.api.make_content(content(name, TEMPLATES[name]))
    assert (await house.api.submit(sid, f"{name}_1")).status == "approved"


async def test_a_content_is_made_once_for_all_cards_of_its_kind(house):
    await house.server.say(RUDO, "status")
    await house.settled()
    for _ in range(3):
        await house.shown()
    await house.shown(what=DISSENT)
    assert sorted(c.name for c in house.server.contents.values()) == ["cs_dissent", "cs_request"]


async def test_a_content_that_twilio_lost_is_replaced_by_words_and_then_made_anew(house):
    await house.server.say(RUDO, "status")
    await house.settled()
    await house.shown()
    house.server.contents.clear()
    shown = await house.shown()
    assert "Reply RUN 4812 or NO 4812." in shown.body
    assert (await house.shown()).buttons


async def test_a_card_without_a_template_goes_out_as_text_inside_its_24_hours(house):
    await house.server.say(RUDO, "status")
    await house.settled()
    shown = await house.shown(what=card(""))
    assert (shown.body, shown.buttons) == ("🔴 checkout: 19 % fail", [])


async def test_twilio_saying_429_is_asked_again_and_400_is_not(house):
    await house.approve_templates()
    for status, permanent in ((429, False), (500, False), (503, False), (401, True), (400, True)):
        house.server.mood = status
        with pytest.raises(SendError) as refused:
            await house.channel.send("acme", TO_RUDO, card())
        assert (refused.value.permanent, refused.value.unknown) == (permanent, False), status
    house.server.mood = 0
    assert house.ours() == []


async def test_a_number_that_does_not_exist_is_refused_without_being_named(house):
    await house.approve_templates()
    with pytest.raises(SendError, match="the number") as refused:
        await house.channel.send("acme", replace(TO_RUDO, to="+0123456789"), card())
    assert refused.value.permanent
    assert "0123456789" not in str(refused.value)


async def test_twilio_hanging_ends_after_ten_seconds_with_nobody_knowing(house, monkeypatch):
    await house.approve_templates()
    monkeypatch.setattr("bot.channels.twilio_api.CALL_S", 0.2)
    house.server.mood = "hang"
    with pytest.raises(SendError) as refused:
        await house.channel.send("acme", TO_RUDO, card())
    assert refused.value.unknown


async def test_twilio_being_gone_is_for_a_while(server, redis):
    async with a_house(server, redis, TestDesk(server.bell)) as house:
        await house.approve_templates()
        await server._served.close()
        with pytest.raises(SendError) as refused:
            await house.channel.send("acme", TO_RUDO, card())
        assert not refused.value.permanent


async def test_a_long_answer_comes_in_several_messages(house):
    await house.server.say(RUDO, "audit")
    await house.settled()
    lines = [f"#{n} 03:14:02 Approved rudo" for n in range(200)]
    await house.channel.say("acme", TO_RUDO, Answer("\n".join(lines)))
    parts = [text.body for text in house.ours()[1:]]
    assert len(parts) > 1
    assert "\n".join(parts).split("\n") == lines


async def test_an_answer_outside_the_24_hours_is_not_said_to_be_sent(house):
    with pytest.raises(SendError, match="takes no free text") as refused:
        await house.channel.say("acme", TO_RUDO, Answer("hello"))
    assert refused.value.permanent
    assert str(refused.value) == CLOSED_TEXT


# --- taps -------------------------------------------------------------------------------------------------


async def test_a_tap_reaches_the_desk_whole_and_is_answered_by_a_message(house):
    await house.approve_templates()
    shown = await house.shown()
    tapped = await house.server.tap(RUDO, shown, "Approve")
    await house.told("Approved 03:14:02")
    ((tenant, got),) = house.desk.taps
    assert (tenant, got.channel, got.vendor_id, got.chat) == ("acme", "whatsapp", RUDO, RUDO)
    assert (got.verb, got.option, got.anchor) == (Verb.APPROVE, "1", HASH[:16])
    assert (got.genuine, got.private) == (True, True)
    assert (got.act.update, got.act.message) == (tapped.sid, shown.sid)
    assert len(got.act.digest) == 64
    assert got.act.at_ms > 0
    assert house.server.inbound_statuses == [200]


@pytest.mark.parametrize(
    ("title", "verb", "option"),
    [
        ("Trust theory A", Verb.APPROVE, "A"),
        ("Trust theory B", Verb.APPROVE, "B"),
        ("Neither", Verb.DENY, ""),
    ],
)
async def test_each_theory_has_its_button(house, title, verb, option):
    await house.approve_templates()
    await house.server.tap(RUDO, await house.shown(what=DISSENT), title)
    await house.told("Approved")
    assert [(tap.verb, tap.option) for _, tap in house.desk.taps] == [(verb, option)]


async def test_a_tap_on_a_template_made_by_hand_is_bound_by_the_message_it_stands_under(house):
    await house.approve_templates()
    by_hand = content("cs_request", TEMPLATES["cs_request"])
    for action in by_hand["types"]["twilio/quick-reply"]["actions"]:
        action["id"] = action["title"].lower()
    sid = await house.api.make_content(by_hand)
    await house.api.submit(sid, "by_hand")
    house.channel._sids = {"cs_request": sid}
    shown = await house.shown()
    assert shown.buttons[0].id == "approve"
    await house.server.tap(RUDO, shown, "Approve")
    await house.told("Approved")
    assert [(t.verb, t.option, t.anchor) for _, t in house.desk.taps] == [(Verb.APPROVE, "1", HASH)]


async def test_a_tap_without_a_token_on_a_message_of_somebody_else_decides_nothing(house):
    await house.approve_templates()
    theirs = await house.shown(Address("whatsapp", TENDAI, "tendai", "tendai"))
    theirs.buttons = [replace(button, id="x") for button in theirs.buttons]
    await house.server.tap(RUDO, theirs, "Approve")
    await house.until(lambda: house.desk.taps)
    assert [tap.genuine for _, tap in house.desk.taps] == [False]


async def test_a_button_copied_to_another_number_is_not_genuine(house):
    await house.approve_templates()
    theirs = await house.shown(Address("whatsapp", TENDAI, "tendai", "tendai"))
    await house.server.tap(RUDO, theirs, "Approve")
    await house.until(lambda: house.desk.taps)
    assert [tap.genuine for _, tap in house.desk.taps] == [False]


async def test_a_tap_still_finds_its_request_after_redis_forgot_the_message(house):
    await house.approve_templates()
    shown = await house.shown()
    await house.redis("DEL", f"bot:{{wa}}:sent:{shown.sid}")
    await house.server.tap(RUDO, shown, "Approve")
    await house.told("Approved")
    assert house.desk.taps[0][1].genuine


async def test_a_button_that_the_card_does_not_offer_decides_nothing(house):
    await house.approve_templates()
    await house.server.tap(RUDO, await house.shown(what=card(rows=((ACK,),))), "Approve")
    await house.told(NOT_OFFERED)
    assert house.desk.taps == []


async def test_the_same_message_twice_is_one_tap(house):
    await house.approve_templates()
    shown = await house.shown()
    form = inbound(
        ButtonPayload=shown.buttons[0].id, ButtonText="Approve", OriginalRepliedMessageSid=shown.sid
    )
    for _ in range(3):
        assert (await house.post("/twilio/whatsapp", form))[0] == 200
    await house.told("Approved")
    await house.settled()
    assert len(house.desk.taps) == 1


async def test_a_tap_that_fails_once_is_decided_again_and_answered(house):
    await house.approve_templates()
    house.desk.errors = [StoreDown("away for a moment")]
    await house.server.tap(RUDO, await house.shown(), "Approve")
    await house.until(lambda: any("Approved" in t.body for t in house.ours()), 20)
    assert len(house.desk.taps) == 2


async def test_an_answer_that_asks_for_a_second_tap_has_its_button(house):
    await house.server.say(RUDO, "status")
    await house.settled()
    confirm = Button(Verb.CONFIRM, "✅ Approve: Roll back", HASH, "1")
    asked = Answer("Second tap: Roll back on checkout\nHigh risk.", rows=((confirm,),))
    sid = await house.channel.say("acme", TO_RUDO, asked)
    assert "High risk." in house.ours()[-2].body
    assert "Roll back" in house.server.texts[sid].body
    await house.server.tap(RUDO, house.server.texts[sid], "Approve")
    await house.told("Approved")
    assert [(t.verb, t.option, t.genuine, t.private) for _, t in house.desk.taps] == [
        (Verb.CONFIRM, "1", True, True)
    ]


# --- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verb", "option", "reason"),
    [
        ("RUN", Verb.APPROVE, "1", ""),
        ("run.", Verb.APPROVE, "1", ""),
        ("NO not during the sale", Verb.DENY, "", "not during the sale"),
        ("no", Verb.DENY, "", ""),
        ("I am on it", Verb.ACK, "", ""),
    ],
)
async def test_words_that_answer_a_card_by_swipe_are_its_buttons(house, text, verb, option, reason):
    await house.approve_templates()
    await house.server.say(RUDO, text, await house.shown())
    await house.told("Approved")
    assert [(t.verb, t.option, t.words) for _, t in house.desk.taps] == [(verb, option, reason)]


@pytest.mark.parametrize(("text", "word"), [("Not an incident!", "not"), ("new normal", "normal")])
async def test_an_opinion_that_answers_a_card_by_swipe_is_said_of_its_incident(house, text, word):
    await house.approve_templates()
    await house.server.say(RUDO, text, await house.shown())
    await house.told("1 incident is open.")
    ((tenant, said),) = house.desk.words
    assert (tenant, said.text, said.private) == ("acme", f"/feedback checkout-3 {word}", True)
    assert house.desk.taps == []


@pytest.mark.parametrize("text", ["Trust theory A", "trust a", "RUN A", "run theory a!"])
async def test_a_theory_is_trusted_by_swipe_and_name(house, text):
    await house.approve_templates()
    await house.server.say(RUDO, text, await house.shown(what=DISSENT))
    await house.told("Approved")
    assert [(t.verb, t.option) for _, t in house.desk.taps] == [(Verb.APPROVE, "A")]


async def test_run_alone_under_two_theories_is_asked_which(house):
    await house.approve_templates()
    await house.server.say(RUDO, "RUN", await house.shown(what=DISSENT))
    await house.told(WHICH)
    assert house.desk.taps == []


@pytest.mark.parametrize("swiped", [True, False])
@pytest.mark.parametrize("text", ["yes", "Yes!", "OK", "ok go ahead", "👍", "do it", "approved"])
async def test_a_bare_yes_approves_nothing_and_is_told_which_words_would(house, text, swiped):
    await house.approve_templates()
    shown = await house.shown()
    await house.server.say(RUDO, text, shown if swiped else None)
    answer = await house.told("alone decides nothing, and nothing was run.")
    assert answer.body.endswith("Reply RUN 4812 or NO 4812.")
    assert ({tap.anchor for _, tap in house.desk.taps}, house.desk.words) == ({""}, [])


async def test_a_bare_run_without_a_card_is_told_what_is_missing(house):
    await house.server.say(RUDO, "RUN")
    await house.told("Send RUN and the code of the request")
    assert ({tap.anchor for _, tap in house.desk.taps}, house.desk.words) == ({""}, [])


@pytest.mark.parametrize("text", ["status", "audit", "help", "RUN 4812", "NO 4812 not now", "what is this?"])
async def test_words_reach_the_desk_as_they_were_typed(house, text):
    await house.server.say(RUDO, text)
    await house.told("1 incident is open.")
    ((tenant, said),) = house.desk.words
    assert (tenant, said.text, said.channel, said.vendor_id) == ("acme", text, "whatsapp", RUDO)
    assert (said.private, said.name) == (True, "Rudo")


@pytest.mark.parametrize("text", ["RUN", "RUN 4812", "status", "NO 4812"])
async def test_a_forwarded_message_decides_nothing_and_is_on_record(house, text):
    form = inbound(Body=text, Forwarded="true")
    await house.post("/twilio/whatsapp", form)
    await house.told(phrases.forwarded())
    assert house.desk.words == []
    assert [(tenant, tap.genuine) for tenant, tap in house.desk.taps] == [("acme", False)]


async def test_a_forwarded_tap_decides_nothing(house):
    await house.approve_templates()
    shown = await house.shown()
    form = inbound(
        ButtonPayload=shown.buttons[0].id,
        ButtonText="Approve",
        OriginalRepliedMessageSid=shown.sid,
        FrequentlyForwarded="true",
    )
    await house.post("/twilio/whatsapp", form)
    await house.told(phrases.forwarded())
    assert [tap.genuine for _, tap in house.desk.taps] == [False]


async def test_stop_ends_cards_and_start_brings_them_back(house):
    await house.approve_templates()
    await house.server.say(RUDO, "Stop")
    await house.told(STOPPED_NOW)
    with pytest.raises(SendError, match="sent STOP") as refused:
        await house.shown()
    assert refused.value.permanent
    assert str(refused.value) == STOPPED
    await house.server.say(RUDO, "status")
    await house.told("1 incident is open.")
    await house.server.say(RUDO, "START")
    await house.told(STARTED)
    assert (await house.shown()).buttons


async def test_our_own_number_is_never_answered(house):
    await house.post("/twilio/whatsapp", inbound(From=f"whatsapp:{SENDER}"))
    await house.settled()
    assert (house.server.texts, house.desk.words) == ({}, [])


# --- strangers and tenants --------------------------------------------------------------------------------


async def test_a_stranger_gets_one_line_an_hour_and_nothing_of_a_tenant(house):
    for text in ("hello", "status", "RUN 4812", "audit"):
        await house.server.say(STRANGE, text)
    await house.settled()
    await house.told(STRANGER, STRANGE)
    assert [text.body for text in house.ours(STRANGE)] == [STRANGER]
    assert {tenant for tenant, _ in house.desk.words} == {""}
    assert house.desk.taps == []


async def test_a_stranger_who_becomes_known_by_a_code_is_told_so_at_any_time(house):
    await house.server.say(STRANGE, "hello")
    await house.told(STRANGER, STRANGE)

    async def redeem(tenant, said):
        house.people[STRANGE] = ["acme"]
        return Answer("You are linked.")

    house.desk.said = redeem
    await house.server.say(STRANGE, "/link ABCDEFGH")
    await house.told("You are linked.", STRANGE)


async def test_one_number_in_two_tenants_acts_where_the_button_is(house):
    await house.approve_templates()
    to = Address("whatsapp", TENDAI, "tendai", "tendai")
    first = await house.shown(to, tenant="umbrella")
    await house.shown(to, tenant="acme")
    await house.server.tap(TENDAI, first, "Approve")
    await house.server.say(TENDAI, "RUN", first)
    await house.until(lambda: len(house.desk.taps) == 2)
    assert [(tenant, tap.genuine) for tenant, tap in house.desk.taps] == [("umbrella", True)] * 2


async def test_one_number_in_two_tenants_is_told_of_the_code_it_names_and_else_of_its_newest_card(house):
    await house.approve_templates()
    house.codes["5190"] = "umbrella"
    await house.server.say(TENDAI, "RUN 5190")
    await house.until(lambda: len(house.desk.words) == 1)
    await house.shown(Address("whatsapp", TENDAI, "tendai", "tendai"), tenant="umbrella")
    await house.server.say(TENDAI, "status")
    await house.until(lambda: len(house.desk.words) == 2)
    await house.server.say(TENDAI, "RUN 0000")
    await house.until(lambda: len(house.desk.words) == 3)
    assert [tenant for tenant, _ in house.desk.words] == ["umbrella"] * 3


async def test_words_that_answer_a_card_are_for_the_tenant_whose_card_it_is(house):
    await house.approve_templates()
    to = Address("whatsapp", TENDAI, "tendai", "tendai")
    older = await house.shown(to, tenant="umbrella")
    await house.shown(to, tenant="acme")
    await house.server.say(TENDAI, "what is this about?", older)
    await house.until(lambda: house.desk.words)
    assert [(tenant, said.reply_to) for tenant, said in house.desk.words] == [("umbrella", older.sid)]


async def test_a_button_of_a_tenant_that_forgot_the_person_is_that_tenants_stranger(house):
    await house.approve_templates()
    shown = await house.shown(Address("whatsapp", TENDAI, "tendai", "tendai"), tenant="umbrella")
    house.people[TENDAI] = ["acme"]
    await house.server.tap(TENDAI, shown, "Approve")
    await house.until(lambda: house.desk.taps)
    assert house.desk.taps[0][0] == "umbrella"


# --- the door ---------------------------------------------------------------------------------------------


def inbound(**more):
    form = {
        "AccountSid": ACCOUNT, "Body": "status", "From": f"whatsapp:{RUDO}", "To": f"whatsapp:{SENDER}",
        "MessageSid": "SM" + "1" * 32, "ProfileName": "Rudo", "Forwarded": "false", "NumMedia": "0",
        "Empty": "",
    }  # fmt: skip
    return form | more


async def test_a_wrong_signature_is_refused_and_leaves_nothing(house):
    assert (await house.post("/twilio/whatsapp", inbound(), key="another token"))[0] == 403
    assert (await house.post("/twilio/whatsapp", inbound(), headers={}))[0] == 403
    assert (await house.post("/twilio/status", {"MessageSid": "SM1", "MessageStatus": "failed"}, key="x"))[
        0
    ] == 403
    assert (house.desk.words, house.undelivered) == ([], [])
    assert await house.redis("EXISTS", UPDATES) in {0, 1}
    assert await house.inbox.waiting() == 0


async def test_a_field_that_is_changed_added_or_dropped_breaks_the_signature(house):
    good = inbound()
    url = f"{house.served.url}/twilio/whatsapp"
    headers = {"X-Twilio-Signature": signature(TOKEN, url, good)}
    without = {name: value for name, value in good.items() if name != "Empty"}
    for bad in (good | {"Body": "RUN 4812"}, good | {"New": ""}, without):
        assert (await house.post("/twilio/whatsapp", bad, headers=headers))[0] == 403
    assert (await house.post("/twilio/whatsapp", good, headers=headers))[0] == 200


async def test_the_signature_is_over_our_own_address_never_over_a_proxys(house):
    house.door._base_url = "https://countersign.example"
    form, path = inbound(), "/twilio/whatsapp"
    for seen, status in (("https://countersign.example", 200), (house.served.url, 403)):
        headers = {"X-Twilio-Signature": signature(TOKEN, seen + path, form), "X-Forwarded-Proto": "https"}
        assert (await house.post(path, form, headers=headers))[0] == status


async def test_without_an_address_of_our_own_nothing_counts(house):
    house.door._base_url = ""
    status, why = await house.post("/twilio/whatsapp", inbound())
    assert (status, "PUBLIC_BASE_URL" in why) == (503, True)


async def test_what_is_no_message_is_refused(house):
    for form in ({"Body": "x"}, {"MessageSid": "SM1"}):
        assert (await house.post("/twilio/whatsapp", form))[0] == 400
    assert (await house.post("/twilio/status", {"MessageSid": "SM1"}))[0] == 400
    async with aiohttp.ClientSession() as session:
        for raw, status in (
            (b"\xff\xfe", 400),
            (b"a=" + b"x" * 2**18, 413),
            (b"&".join([b"a=1"] * 300), 400),
        ):
            answer = await session.post(house.served.url + "/twilio/whatsapp", data=raw)
            assert answer.status == status


async def test_while_redis_is_away_a_person_is_told_that_nothing_was_run_and_that_holds(house):
    put, house.inbox._redis = house.inbox._redis, gone
    form = inbound(Body="RUN 4812")
    status, said = await house.post("/twilio/whatsapp", form)
    assert status == 200
    assert said == f"<Response><Message>{phrases.ledger_away()}</Message></Response>"
    assert (await house.post("/twilio/whatsapp", inbound(From=f"whatsapp:{STRANGE}")))[1] == "<Response/>"
    house.inbox._redis = put
    assert house.door.lost.is_set()
    await house.post("/twilio/whatsapp", form)
    await house.settled()
    assert house.desk.words == []


async def gone(*command):
    raise StoreDown("away")


# --- what became of a message -----------------------------------------------------------------------------


async def test_delivery_moves_on_only_and_is_kept(house):
    await house.approve_templates()
    shown = await house.shown()
    await house.until(lambda: shown.status == "delivered")
    await house.settled()
    assert await house.book.state(shown.sid) == ("delivered", "")
    house.server.read(shown)
    await house.until(lambda: shown.status == "read")
    await house.settled()
    assert await house.book.state(shown.sid) == ("read", "")
    late = {"MessageSid": shown.sid, "MessageStatus": "queued", "To": f"whatsapp:{RUDO}"}
    assert (await house.post("/twilio/status", late))[0] == 200
    await house.settled()
    assert await house.book.state(shown.sid) == ("read", "")


async def test_who_cannot_be_reached_is_told_to_the_ledger_once_it_is_certain(house):
    await house.approve_templates()
    house.server.undeliverable.add(RUDO)
    shown = await house.shown()
    await house.until(lambda: house.undelivered)
    assert house.undelivered == [
        ("acme", "checkout-3", "rudo", "the number takes no WhatsApp (Twilio error 63024)")
    ]
    await house.settled()
    assert await house.book.state(shown.sid) == ("undelivered", "63024")


async def test_whatsapp_saying_that_the_24_hours_are_over_is_believed(house):
    await house.book.heard(RUDO, epoch_ms(WallClock().now()))
    shown = await house.shown()
    await house.until(lambda: house.undelivered)
    assert house.undelivered[0][3].startswith("its 24 hours were over")
    await house.settled()
    assert await house.book.state(shown.sid) == ("failed", "63016")
    with pytest.raises(SendError, match="is not set"):
        await house.shown()


async def test_an_answer_that_was_not_delivered_is_no_page(house):
    await house.book.heard(RUDO, epoch_ms(WallClock().now()))
    sid = await house.channel.say("acme", TO_RUDO, Answer("hello"))
    await house.until(lambda: house.server.texts[sid].status == "failed")
    await house.settled()
    assert house.undelivered == []


async def test_the_24_hours_begin_with_the_newest_message_whatever_comes_late(house):
    now = epoch_ms(WallClock().now())
    await house.book.heard(RUDO, now)
    await house.book.heard(RUDO, now - WINDOW_MS - 1)
    assert await house.book.may_write(RUDO)
    await house.book.heard(TENDAI, now - WINDOW_MS - 1)
    assert not await house.book.may_write(TENDAI)


# --- while we were away -----------------------------------------------------------------------------------


async def away(house, number, text, *, ago=timedelta(minutes=1)):
    """Somebody wrote, and nobody was there."""
    url, house.server.inbound_url = house.server.inbound_url, "http://127.0.0.1:9/"
    text = await house.server.say(number, text)
    text.date -= int(ago.total_seconds())
    house.server.inbound_url = url
    return text


async def test_what_was_written_while_we_were_away_is_to_be_sent_again(house):
    await away(house, RUDO, "RUN 4812")
    assert await house.missed.look() == 1
    answer = await house.told("While I was away")
    assert "“RUN 4812”. Nothing was done with it. Send it again if it still holds." in answer.body
    assert (house.desk.taps, house.desk.words) == ([], [])
    assert await house.missed.look() == 0
    assert await house.book.may_write(RUDO)


async def test_a_fresh_question_is_answered_and_an_old_one_is_not(house):
    await away(house, RUDO, "status")
    await away(house, TENDAI, "status", ago=timedelta(hours=3))
    await house.missed.look()
    await house.told("1 incident is open.")
    await house.told("While I was away, 3 h ago", TENDAI)
    assert [said.vendor_id for _, said in house.desk.words] == [RUDO]


async def test_many_missed_messages_get_one_line_and_strangers_none(house):
    for text in ("RUN 4812", "RUN 4812", "NO 4812", "pause"):
        await away(house, RUDO, text)
    await away(house, STRANGE, "hello")
    assert await house.missed.look() == 5
    await house.settled()
    await house.told("you wrote “pause”")
    assert len(house.ours()) == 1
    assert house.ours(STRANGE) == []


async def test_what_the_inbox_has_seen_is_not_missed(house):
    await house.server.say(RUDO, "status")
    await house.told("1 incident is open.")
    assert await house.missed.look() == 0


async def test_what_is_lost_while_redis_is_away_is_looked_for_once_it_is_back(house):
    running = asyncio.create_task(house.missed.run())
    await away(house, RUDO, "status")
    house.door.lost.set()
    await house.told("1 incident is open.")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- templates --------------------------------------------------------------------------------------------


async def test_the_command_makes_four_templates_once_and_prints_their_settings(house):
    lines = await house.approve_templates()
    made = [line for line in lines if not line.startswith("#")]
    assert [line.partition("=HX")[0] for line in made] == [
        "TWILIO_CONTENT_SID_OPENED",
        "TWILIO_CONTENT_SID_REQUEST",
        "TWILIO_CONTENT_SID_DISSENT",
        "TWILIO_CONTENT_SID_OUTCOME",
    ]
    assert [line for line in lines if line.startswith("#")] == [f"# {n}: approved" for n in TEMPLATES]
    assert await house.approve_templates() == lines
    assert len(house.server.contents) == 4


async def test_the_command_says_what_is_wrong(house):
    lines: list[str] = []
    assert await make_templates(None, lines.append) == 2
    house.server.mood = 401
    assert await make_templates(settings(house.server), lines.append) == 1
    assert "TWILIO_ACCOUNT_SID" in lines[0]
    assert "Twilio refuses with 401" in lines[1]


# --- with the real desk and ledger ------------------------------------------------------------------------


@dataclass
class Acme:
    """acme's own ledger behind a real WhatsApp; Tendai is on call and has that number in the charter."""

    tenant: object
    house: House
    codes: RedisCodes

    async def asks(self):
        await self.tenant.opens()
        request = await self.tenant.asks()
        until = request.data["deadline_ms"]
        code = await self.codes.issue("acme", "tendai", request.hash, "1", until)
        rows = (
            (Button(Verb.APPROVE, "Approve", request.hash, "1"), Button(Verb.DENY, "Deny", request.hash)),
            (Button(Verb.ACK, "On it", self.tenant.incident.facts[0].hash),),
        )
        values = (*TEMPLATES["cs_request"].samples[:4], code, "03:17", "#42 7F3A-91C2-K0PM-XQ4T")
        to = Address("whatsapp", TENDAI, "tendai", "tendai")
        shown = await self.house.shown(to, card(rows=rows, variables=values, incident="checkout-1"))
        return shown, code


@pytest.fixture
async def acme(server, redis):
    made, clock = await tenant(), WallClock()
    codes = RedisCodes(redis, made.clock)
    rooms = Rooms([made.room])
    commands = Commands(
        rooms,
        made.desk,
        Adoption(SECRET, RedisLinkCodes(redis)),
        codes,
        MemoryConversations(clock),
        lambda r: [],
        evidence(),
    )

    async def undelivered(tenant_id, incident, recipient, why):
        await made.room.ledger.record(BOT, page_failed(incident, recipient, why))
        server.bell.ring()

    more = {"people": {TENDAI: ["acme"]}, "undelivered": undelivered}
    async with a_house(server, redis, commands, **more) as house:
        await house.approve_templates()
        yield Acme(made, house, codes)


async def test_tendai_approves_from_whatsapp_by_a_tap(acme):
    shown, _ = await acme.asks()
    await acme.house.server.tap(TENDAI, shown, "Approve")
    await acme.house.told("Approved", TENDAI)
    fact, authorized = acme.tenant.incident.authorization
    assert (fact.actor.id, fact.actor.via) == ("tendai", "whatsapp")
    assert (authorized.act.channel, authorized.act.message) == ("whatsapp", shown.sid)


async def test_tendai_approves_from_whatsapp_by_code(acme):
    _, code = await acme.asks()
    await acme.house.server.say(TENDAI, f"Run {code}")
    await acme.house.told("Approved", TENDAI)
    assert acme.tenant.incident.stage is Stage.AUTHORIZED


async def test_tendai_denies_by_code_with_a_reason(acme):
    _, code = await acme.asks()
    await acme.house.server.say(TENDAI, f"NO {code} it is the payday peak")
    await acme.house.told("Denied", TENDAI)
    denied = acme.tenant.incident.latest(ev.Denied)
    assert await acme.tenant.room.words(denied.words) == "it is the payday peak"


async def test_a_yes_runs_nothing(acme):
    _, code = await acme.asks()
    await acme.house.server.say(TENDAI, "yes")
    await acme.house.told(f"Reply RUN {code} or NO {code}.", TENDAI)
    assert acme.tenant.incident.stage is Stage.VALIDATED


async def test_a_tap_on_an_old_message_is_told_that_it_is_old(acme):
    shown, _ = await acme.asks()
    await acme.house.server.tap(TENDAI, shown, "Deny")
    await acme.house.told("Denied", TENDAI)
    await acme.tenant.taps_on("tendai", Verb.ASK_AGAIN, acme.tenant.incident.facts[0].hash)
    await acme.tenant.asks()
    await acme.house.server.tap(TENDAI, shown, "Approve")
    await acme.house.told("That was an older request", TENDAI)
    assert acme.tenant.incident.stage is Stage.VALIDATED


async def test_a_late_tap_asks_again_and_runs_nothing(acme):
    shown, _ = await acme.asks()
    acme.tenant.clock.advance(360)
    await acme.house.server.tap(TENDAI, shown, "Approve")
    await acme.house.told("Too late by", TENDAI)
    assert acme.tenant.incident.authorization is None


async def test_what_is_of_high_risk_needs_a_second_tap_on_the_exact_request(acme):
    await acme.tenant.adopt(charter(risk="high"))
    _, code = await acme.asks()
    await acme.house.server.say(TENDAI, f"RUN {code}")
    await acme.house.told("High risk: nothing runs yet", TENDAI)
    assert acme.tenant.incident.authorization is None
    ((who, asked),) = acme.tenant.sent
    assert who == "tendai"
    to = Address("whatsapp", TENDAI, "tendai", "tendai")
    sid = await acme.house.channel.say("acme", to, asked)
    await acme.house.server.say(TENDAI, "yes", acme.house.server.texts[sid])
    await acme.house.told(
        "alone decides nothing, and nothing was run. Reply to that message with RUN.", TENDAI
    )
    await acme.house.server.tap(TENDAI, acme.house.server.texts[sid], "Approve")
    await acme.house.told("Approved", TENDAI)
    assert acme.tenant.incident.authorization is not None


async def test_a_second_tap_is_given_by_swipe_and_run_where_no_button_can_be_had(acme):
    await acme.tenant.adopt(charter(risk="high"))
    shown, _ = await acme.asks()
    await acme.house.server.tap(TENDAI, shown, "Approve")
    await acme.house.told("High risk: nothing runs yet", TENDAI)
    to = Address("whatsapp", TENDAI, "tendai", "tendai")
    make, acme.house.api.make_content = acme.house.api.make_content, no_content
    sid = await acme.house.channel.say("acme", to, acme.tenant.sent[0][1])
    acme.house.api.make_content = make
    await acme.house.server.say(TENDAI, "Run", acme.house.server.texts[sid])
    await acme.house.told("Approved", TENDAI)
    assert acme.tenant.incident.authorization is not None


async def no_content(wanted):
    raise SendError("Twilio refuses with 400.", permanent=True)


async def test_a_number_that_is_not_the_charters_decides_nothing_and_learns_nothing(acme):
    _, code = await acme.asks()
    await acme.house.server.say(STRANGE, f"RUN {code}")
    await acme.house.told(STRANGER, STRANGE)
    assert acme.tenant.incident.stage is Stage.VALIDATED


async def test_a_card_that_did_not_arrive_is_in_the_ledger_once(acme):
    acme.house.server.undeliverable.add(TENDAI)
    await acme.asks()
    await acme.house.shown(Address("whatsapp", TENDAI, "tendai", "tendai"), card(incident="checkout-1"))
    await acme.house.until(lambda: acme.tenant.incident.every(ev.PageFailed))
    await acme.house.settled()
    ((_, failed),) = acme.tenant.incident.every(ev.PageFailed)
    assert (failed.recipient, failed.channel) == ("tendai", "whatsapp")
    assert "63024" in failed.why


async def test_the_words_of_a_sent_message_survive_redis(house):
    sent = Sent("acme", RUDO, "checkout-3", "rudo", (), ("4812",))
    await house.book.keep("SM1", sent)
    assert await house.book.sent("SM1", RUDO) == sent
    assert await house.book.sent("SM1", TENDAI) is None


def test_forms_are_what_the_sandbox_posts():
    assert orjson.loads(orjson.dumps(inbound())) == inbound()
    assert "Empty=" in urlencode(inbound())
