"""Pages come in their order, each asked for before the one in front of it is used, and no call stays open."""

import asyncio
from contextlib import aclosing

import pytest

from ledger.ahead import ahead


class Source:
    """Pages of two out of *found*; says what was asked of it, and how many calls wait."""

    def __init__(self, *found: bytes) -> None:
        self.found = found
        self.asked: list[int] = []
        self.open = 0

    async def read(self, after: int) -> list[bytes]:
        self.asked.append(after)
        self.open += 1
        try:
            await asyncio.sleep(0)
            if after == 4:
                raise OSError("away")
            return [*self.found[after : after + 2]]
        finally:
            self.open -= 1


async def test_a_page_is_asked_for_before_the_one_in_front_of_it_is_used():
    source, used = Source(b"a", b"b", b"c"), []
    async with aclosing(ahead(source.read)) as pages:
        async for page in pages:
            used.append((page, [*source.asked]))
    assert used == [([b"a", b"b"], [0, 2]), ([b"c"], [0, 2, 3])]
    assert source.open == 0


async def test_nothing_is_asked_twice_of_an_empty_source():
    source = Source()
    assert [page async for page in ahead(source.read)] == []
    assert source.asked == [0]


async def test_what_a_page_raises_comes_when_its_turn_comes():
    source, used = Source(b"a", b"b", b"c", b"d", b"e"), []
    with pytest.raises(OSError, match="away"):
        async with aclosing(ahead(source.read)) as pages:
            async for page in pages:
                used.append(page)
    assert used == [[b"a", b"b"], [b"c", b"d"]]
    assert source.open == 0


async def test_who_stops_early_leaves_no_call_open():
    source = Source(b"a", b"b", b"c")
    with pytest.raises(ValueError, match="enough"):
        async with aclosing(ahead(source.read)) as pages:
            async for _ in pages:
                raise ValueError("enough")
    assert source.asked == [0, 2]
    assert source.open == 0
