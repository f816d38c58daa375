"""One quiet picture under each card, changed as things happen; and no card ever waits for one."""

import asyncio

import pytest

from bot.easel import Easel
from bot.lookback import OLD_MS, Lookback, chart_of
from bot.notify import BARE_MS
from bot.pictures import AFTER_MS, SETTLE_MS, Pictures
from bot.ports import Address, SendError
from bot.wall import MemoryWall
from detectors.policy import Policy
from detectors.state import ServiceState
from handlers.detect import NETWORK, Detect, Seen
from handlers.ports import PortError
from ledger import events as ev
from ledger.store import StoreDown
from tests.charts import UNTIL, half_hour, has_line, look, says
from tests.unit.bot.stories import POLICY, SICK, WELL
from tests.unit.bot.test_notify import BOT, GROUP, NAME, PHONE, PRIVATE, House

LONDON = Address("telegram", "1002", "tendai", "tendai")


class Shelf:
    """States in memory."""

    def __init__(self):
        self.texts, self.is_down = {}, False

    async def load(self, tenant, service):
        if self.is_down:
            raise StoreDown("away")
        return self.texts.get(service)

    async def save(self, tenant, states):
        self.texts |= states


class Gallery:
    """The outbox as far as pictures go, and the chats behind it."""

    def __init__(self):
        self.messages, self.calls = {}, []
        self.fail: list[SendError] = []
        self.at_peace = asyncio.Event()
        self.at_peace.set()

    async def peace(self, to):
        await self.at_peace.wait()

    async def show(self, gallery, to, picture, *, reply_to="", message=""):
        self.calls.append((to.to, message))
        if self.fail:
            raise self.fail.pop(0)
        message = message or f"p{len(self.messages) + 1}"
        self.messages[message] = (to.to, picture, reply_to)
        return message

    def of(self, to):
        return [picture for chat, picture, _ in self.messages.values() if chat == to.to]


class Wall(MemoryWall):
    is_down = False

    async def get(self, tenant, field):
        if self.is_down:
            raise StoreDown("away")
        return await super().get(tenant, field)


def broken(chart):
    raise RuntimeError("no more paint")


class Hall(House):
    """A tenant whose cards are sent as always, and pictures hung under them."""

    def __init__(self, *addresses, draw=None):
        super().__init__(*addresses)
        self.wall, self.gallery, self.shelf = Wall(), Gallery(), Shelf()
        self.easel = Easel(draw) if draw else Easel()
        self.detect = Detect(self.ledger, self.book)
        self.hang()

    def hang(self):
        """A new process on the same notes of what hangs where."""
        known = {(a.channel, a.to): a for a in self.addresses}
        self.pictures = Pictures(
            self.ledger, self.book, self.shown, self.wall, Lookback(self.detect, self.shelf), self.easel,
            self.gallery, {"telegram": self.gallery}, lambda channel, chat: known[channel, chat], self.clock,
        )  # fmt: skip

    def measures(self):
        """What polls brought until now."""
        points = tuple(p._replace(at_ms=p.at_ms - UNTIL + self.now_ms) for p in half_hour())
        self.detect.seen["checkout"] = Seen(ServiceState(at_ms=self.now_ms), history=points)

    def hangs(self):
        """What is due now."""
        return [w for w in self.pictures.due(self.ledger.view, self.now_ms) if w.at_ms <= self.now_ms]

    async def draws(self):
        """Do what is due once things have settled."""
        self.clock.advance(SETTLE_MS / 1000)
        self.measures()
        for work in self.hangs():
            await self.pictures.do(work)

    async def opened(self):
        self.measures()
        await self.detected()
        await self.work()
        await self.draws()


async def ends(hall):
    """Asked, approved, run, and well again."""
    await hall.validated()
    await hall.work()
    await hall.authorized()
    given = hall.incident.last(ev.Authorized).ref
    until_ms = hall.now_ms + 20_000
    started = ev.ExecutionStarted(incident_id=NAME, attempt=1, by="bot.1", until_ms=until_ms, ref=given)
    await hall.say(BOT, started)
    await hall.say(BOT, ev.Executed(incident_id=NAME, attempt=1, status=200, took_ms=1_100, ref=given))
    await hall.say(POLICY, ev.Verified(incident_id=NAME, before=SICK, after=WELL, quiet_ms=60_000), 75)
    await hall.work()


async def test_under_a_card_comes_one_picture_as_a_reply_to_it():
    hall = Hall()
    await hall.opened()
    [(chat, picture, reply_to)] = hall.gallery.messages.values()
    [card] = hall.wire.messages
    assert (chat, reply_to) == (GROUP.to, card)
    assert says(picture.png) == picture.alt
    assert "opened 03:11" in picture.alt
    assert not hall.hangs()


async def test_it_waits_until_the_card_has_arrived():
    hall = Hall()
    hall.measures()
    await hall.detected()
    hall.clock.advance(60)
    assert hall.hangs() == []
    await hall.work()
    assert len(hall.hangs()) == 1


async def test_where_no_card_could_be_shown_there_is_no_picture_either():
    hall = Hall()
    hall.wire.fail[GROUP.to] = SendError("bot was kicked", permanent=True)
    hall.measures()
    await hall.detected()
    await hall.work()
    hall.clock.advance(60)
    assert hall.hangs() == []


async def test_what_happens_changes_it_in_place_and_it_has_every_mark():
    hall = Hall()
    await hall.opened()
    await ends(hall)
    await hall.draws()
    [picture] = hall.gallery.of(GROUP)
    assert [message for _, message in hall.gallery.calls] == ["", "p1"]
    for label in ("opened", "approved", "ran", "recovered"):
        assert f"{label} 03:1" in picture.alt
    past = await hall.pictures._lookback.of("checkout")
    chart = chart_of("checkout", past, hall.incident, "Africa/Harare", Policy(), hall.now_ms)
    assert all(has_line(look(picture.png), chart, mark) for mark in chart.marks)


async def test_an_approval_and_its_run_are_drawn_once():
    hall = Hall()
    await hall.opened()
    await hall.validated()
    await hall.authorized()
    hall.clock.advance(SETTLE_MS / 1000 - 0.1)
    assert hall.hangs() == []
    await hall.draws()
    assert len(hall.gallery.calls) == 2


async def test_votes_and_diagnoses_draw_nothing():
    hall = Hall()
    await hall.opened()
    await hall.validated()
    hall.clock.advance(30)
    assert hall.hangs() == []


async def test_each_chat_has_its_own_on_its_own_clock():
    hall = Hall(GROUP, PRIVATE, LONDON, PHONE)
    await hall.opened()
    assert "opened 02:11" in hall.gallery.of(LONDON)[0].alt
    assert "opened 03:11" in hall.gallery.of(PRIVATE)[0].alt
    assert hall.gallery.of(GROUP)[0] is hall.gallery.of(PRIVATE)[0], "it was drawn once for both"
    assert not hall.gallery.of(PHONE)


async def test_a_new_process_hangs_no_second_one():
    hall = Hall()
    await hall.opened()
    hall.hang()
    assert hall.hangs() == []
    hall.wall = Wall()
    hall.hang()
    await hall.draws()
    assert len(hall.gallery.messages) == 2, "notes that were lost cost a second picture, and no more"


async def test_what_cannot_be_drawn_costs_a_picture_and_nothing_else():
    hall = Hall(draw=broken)
    await hall.opened()
    assert len(hall.wire.of(GROUP)) == 1
    assert hall.gallery.messages == {}
    assert hall.hangs() == [], "it is not tried again until something happens"
    await hall.validated()
    hall.clock.advance(BARE_MS / 1000)
    await hall.settle()
    assert hall.wire.of(GROUP)[0].card.rows
    hall.easel = Easel()
    hall.hang()
    await hall.authorized()
    await hall.draws()
    assert "approved" in hall.gallery.of(GROUP)[0].alt


@pytest.mark.parametrize(
    "error", [SendError("no", permanent=True), SendError("maybe", unknown=True), SendError("x", gone=True)]
)
async def test_what_is_refused_or_may_have_arrived_is_not_sent_again(error):
    hall = Hall()
    hall.gallery.fail = [error]
    await hall.opened()
    assert hall.hangs() == []
    assert len(hall.gallery.calls) == 1


async def test_what_may_work_later_is_tried_later():
    hall = Hall()
    hall.gallery.fail = [SendError("slow down", retry_after_s=7)]
    with pytest.raises(PortError, match="took no picture"):
        await hall.opened()
    await hall.draws()
    assert len(hall.gallery.of(GROUP)) == 1


async def test_a_doubtful_edit_is_made_again():
    hall = Hall()
    await hall.opened()
    await ends(hall)
    hall.gallery.fail = [SendError("timed out", unknown=True)]
    with pytest.raises(PortError):
        await hall.draws()
    await hall.draws()
    assert hall.gallery.calls[-1] == (GROUP.to, "p1")
    assert "recovered" in hall.gallery.of(GROUP)[0].alt


async def test_a_picture_that_somebody_deleted_comes_anew():
    hall = Hall()
    await hall.opened()
    await ends(hall)
    hall.gallery.fail = [SendError("message to edit not found", gone=True)]
    await hall.draws()
    assert len(hall.gallery.messages) == 2
    assert "recovered" in hall.gallery.messages["p2"][1].alt


async def test_while_it_waits_for_peace_the_present_moves_and_is_what_is_drawn():
    hall = Hall()
    hall.measures()
    await hall.detected()
    await hall.work()
    hall.clock.advance(SETTLE_MS / 1000)
    hall.gallery.at_peace.clear()
    hanging = asyncio.ensure_future(hall.pictures.do(hall.hangs()[0]))
    await asyncio.sleep(0)
    await ends(hall)
    hall.measures()
    hall.gallery.at_peace.set()
    await hanging
    assert "recovered" in hall.gallery.of(GROUP)[0].alt
    assert hall.hangs() == []


async def test_without_the_store_it_is_asked_again_and_cards_go_out():
    hall = Hall()
    hall.wall.is_down = True
    with pytest.raises(PortError, match="not known"):
        await hall.opened()
    assert len(hall.wire.of(GROUP)) == 1
    hall.wall.is_down = False
    await hall.draws()
    assert len(hall.gallery.of(GROUP)) == 1


async def test_nothing_is_drawn_of_what_was_never_measured_nor_of_the_network():
    hall = Hall()
    await hall.detected()
    await hall.work()
    hall.clock.advance(60)
    for work in hall.hangs():
        await hall.pictures.do(work)
    assert hall.gallery.messages == {}
    assert hall.hangs() == []
    await hall.say(
        POLICY, ev.Detected(incident_id="network-1", reading=SICK.model_copy(update={"service": NETWORK}))
    )
    await hall.work()
    hall.clock.advance(60)
    assert hall.hangs() == []


async def test_what_is_long_over_is_left_as_it_is():
    hall = Hall()
    await hall.opened()
    await ends(hall)
    hall.clock.advance(AFTER_MS / 1000)
    assert hall.hangs() == []


# the past of a service


async def test_what_another_process_watches_is_read_from_where_it_is_kept():
    here, there = Hall(), Hall()
    there.measures()
    there.detect.dirty["checkout"] = 0
    await there.detect.keep(here.shelf)
    past = await Lookback(here.detect, here.shelf).of("checkout")
    assert past.points == there.detect.seen["checkout"].history
    assert await Lookback(here.detect, here.shelf).of("payments") is None


async def test_of_two_that_are_known_the_newer_is_told():
    hall = Hall()
    hall.measures()
    hall.detect.dirty["checkout"] = 0
    await hall.detect.keep(hall.shelf)
    kept = hall.detect.seen["checkout"]
    hall.detect.seen["checkout"] = Seen(ServiceState(at_ms=hall.now_ms - OLD_MS))
    assert (await Lookback(hall.detect, hall.shelf).of("checkout")).points == kept.history
    hall.detect.seen["checkout"] = Seen(ServiceState(at_ms=hall.now_ms - OLD_MS + 1))
    assert (await Lookback(hall.detect, hall.shelf).of("checkout")).points == ()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": 1}', '{"state": {"at_ms": "x"}}'])
async def test_what_cannot_be_read_is_nothing(text):
    hall = Hall()
    hall.shelf.texts["checkout"] = text
    assert await Lookback(hall.detect, hall.shelf).of("checkout") is None
    hall.shelf.is_down = True
    assert await Lookback(hall.detect, hall.shelf).of("checkout") is None


async def test_a_chart_ends_with_what_was_measured_last_or_with_the_present_when_that_is_old():
    hall = Hall()
    hall.measures()
    past = await Lookback(hall.detect, hall.shelf).of("checkout")
    measured = past.state.at_ms
    for now_ms, until_ms in ((measured + 60_000, measured), (measured + 200_000, measured + 200_000)):
        assert chart_of("checkout", past, None, "UTC", Policy(), now_ms).until_ms == until_ms


# the easel


async def test_the_easel_draws_a_few_at_a_time_and_the_same_chart_once():
    hall, running, most, drawn = Hall(), 0, 0, []

    def draw(chart):
        nonlocal running, most
        running += 1
        most = max(most, running)
        drawn.append(chart)
        running -= 1
        return b"png"

    easel = Easel(draw)
    hall.measures()
    past = await Lookback(hall.detect, hall.shelf).of("checkout")
    charts = [
        chart_of("checkout", past, None, zone, Policy(), hall.now_ms) for zone in ("UTC", "Europe/London")
    ]
    found = await asyncio.gather(*(easel.picture(chart) for chart in charts * 10))
    assert len(drawn) == 2
    assert most <= 2
    assert {one.png for one in found} == {b"png"}
