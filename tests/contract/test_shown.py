"""What was shown where: the same in memory as in Redis, and alive after a restart."""

from collections.abc import AsyncIterator

import pytest

from bot.notify import MemoryShown, RedisShown, Shown, ShownCards
from ledger.redis_store import Commands
from tests.valkey import a_valkey, connected

CARD = Shown(
    message="17", first="12", revision=42, sounded=38, html="<b>🔴 checkout</b>", digest="ab" * 32, keys="k",
    bared_ms=1_764_000_000_000, unsure=True, stale=(("12", "<b>old</b>"), ("13", "older")),
)  # fmt: skip


@pytest.fixture
async def redis() -> AsyncIterator[Commands]:
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def shown(request: pytest.FixtureRequest) -> ShownCards:
    if request.param == "memory":
        return MemoryShown()
    return RedisShown(request.getfixturevalue("redis"))


async def test_what_is_put_is_got_as_it_was(shown: ShownCards):
    await shown.put("acme", "checkout-1|telegram|-100", CARD)
    assert await shown.get("acme", "checkout-1|telegram|-100") == CARD
    assert shown.peek("acme")["checkout-1|telegram|-100"] == CARD


async def test_what_was_never_shown_is_nothing(shown: ShownCards):
    assert await shown.get("acme", "checkout-9|telegram|-100") is None


async def test_one_tenant_never_sees_anothers(shown: ShownCards):
    await shown.put("acme", "checkout-2|telegram|-100", CARD)
    assert await shown.get("other", "checkout-2|telegram|-100") is None
    assert "checkout-2|telegram|-100" not in shown.peek("other")


async def test_only_what_is_asked_for_is_kept(shown: ShownCards):
    await shown.put("third", "checkout-1|telegram|-100", CARD)
    await shown.put("third", "checkout-12|telegram|-100", CARD)
    await shown.keep("third", {"checkout-12"})
    assert await shown.get("third", "checkout-1|telegram|-100") is None
    assert await shown.get("third", "checkout-12|telegram|-100") == CARD
    assert list(shown.peek("third")) == ["checkout-12|telegram|-100"]


async def test_a_chat_that_moved_stays_moved(shown: ShownCards):
    await shown.move("acme", "-100", "-200")
    assert shown.moved("acme") == {"-100": "-200"}


async def test_another_process_finds_it_all(redis: Commands):
    await RedisShown(redis).put("acme", "pay-1|telegram|7", CARD)
    await RedisShown(redis).move("acme", "-1", "-2")
    other = RedisShown(redis)
    assert other.peek("acme") == {}
    assert await other.get("acme", "pay-1|telegram|7") == CARD
    await other.refresh("acme")
    assert other.moved("acme")["-1"] == "-2"


async def test_a_field_that_an_older_process_did_not_write_has_its_default(redis: Commands):
    await redis("HSET", "bot:{acme}:shown", "old-1|telegram|7", b'{"message":"3","stale":[]}')
    assert await RedisShown(redis).get("acme", "old-1|telegram|7") == Shown(message="3")
