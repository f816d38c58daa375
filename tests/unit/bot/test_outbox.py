"""Who is told first, how fast a chat is written to, and that one chat's flood is no other's."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from bot.outbox import CHAT_BURST, GROUP_A_MINUTE, KEPT_FOR_PAGES, TRIES, Bucket, Outbox
from bot.ports import Address, Answer, Card, Document, Ring, SendError
from ledger.clock import ManualClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONCALL = Address("telegram", "1001", "rudo", "rudo")
GROUP = Address("telegram", "-100200300", "chat1")
OTHER = Address("telegram", "-100200400", "chat2")


def card(text="card") -> Card:
    return Card("checkout-3", 1, 1, Ring.RING, text, text)


class Vendor:
    """A channel that notes when it was asked for what; `errors` are raised once each, by chat."""

    name, edits = "telegram", True

    def __init__(self, clock):
        self.clock = clock
        self.calls: list[tuple[float, str, str, str]] = []
        self.errors: dict[str, list[Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, tenant, to, card, *, reply_to="", silent=False):
        return await self._call("send", to, card.html)

    async def edit(self, tenant, to, message, card):
        await self._call("edit", to, card.html)

    async def retire(self, tenant, to, message):
        await self._call("retire", to, message)

    async def say(self, tenant, to, answer, *, reply_to=""):
        return await self._call("say", to, answer.text)

    async def hand(self, tenant, to, document, *, reply_to=""):
        return await self._call("hand", to, document.name)

    async def _call(self, what, to, text):
        at = (self.clock.now() - NOON).total_seconds()
        self.calls.append((round(at, 1), what, to.to, text))
        await self.gate.wait()
        if self.errors.get(to.to):
            raise self.errors[to.to].pop(0)
        return f"m{len(self.calls)}"

    def made(self, to=None):
        return [(what, text) for _, what, chat, text in self.calls if to is None or chat == to.to]

    def times(self, what, to):
        return [at for at, kind, chat, _ in self.calls if (kind, chat) == (what, to.to)]


class Desk:
    """An outbox on a clock that stands still, and what was asked of it."""

    def __init__(self):
        self.clock = ManualClock(NOON)
        self.vendor = Vendor(self.clock)
        self.outbox = Outbox(self.clock, burst=1)
        self.asked: list[asyncio.Task] = []

    def send(self, to, text="card"):
        return self._ask(self.outbox.send(self.vendor, "acme", to, card(text)))

    def edit(self, to, message, text):
        return self._ask(self.outbox.edit(self.vendor, "acme", to, message, card(text)))

    def retire(self, to, message):
        return self._ask(self.outbox.retire(self.vendor, "acme", to, message))

    def say(self, to, text):
        return self._ask(self.outbox.say(self.vendor, "acme", to, Answer(text)))

    def _ask(self, what):
        self.asked.append(asyncio.ensure_future(what))
        return self.asked[-1]

    async def settle(self):
        """Let everything happen that needs no time to pass."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_time(self, seconds):
        end = self.clock.now().timestamp() + seconds
        await self.settle()
        while (wake := self.clock.next_wake()) and wake.timestamp() <= end:
            self.clock.advance(max(0.0, (wake - self.clock.now()).total_seconds()))
            await self.settle()
        self.clock.advance(max(0.0, end - self.clock.now().timestamp()))
        await self.settle()


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    await desk.outbox.close()
    await asyncio.gather(*desk.asked, return_exceptions=True)


async def test_a_message_is_sent_at_once_and_its_id_comes_back(desk):
    assert await desk.send(ONCALL) == "m1"
    assert desk.vendor.calls == [(0.0, "send", "1001", "card")]


async def test_a_chat_gets_one_message_a_second(desk):
    for n in range(4):
        desk.send(ONCALL, f"page {n}")
    await desk.pass_time(10)
    assert desk.vendor.times("send", ONCALL) == [0, 1, 2, 3]
    assert [text for _, text in desk.vendor.made()] == ["page 0", "page 1", "page 2", "page 3"]


def test_a_burst_of_three_goes_at_once_and_then_one_a_second():
    bucket = Bucket(CHAT_BURST, CHAT_BURST)
    waits = []
    for _ in range(5):
        waits.append(bucket.wait(1000.0))
        bucket.take(1000.0)
    assert waits == [0, 0, 0, 1, 2]


async def test_pages_go_before_edits_and_answers_before_both(desk):
    desk.send(GROUP, "first")
    desk.edit(GROUP, "7", "edit")
    desk.send(GROUP, "page")
    await desk.settle()
    desk.say(GROUP, "verdict")
    await desk.pass_time(10)
    assert desk.vendor.made() == [("send", "first"), ("say", "verdict"), ("send", "page"), ("edit", "edit")]
    assert desk.vendor.times("say", GROUP) == [0]


async def test_an_answer_does_not_wait_for_a_send_that_hangs(desk):
    desk.vendor.gate.clear()
    desk.send(GROUP, "hangs")
    await desk.settle()
    desk.say(GROUP, "verdict")
    await desk.settle()
    assert desk.vendor.made() == [("send", "hangs"), ("say", "verdict")]
    desk.vendor.gate.set()


async def test_of_several_edits_of_a_message_only_the_latest_is_made(desk):
    desk.send(GROUP, "first")
    await desk.settle()
    edits = [desk.edit(GROUP, "7", f"version {n}") for n in range(5)]
    other = desk.edit(GROUP, "8", "another message")
    await desk.pass_time(5)
    assert desk.vendor.made()[1:] == [("edit", "version 4"), ("edit", "another message")]
    assert all(edit.done() and edit.exception() is None for edit in [*edits, other])


async def test_taking_the_buttons_away_takes_the_place_of_an_edit_that_waits(desk):
    desk.send(GROUP, "first")
    await desk.settle()
    desk.edit(GROUP, "7", "late news")
    desk.retire(GROUP, "7")
    await desk.pass_time(5)
    assert desk.vendor.made()[1:] == [("retire", "7")]


async def test_edits_leave_five_of_a_groups_twenty_for_pages(desk):
    for n in range(80):
        desk.edit(GROUP, str(n), "edit")
    await desk.pass_time(60)
    before = len(desk.vendor.calls)
    assert GROUP_A_MINUTE <= before <= 2 * GROUP_A_MINUTE - KEPT_FOR_PAGES + 1
    for n in range(KEPT_FOR_PAGES):
        desk.send(GROUP, f"page {n}")
    await desk.pass_time(KEPT_FOR_PAGES)
    assert [what for what, _ in desk.vendor.made()[before:]] == ["send"] * KEPT_FOR_PAGES


async def test_a_private_chat_has_no_limit_by_the_minute(desk):
    for n in range(40):
        desk.edit(ONCALL, str(n), "edit")
    await desk.pass_time(41)
    assert len(desk.vendor.calls) == 40


async def test_all_chats_together_get_thirty_a_second(desk):
    for n in range(45):
        desk.send(Address("telegram", str(n + 1), f"p{n}"))
    await desk.settle()
    assert len(desk.vendor.calls) == 30
    await desk.pass_time(1)
    assert len(desk.vendor.calls) == 45


async def test_a_flood_in_one_chat_does_not_delay_another(desk):
    desk.vendor.errors["-100200300"] = [SendError("flood", retry_after_s=30)]
    flooded = desk.send(GROUP, "card")
    elsewhere = desk.send(OTHER, "card")
    await desk.settle()
    assert elsewhere.done()
    assert not flooded.done()
    await desk.pass_time(29)
    desk.send(OTHER, "more")
    await desk.settle()
    assert desk.vendor.times("send", OTHER) == [0, 29]
    await desk.pass_time(2)
    assert desk.vendor.times("send", GROUP) == [0, 30]
    assert flooded.result()


async def test_an_answer_in_a_flooded_chat_waits_as_long_as_it_must(desk):
    desk.vendor.errors["-100200300"] = [SendError("flood", retry_after_s=5)]
    said = desk.say(GROUP, "verdict")
    await desk.pass_time(6)
    assert desk.vendor.times("say", GROUP) == [0, 5]
    assert said.result()


async def test_any_number_of_floods_is_waited_for(desk):
    desk.vendor.errors["1001"] = [SendError("flood", retry_after_s=3)] * 20
    sent = desk.send(ONCALL)
    await desk.pass_time(61)
    assert sent.result()


async def test_a_vendor_that_is_away_is_asked_five_times_with_growing_pauses(desk):
    desk.vendor.errors["1001"] = [SendError("502")] * 9
    sent = desk.send(ONCALL)
    await desk.pass_time(60)
    assert len(desk.vendor.times("send", ONCALL)) == TRIES
    pauses = [b - a for a, b in pairwise(desk.vendor.times("send", ONCALL))]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 0.5
    assert isinstance(sent.exception(), SendError)


@pytest.mark.parametrize(
    "error",
    [
        SendError("blocked", permanent=True),
        SendError("moved", moved_to="-100"),
        SendError("it may have been sent", unknown=True),
    ],
)
async def test_what_a_second_try_cannot_mend_is_told_at_once(desk, error):
    desk.vendor.errors["1001"] = [error]
    sent, after = desk.send(ONCALL, "card"), desk.send(ONCALL, "next")
    await desk.pass_time(2)
    assert sent.exception() is error
    assert after.result()
    assert desk.vendor.made() == [("send", "card"), ("send", "next")]


async def test_an_edit_that_may_have_been_made_is_made_again(desk):
    desk.vendor.errors["1001"] = [SendError("hung", unknown=True)]
    edit = desk.edit(ONCALL, "7", "text")
    await desk.pass_time(3)
    assert edit.exception() is None
    assert desk.vendor.made() == [("edit", "text")] * 2


async def test_an_edit_that_failed_gives_way_to_a_later_one(desk):
    desk.vendor.errors["1001"] = [SendError("502")]
    desk.vendor.gate.clear()
    first = desk.edit(ONCALL, "7", "old")
    await desk.settle()
    second = desk.edit(ONCALL, "7", "new")
    desk.vendor.gate.set()
    await desk.pass_time(5)
    assert desk.vendor.made() == [("edit", "old"), ("edit", "new")]
    assert first.exception() is None
    assert second.exception() is None


async def test_a_message_that_is_gone_is_told(desk):
    desk.vendor.errors["1001"] = [SendError("not found", gone=True)]
    edit = desk.edit(ONCALL, "7", "text")
    await desk.settle()
    assert edit.exception().gone


async def test_a_mistake_of_ours_reaches_whoever_asked_and_stops_nobody_else(desk):
    desk.vendor.errors["1001"] = [ValueError("no such button")]
    sent, after = desk.send(ONCALL, "broken"), desk.send(ONCALL, "next")
    await desk.pass_time(2)
    assert isinstance(sent.exception(), ValueError)
    assert after.result()


async def test_what_nobody_waits_for_any_more_is_not_sent(desk):
    desk.send(ONCALL, "first")
    forgotten = desk.send(ONCALL, "forgotten")
    await desk.settle()
    forgotten.cancel()
    await desk.pass_time(5)
    assert desk.vendor.made() == [("send", "first")]


async def test_an_answer_is_sent_even_if_its_caller_has_gone(desk):
    desk.vendor.errors["1001"] = [SendError("flood", retry_after_s=5)]
    said = desk.say(ONCALL, "verdict")
    await desk.settle()
    said.cancel()
    await desk.pass_time(6)
    assert desk.vendor.made() == [("say", "verdict")] * 2


async def test_at_the_end_whoever_waits_is_told(desk):
    desk.send(ONCALL, "first")
    waits = desk.send(ONCALL, "waits")
    await desk.settle()
    assert desk.outbox.waiting() == 1
    await desk.outbox.close()
    await desk.settle()
    assert isinstance(waits.exception(), SendError)


def test_a_bucket_never_gives_more_than_its_rate():
    bucket, now, taken = Bucket(20, 60), 1000.0, 0
    for _ in range(600):
        if bucket.wait(now) == 0:
            bucket.take(now)
            taken += 1
        now += 0.1
    assert 38 <= taken <= 40


def test_a_clock_that_steps_back_gives_nothing_away():
    bucket = Bucket(1, 1)
    bucket.take(1000.0)
    assert bucket.wait(900.0) == pytest.approx(1)
    assert bucket.wait(1000.5) == pytest.approx(0.5)


async def test_an_answers_words_go_once_though_its_file_has_to_wait(desk):
    files = (Document("a.csv", b"a"), Document("b.csv", b"b"))
    desk._ask(desk.outbox.say(desk.vendor, "acme", ONCALL, Answer("two files", documents=files)))
    await desk.settle()
    assert desk.vendor.made(ONCALL) == [("say", "two files"), ("hand", "a.csv"), ("hand", "b.csv")]


async def test_a_file_that_is_told_to_wait_is_tried_again_alone(desk):
    said, hand = asyncio.Event(), desk.vendor.hand

    async def floods_once(*what, reply_to=""):
        if not said.is_set():
            said.set()
            raise SendError("flood", retry_after_s=7)
        return await hand(*what, reply_to=reply_to)

    desk.vendor.hand = floods_once
    answer = Answer("words", documents=(Document("a.csv", b"a"),))
    sent = desk._ask(desk.outbox.say(desk.vendor, "acme", ONCALL, answer))
    await desk.pass_time(6)
    assert desk.vendor.made(ONCALL) == [("say", "words")]
    await desk.pass_time(2)
    assert desk.vendor.made(ONCALL) == [("say", "words"), ("hand", "a.csv")]
    assert sent.done()


async def test_a_file_that_is_refused_is_an_error_after_its_words_were_said(desk):
    answer = Answer("words", documents=(Document("a.csv", b"a"),))

    async def refused(tenant, to, document, *, reply_to=""):
        raise SendError("too long", permanent=True)

    desk.vendor.hand = refused
    with pytest.raises(SendError, match="too long"):
        await desk.outbox.say(desk.vendor, "acme", ONCALL, answer)
    assert desk.vendor.made(ONCALL) == [("say", "words")]
