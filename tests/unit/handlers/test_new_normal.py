"""A person calls it the new normal: what is usual is learned anew, once, whatever dies in between."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from detectors.window import Tick
from handlers.detect import Detect
from ledger import events as ev
from ledger.events import Actor
from ledger.machine import Stage
from sdk import histogram
from tests.rooms import Tenant, tenant

RUDO = Actor.engineer("rudo", "telegram")
USUAL, SLOW = 50_000_000, 900_000_000


@dataclass
class Kept:
    """What outlives a process."""

    texts: dict[str, str] = field(default_factory=dict)

    async def load(self, tenant: str, service: str) -> str | None:
        return self.texts.get(service)

    async def save(self, tenant: str, states: Mapping[str, str]) -> None:
        self.texts |= states


class World:
    """A service of fifty requests a second, and one process after the other that watches it."""

    def __init__(self, acme: Tenant) -> None:
        self.acme = acme
        self.kept = Kept()
        self.detect = Detect(acme.room.ledger, acme.room.rulebook)

    @property
    def normal(self) -> int:
        return self.detect.seen["checkout"].state.normal

    @property
    def slow_from_ms(self) -> int:
        return self.detect.seen["checkout"].state.baseline.p95_ns // 1_000_000

    async def goes(self, seconds: int, takes_ns: int = USUAL) -> None:
        for _ in range(seconds // 5):
            self.acme.clock.advance(5)
            tick = Tick(self.acme.room.now_ms(), 5_000, 250, 0, 0, 0, {histogram.index(takes_ns): 250}, 1, 10)
            await self.detect.see("checkout", tick, 0)

    async def says_new_normal(self) -> int:
        made = await self.acme.record(
            RUDO, lambda v, n: ev.Feedback(incident_id="checkout-1", kind=ev.NEW_NORMAL)
        )
        return made.seq

    async def keeps(self) -> None:
        await self.detect.keep(self.kept)

    async def starts_again(self) -> None:
        """Another process, with what was kept; what the one before had not kept is gone."""
        self.detect = Detect(self.acme.room.ledger, self.acme.room.rulebook)
        await self.detect.restore(self.kept, "checkout")


async def slow() -> World:
    """A service that knows what is usual, and is slower than that: an incident is open."""
    here = World(await tenant())
    await here.goes(3_600)
    await here.goes(120, SLOW)
    assert here.acme.incident.opened.reading.signal == "latency"
    await here.keeps()
    return here


async def test_what_is_seen_now_is_usual_and_the_incident_closes_after_a_quiet_minute():
    here = await slow()
    usual = here.slow_from_ms
    said = await here.says_new_normal()
    await here.goes(90, SLOW)
    assert here.normal == said
    assert here.slow_from_ms > 10 * usual
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_without_that_word_it_stays_open():
    here = await slow()
    await here.goes(90, SLOW)
    assert here.acme.incident.is_open


async def test_a_process_that_dies_between_the_word_and_its_effect_leaves_it_to_the_next():
    here = await slow()
    said = await here.says_new_normal()
    await here.starts_again()
    await here.goes(90, SLOW)
    assert here.normal == said
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_a_process_that_dies_before_the_effect_was_kept_leaves_it_to_the_next():
    here = await slow()
    await here.says_new_normal()
    await here.goes(5, SLOW)
    await here.starts_again()
    assert here.normal == 0
    await here.goes(90, SLOW)
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_the_effect_is_worth_keeping_at_once():
    here = await slow()
    await here.goes(150)
    await here.says_new_normal()
    here.detect.turned.clear()
    await here.goes(5)
    assert here.detect.turned == {"checkout"}


async def test_it_is_followed_once_also_by_the_next_process():
    here = await slow()
    await here.says_new_normal()
    await here.goes(90, SLOW)
    await here.keeps()
    await here.starts_again()
    learned = here.detect.seen["checkout"].state.baseline
    await here.goes(5, SLOW)
    assert sum(here.detect.seen["checkout"].state.baseline.hist.values()) >= sum(learned.hist.values())
    assert here.detect.seen["checkout"].state.baseline.adopted
    await here.goes(60, USUAL)
    assert here.slow_from_ms == learned.p95_ns // 1_000_000


async def test_a_second_word_is_followed_as_well():
    here = await slow()
    await here.says_new_normal()
    await here.goes(90, SLOW)
    again = await here.says_new_normal()
    await here.goes(5, SLOW)
    assert here.normal == again


async def test_a_word_of_old_is_no_reason_to_trust_little():
    """A state that was lost begins cold: it has seen nothing that could be called usual."""
    here = await slow()
    said = await here.says_new_normal()
    here.kept.texts.clear()
    await here.starts_again()
    await here.goes(60, SLOW)
    assert here.normal == said
    assert not here.detect.seen["checkout"].state.baseline.adopted


async def test_a_state_from_before_there_was_such_a_word_is_read():
    here = await slow()
    old = json.loads(here.kept.texts["checkout"])
    del old["state"]["normal"]
    here.kept.texts["checkout"] = json.dumps(old)
    await here.starts_again()
    assert here.normal == 0
