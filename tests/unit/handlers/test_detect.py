"""Policy's voice: what it opens, worsens, closes and opens again, and what it leaves to people."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace

from bot.rings import mark
from detectors.window import Missed, Part, Tick
from handlers import council
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


async def test_what_keeps_coming_back_stays_open_and_says_that_it_flaps():
    here = await world()
    await here.goes(60)
    for _ in range(20):
        await here.goes(30, share=0.5)
        await here.goes(110)
    assert here.events == ["Detected", *["Recovered", "Reopened"] * 3]
    incident = here.acme.incident
    asked = [event.quiet_ms for _, event in incident.every(ev.Reopened)]
    assert asked == [0, 0, 300_000]
    last = incident.last(ev.Reopened).event
    assert last.reason.endswith("It came back 3 times in 7 min, and stays open until it was quiet for 5 min")
    await here.goes(150)
    assert incident.id in [one.id for one in here.acme.room.ledger.view.open()]
    await here.goes(60)
    assert here.events[-1] == "Recovered"


async def test_it_rings_a_handful_of_times_however_long_it_flaps():
    here = await world()
    await here.goes(60)
    for minutes in (2, 2, 2, 6, 11, 21):
        await here.goes(30, share=0.5)
        await here.goes(60 * minutes)
    await here.goes(30, share=0.5)
    asked = [event.quiet_ms for _, event in here.acme.incident.every(ev.Reopened)]
    assert asked == [0, 0, 300_000, 600_000, 1_200_000, 2_400_000]


async def fails(here: World, seconds: int, **exceptions: int) -> None:
    """Half of the requests fail, with these types; a dependency is a type that begins with a small letter."""
    for _ in range(seconds):
        here.acme.clock.advance(1)
        raised = {name: count for name, count in exceptions.items() if name[0].isupper()}
        part = Part("POST /pay", 20, 10, {FAST: 20}, raised)
        calls = tuple(
            Part(name, 20, count, {FAST: 20}) for name, count in exceptions.items() if name[0].islower()
        )
        tick = Tick(here.acme.room.now_ms(), 1000, 20, 10, 0, 0, {FAST: 20}, 1, 10, (part,), calls)
        await here.detect.see("checkout", tick, 0)


async def test_a_new_exception_is_said_once_and_makes_no_sound():
    here = await world()
    await here.goes(60)
    await fails(here, 30, TimeoutError=10)
    await fails(here, 120, TimeoutError=5, OperationalError=5)
    assert here.events == ["Detected", "Worsened"]
    worsened = here.acme.incident.last(ev.Worsened)
    assert worsened.event.kinds == ("OperationalError",)
    assert worsened.event.reason == "new among the failures: OperationalError"
    assert [one.text for one in worsened.event.suspects if one.text.endswith("OperationalError")]
    assert mark(here.acme.incident).sounded == here.acme.incident.facts[0].seq
    assert len(council.rounds(here.acme.incident)) == 2
    await fails(here, 60, TimeoutError=10)
    await fails(here, 60, TimeoutError=5, OperationalError=5)
    assert here.events == ["Detected", "Worsened"]


async def test_a_new_dependency_is_said_once():
    here = await world()
    await here.goes(60)
    await fails(here, 30, TimeoutError=10)
    await fails(here, 60, TimeoutError=10, payments=9)
    assert [event.kinds for _, event in here.acme.incident.every(ev.Worsened)] == [("payments",)]


async def test_a_rare_exception_is_no_news():
    here = await world()
    await here.goes(60)
    await fails(here, 30, TimeoutError=10)
    await fails(here, 120, TimeoutError=9, OperationalError=1)
    assert here.events == ["Detected"]


async def test_whoever_invents_exceptions_makes_no_more_entries_than_the_council_has_rounds():
    here = await world()
    await here.goes(60)
    await fails(here, 30, TimeoutError=10)
    for number in range(6):
        await fails(here, 70, **{f"Invented{number}": 10})
    assert here.events == ["Detected", *["Worsened"] * council.MOST_ROUNDS]


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
