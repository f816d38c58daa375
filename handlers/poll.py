"""Looks at every service on its own schedule, and never blocks the loop.

Each service has one task: five seconds between two looks with a little jitter, one second after a failure.
How many look at the same time is bounded. The charter in force says which services there are.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass, field

from detectors.window import Missed, Tick
from handlers.charter import Charter, Service
from handlers.detect import Detect, States
from handlers.ports import Health, PortError, Rulebook
from ledger.clock import Clock
from ledger.ledger import Ledger
from ledger.store import StoreDown
from ledger.view import epoch_ms

log = logging.getLogger(__name__)

RETRY_S = 1.0
JITTER = 0.1
KEEP_S = 60.0
"""What was learned is kept once a minute, and at once when a service turned sick or well."""


@dataclass
class Poller:
    """The polls of one tenant, while this process holds its lease."""

    ledger: Ledger
    rulebook: Rulebook
    detect: Detect
    health: Health
    states: States
    clock: Clock
    jitter: random.Random
    interval_s: float = 5.0
    looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    made: int = 0
    missed: int = 0
    began_ms: int = 0
    """When the present run began; 0 before the first."""
    made_before: int = 0
    """How many looks had been made then."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _watched: str = ""

    async def run(self) -> None:
        """Until cancelled; it may be run again. Follows the charter in force, and keeps what was learned."""
        self._watched = ""
        await self.detect.restore(self.states)
        kept_ms = self.began_ms = epoch_ms(self.clock.now())
        self.made_before = self.made
        try:
            while True:
                self._follow_charter()
                await self._heard()
                await self.clock.sleep(1.0)
                now_ms = epoch_ms(self.clock.now())
                if self.detect.turned or now_ms - kept_ms >= KEEP_S * 1000:
                    kept_ms = now_ms
                    await self._keep()
        finally:
            await self._stop(list(self._tasks))
            await self._keep()

    async def _keep(self) -> None:
        with contextlib.suppress(StoreDown):
            await self.detect.keep(self.states)

    async def _heard(self) -> None:
        """What other tools say, when it goes wrong, must not end the watch of all services."""
        try:
            await self.detect.hear()
        except Exception:
            log.exception("The alerts of other tools could not be judged.")

    async def look(self, charter: Charter, service: Service) -> bool:
        """Look at *service* once. Whether it answered."""
        async with self.looks:
            seen, cursor = await self._poll(charter, service)
        self.made += 1
        self.missed += isinstance(seen, Missed)
        await self.detect.see(service.id, seen, cursor)
        return isinstance(seen, Tick)

    async def _poll(self, charter: Charter, service: Service) -> tuple[Tick | Missed, int]:
        now_ms = epoch_ms(self.clock.now())
        cursor = self.detect.cursor(service.id)
        try:
            polled = await self.health.poll(charter, service, cursor, now_ms)
        except PortError as error:
            return Missed(epoch_ms(self.clock.now()), str(error)), cursor
        return polled.tick, polled.cursor

    def _follow_charter(self) -> None:
        charter = self.rulebook.charter(self.ledger.view)
        digest = self.ledger.view.rules.charter if charter else ""
        if digest == self._watched:
            return
        self._watched = digest
        for task in self._tasks.values():
            task.cancel()
        services = charter.services if charter else ()
        self.detect.forget_all_but({service.id for service in services})
        self._tasks = {
            service.id: asyncio.create_task(self._watch(charter, service), name=f"poll:{service.id}")
            for service in services
            if charter and (service.health_url or service.push)
        }

    async def _watch(self, charter: Charter, service: Service) -> None:
        await self.clock.sleep(self.jitter.uniform(0, min(1.0, self.interval_s)))
        while True:
            answered = await self._looked(charter, service)
            pause = self.interval_s if answered else min(RETRY_S, self.interval_s)
            await self.clock.sleep(pause * self.jitter.uniform(1 - JITTER, 1 + JITTER))

    async def _looked(self, charter: Charter, service: Service) -> bool:
        """The outermost loop around one service: what goes wrong here must not end its watch."""
        try:
            return await self.look(charter, service)
        except StoreDown as down:
            log.warning("What %s pushed cannot be read: %s", service.id, down)
            return False
        except Exception:
            log.exception("The look at %s failed.", service.id)
            return False

    async def _stop(self, names: list[str]) -> None:
        tasks = [self._tasks.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
