"""Our clock beside the Redis server's, where that is another machine."""

from datetime import UTC, datetime

import pytest

from bot.truetime import against_redis
from ledger.clock import ManualClock
from ledger.store import StoreDown
from ledger.view import epoch_ms

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(("server_ms", "ahead_ms"), [(1_000, -900), (-2_500, 2_600), (100, 0)])
async def test_the_servers_time_is_that_of_the_middle_of_the_call(server_ms: int, ahead_ms: int):
    clock = ManualClock(NOON)

    async def slow(*command):
        assert command == ("TIME",)
        clock.advance(0.2)
        at_ms = epoch_ms(NOON) + server_ms
        return [b"%d" % (at_ms // 1000), b"%d" % (at_ms % 1000 * 1000)]

    measure = against_redis(slow, "rediss://redis.example:6379", clock)
    assert await measure() == (ahead_ms, "the Redis server")


@pytest.mark.parametrize("url", ["", "unix:///tmp/x.sock", "redis://127.0.0.1:6379", "redis://localhost/0"])
async def test_a_server_on_this_machine_has_our_own_clock_and_says_nothing(url: str):
    async def never(*command):
        raise AssertionError(command)

    assert await against_redis(never, url, ManualClock(NOON))() == (0, "")


async def test_a_server_that_does_not_answer_leaves_it_unknown():
    async def away(*command):
        raise StoreDown

    assert await against_redis(away, "redis://redis.example", ManualClock(NOON))() == (0, "")
