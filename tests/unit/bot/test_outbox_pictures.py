"""A picture goes when its chat is at peace, beside the queue: it holds up nobody, and costs no answer."""

import asyncio

import pytest

from bot.outbox import CHAT_BURST, GROUP_A_MINUTE, KEPT_FOR_PAGES, Outbox
from bot.ports import Answer, Picture, SendError
from ledger.clock import ManualClock
from tests.unit.bot.test_outbox import GROUP, NOON, ONCALL, Vendor, card

CHART = Picture(b"png", "checkout is well.")


class Gallery(Vendor):
    """A vendor that shows pictures; *uploads* hang while it is closed."""

    def __init__(self, clock):
        super().__init__(clock)
        self.uploads = asyncio.Event()
        self.uploads.set()

    async def show(self, to, picture, *, reply_to="", message=""):
        sent = await self._call("show", to, message or picture.alt)
        await self.uploads.wait()
        return message or sent


class Room:
    def __init__(self, vendor=Gallery, burst=CHAT_BURST):
        self.clock = ManualClock(NOON)
        self.vendor = vendor(self.clock)
        self.outbox = Outbox(self.clock, burst=burst)
        self.asked = []

    def ask(self, what):
        self.asked.append(asyncio.ensure_future(what))
        return self.asked[-1]

    def send(self, to, text="card"):
        return self.ask(self.outbox.send(self.vendor, "acme", to, card(text)))

    def show(self, to, message=""):
        return self.ask(self.outbox.show(self.vendor, to, CHART, message=message))

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def passes(self, seconds):
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            await self.settle()

    async def close(self):
        for one in self.asked:
            one.cancel()
        await asyncio.gather(*self.asked, return_exceptions=True)
        await self.outbox.close()


@pytest.fixture
async def room():
    room = Room()
    yield room
    await room.close()


async def test_in_a_quiet_chat_a_picture_goes_at_once(room):
    assert await room.show(ONCALL) == "m1"
    assert room.vendor.made() == [("show", CHART.alt)]


async def test_cards_go_first_and_the_picture_when_a_whole_burst_may_go_again(room):
    for n in range(CHAT_BURST + 2):
        room.send(ONCALL, str(n))
    room.show(ONCALL)
    await room.passes(CHAT_BURST + 3)
    kinds = [what for what, _ in room.vendor.made()]
    assert kinds == ["send"] * (CHAT_BURST + 2) + ["show"]
    assert room.vendor.times("show", ONCALL)[0] - room.vendor.times("send", ONCALL)[-1] >= CHAT_BURST - 0.2


async def test_an_upload_that_hangs_holds_up_no_card(room):
    room.vendor.uploads.clear()
    hanging = room.show(ONCALL)
    await room.settle()
    assert await room.send(ONCALL, "🔴") == "m2"
    assert not hanging.done()


async def test_in_a_group_pictures_leave_ten_of_a_minute_to_others():
    room = Room(burst=GROUP_A_MINUTE)
    for n in range(2 * GROUP_A_MINUTE):
        room.show(GROUP, message=f"p{n}")
    await room.passes(24)
    assert len(room.vendor.times("show", GROUP)) > KEPT_FOR_PAGES
    for n in range(2 * KEPT_FOR_PAGES - 1):
        room.send(GROUP, str(n))
    await room.settle()
    assert len(room.vendor.times("send", GROUP)) == 2 * KEPT_FOR_PAGES - 1
    await room.close()


async def test_a_picture_is_tried_once_and_a_flood_holds_its_chat(room):
    room.vendor.errors[ONCALL.to] = [SendError("Too Many Requests", retry_after_s=7)]
    with pytest.raises(SendError):
        await room.show(ONCALL)
    assert len(room.vendor.calls) == 1
    room.send(ONCALL, "card")
    await room.passes(6.8)
    assert len(room.vendor.calls) == 1
    await room.passes(0.5)
    assert room.vendor.made()[-1] == ("send", "card")


async def test_a_failed_picture_says_nothing_about_sending(room):
    room.vendor.errors[ONCALL.to] = [SendError("away")]
    with pytest.raises(SendError):
        await room.show(ONCALL)
    assert not room.outbox.failing


async def test_the_picture_of_an_answer_comes_after_its_words(room):
    await room.outbox.say(room.vendor, "acme", ONCALL, Answer("checkout: 97/100", picture=CHART))
    assert room.vendor.made() == [("say", "checkout: 97/100"), ("show", CHART.alt)]


async def test_an_answer_is_said_although_its_picture_is_refused(room):
    async def refuse(*args, **more):
        raise SendError("no", permanent=True)

    room.vendor.show = refuse
    said = await room.outbox.say(room.vendor, "acme", ONCALL, Answer("checkout: 97/100", picture=CHART))
    assert said == "m1"


async def test_where_no_picture_can_be_shown_its_sentence_is_said():
    room = Room(Vendor)
    await room.outbox.say(room.vendor, "acme", ONCALL, Answer("checkout: 97/100", picture=CHART))
    assert room.vendor.made() == [("say", "checkout: 97/100"), ("say", CHART.alt)]
    await room.close()
