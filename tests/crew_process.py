"""One process of a crew, that tests kill, stop and let go on: `python -m tests.crew_process URL NAME`.

It polls acme's services with production's own parts, on a real Valkey, and holds a lease. Each line that it
prints is when, a word, and what it is about: `look s1`, `saw s1`, `beat a,b`, `act`.
"""

import asyncio
import random
import sys
import time

from bot.board import RedisBoard
from bot.lease import Lease
from bot.state import RedisStates
from detectors.window import Tick
from handlers.crew import Crew
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.ports import Polled
from handlers.reconciler import Loop, Work
from ledger.clock import WallClock
from ledger.redis_store import commands, connect
from tests.crews import many
from tests.rooms import tenant

SERVICES = 12


def say(*words: str) -> None:
    print(f"{time.monotonic():.3f}", *words, flush=True)  # noqa: T201  its parent reads it


class Health:
    async def poll(self, charter, service, cursor, now_ms):
        say("look", service.id)
        return Polled(Tick(now_ms, 1000, 20, 0, 0, 0, {640: 20}, 1, 10), now_ms // 1000)


class Heard(Crew):
    async def beat(self, said):
        found = await super().beat(said)
        say("beat", ",".join(self.members))
        return found


class Saw(Detect):
    async def see(self, service, what, cursor):
        say("saw", service)
        await super().see(service, what, cursor)


class Acts:
    """Has something to do five times a second."""

    name = "acts"

    def due(self, view, now_ms):
        return [Work(str(now_ms // 200), now_ms)]

    async def do(self, work):
        say("act")


async def run(url: str, name: str) -> None:
    room = (await tenant(many(SERVICES - 1))).room
    redis, clock = commands(connect(url)), WallClock()
    lease = Lease(redis, clock, "acme", name)
    loop = Loop(room.ledger, [Acts()], clock, lambda: lease.held)
    crew = Heard(RedisBoard(redis), "acme", name)
    poller = Poller(
        room.ledger, room.rulebook, Saw(room.ledger, room.rulebook), Health(), RedisStates(redis), clock,
        random.Random(name), 1.0, share=crew,
    )  # fmt: skip
    await asyncio.gather(poller.run(), lease.run(loop.run))


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
