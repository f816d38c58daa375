"""Whatever dies whenever: nothing runs unasked, nothing runs twice, and the books balance."""

import asyncio
import itertools
import random

import pytest

from handlers.ports import PortError
from ledger import events as ev
from ledger.machine import unsettled
from ledger.view import fold
from tests.execution_room import CHARTER, Room

ONCE = CHARTER.replace("idempotent = true", "idempotent = false")
STEPS = range(9)  # two appends with two sides each, a call with two, and a few beyond the end


async def books_balance(room: Room) -> None:
    view = fold("acme", await room.store.read("acme", 0, 10_000))
    assert unsettled(view.incidents.values()) == []
    assert len(await room.outcomes()) == 1
    assert all(count == 1 for count in room.receiver.ran.values())
    assert room.receiver.most_at_once <= 1


async def crash_and_restart(room: Room, *deaths: int) -> None:
    """A process is killed at each of *deaths* in turn; the last one lives."""
    for number, death in enumerate((*deaths, -1)):
        process = await room.process(f"web.{number}", death)
        await process.run()


@pytest.mark.parametrize("death", STEPS)
async def test_an_idempotent_action_runs_once_wherever_the_process_dies(death: int):
    room = Room()
    await room.detect()
    await room.authorize()
    await crash_and_restart(room, death)
    await books_balance(room)
    [outcome] = await room.outcomes()
    assert isinstance(outcome, ev.Executed)


@pytest.mark.parametrize("death", STEPS)
async def test_any_other_action_is_never_sent_again_once_it_may_have_run(death: int):
    room = Room(charter=ONCE)
    await room.detect()
    await room.authorize()
    await crash_and_restart(room, death)
    await books_balance(room)
    [outcome] = await room.outcomes()
    assert len(room.receiver.calls) <= 1
    if isinstance(outcome, ev.Executed):
        assert len(room.receiver.calls) == 1
    else:
        assert isinstance(outcome, ev.OutcomeUnknown)
        assert "ExecutionStarted" in await room.told()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(STEPS, STEPS)))
async def test_dying_twice_changes_nothing(first: int, second: int):
    room = Room()
    await room.detect()
    await room.authorize()
    await crash_and_restart(room, first, second)
    await books_balance(room)


ANSWERS = (
    200, 204, 302, 400, 404, 409, 425, 429, 500, 502, 503, 504,
    PortError("No answer.", unknown=True), PortError("Cut.", unknown=True), PortError("Refused."),
    PortError("Forbidden.", permanent=True),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(300))
async def test_any_answers_and_any_deaths_leave_one_outcome(seed: int):
    chance = random.Random(seed)
    idempotent = chance.random() < 0.5
    answers = [chance.choice(ANSWERS) for _ in range(4)]
    room = Room(answers, charter=CHARTER if idempotent else ONCE)
    await room.detect()
    key = (await room.authorize()).hash
    await crash_and_restart(room, *(chance.randrange(12) for _ in range(chance.randrange(4))))
    await books_balance(room)
    assert {call.idempotency_key for call in room.receiver.calls} <= {key}
    assert len(room.receiver.calls) <= 3
    [outcome] = await room.outcomes()
    if isinstance(outcome, ev.Executed):
        assert room.receiver.ran[key] == 1


@pytest.mark.parametrize("seed", range(60))
async def test_two_processes_at_once_never_call_at_once(seed: int):
    chance = random.Random(seed)
    room = Room([chance.choice(ANSWERS) for _ in range(4)])
    await room.detect()
    await room.authorize()
    one, two = await room.process("web.1"), await room.process("web.2")
    for _ in range(40):
        await asyncio.gather(one.step(), two.step())
        if await room.outcomes():
            break
    await books_balance(room)


async def test_two_processes_that_see_the_same_tap_make_one_call():
    room = Room()
    await room.detect()
    await room.authorize()
    answer = room.receiver.hold()
    one, two = await room.process("web.1"), await room.process("web.2")
    both = [asyncio.create_task(p.executor.do(p.due()[0])) for p in (one, two)]
    done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert len(room.receiver.calls) == 1
    await two.ledger.catch_up()
    assert [work.at_ms - room.now_ms for work in two.due()] == [12_000]
    answer.set()
    await asyncio.gather(*both)
    await books_balance(room)
    assert await room.told() == ["Authorized", "ExecutionStarted", "Executed"]


async def two_tries(room: Room) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
    """One process asks and hears nothing, another takes over after `until`. Both wait for their answers."""
    await room.detect()
    await room.authorize()
    slow, other = await room.process("web.1"), await room.process("web.2")
    asked = asyncio.create_task(slow.executor.do(slow.due()[0]))
    await room.receiver.called(1)
    await other.ledger.catch_up()
    [work] = other.due()
    await other.executor.do(work)
    assert len(room.receiver.calls) == 1, "nobody takes over before until"
    room.clock.advance(12)
    took_over = asyncio.create_task(other.executor.do(work))
    await room.receiver.called(2)
    return asked, took_over


async def test_another_process_takes_over_after_until_and_a_late_answer_still_counts():
    room = Room()
    first, second = room.receiver.hold(), room.receiver.hold()
    asked, took_over = await two_tries(room)
    first.set()
    await asked
    assert await room.told() == ["Authorized", "ExecutionStarted", "ExecutionStarted", "Executed"]
    second.set()
    await took_over
    await room.process("web.3")
    assert (await room.told())[-1] == "Executed"
    assert list(room.receiver.ran.values()) == [1]


async def test_a_late_failure_of_an_older_try_changes_nothing():
    room = Room([400, 200])
    first, second = room.receiver.hold(), room.receiver.hold()
    asked, took_over = await two_tries(room)
    first.set()
    await asked
    assert await room.told() == ["Authorized", "ExecutionStarted", "ExecutionStarted"]
    second.set()
    await took_over
    assert (await room.told())[-1] == "Executed"
    assert len(await room.outcomes()) == 1


async def test_a_success_that_comes_after_the_outcome_was_given_up_is_reported_beside_it():
    room = Room(charter=ONCE)
    await room.detect()
    await room.authorize()
    answer = room.receiver.hold()
    slow, other = await room.process("web.1"), await room.process("web.2")
    asked = asyncio.create_task(slow.executor.do(slow.due()[0]))
    await room.receiver.called(1)
    await other.ledger.catch_up()
    room.clock.advance(12)
    await other.step()
    assert (await room.told())[-1] == "OutcomeUnknown"
    answer.set()
    await asked
    assert await room.told() == ["Authorized", "ExecutionStarted", "OutcomeUnknown", "OutcomeReported"]
    assert len(await room.outcomes()) == 1


async def test_work_that_was_due_before_another_process_took_it_is_left_alone():
    room = Room()
    await room.detect()
    await room.authorize()
    answer = room.receiver.hold()
    one, two = await room.process("web.1"), await room.process("web.2")
    [stale] = two.due()
    asked = asyncio.create_task(one.executor.do(one.due()[0]))
    await room.receiver.called(1)
    await two.ledger.catch_up()
    await two.executor.do(stale)
    assert len(room.receiver.calls) == 1
    answer.set()
    await asked
    await books_balance(room)
