"""Old garbage waits for the hour, and no longer."""

import asyncio
import gc
import weakref

import pytest

from bot.garbage import HOUR_S, YOUNG, hourly, spare
from ledger.clock import ManualClock
from tests.rooms import NOON


class Cycle:
    def __init__(self):
        self.me = self


@pytest.fixture
def thresholds():
    kept = gc.get_threshold()
    yield
    gc.set_threshold(*kept)


async def test_what_is_old_is_searched_once_an_hour(thresholds):
    spare()
    assert gc.get_threshold() == YOUNG
    clock, cycle = ManualClock(NOON), Cycle()
    gone = weakref.ref(cycle)
    gc.collect()  # it is old now
    del cycle
    task = asyncio.create_task(hourly(clock))
    await asyncio.sleep(0)
    clock.advance(HOUR_S - 1)
    await asyncio.sleep(0)
    assert gone()
    clock.advance(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert gone() is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
