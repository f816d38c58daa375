"""Time that a test moves behaves as time does."""

import asyncio
from datetime import UTC, timedelta

import pytest

from ledger.clock import ManualClock, WallClock
from tests.chains import NOON


async def test_the_wall_clock_is_aware_and_sleeps():
    clock = WallClock()
    before = clock.now()
    await clock.sleep(0.001)
    assert clock.now() > before
    assert before.tzinfo is UTC


def test_a_manual_clock_stands_still():
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(90)
    assert clock.now() == NOON + timedelta(seconds=90)
    with pytest.raises(ValueError, match="aware"):
        ManualClock(NOON.replace(tzinfo=None))


async def test_sleepers_wake_in_the_order_of_their_hours():
    clock, woken = ManualClock(NOON), []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    async with asyncio.TaskGroup() as night:
        for seconds in (30, 10, 20, 10):
            night.create_task(sleeper(seconds))
        await asyncio.sleep(0)
        assert clock.next_wake() == NOON + timedelta(seconds=10)
        clock.advance(9.9)
        await asyncio.sleep(0)
        assert woken == []
        clock.advance(10.1)
        await asyncio.sleep(0)
        assert [seconds for seconds, _ in woken] == [10, 10, 20]
        clock.advance(10)
    assert woken[-1] == (30, NOON + timedelta(seconds=30))
    assert clock.next_wake() is None


async def test_who_is_cancelled_in_sleep_is_forgotten():
    clock = ManualClock(NOON)
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert clock.next_wake() is None
    clock.advance(10)
