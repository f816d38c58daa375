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


async def used(source: Source, most: int = 9) -> list[tuple[list[bytes], list[int]]]:
    """The pages, at most so many, each with what had been asked when it was used."""
    found = []
    async with aclosing(ahead(source.read)) as pages:
        async for page in pages:
            found.append((page, [*source.asked]))
            if len(found) == most:
                break
    return found


async def test_a_page_is_asked_for_before_the_one_in_front_of_it_is_used():
    source = Source(b"a", b"b", b"c")
    assert await used(source) == [([b"a", b"b"], [0, 2]), ([b"c"], [0, 2, 3])]
    assert source.open == 0


async def test_nothing_is_asked_twice_of_an_empty_source():
    source = Source()
    assert await used(source) == []
    assert source.asked == [0]


async def test_what_a_page_raises_comes_when_its_turn_comes():
    source = Source(b"a", b"b", b"c", b"d", b"e")
    assert len(await used(source, most=1)) == 1
    with pytest.raises(OSError, match="away"):
        await used(source)
    assert source.open == 0


async def test_who_stops_early_leaves_no_call_open():
    source = Source(b"a", b"b", b"c", b"d", b"e")
    assert await used(source, most=2) == [([b"a", b"b"], [0, 2]), ([b"c", b"d"], [0, 2, 4])]
    assert source.open == 0
