"""Who does a tenant's work: one process at a time, by a lease of nine seconds in Redis.

The lease only saves work. What must not happen twice is fenced by the ledger.
"""

import asyncio
import contextlib
import logging
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

    def __init__(self, commands: Commands, clock: Clock, name: str, owner: str) -> None:
        self._redis = commands
        self._clock = clock
        self._key = f"bot:lease:{name}"
        self._owner = owner
        self.held = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* while the lease is ours, until cancelled. When it ends, whyever, it begins again.

        The outermost loop of a tenant's work: a mistake in one part must not leave the tenant unattended.
        """
        while True:
            try:
                self.held = await self._take()
                if self.held:
                    await self._hold(work)
            except StoreDown as down:
                log.warning("Lease %s: %s", self._key, down)
            except Exception:
                log.exception("The work under %s ended; it begins again.", self._key)
            finally:
                self.held = False
            await self._clock.sleep(RENEW_S / 3)

    async def _hold(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                renew = asyncio.ensure_future(self._clock.sleep(RENEW_S))
                await asyncio.wait({task, renew}, return_when=asyncio.FIRST_COMPLETED)
                renew.cancel()
                if not task.done() and not await self._redis(
                    "EVAL", RENEW, 1, self._key, self._owner, LEASE_MS
                ):
                    return
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(StoreDown):
                await asyncio.shield(self._redis("EVAL", RELEASE, 1, self._key, self._owner))

    async def _take(self) -> bool:
        return bool(await self._redis("SET", self._key, self._owner, "NX", "PX", LEASE_MS))
