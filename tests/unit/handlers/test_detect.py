"""Policy's voice: what it opens, worsens, closes and opens again, and what it leaves to people."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace

from detectors.window import Missed, Tick
from handlers.detect import NETWORK, Detect
from ledger import events as ev
from ledger.events import Act, Actor
from ledger.ledger import Ledger
from ledger.machine import Stage
from sdk import histogram
from tests.rooms import Tenant, tenant

FAST, SLOW = histogram.index(50_000_000), histogram.index(3_000_000_000)


class World:
    """One tenant, its detection, and services that behave as told, a second at a time."""

    def __init__(self, acme: Tenant) -> None:
        self.acme = acme
        self.detect = Detect(acme.room.ledger, acme.room.rulebook)
        self.chance = random.Random(3)

    @property
    def events(self) -> list[str]:
        return [
            type(f.event).__name__ for i in self.acme.room.ledger.view.incidents.values() for f in i.facts
        ]

    async def goes(self, seconds: int, share: float = 0.0, n: int = 20, service: str = "checkout") -> None:
        """*seconds* of *n* requests a second, *share* of which fail."""
        for _ in range(seconds):
            self.acme.clock.advance(1)
            errors = sum(self.chance.random() < share for _ in range(n))
            tick = Tick(self.acme.room.now_ms(), 1000, n, errors, 0, 0, {FAST: n}, 1, 10)
            await self.detect.see(service, tick, 0)

    async def is_silent(self, seconds: int, *services: str) -> None:
        for _ in range(seconds):
            self.acme.clock.advance(1)
            for service in services or ("checkout",):
                await self.detect.see(service, Missed(self.acme.room.now_ms(), "refused"), 0)


async def world() -> World:
    return World(await tenant())


async def test_a_healthy_service_writes_nothing():
    here = await world()
    await here.goes(600)
    assert here.events == []


async def test_a_sick_service_opens_one_incident_and_closes_after_a_quiet_minute():
    here = await world()
    await here.goes(60)
    await here.goes(60, share=0.5)
    assert here.events == ["Detected"]
    opened = here.acme.incident.opened
    assert opened.reading.signal == "errors"
    assert "requests failed in" in opened.reading.explanation
    await here.goes(59)
    assert here.acme.incident.is_open
    await here.goes(30)
    assert here.events == ["Detected", "Recovered"]
    assert here.acme.incident.stage is Stage.RECOVERED


async def test_what_comes_back_within_ten_minutes_is_the_same_incident():
    here = await world()
    await here.goes(60)
    await here.goes(30, share=0.5)
    await here.goes(120)
    await here.goes(30, share=0.5)
    assert here.events == ["Detected", "Recovered", "Reopened"]
    assert list(here.acme.room.ledger.view.incidents) == ["checkout-1"]


async def test_what_comes_back_an_hour_later_is_another_incident():
    here = await world()
    await here.goes(60)
    await here.goes(30, share=0.5)
    await here.goes(800)
    await here.goes(30, share=0.5)
    assert list(here.acme.room.ledger.view.incidents) == ["checkout-1", "checkout-2"]


async def test_what_a_person_closed_stays_closed_while_it_goes_on_as_before():
    here = await world()
    await here.goes(60)
    await here.goes(30, share=0.5)
    act = Act(channel="telegram")
    await here.acme.record(
        Actor.engineer("rudo", "telegram"),
        lambda v, n: ev.Resolved(incident_id="checkout-1", kind="not_an_incident", act=act),
    )
    await here.goes(120, share=0.5)
    assert here.events == ["Detected", "Resolved"]


async def test_a_restart_in_the_middle_neither_forgets_nor_opens_again():
    here = await world()
    await here.goes(60)
    await here.goes(30, share=0.5)
    kept = States()
    await here.detect.keep(kept)
    acme = here.acme
    again = Ledger("acme", acme.room.store, acme.clock, random.Random(1))
    await again.catch_up()
    here.detect = Detect(again, acme.room.rulebook)
    acme.room = replace(acme.room, ledger=again)
    await here.detect.restore(kept, "checkout")
    await here.goes(30, share=0.5)
    assert here.events == ["Detected"]
    await here.goes(90)
    assert here.events == ["Detected", "Recovered"]


async def test_a_state_that_cannot_be_read_starts_fresh():
    here = await world()
    for text in ("", "{", json.dumps({"state": {"tests": 5}, "cursor": 1}), json.dumps([1])):
        await here.detect.restore(States({"checkout": text}), "checkout")
    await here.goes(60)
    assert here.events == []


async def test_policy_does_not_close_what_a_person_has_in_hand():
    here = await world()
    await here.goes(60)
    await here.goes(30, share=0.5)
    request = await here.acme.asks()
    rudo = Actor.engineer("rudo", "telegram")
    await here.acme.record(
        rudo,
        lambda v, n: ev.Authorized(
            incident_id="checkout-1",
            option="1",
            action="restart_workers",
            ref=ev.Ref(seq=request.seq, hash=request.hash),
        ),
    )
    await here.goes(120)
    assert here.acme.incident.stage is Stage.AUTHORIZED


async def test_three_missed_polls_are_an_incident_of_their_own_kind():
    here = await world()
    await here.goes(60)
    await here.is_silent(10)
    assert here.acme.incident.opened.reading.signal == "unreachable"
    assert not here.detect.reachable("acme", "checkout")


async def test_when_most_services_fall_silent_it_is_one_card_about_the_network():
    here = await world()
    names = ("checkout", "search", "mail", "login")
    for name in names:
        await here.goes(30, service=name)
    await here.is_silent(15, *names)
    assert list(here.acme.room.ledger.view.incidents) == [f"{NETWORK}-1"]
    for name in names:
        await here.goes(3, service=name)
    assert here.acme.room.ledger.view.incidents[f"{NETWORK}-1"].stage is Stage.RECOVERED


class States:
    def __init__(self, kept: Mapping[str, str] | None = None) -> None:
        self.kept = dict(kept or {})

    async def load(self, tenant: str, service: str) -> str | None:
        return self.kept.get(service)

    async def save(self, tenant: str, states: Mapping[str, str]) -> None:
        self.kept |= states
