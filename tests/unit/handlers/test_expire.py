"""A request lapses at its deadline, once, and says that nothing was run."""

from handlers.expire import Expire
from handlers.reconciler import Work
from ledger import events as ev
from ledger.machine import Stage
from tests.council_room import RUDO, Room


async def requested() -> Room:
    room = Room()
    await room.open()
    await room.run()
    assert room.stage is Stage.VALIDATED
    return room


async def test_a_request_expires_at_its_deadline_and_not_before():
    room = await requested()
    await room.run(299.999)
    assert room.stage is Stage.VALIDATED
    await room.run(0.001)
    assert room.stage is Stage.EXPIRED
    assert room.incident.latest(ev.Expired).reason == "No answer in time, nothing was run"


async def test_coming_too_early_is_no_failure():
    room = await requested()
    await Expire(room.ledger).do(Work("early", 0, "checkout-1"))
    assert room.stage is Stage.VALIDATED


async def test_the_loop_comes_back_for_the_deadline():
    room = await requested()
    work = [work for one in room.loop._reconcilers for work in one.due(room.ledger.view, room.now_ms)]
    assert [one.at_ms for one in work] == [room.request.deadline_ms]


async def test_votes_that_were_too_few_are_told_from_silence():
    room = await requested()
    vote = ev.Approved(incident_id="checkout-1", option="1", ref=room.incident.request.ref)
    await room.write(RUDO, vote)
    await room.run(300)
    assert room.incident.latest(ev.Expired).reason == "Not enough approvals in time, nothing was run"


async def test_a_decided_request_does_not_expire():
    room = await requested()
    await room.write(RUDO, ev.Denied(incident_id="checkout-1", ref=room.incident.request.ref))
    await room.run(300)
    assert room.stage is Stage.DENIED


async def test_a_restart_long_after_the_deadline_expires_it_then():
    room = await requested()
    await room.run(86_400)
    assert room.stage is Stage.EXPIRED


async def test_two_processes_expire_it_once():
    room = await requested()
    other = Room()
    other.ledger._store = room.ledger._store
    await other.ledger.catch_up()
    other.clock.advance(300)
    await other.run()
    room.clock.advance(300)
    room.loop.step()
    await room.loop.settle()
    assert len(room.incident.every(ev.Expired)) == 1
