"""The next people are woken at half and at four fifths of a request's life, unless somebody said a word."""

import pytest

from bot.ports import Verb
from handlers.charter import parse
from handlers.escalate import Escalate, people
from handlers.ports import PortError
from ledger import events as ev
from tests.execution_room import BOT, CHARTER, CHECKOUT, POLICY, RUDO, Process, Room
from tests.rooms import charter as rules_of
from tests.rooms import tenant


async def asked(charter: str = CHARTER, life_ms: int = 300_000) -> tuple[Room, Process, Escalate]:
    room = Room(charter=charter)
    await room.detect()
    await room.request(life_ms)
    process = await room.process("web.1")
    return room, process, Escalate(process.ledger, room.book)


async def woken(room: Room, process: Process, escalate: Escalate, at_s: float = 0) -> list[tuple[str, ...]]:
    """Whom each Escalated named, once the clock has moved on by *at_s*."""
    room.clock.advance(at_s)
    await process.ledger.catch_up()
    for work in escalate.due(process.ledger.view, room.now_ms):
        if work.at_ms <= room.now_ms:
            await escalate.do(work)
    return [event.to for _, event in process.incident.every(ev.Escalated)]


async def test_nobody_is_woken_in_the_first_half():
    assert await woken(*await asked(), 149.9) == []


async def test_at_half_time_those_who_were_not_paged_are_told_and_at_four_fifths_everybody():
    room, process, escalate = await asked()
    await room.write(BOT, ev.Paged(incident_id=CHECKOUT, recipient="rudo", channel="telegram"))
    assert await woken(room, process, escalate, 150) == [("tendai",)]
    assert await woken(room, process, escalate, 89.9) == [("tendai",)]
    assert await woken(room, process, escalate, 0.1) == [("tendai",), ("tendai", "rudo")]
    assert len(await woken(room, process, escalate, 59)) == 2


async def test_when_all_were_paged_all_are_reminded():
    room, process, escalate = await asked()
    for name in ("rudo", "tendai"):
        await room.write(BOT, ev.Paged(incident_id=CHECKOUT, recipient=name, channel="telegram"))
    assert await woken(room, process, escalate, 150) == [("rudo", "tendai")]


async def test_who_may_not_approve_is_not_woken():
    [people] = await woken(*await asked(), 150)
    assert "tariro" not in people


async def test_it_is_told_by_policy_with_a_reason():
    room, process, escalate = await asked()
    await woken(room, process, escalate, 150)
    fact = process.incident.last(ev.Escalated)
    assert fact.actor == POLICY
    assert fact.event.reason == "Nobody answered in 50 % of the time"


async def test_an_acknowledgement_is_ten_minutes_of_peace():
    room, process, escalate = await asked(life_ms=1_800_000)
    room.clock.advance(899)
    await room.write(RUDO, ev.Acknowledged(incident_id=CHECKOUT))
    assert await woken(room, process, escalate, 599) == []
    assert len(await woken(room, process, escalate, 1)) == 1


async def test_a_snooze_is_peace_until_its_end():
    room, process, escalate = await asked()
    await room.write(RUDO, ev.Snoozed(incident_id=CHECKOUT, until_ms=room.now_ms + 200_000))
    assert await woken(room, process, escalate, 199) == []
    assert len(await woken(room, process, escalate, 1)) == 1


async def test_a_person_who_woke_the_next_does_not_use_up_a_step():
    room, process, escalate = await asked()
    await room.write(RUDO, ev.Escalated(incident_id=CHECKOUT, to=("tendai",)))
    assert len(await woken(room, process, escalate, 150)) == 2


@pytest.mark.parametrize("answer", ["Denied", "Expired"])
async def test_an_answered_or_expired_request_wakes_nobody(answer: str):
    room, process, escalate = await asked()
    request = process.incident.request
    if answer == "Expired":
        room.clock.advance(300)
        await room.write(POLICY, ev.Expired(incident_id=CHECKOUT, ref=request.ref))
    else:
        await room.write(RUDO, ev.Denied(incident_id=CHECKOUT, ref=request.ref))
    assert await woken(room, process, escalate, 200) == []


async def test_a_new_request_has_its_own_two_steps():
    room, process, escalate = await asked()
    await woken(room, process, escalate, 150)
    await woken(room, process, escalate, 90)
    await room.write(RUDO, ev.Denied(incident_id=CHECKOUT, ref=process.incident.request.ref))
    await room.write(RUDO, ev.AskedAgain(incident_id=CHECKOUT))
    await room.request()
    assert len(await woken(room, process, escalate, 149)) == 2
    assert len(await woken(room, process, escalate, 1)) == 3


async def test_two_processes_take_a_step_once():
    room, process, escalate = await asked()
    other = await room.process("web.2")
    second = Escalate(other.ledger, room.book)
    room.clock.advance(150)
    [work] = escalate.due(process.ledger.view, room.now_ms)
    await escalate.do(work)
    await second.do(work)
    assert len(await woken(room, process, escalate)) == 1


async def test_nothing_is_due_while_the_charter_is_not_known():
    room, process, escalate = await asked()
    await room.write(RUDO, ev.CharterAdopted(digest="0" * 64, policy_digest="", policy_label="x"))
    await process.ledger.catch_up()
    assert escalate.due(process.ledger.view, room.now_ms) == []


async def test_the_charter_in_force_says_who_is_woken():
    room, process, escalate = await asked()
    await room.adopt(parse(CHARTER.replace('roles = ["admin"]', 'roles = ["admin", "oncall"]')))
    assert await woken(room, process, escalate, 150) == [("rudo", "tendai", "tariro")]


async def test_a_ledger_that_is_away_is_asked_again():
    room, process, escalate = await asked()
    room.clock.advance(150)
    [work] = escalate.due(process.ledger.view, room.now_ms)
    process.disk.away = True
    with pytest.raises(PortError):
        await escalate.do(work)
    process.disk.away = False
    assert len(await woken(room, process, escalate)) == 1


async def test_who_voted_already_is_not_woken_again():
    acme = await tenant(rules_of("2 oncall"))
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    assert people(acme.incident, acme.room.people, everybody=True) == ("tendai",)
