"""Who does a tenant's work: one at a time, and whatever ends it, it begins again."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bot.lease import LEASE_MS, RELEASE, RENEW, Lease
from handlers.reconciler import Loop
from handlers.reconciler import Work as Due
from ledger.clock import ManualClock
from ledger.store import StoreDown
from tests.rooms import tenant

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


async def test_after_a_pause_of_twelve_seconds_nothing_is_held_before_the_server_was_asked_again(clock):
    redis, work, ticking = Redis(clock), Work(), [0.0]
    lease = Lease(redis, clock, "acme", "a", monotonic=lambda: ticking[0])
    run = asyncio.create_task(lease.run(work))
    await passes(clock, 1)
    assert lease.held
    ticking[0] += 12  # nothing of ours has run since: no renewal, no loss
    assert (lease.held, work.running) == (False, True)
    clock.advance(12)
    await passes(clock, 3)
    assert (lease.held, work.begun) == (True, 2)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert not lease.held


async def test_the_nine_seconds_count_from_before_the_server_was_asked(clock):
    redis, ticking = Redis(clock), [0.0]

    async def slow(*command):
        ticking[0] += 8
        return await redis(*command)

    lease = Lease(slow, clock, "acme", "a", monotonic=lambda: ticking[0])
    run = asyncio.create_task(lease.run(Work()))
    await passes(clock, 1)
    assert lease.held
    ticking[0] += 1
    assert not lease.held
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


@pytest.mark.parametrize("step_s", [-86_400, 86_400])
async def test_a_wall_clock_that_is_set_neither_ends_nor_prolongs_a_lease(step_s):
    class Set(ManualClock):
        """A wall clock that somebody sets; sleepers do not notice."""

        step = timedelta()

        def now(self):
            return super().now() + self.step

    clock = Set(NOON)
    started = NOON.timestamp()
    redis, work = Redis(ManualClock(NOON)), Work()
    redis.clock = clock
    lease = Lease(redis, clock, "acme", "a", monotonic=lambda: ManualClock.now(clock).timestamp() - started)
    run = asyncio.create_task(lease.run(work))
    redis.clock = ManualClock(NOON)  # the server's own, which goes on as before
    await passes(clock, 1)
    clock.step = timedelta(seconds=step_s)
    for _ in range(20):
        redis.clock.advance(1)
        await passes(clock, 1)
        assert lease.held
    assert (work.begun, work.running) == (1, True)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_a_loop_starts_nothing_while_it_may_not(clock):
    acme = await tenant(clock=clock)
    may, done = [True], []

    class Always:
        name = "always"

        def due(self, view, now_ms):
            return [Due(str(now_ms), now_ms)]

        async def do(self, work):
            done.append(work.key)

    loop = Loop(acme.room.ledger, [Always()], clock, lambda: may[0])
    run = asyncio.create_task(loop.run())
    await passes(clock, 3)
    assert done
    may[0] = False
    before = len(done)
    await passes(clock, 10)
    loop.wake()
    await passes(clock, 1)
    assert len(done) == before
    may[0] = True
    await passes(clock, 3)
    assert len(done) > before
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
