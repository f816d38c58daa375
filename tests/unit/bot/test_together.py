"""What comes while a call is under way goes together in the next, and each gets its own answer."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.together import Together


class Calls:
    """Doubles numbers, a batch a call; each call waits until it is let through."""

    def __init__(self, most=100, weigh=lambda n: 1, *, open=True):
        self.made: list[list[int]] = []
        self.beside = 0
        self.begun, self.through = asyncio.Event(), asyncio.Event()
        if open:
            self.through.set()
        self.together = Together(self.act, most, weigh)

    async def act(self, asks):
        self.made.append(list(asks))
        self.begun.set()
        self.beside += 1
        assert self.beside == 1
        try:
            await self.through.wait()
            await asyncio.sleep(0)
            if 13 in asks:
                raise ValueError("unlucky")
            return [2 * ask for ask in asks]
        finally:
            self.beside -= 1


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 30), st.data())
def test_each_gets_its_own_answer_and_no_call_is_too_heavy_unless_for_one_alone(asks, most, data):
    async def play():
        calls, asking = Calls(most, lambda n: n), []
        for ask in asks:
            asking.append(asyncio.ensure_future(calls.together.ask(ask)))
            if data.draw(st.booleans()):
                await asyncio.sleep(0)
        assert await asyncio.gather(*asking) == [2 * ask for ask in asks]
        assert [ask for batch in calls.made for ask in batch] == asks
        assert all(sum(batch) <= most or len(batch) == 1 for batch in calls.made)

    asyncio.run(play())


async def test_what_comes_while_a_call_is_under_way_goes_together_in_the_next():
    calls = Calls(open=False)
    first = asyncio.ensure_future(calls.together.ask(1))
    await calls.begun.wait()
    others = [asyncio.ensure_future(calls.together.ask(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    calls.through.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert calls.made == [[1], [2, 3, 4]]


async def test_a_call_that_failed_fails_those_who_went_with_it_and_no_other():
    calls = Calls(most=2)
    found = await asyncio.gather(*(calls.together.ask(n) for n in (1, 2, 13, 4, 5)), return_exceptions=True)
    assert [str(one) for one in found] == ["2", "4", "unlucky", "unlucky", "10"]


async def test_who_does_not_wait_any_longer_keeps_no_other_from_an_answer():
    calls = Calls(open=False)
    leaving = asyncio.ensure_future(calls.together.ask(1))
    staying = asyncio.ensure_future(calls.together.ask(2))
    await calls.begun.wait()
    leaving.cancel()
    calls.through.set()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert calls.made == [[1, 2]]
