"""Who looks at the services: on schedule, also after the lease was lost, and whatever one look does."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from detectors.window import Tick
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.ports import Polled, PortError
from tests.rooms import tenant


class NoStates:
    async def load(self, tenant, service):
        return None

    async def save(self, tenant, states):
        pass


@dataclass
class Health:
    """Answers each look, or raises what it was told to; counts them."""

    raises: list[Exception] = field(default_factory=list)
    looks: int = 0

    async def poll(self, charter, service, cursor, now_ms):
        self.looks += 1
        if self.raises:
            raise self.raises.pop()
        return Polled(Tick(now_ms, 5000, 100, 0, 0, 0, {640: 100}, 1, 10), cursor + 1)


async def a_poller(health):
    acme = await tenant()
    room = acme.room
    detect = Detect(room.ledger, room.rulebook)
    return acme, Poller(room.ledger, room.rulebook, detect, health, NoStates(), acme.clock, random.Random(1))


async def passes(clock, seconds):
    for _ in range(seconds * 10):
        clock.advance(0.1)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_it_looks_every_five_seconds_also_after_the_lease_was_lost_and_taken_again(times):
    health = Health()
    acme, poller = await a_poller(health)
    for _ in range(times):
        before = health.looks
        run = asyncio.create_task(poller.run())
        await passes(acme.clock, 60)
        assert 11 <= health.looks - before <= 14
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        stopped = health.looks
        await passes(acme.clock, 20)
        assert health.looks == stopped


@pytest.mark.parametrize("error", [PortError("HTTP 500"), ValueError("a mistake of ours")])
async def test_a_look_that_fails_is_followed_by_another_a_second_later(error):
    health = Health(raises=[error] * 3)
    acme, poller = await a_poller(health)
    run = asyncio.create_task(poller.run())
    await passes(acme.clock, 6)
    assert health.looks >= 4
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


class Broken(dict):
    """Alerts of other tools that cannot be read."""

    def values(self):
        raise ValueError("a mistake of ours")


async def test_alerts_that_cannot_be_judged_do_not_end_the_watch_of_all_services(caplog):
    health = Health()
    acme, poller = await a_poller(health)
    poller.detect.alerts.known = Broken()
    run = asyncio.create_task(poller.run())
    await passes(acme.clock, 30)
    assert not run.done()
    assert health.looks >= 5
    assert "The alerts of other tools failed." in caplog.text
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
