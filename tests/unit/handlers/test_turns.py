"""Heaps of short work leave the loop to others."""

import asyncio
import itertools

from handlers.turns import Turns


async def test_work_in_heaps_lets_others_go_in_between_and_all_of_it_is_done():
    loop, done, between = asyncio.get_running_loop(), [], []
    turns = Turns(0.002)

    async def work(n):
        await turns.mine()
        until = loop.time() + 0.001
        while loop.time() < until:
            pass
        done.append(n)

    async def other():
        while len(done) < 40:
            between.append(len(done))
            await asyncio.sleep(0)

    await asyncio.gather(other(), *(work(n) for n in range(40)))
    assert sorted(done) == list(range(40))
    assert max(late - early for early, late in itertools.pairwise(between)) <= 4


async def test_short_work_does_not_wait_for_a_turn():
    turns, at = Turns(60), []

    async def work():
        await turns.mine()
        at.append(ticks[0])

    async def tick():
        while len(at) < 50:
            ticks[0] += 1
            await asyncio.sleep(0)

    ticks = [0]
    await asyncio.gather(*(work() for _ in range(50)), tick())
    assert set(at) == {0}
