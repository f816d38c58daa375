"""Shares the loop: work that comes in heaps, each piece short, goes on for five ms, and then others do."""

import asyncio

LIMIT_S = 0.005


class Turns:
    """How long the present turn of the loop has been used by who asked here."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._began: float | None = None

    async def mine(self) -> None:
        """Return when there is time for a piece of work that does not wait."""
        loop = asyncio.get_running_loop()
        while True:
            if self._began is None:
                self._began = loop.time()
                loop.call_soon(self._end)
            if loop.time() - self._began < self._limit_s:
                return
            await asyncio.sleep(0)

    def _end(self) -> None:
        self._began = None
