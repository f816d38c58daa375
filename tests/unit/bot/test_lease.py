"""Who does a tenant's work: one at a time, and whatever ends it, it begins again."""

import asyncio
from datetime import UTC, datetime

import pytest

from bot.lease import LEASE_MS, RELEASE, RENEW, Lease
from ledger.clock import ManualClock
from ledger.store import StoreDown

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)


class Redis:
    """As much of Redis as a lease needs, on a manual clock; it may be away."""

    def __init__(self, clock):
        self.clock, self.away = clock, False
        self.kept: dict[str, tuple[str, datetime]] = {}

    async def __call__(self, command, *words):
        if self.away:
            raise StoreDown("Redis does not answer.")
        if command == "SET":
            key, owner = words[0], words[1]
            if self.owner(key):
                return None
            self._keep(key, owner)
            return b"OK"
        script, _, key, owner, *_ = words
        if self.owner(key) != owner:
            return 0
        if script == RENEW:
            self._keep(key, owner)
        if script == RELEASE:
            del self.kept[key]
        return 1

    def owner(self, key):
        owner, taken = self.kept.get(key, ("", NOON))
        return owner if (self.clock.now() - taken).total_seconds() * 1000 < LEASE_MS else ""

    def _keep(self, key, owner):
        self.kept[key] = owner, self.clock.now()


class Work:
    """Counts how often it began; raises what it is told to."""

    def __init__(self):
        self.begun, self.running, self.raises = 0, False, asyncio.Queue()

    async def __call__(self):
        self.begun, self.running = self.begun + 1, True
        try:
            raise await self.raises.get()
        finally:
            self.running = False


async def passes(clock, seconds):
    for _ in range(round(seconds * 5)):
        clock.advance(0.2)
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def clock():
    return ManualClock(NOON)


@pytest.mark.parametrize(
    "error",
    [StoreDown("away"), ExceptionGroup("parts", [StoreDown("away")]), KeyError("a mistake of ours")],
    ids=lambda error: type(error).__name__,
)
async def test_work_that_ends_by_any_error_begins_again(clock, error):
    work = Work()
    run = asyncio.create_task(Lease(Redis(clock), clock, "acme", "a").run(work))
    await passes(clock, 5)
    work.raises.put_nowait(error)
    await passes(clock, 5)
    assert (work.begun, work.running) == (2, True)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert not work.running


async def test_one_of_two_works_and_the_other_takes_over_within_twelve_seconds(clock):
    redis, mine, theirs = Redis(clock), Work(), Work()
    first = asyncio.create_task(Lease(redis, clock, "acme", "a").run(mine))
    await passes(clock, 1)
    second = asyncio.create_task(Lease(redis, clock, "acme", "b").run(theirs))
    await passes(clock, 60)
    assert (mine.running, theirs.running) == (True, False)
    redis.away = True
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    redis.away = False
    await passes(clock, 12)
    assert theirs.running
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_who_loses_the_lease_stops_working(clock):
    redis, work = Redis(clock), Work()
    run = asyncio.create_task(Lease(redis, clock, "acme", "a").run(work))
    await passes(clock, 1)
    redis.away = True
    await passes(clock, 5)
    assert not work.running
    redis.away = False
    await passes(clock, 12)
    assert (work.begun, work.running) == (2, True)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
