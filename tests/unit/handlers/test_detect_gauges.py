"""A gauge that is unlike its past: a warning in the ledger that wakes nobody, and is over by itself."""

from dataclasses import dataclass, field

from bot.ports import Ring
from bot.rings import mark
from detectors.window import Gauge, Tick
from handlers.charter import parse
from handlers.detect import Detect
from ledger.machine import Stage
from sdk import histogram
from tests.rooms import CHARTER, Tenant, tenant

FAST = histogram.index(50_000_000)
RULES = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
RULES += "\n[policy]\nseries_learning_minutes = 150\n"


@dataclass
class World:
    """A service with one gauge, looked at once a minute."""

    acme: Tenant
    detect: Detect = field(init=False)

    def __post_init__(self) -> None:
        self.detect = Detect(self.acme.room.ledger, self.acme.room.rulebook)

    @property
    def events(self) -> list[str]:
        return [
            type(f.event).__name__ for i in self.acme.room.ledger.view.incidents.values() for f in i.facts
        ]

    async def reads(self, *values: int, errors: int = 0) -> None:
        for value in values:
            self.acme.clock.advance(60)
            gauges = (Gauge("db_pool", value, 100),)
            tick = Tick(self.acme.room.now_ms(), 60_000, 600, errors, 0, 0, {FAST: 600}, 1, 10, gauges=gauges)
            await self.detect.see("checkout", tick, 0)


async def world() -> World:
    return World(await tenant(parse(RULES)))


async def test_an_odd_gauge_opens_a_warning_without_sound_that_closes_by_itself():
    here = await world()
    await here.reads(*[40, 60] * 80, 90, 50)
    opened = here.acme.incident
    assert here.events == ["Detected"]
    assert (opened.reading.rule, opened.reading.signal, opened.reading.severity) == (
        "series", "saturation", "warning",
    )  # fmt: skip
    assert "90 is outside the 40 to 60 so far." in opened.reading.explanation
    assert mark(opened).ring is Ring.QUIET
    assert mark(opened, warnings_ring=True).ring is Ring.RING
    await here.reads(*[40, 60] * 5)
    assert here.events == ["Detected", "Recovered"]
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_what_gets_worse_then_is_heard():
    here = await world()
    await here.reads(*[40, 60] * 80, 90, 50)
    await here.reads(*[50] * 3, errors=400)
    assert here.events == ["Detected", "Worsened"]
    assert here.acme.incident.reading.signal == "errors"
    assert mark(here.acme.incident).ring is Ring.RING
