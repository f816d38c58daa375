"""A part of the process outlives its own mistakes, and nothing else."""

import asyncio

import pytest

from bot.lasting import lasting
from ledger.store import Sealed, StoreDown


@pytest.mark.parametrize("error", [KeyError("ours"), StoreDown("away"), Sealed("a key of another type")])
async def test_a_part_that_fails_begins_again_until_it_ends_by_itself(error, caplog):
    begun = []

    async def part():
        begun.append(1)
        if len(begun) < 3:
            raise error

    await lasting("sweep", part, again_s=0)
    assert len(begun) == 3
    assert caplog.text.count("sweep ended; it begins again.") == 2


async def test_a_part_that_is_cancelled_ends():
    begun = asyncio.Event()

    async def part():
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting("inbox", part))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
