"""What /status says first, and what is ready: the ledger, the rules, the services, in every outage."""

import contextlib
import random
from dataclasses import dataclass, field
from itertools import product

import pytest

from bot.adoption import Adoption
from bot.app import Conditions
from bot.condition import Condition
from bot.offbox import OffBox
from bot.outbox import Outbox
from bot.ports import Address, Answer, SendError
from detectors.mode import MODES, Mode
from detectors.window import Missed, Tick
from handlers.charter import parse
from handlers.crew import Heard, Said
from handlers.detect import Detect
from handlers.poll import Poller
from ledger import events as ev
from ledger.events import Actor
from ledger.store import Durability, MemoryStore, StoreDown
from tests.rooms import CHARTER, Tenant, tenant
from tests.unit.bot.test_commands import LinkCodes


class Store(MemoryStore):
    """A store that can go away."""

    away = False

    async def head(self, tenant):
        if self.away:
            raise StoreDown("gone")
        return await super().head(tenant)


@dataclass
class Deaf:
    """A channel that does not take anything."""

    name: str = "telegram"
    edits: bool = True
    error: SendError = field(default_factory=lambda: SendError("away"))

    async def say(self, *args, **more):
        raise self.error


def condition(acme: Tenant) -> Condition:
    detect = Detect(acme.room.ledger, acme.room.rulebook)
    poller = Poller(acme.room.ledger, acme.room.rulebook, detect, None, None, acme.clock, random.Random(1))
    adoption = Adoption(b"s" * 32, LinkCodes())
    return Condition(acme.room, detect, poller, adoption, True, Outbox(acme.clock, burst=1))


async def test_in_good_order_it_says_so_in_few_lines():
    here = condition(await tenant())
    lines = here.lines()
    assert lines[0].startswith("NORMAL. Ledger: 1 entries, each on disk")
    assert lines[1].startswith("Policy 2026.1+")
    assert any("not seen yet" in line for line in lines)
    assert len(lines) <= 10


async def test_what_stands_in_shadow_is_never_forgotten():
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    rules = parse(text.replace('id = "checkout"\n', 'id = "checkout"\nshadow = true\n'))
    here = condition(await tenant(rules))
    assert "🌒 In shadow, recorded and nobody told: all of checkout." in here.lines()


async def test_a_service_that_another_process_looks_at_is_shown_as_it_saw_it_until_that_is_old():
    acme = await tenant()
    theirs, here = condition(acme), condition(acme)
    await theirs.detect.see("checkout", Tick(acme.room.now_ms(), 5000, 100, 0, 0, 0, {640: 100}, 1, 10), 0)
    here.detect.hear_of([Heard("b", 400, Said(1, words=theirs.detect.words(all=False)))])
    assert any(line.startswith("checkout: 100/100, 20.0 req/s") for line in here.lines())
    acme.clock.advance(9)
    assert any(line.startswith("checkout: 100/100") for line in here.lines())
    acme.clock.advance(11)
    assert "checkout: not known now, last looked at 20 s ago" in here.lines()


async def test_a_ledger_that_is_away_is_an_emergency_and_comes_back():
    store = Store()
    acme = await tenant(store=store)
    here = condition(acme)
    store.away = True
    await acme.room.ledger.sweep()
    assert here.mode is Mode.EMERGENCY
    assert "cannot be reached" in here.lines()[0]
    assert not acme.room.ledger.may_act()
    store.away = False
    await acme.room.ledger.sweep()
    assert here.mode is Mode.NORMAL
    assert acme.room.ledger.may_act()


async def test_a_ledger_that_may_lose_entries_says_so_and_nothing_may_act():
    acme = await tenant(store=MemoryStore(Durability.NOT_DURABLE))
    assert "Nothing executes" in condition(acme).lines()[0]
    assert not acme.room.ledger.may_act()


async def test_a_vendor_that_is_away_is_degraded_and_a_blocked_chat_is_not():
    acme = await tenant()
    here = condition(acme)
    to = Address("telegram", "1001", "rudo")
    for error, mode in (
        (SendError("blocked", permanent=True), Mode.NORMAL),
        (SendError("", unknown=True), Mode.DEGRADED),
    ):
        with contextlib.suppress(SendError):
            await here.outbox.say(Deaf(error=error), "acme", to, Answer("hello"))
        assert here.mode is mode


@pytest.mark.parametrize(("redis", "sends", "polls"), [*product((True, False), repeat=3)])
async def test_each_mode_is_reached_by_what_fails_and_is_the_first_word_of_status(redis, sends, polls):
    store = Store()
    acme = await tenant(store=store)
    here = condition(acme)
    for place, name in enumerate(("checkout", "search", "mail")):
        answers = polls or place == 0
        tick = Tick(acme.room.now_ms(), 5000, 100, 0, 0, 0, {640: 100}, 1, 10)
        await here.detect.see(name, tick if answers else Missed(acme.room.now_ms(), "refused"), 0)
    if not sends:
        with contextlib.suppress(SendError):
            to = Address("telegram", "1001", "rudo")
            await here.outbox.say(Deaf(error=SendError("", unknown=True)), "acme", to, Answer("hello"))
    store.away = not redis
    await acme.room.ledger.sweep()
    assert here.mode is MODES[redis, sends, polls]
    assert here.lines()[0].startswith(f"{MODES[redis, sends, polls]}. ")
    assert acme.room.ledger.may_act() is redis


async def test_silent_workers_and_a_clock_that_was_set_stand_beside_the_figures():
    acme = await tenant()
    here = condition(acme)
    for ahead_ms in (0, 3_600_000):
        acme.clock.advance(5)
        now_ms = acme.room.now_ms()
        tick = Tick(
            now_ms, 5000, 100, 0, 0, 0, {640: 100}, 1, 10,
            app_ms=now_ms + ahead_ms, workers=3, workers_stale=1,
        )  # fmt: skip
        await here.detect.see("checkout", tick, 0)
    lines = here.lines()
    assert "⚠️ checkout: 1 of 4 workers have fallen silent: the others are counted alone." in lines
    assert any(line.startswith("⚠️ checkout: The app's clock was set forward by 60 min") for line in lines)
    acme.clock.advance(60)
    assert not any("workers" in line for line in here.lines())


async def test_without_a_charter_in_force_it_says_what_to_do():
    here = condition(await tenant(adopted=False))
    assert "No charter is in force" in here.lines()[1]


async def test_a_pause_and_a_wrong_charter_stand_in_it():
    acme = await tenant()
    here = condition(acme)
    here.charter_mistake = "charter.toml: people.1: no id. Add it."
    await acme.record(Actor.engineer("rudo", "telegram"), lambda v, n: ev.Paused())
    text = "\n".join(here.lines())
    assert "Paused" in text
    assert "the old one stays in force" in text


async def test_a_service_that_does_not_answer_is_named():
    acme = await tenant()
    here = condition(acme)
    for _ in range(3):
        acme.clock.advance(1)
        await here.detect.see("checkout", Missed(acme.room.now_ms(), "refused"), 0)
    assert "checkout: does not answer, 3 polls missed" in here.lines()


async def test_metrics_are_what_the_condition_is():
    acme = await tenant()
    await acme.opens()
    found = {m.name: m.samples[0].value for m in Conditions([condition(acme)]).collect()}
    assert found["countersign_open_incidents"] == 1
    assert found["countersign_ledger_may_act"] == 1
    assert found["countersign_ledger_entries"] == 2


async def test_the_copy_off_the_box_has_its_line_and_its_figures():
    acme = await tenant()
    here = condition(acme)
    assert not any("Off the box" in line for line in here.lines())
    here.offbox = OffBox(acme.room, None, None)
    here.offbox.due(acme.room.ledger.view, acme.room.now_ms())
    acme.clock.advance(90)
    assert "⚠️ Off the box: 1 entry behind for 90 s." in here.lines()
    measured = {family.name: family.samples[0].value for family in Conditions([here]).collect()}
    assert measured["countersign_offbox_lag_entries"] == 1
    assert measured["countersign_offbox_lag_seconds"] == 90


async def test_it_says_who_is_on_call_what_is_left_alone_and_that_no_model_is_asked_any_more():
    rules = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    rota = '[rota]\npeople = ["rudo", "tendai"]\nstarts = 2026-06-01T08:00:00\n'
    acme = await tenant(parse(f'{rules}{rota}[limits]\nmodel_usd_per_day = "0.01"\n'))
    here, rudo, now_ms = condition(acme), Actor.engineer("rudo", "telegram"), acme.room.now_ms()
    assert "On call: Rudo, until Mon 08:00." in here.lines()
    assert not any("maintenance" in line or "No model" in line for line in here.lines())
    declared = ev.MaintenanceDeclared(service="checkout", until_ms=now_ms + 3_600_000)
    await acme.record(rudo, lambda v, n: declared)
    await acme.opens()
    said = ev.Diagnosed(incident_id="checkout-1", lens="A", round=1, cost_micros=10_000)
    await acme.record(Actor.model("haiku"), lambda v, n: said)
    assert "🔧 checkout is in maintenance until Wed 15:00." in here.lines()
    assert "⚠️ No model is asked any more today: $0.01 is spent." in here.lines()
