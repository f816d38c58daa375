"""Which picture hangs where: the same in memory as in Redis, and known to another process."""

import pytest

from bot.wall import Hung, MemoryWall, RedisWall
from tests.valkey import a_valkey, connected

FIELD = "checkout-1|telegram|-100"


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def wall(request):
    return MemoryWall() if request.param == "memory" else RedisWall(request.getfixturevalue("redis"))


async def test_what_is_put_is_got_and_nothing_is_nothing(wall):
    assert await wall.get("acme", FIELD) == Hung()
    await wall.put("acme", FIELD, Hung("17", 42))
    assert await wall.get("acme", FIELD) == Hung("17", 42) == wall.peek("acme")[FIELD]
    assert await wall.get("other", FIELD) == Hung()


async def test_only_what_is_asked_for_is_kept(wall):
    await wall.put("acme", FIELD, Hung("17", 42))
    await wall.put("acme", "checkout-12|telegram|-100", Hung("18", 43))
    await wall.keep("acme", {"checkout-12"})
    assert await wall.get("acme", FIELD) == Hung()
    assert await wall.get("acme", "checkout-12|telegram|-100") == Hung("18", 43)


async def test_another_process_finds_it(redis):
    await RedisWall(redis).put("acme", FIELD, Hung("17", 42))
    other = RedisWall(redis)
    assert other.peek("acme") == {}
    assert await other.get("acme", FIELD) == Hung("17", 42)
