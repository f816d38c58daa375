"""`/status checkout`: figures beside what is usual, what policy thinks, and the picture; near names else."""

import pytest

from bot.easel import Easel
from bot.lookback import Lookback
from bot.order import Order
from bot.ports import Said
from bot.status_service import LATELY_MS, ServiceStatus, unknown
from detectors.window import Gauge, Tick
from handlers.changes import Change
from handlers.charter import parse
from handlers.sights import Sight
from ledger.events import Act
from tests.charts import says
from tests.rooms import CHARTER, tenant
from tests.unit.bot.test_commands import Front
from tests.unit.bot.test_pictures import Shelf, broken
from tests.unit.handlers.test_detect import FAST, World


class Asked(World):
    """A tenant whose services are polled, and one who asks about them."""

    def __init__(self, acme, draw=None):
        super().__init__(acme)
        self.shelf = Shelf()
        easel = Easel(draw) if draw else Easel()
        self.status = ServiceStatus(
            lambda room: self.detect, lambda detect: Lookback(detect, self.shelf), easel
        )

    async def says(self, words, who="rudo"):
        act = Act(channel="telegram", update="1", digest="d" * 64, at_ms=self.acme.room.now_ms())
        said = Said("telegram", "1001", "1001", f"/status {words}", act, private=True)
        person = self.acme.room.people.person(who)
        return await self.status.answer(Order(self.acme.room, person, said, words))

    async def tick(self, n=20, errors=0, gauges=(), seconds=1):
        self.acme.clock.advance(seconds)
        now_ms = self.acme.room.now_ms()
        tick = Tick(now_ms, 1000 * seconds, n, errors, 0, 0, {FAST: n} if n else {}, 1, 10, gauges=gauges)
        await self.detect.see("checkout", tick, 0)


async def asked(draw=None):
    return Asked(await tenant(), draw)


async def test_a_healthy_service_is_told_with_its_figures_and_a_picture():
    here = await asked()
    await here.goes(120)
    answer = await here.says("checkout")
    first, second, *rest = answer.text.splitlines()
    assert (first, second) == ("✅ checkout: 100/100, steady", "No open incident.")
    assert "20 requests/s" in answer.text
    assert "errors 0 %, normal is at most 2 %" in answer.text
    assert "p95 49 ms, what is usual is not known yet" in answer.text
    assert "Policy sees nothing wrong, and has not for 2 min of watching." in answer.text
    assert rest[-1] == "Looked at 0 s ago, 14:02:00."
    assert says(answer.picture.png) == answer.picture.alt
    assert "nothing is open" in answer.picture.alt


async def test_what_is_usual_stands_beside_what_is():
    here = await asked()
    for _ in range(500):
        await here.tick(n=100, seconds=5)
    answer = await here.says("checkout")
    assert "p95 49 ms, usual 49 ms to 49 ms" in answer.text
    assert "20 requests/s, usual 20" in answer.text


async def test_a_sick_one_is_told_with_its_incident_and_what_policy_measured():
    here = await asked()
    await here.goes(60)
    await here.goes(60, share=0.5)
    answer = await here.says("checkout")
    assert answer.text.startswith("🔴 checkout: 0/100")
    assert "checkout-1 since 14:01: " in answer.text
    assert ". looking." in answer.text
    assert "requests failed in" in answer.text
    assert "opened 14:01" in answer.picture.alt


async def test_an_incident_that_is_just_over_is_still_on_it():
    here = await asked()
    await here.goes(60)
    await here.goes(30, share=0.5)
    await here.goes(200)
    answer = await here.says("checkout")
    assert "recovered" in answer.text
    assert "recovered 14:0" in answer.picture.alt
    here.acme.clock.advance(LATELY_MS / 1000)
    assert "No open incident." in (await here.says("checkout")).text


async def test_gauges_are_told_and_are_data():
    here = await asked()
    await here.tick(gauges=(Gauge("db_pool", 20, 20), Gauge("<b>x</b>", 3, 0)))
    answer = await here.says("checkout")
    assert "db_pool 20 of 20" in answer.html
    assert "&lt;b&gt;x" in answer.html


async def test_the_live_deploy_is_told():
    rules = CHARTER.replace('id = "checkout"\n', 'id = "checkout"\nrepository = "acme/checkout"\n')
    here = Asked(await tenant(parse(rules.replace("{approve}", "1 oncall").replace("{risk}", "low"))))
    await here.goes(10)
    at_ms = here.acme.room.now_ms() - 7 * 60_000
    change = Change("acme/checkout", "a1b2c3d9e8", at_ms, live=True, title="Fix <pool> /pause", author="John")
    here.detect.changes.known = (change,)
    answer = await here.says("checkout")
    assert "Live: <code>a1b2c3d</code> “Fix &lt;pool&gt; /\u2060pause” (John), 7 min ago" in answer.html


async def test_one_that_does_not_answer_is_told_so_with_its_last_figures():
    here = await asked()
    await here.goes(120)
    await here.is_silent(20)
    answer = await here.says("checkout")
    assert answer.text.startswith("🔴 checkout does not answer: 20 polls missed in a row")


async def test_an_old_look_is_called_old():
    here = await asked()
    await here.goes(60)
    here.acme.clock.advance(300)
    answer = await here.says("checkout")
    assert answer.text.startswith("checkout: not known now, the figures below are old")
    assert "Looked at 5 min ago" in answer.text


async def test_what_another_process_looks_at_is_told_and_by_whom():
    here, there = await asked(), await asked()
    await there.goes(120)
    seen = there.detect.seen["checkout"]
    here.acme.clock.advance(120)
    here.detect.others.put("checkout", Sight("worker.2", seen.at_ms, 0, seen.verdict))
    there.detect.dirty["checkout"] = 0
    await there.detect.keep(here.shelf)
    answer = await here.says("checkout")
    assert answer.text.startswith("✅ checkout: 100/100")
    assert "by worker.2" in answer.text
    assert answer.picture is not None


async def test_one_that_was_never_looked_at_is_told_without_a_picture():
    answer = await (await asked()).says("checkout")
    assert answer.text.startswith("checkout: not seen yet\nNo open incident.")
    assert answer.picture is None


async def test_a_picture_that_cannot_be_drawn_costs_no_words():
    here = await asked(broken)
    await here.goes(60)
    answer = await here.says("checkout")
    assert answer.text.startswith("✅ checkout: 100/100")
    assert answer.picture is None


async def test_without_the_store_it_answers_all_the_same():
    here = await asked()
    await here.goes(60)
    here.acme.clock.advance(60)
    here.shelf.is_down = True
    assert (await here.says("checkout")).picture is not None


@pytest.mark.parametrize("words", ["chekout", "Check", "checkouts now"])
async def test_a_name_that_is_nearly_one_is_answered_with_that_one(words):
    answer = await (await asked()).says(words)
    assert "Did you mean checkout?" in answer.text


async def test_a_service_is_found_however_it_is_typed():
    assert (await (await asked()).says("CheckOut please")).text.startswith("checkout: not seen yet")


def test_a_name_that_is_none_is_answered_with_what_there_is():
    many = [f"service-{n}" for n in range(9)]
    assert unknown("zzz", many) == (
        "There is no service zzz. There is service-0, service-1, service-2, service-3, service-4 and "
        "service-5 and 3 more. /status shows all of them."
    )
    assert "Did you mean" in unknown("service", many)
    assert len(unknown("x" * 500 + "\n/approve", many)) < 300


async def test_before_a_charter_is_in_force_it_says_so():
    here = Asked(await tenant(adopted=False))
    assert "No charter is in force" in (await here.says("checkout")).text


async def test_status_alone_is_of_all_week_is_of_people_and_a_name_is_of_a_service():
    acme = await tenant()
    front, here = Front(acme), Asked(acme)
    front.commands._of_service = here.status.answer
    assert "NORMAL." in await front.told("rudo", "/status")
    assert "not seen yet" in await front.told("rudo", "/status checkout")
    assert "no service" not in await front.told("rudo", "/status week")
    assert await front.says("stranger", "/status checkout", private=True) is not None
    assert "checkout" not in await front.told("stranger", "/status checkout", private=True)
