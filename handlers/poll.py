"""Looks at every service that is this process's, on its own schedule, and never blocks the loop.

1. Each service has one task: five seconds between two looks with a little jitter, one second after a failure.
   How many look at the same time is bounded.
2. The charter in force says which services there are; the crew (handlers/crew.py) says which are ours. Who
   takes a service over loads its state first. Who gives one up has kept it before.
3. Nothing is looked at, and nothing that was seen counts, while this process does not hold its share: after a
   pause it starts anew.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, field

from detectors.window import Missed, Tick
from handlers.charter import Charter, Service
from handlers.crew import BEAT_S, Heard, Said, Share, Sole
from handlers.detect import Detect, States
from handlers.ports import Health, PortError, Rulebook
from ledger import events as ev
from ledger.clock import Clock
from ledger.ledger import Ledger
from ledger.store import StoreDown
from ledger.view import epoch_ms

log = logging.getLogger(__name__)

RETRY_S = 1.0
JITTER = 0.1


@dataclass
class Poller:
    """This process's part in the polls of one tenant."""

    ledger: Ledger
    rulebook: Rulebook
    detect: Detect
    health: Health
    states: States
    clock: Clock
    jitter: random.Random
    interval_s: float = 5.0
    looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    share: Share = field(default_factory=Sole)
    made: int = 0
    """Looks of this process."""
    made_elsewhere: int = 0
    missed: int = 0
    began_ms: int = 0
    """Since when this process holds its share; 0 before the first time."""
    made_before: int = 0
    """How many looks all had made then."""
    _hour: tuple[int, int] = (0, 0)
    _told: dict[str, int] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _watched: str = ""

    @property
    def made_by_all(self) -> int:
        """The looks of all processes, as far as this one has heard."""
        return self.made + self.made_elsewhere

    def made_at(self, since_ms: int) -> int:
        """How many looks all had made when the hour began that was last reported at *since_ms*."""
        return self._hour[1] if self._hour[0] == since_ms else self.made_before

    async def run(self) -> None:
        """Until cancelled; it may be run again."""
        self.began_ms = 0
        try:
            while True:
                await self._guarded("A beat", self._beat())
                if self.share.holds():
                    await self._guarded("The share of services", self._follow())
                    await self._guarded("The alerts of other tools", self.detect.hear(self.share.owns))
                    await self._guarded("What was learned", self._keep())
                await self.clock.sleep(BEAT_S)
        finally:
            await self._end()

    async def _guarded(self, what: str, doing: Awaitable[None]) -> None:
        """The outermost loop of a tenant's watch: what goes wrong in one part must not end it."""
        try:
            await doing
        except StoreDown as down:
            log.warning("%s: %s", what, down)
        except Exception:
            log.exception("%s failed.", what)

    async def _beat(self) -> None:
        """Renew our share and hear the others. A share that had lapsed is begun anew."""
        lapsed = not self.share.holds()
        if lapsed:
            await self._stop(list(self._tasks))
            self.detect.give_up(list(self.detect.seen))
        known = set(self._told)
        words = () if self.share.alone else self.detect.words(all=False)
        heard = await self.share.beat(Said(self.made, words=words))
        self._count(heard)
        self.detect.hear_of(heard)
        if self.share.holds() and (lapsed or not self.began_ms):
            self._begin()
        if set(self._told) - known:  # somebody new has heard nothing yet
            self.detect.looked.update(self.detect.seen)

    def _begin(self) -> None:
        self.began_ms, self.made_before = epoch_ms(self.clock.now()), self.made_by_all
        self._watched = ""

    def _count(self, heard: Iterable[Heard]) -> None:
        """Add the looks of the others, and remember how many there were when the last hour was reported."""
        for one in heard:
            before = self._told.get(one.by, one.said.made)
            self.made_elsewhere += max(0, one.said.made - before)
            self._told[one.by] = one.said.made
        reported_ms = self.ledger.view.noted.get(ev.Watched.__name__, 0)
        if reported_ms != self._hour[0]:
            self._hour = reported_ms, self.made_by_all

    async def _follow(self) -> None:
        """Look at what is ours by the charter in force and the crew as it is, and at nothing else."""
        charter = self.rulebook.charter(self.ledger.view)
        digest = self.ledger.view.rules.charter if charter else ""
        if digest != self._watched:
            await self._stop(list(self._tasks))
            self._watched = digest
        services = charter.services if charter else ()
        watched = {one.id: one for one in services if one.health_url or one.push}
        ours = {name for name in watched if self.share.owns(name)}
        await self._stop([name for name in self._tasks if name not in ours])
        await self._give_up([name for name in self.detect.seen if name in watched and name not in ours])
        self.detect.forget_all_but({service.id for service in services})
        for name in sorted(ours - self._tasks.keys()):
            if charter:
                watch = self._watch(charter, watched[name])
                self._tasks[name] = asyncio.create_task(watch, name=f"poll:{name}")

    async def _give_up(self, services: Collection[str]) -> None:
        try:
            await self.detect.keep(self.states, services)
        finally:
            self.detect.give_up(services)

    async def _keep(self) -> None:
        await self.detect.keep(self.states, self.detect.due(epoch_ms(self.clock.now())))

    async def _end(self) -> None:
        """Keep all and let the others take over at once."""
        await self._stop(list(self._tasks))
        if self.share.holds():
            await self._guarded("What was learned", self.detect.keep(self.states))
            await self._guarded("Leaving", self.share.leave())

    async def look(self, charter: Charter, service: Service) -> bool:
        """Look at *service* once. Whether it answered. What came after our share had lapsed is nothing."""
        async with self.looks:
            seen, cursor = await self._poll(charter, service)
        if not self._may(service):
            return False
        self.made += 1
        self.missed += isinstance(seen, Missed)
        await self.detect.see(service.id, seen, cursor)
        return isinstance(seen, Tick)

    def _may(self, service: Service) -> bool:
        return self.share.holds() and self.share.owns(service.id)

    async def _poll(self, charter: Charter, service: Service) -> tuple[Tick | Missed, int]:
        now_ms = epoch_ms(self.clock.now())
        cursor = self.detect.cursor(service.id)
        try:
            polled = await self.health.poll(charter, service, cursor, now_ms)
        except PortError as error:
            return Missed(epoch_ms(self.clock.now()), str(error)), cursor
        return polled.tick, polled.cursor

    async def _watch(self, charter: Charter, service: Service) -> None:
        """All states are loaded before the first looks: what is said of one service depends on the others."""
        await self.clock.sleep(self._handover_s())
        await self._guarded(f"The state of {service.id}", self._restore(service))
        await self.clock.sleep(self.jitter.uniform(0, min(1.0, self.interval_s)))
        while True:
            answered = self._may(service) and await self._looked(charter, service)
            pause = self.interval_s if answered else min(RETRY_S, self.interval_s)
            await self.clock.sleep(pause * self.jitter.uniform(1 - JITTER, 1 + JITTER))

    def _handover_s(self) -> float:
        """How long who has just come waits until those who had its share have kept all of it."""
        new = epoch_ms(self.clock.now()) - self.began_ms < BEAT_S * 1000
        return 1.5 * BEAT_S if new and not self.share.alone else 0.0

    async def _restore(self, service: Service) -> None:
        if service.id not in self.detect.seen:
            async with self.looks:
                await self.detect.restore(self.states, service.id)

    async def _looked(self, charter: Charter, service: Service) -> bool:
        """The outermost loop around one service: what goes wrong here must not end its watch."""
        try:
            await self._restore(service)
            return await self.look(charter, service)
        except StoreDown as down:
            log.warning("What %s told cannot be read: %s", service.id, down)
            return False
        except Exception:
            log.exception("The look at %s failed.", service.id)
            return False

    async def _stop(self, names: list[str]) -> None:
        tasks = [self._tasks.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
