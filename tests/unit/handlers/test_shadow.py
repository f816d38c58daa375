"""What rules in shadow would have said: by the episode, bounded, kept, and never in the ledger."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import Policy
from detectors.window import Missed, Tick
from handlers.alerts import Alert
from handlers.charter import parse
from handlers.detect import Detect
from handlers.shadow import KEEP_MS, KEPT_MS, MOST, Episode, MemoryShelf, Shadow, every, read
from ledger import events as ev
from ledger.machine import Stage
from ledger.store import StoreDown
from sdk import histogram
from tests.rooms import CHARTER, Tenant, tenant

FAST = histogram.index(50_000_000)
POLICY = Policy()
START = 1_764_000_000_000


@dataclass(frozen=True)
class Said:
    rule: str = "lat_warn"
    severity: str = "warning"
    headline: str = "62 % of requests are slow"
    since_ms: int = START


class Counting(MemoryShelf):
    """How often it was written to; *down* while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.saves = 0
        self.down = False

    async def load(self, tenant: str, service: str) -> str | None:
        if self.down:
            raise StoreDown("away")
        return await super().load(tenant, service)

    async def save(self, tenant: str, service: str, text: str) -> None:
        if self.down:
            raise StoreDown("away")
        self.saves += 1
        await super().save(tenant, service, text)


async def speaks(shadow: Shadow, at_s: float, *said: Said, is_open: bool = False) -> None:
    await shadow.see("checkout", said, POLICY, START + round(at_s * 1000), is_open=is_open)


async def kept(shelf: MemoryShelf) -> list[Episode]:
    return await every(shelf, "acme")


async def test_an_episode_is_kept_at_once_and_once_not_once_a_tick():
    shelf = Counting()
    shadow = Shadow("acme", shelf)
    for at_s in range(0, 300, 5):
        await speaks(shadow, at_s, Said())
    [one] = await kept(shelf)
    assert (one.rule, one.service, one.since_ms, one.severity) == ("lat_warn", "checkout", START, "warning")
    assert shelf.saves <= 1 + 300_000 // KEEP_MS
    assert one.ticks > 40


async def test_what_it_came_to_is_kept_within_a_minute_after_its_end():
    shelf = Counting()
    shadow = Shadow("acme", shelf)
    for at_s in (0, 5, 10):
        await speaks(shadow, at_s, Said())
    await speaks(shadow, 80)
    [one] = await kept(shelf)
    assert (one.ticks, one.until_ms) == (3, START + 10_000)


async def test_severity_only_rises_and_is_kept_at_once():
    shelf = Counting()
    shadow = Shadow("acme", shelf)
    await speaks(shadow, 0, Said())
    await speaks(shadow, 5, Said(severity="critical", headline="worse"))
    [one] = await kept(shelf)
    assert (one.severity, one.headline) == ("critical", "worse")
    await speaks(shadow, 10, Said())
    await speaks(shadow, 120)
    [one] = await kept(shelf)
    assert (one.severity, one.headline) == ("critical", "worse")


async def test_what_comes_back_within_the_time_of_a_reopening_is_the_same_episode():
    shelf = MemoryShelf()
    shadow = Shadow("acme", shelf)
    await speaks(shadow, 0, Said())
    await speaks(shadow, POLICY.reopen_ms / 1000 - 1, Said())
    assert len(await kept(shelf)) == 1
    await speaks(shadow, 2 * POLICY.reopen_ms / 1000 - 1, Said(since_ms=START + 1))
    assert [one.since_ms for one in await kept(shelf)] == [START, START + 1]


async def test_each_rule_has_its_episodes_and_knows_whether_something_was_open():
    shelf = MemoryShelf()
    shadow = Shadow("acme", shelf)
    await speaks(shadow, 0, Said())
    await speaks(shadow, 5, Said(), Said("tail"), is_open=True)
    assert {(one.rule, one.alone) for one in await kept(shelf)} == {("lat_warn", True), ("tail", False)}


async def test_a_process_that_starts_again_goes_on_with_the_same_episode():
    shelf = MemoryShelf()
    await speaks(Shadow("acme", shelf), 0, Said())
    after = Shadow("acme", shelf)
    await speaks(after, 5, Said())
    await speaks(after, 100)
    [one] = await kept(shelf)
    assert one.ticks == 2


async def test_who_gave_a_service_up_reads_what_the_other_kept():
    shelf = MemoryShelf()
    ours, theirs = Shadow("acme", shelf), Shadow("acme", shelf)
    await speaks(ours, 0, Said())
    ours.forget("checkout")
    await speaks(theirs, 5, Said("tail"))
    await speaks(ours, 10, Said("err_warn"))
    assert [one.rule for one in await kept(shelf)] == ["lat_warn", "tail", "err_warn"]


async def test_while_the_store_is_away_nothing_is_raised_and_it_is_kept_afterwards():
    shelf = Counting()
    shadow = Shadow("acme", shelf)
    shelf.down = True
    await speaks(shadow, 0, Said())
    shelf.down = False
    await speaks(shadow, 5, Said())
    shelf.down = True
    await speaks(shadow, 10, Said(severity="critical"))
    shelf.down = False
    await speaks(shadow, 15)
    [one] = await kept(shelf)
    assert (one.ticks, one.severity) == (2, "critical")


async def test_a_noisy_rule_costs_no_memory():
    shelf = MemoryShelf()
    shadow = Shadow("acme", shelf)
    gap = POLICY.reopen_ms / 1000 + 1
    for n in range(3 * MOST):
        await speaks(shadow, n * gap, Said(since_ms=START + n))
    found = await kept(shelf)
    assert len(found) == MOST
    assert found[-1].since_ms == START + 3 * MOST - 1
    await speaks(shadow, KEPT_MS / 1000 + 3 * MOST * gap, Said())
    assert len(await kept(shelf)) == 1


async def test_a_quiet_service_costs_no_call():
    shelf = Counting()
    shelf.down = True
    await speaks(Shadow("acme", shelf), 0)
    assert shelf.saves == 0


@given(st.text() | st.binary().map(repr))
def test_what_cannot_be_read_is_nothing(text: str):
    assert read(text) in {(), read(text)}
    assert read("[{}]") == ()
    assert read(None) == ()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '[{"service": "x"}]'])
def test_a_broken_text_is_no_episode(text: str):
    assert read(text) == ()


# --- through detection ------------------------------------------------------------------------------------


class World:
    def __init__(self, acme: Tenant) -> None:
        self.acme = acme
        self.shelf = MemoryShelf()
        room = acme.room
        self.detect = Detect(room.ledger, room.rulebook, shadow=Shadow("acme", self.shelf))

    @property
    def opened(self) -> list[str]:
        return [one.opened.reading.rule for one in self.acme.room.ledger.view.incidents.values()]

    async def goes(self, seconds: int, errors: int = 0) -> None:
        for _ in range(seconds):
            self.acme.clock.advance(1)
            tick = Tick(self.acme.room.now_ms(), 1_000, 20, errors, 0, 0, {FAST: 20}, 1, 10)
            await self.detect.see("checkout", tick, 0)

    async def is_silent(self, seconds: int) -> None:
        for _ in range(seconds):
            self.acme.clock.advance(1)
            await self.detect.see("checkout", Missed(self.acme.room.now_ms(), "refused"), 0)

    async def rules(self) -> set[str]:
        return {one.rule for one in await kept(self.shelf)}

    async def adopts(self, more: str = "", service: str = "") -> None:
        await self.acme.adopt(written(more, service))


def written(more: str = "", service: str = ""):
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    return parse(text.replace('id = "checkout"\n', f'id = "checkout"\n{service}\n') + more)


async def world(more: str = "", service: str = "") -> World:
    return World(await tenant(written(more, service)))


async def test_a_rule_in_shadow_is_recorded_and_not_in_the_ledger():
    here = await world('[policy]\nshadow = ["err_crit", "err_warn"]\n')
    before = here.acme.room.ledger.view.head
    await here.goes(60)
    await here.goes(90, errors=10)
    assert here.acme.room.ledger.view.head == before
    assert await here.rules() == {"err_crit"}
    assert "shadow" not in json.dumps(
        [entry.line.decode() for entry in await here.acme.room.store.read("acme", 1, 99)]
    )


async def test_a_service_in_shadow_opens_nothing_also_when_it_does_not_answer():
    here = await world(service="shadow = true")
    await here.goes(60)
    await here.is_silent(30)
    assert here.opened == []
    assert await here.rules() == {"unreachable"}


async def test_other_rules_go_on_as_before():
    here = await world('[policy]\nshadow = ["err_crit"]\n')
    await here.goes(60)
    await here.goes(60, errors=10)
    assert here.opened == ["err_warn"]
    assert await here.rules() == {"err_crit"}


async def test_a_rule_that_goes_into_shadow_keeps_nothing_open():
    here = await world()
    await here.goes(60)
    await here.goes(30, errors=10)
    assert here.acme.incident.is_open
    await here.adopts('[policy]\nshadow = ["*"]\n')
    await here.goes(90, errors=10)
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_a_rule_that_leaves_the_shadow_speaks():
    here = await world('[policy]\nshadow = ["*"]\n')
    await here.goes(60)
    await here.goes(30, errors=10)
    assert here.opened == []
    await here.adopts()
    await here.goes(10, errors=10)
    assert here.opened == ["err_crit"]


async def test_alerts_of_other_tools_are_in_shadow_with_their_service():
    here = await world(service="shadow = true")
    now_ms = here.acme.room.now_ms()
    alert = Alert("grafana", "k", "checkout", "Disk full", critical=True, since_ms=now_ms, heard_ms=now_ms)
    here.detect.alerts.known = {"k": alert}
    await here.detect.hear()
    assert here.opened == []
    assert await here.rules() == {"alert_grafana"}


async def test_an_alert_that_goes_into_shadow_keeps_nothing_open():
    here = await world()
    now_ms = here.acme.room.now_ms()
    alert = Alert("grafana", "k", "checkout", "Disk full", critical=True, since_ms=now_ms, heard_ms=now_ms)
    here.detect.alerts.known = {"k": alert}
    await here.detect.hear()
    assert here.opened == ["alert_grafana"]
    await here.adopts(service="shadow = true")
    await here.detect.hear()
    assert here.acme.incident.latest(ev.Recovered) is not None


async def test_a_service_is_judged_by_thresholds_of_its_own():
    here = await world(service="policy = {err_crit_p0_permille = 300, err_crit_p1_permille = 990}")
    await here.goes(60)
    await here.goes(20, errors=10)
    assert "err_crit" not in here.opened
