"""Who does a tenant's work: one process at a time, by a lease of nine seconds in Redis.

The lease only saves work. What must not happen twice is fenced by the ledger. Its holder counts the nine
seconds from before it asked, by a clock that nobody sets: it stops before another may begin, and a process
that was paused for longer holds nothing when it goes on.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.store import StoreDown

log = logging.getLogger(__name__)

LEASE_MS = 9_000
RENEW_S = 3.0

RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Lease:
    """The lease *name*, for the process *owner*."""

    def __init__(
        self,
        commands: Commands,
        clock: Clock,
        name: str,
        owner: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = commands
        self._clock = clock
        self._key = f"bot:lease:{name}"
        self._owner = owner
        self._monotonic = monotonic
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether the lease is ours now, as far as this process can tell by itself."""
        return self._monotonic() < self._until

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* while the lease is ours, until cancelled. When it ends, whyever, it begins again.

        The outermost loop of a tenant's work: a mistake in one part must not leave the tenant unattended.
        """
        while True:
            try:
                if await self._ask("SET", self._key, self._owner, "NX", "PX", LEASE_MS):
                    await self._hold(work)
            except StoreDown as down:
                log.warning("Lease %s: %s", self._key, down)
            except Exception:
                log.exception("The work under %s ended; it begins again.", self._key)
            finally:
                self._until = float("-inf")
            await self._clock.sleep(RENEW_S / 3)

    async def _hold(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                renew = asyncio.ensure_future(self._clock.sleep(RENEW_S))
                await asyncio.wait({task, renew}, return_when=asyncio.FIRST_COMPLETED)
                renew.cancel()
                if not task.done() and not await self._ask(
                    "EVAL", RENEW, 1, self._key, self._owner, LEASE_MS
                ):
                    return
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(StoreDown):
                await asyncio.shield(self._redis("EVAL", RELEASE, 1, self._key, self._owner))

    async def _ask(self, *command: str | int) -> bool:
        """Take or renew. Whether it is ours, for nine seconds from before we asked."""
        asked = self._monotonic()
        ours = bool(await self._redis(*command))
        self._until = asked + LEASE_MS / 1000 if ours else float("-inf")
        return ours
