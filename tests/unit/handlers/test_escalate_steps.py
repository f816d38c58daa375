"""The charter's own steps: whom, after how long, on which channels; and peace in maintenance."""

from handlers.charter import parse
from handlers.escalate import Escalate, next_call
from ledger import events as ev
from tests.execution_room import CHARTER, CHECKOUT, RUDO, Process, Room
from tests.unit.handlers.test_escalate import asked, woken

STEPS = """
[rota]
people = ["rudo", "tendai"]
starts = 2026-06-01T08:00:00
every = "7d"

[[escalation]]
after = "2m"
to = ["oncall"]
channels = ["whatsapp"]

[[escalation]]
after = "7m"
to = ["next", "tariro"]
"""
WINDOW = '\n[[maintenance]]\nbegins = "01:00"\nends = "02:00"\n'


async def steps(more: str = STEPS, life_ms: int = 300_000) -> tuple[Room, Process, Escalate]:
    return await asked(CHARTER + more, life_ms)


async def test_each_step_is_taken_once_when_its_time_has_come():
    room, process, escalate = await steps()
    assert await woken(room, process, escalate, 119.9) == []
    assert await woken(room, process, escalate, 0.1) == [("rudo",)]
    assert await woken(room, process, escalate, 299) == [("rudo",)]
    assert await woken(room, process, escalate, 1) == [("rudo",), ("tendai", "tariro")]
    assert len(await woken(room, process, escalate, 3600)) == 2
    first, second = (event for _, event in process.incident.every(ev.Escalated))
    assert (first.channels, first.step, second.channels, second.step) == (("whatsapp",), 1, (), 2)


async def test_steps_go_on_after_the_request_has_expired():
    room, process, escalate = await steps(life_ms=60_000)
    room.clock.advance(60)
    await process.ledger.catch_up()
    await room.write(room_policy(), ev.Expired(incident_id=CHECKOUT, ref=process.incident.request.ref))
    assert await woken(room, process, escalate, 60) == [("rudo",)]


async def test_who_decides_ends_them_and_who_asks_again_begins_them_anew():
    room, process, escalate = await steps()
    assert len(await woken(room, process, escalate, 120)) == 1
    await room.write(RUDO, ev.Denied(incident_id=CHECKOUT, ref=process.incident.request.ref))
    assert len(await woken(room, process, escalate, 600)) == 1
    await room.write(RUDO, ev.AskedAgain(incident_id=CHECKOUT))
    assert len(await woken(room, process, escalate, 119)) == 1
    assert len(await woken(room, process, escalate, 1)) == 2


async def test_an_acknowledgement_is_ten_minutes_of_peace_here_too():
    room, process, escalate = await steps()
    room.clock.advance(100)
    await room.write(RUDO, ev.Acknowledged(incident_id=CHECKOUT))
    assert await woken(room, process, escalate, 599) == []
    assert len(await woken(room, process, escalate, 1)) == 1


async def test_who_took_over_is_the_one_on_call():
    room, process, escalate = await steps()
    until_ms = room.now_ms + 3_600_000
    await room.write(RUDO, ev.OncallOverridden(person="tendai", until_ms=until_ms))
    assert await woken(room, process, escalate, 120) == [("tendai",)]


async def test_in_maintenance_nobody_is_woken_and_afterwards_they_are():
    room, process, escalate = await steps(STEPS + WINDOW)
    assert await woken(room, process, escalate, 2880) == []
    [work] = escalate.due(process.ledger.view, room.now_ms)
    assert work.at_ms % 3_600_000 == 0
    assert await woken(room, process, escalate, 8) == [("rudo",)]


async def test_a_card_can_say_who_is_called_next_and_when():
    room, process, _ = await steps()
    asked_ms, view = room.now_ms, process.ledger.view
    assert next_call(process.incident, parse(CHARTER + STEPS), view, room.now_ms) == (
        "rudo",
        asked_ms + 120_000,
    )
    assert next_call(process.incident, parse(CHARTER), view, room.now_ms) is None


def room_policy() -> ev.Actor:
    return ev.Actor.policy()
