"""A code means one thing while it is open, whichever storage keeps it."""

import asyncio
from datetime import UTC, datetime

import pytest

from bot.tokens import LOCKED_MS, MemoryCodes, RedisCodes
from ledger.clock import ManualClock
from tests.valkey import a_valkey, connected

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HASH = "7f3a91c2" * 8
HOUR_MS = 3_600_000


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def make(request, clock):
    if request.param == "memory":
        return lambda **more: MemoryCodes(clock, **more)
    redis = request.getfixturevalue("redis")
    return lambda **more: RedisCodes(redis, clock, **more)


@pytest.fixture
def codes(make):
    return make()


def until(clock: ManualClock) -> int:
    return int(clock.now().timestamp() * 1000) + HOUR_MS


async def test_a_code_names_one_recipients_option_of_one_request(codes, clock):
    code = await codes.issue("acme", "chat1", HASH, "A", until(clock))
    grant = await codes.redeem("acme", "telegram:1001", code, ["rudo", "chat1"])
    assert (grant.recipient, grant.anchor, grant.option) == ("chat1", HASH, "A")
    assert await codes.redeem("acme", "telegram:1001", code, ["rudo"]) is None
    assert await codes.redeem("other", "telegram:1001", code, ["chat1"]) is None


async def test_the_same_option_keeps_its_code_and_others_have_others(codes, clock):
    first = await codes.issue("acme", "chat1", HASH, "A", until(clock))
    assert await codes.issue("acme", "chat1", HASH, "A", until(clock)) == first
    rest = {
        await codes.issue("acme", "chat1", HASH, "B", until(clock)),
        await codes.issue("acme", "rudo", HASH, "A", until(clock)),
        await codes.issue("acme", "chat1", HASH[::-1], "A", until(clock)),
    }
    assert len(rest | {first}) == 4
    assert all(len(code) == 4 and code[0] != "0" for code in rest)


async def test_a_code_is_not_given_again_while_it_is_open(make, clock):
    drawn = iter([7, 7, 7, 8])
    codes = make(draw=lambda _: next(drawn))
    assert await codes.issue("acme", "chat1", HASH, "A", until(clock)) == "1007"
    assert await codes.issue("acme", "chat1", HASH, "B", until(clock)) == "1008"


async def test_where_most_codes_are_taken_they_get_longer(make, clock):
    codes = make(draw=lambda _: 0)
    assert await codes.issue("acme", "chat1", HASH, "A", until(clock)) == "1000"
    assert await codes.issue("acme", "chat1", HASH, "B", until(clock)) == "10000"


async def test_after_five_wrong_tries_even_the_right_code_says_nothing(codes, clock):
    code = await codes.issue("acme", "chat1", HASH, "A", until(clock))
    wrong = "1000" if code != "1000" else "1001"
    for _ in range(5):
        assert await codes.redeem("acme", "sms:+263", wrong, ["chat1"]) is None
    assert await codes.redeem("acme", "sms:+263", code, ["chat1"]) is None
    assert await codes.redeem("acme", "telegram:1001", code, ["chat1"])
    clock.advance(LOCKED_MS / 1000)
    assert await codes.redeem("acme", "sms:+263", code, ["chat1"])


async def test_codes_end_with_their_request_and_with_their_time(codes, clock):
    gone = await codes.issue("acme", "chat1", HASH, "A", until(clock))
    kept = await codes.issue("acme", "chat1", HASH[::-1], "A", until(clock))
    await codes.close("acme", HASH)
    assert await codes.redeem("acme", "telegram:1", gone, ["chat1"]) is None
    assert await codes.redeem("acme", "telegram:1", kept, ["chat1"])
    clock.advance(HOUR_MS / 1000)
    assert await codes.redeem("acme", "telegram:1", kept, ["chat1"]) is None
    await codes.close("acme", "")
    assert not [name for name in await codes._all("acme") if not name.startswith("tries:")]


async def test_two_who_ask_at_once_get_the_same_code(codes, clock):
    asked = [codes.issue("acme", "chat1", HASH, "A", until(clock)) for _ in range(8)]
    given = await asyncio.gather(*asked)
    assert len(set(given)) == 1
    assert len([name for name in await codes._all("acme") if name.startswith("code:")]) == 1


async def test_a_code_can_have_six_digits(codes, clock):
    assert len(await codes.issue("acme", "sms", HASH, "A", until(clock), digits=6)) == 6
