"""Customers of the shop: real requests at a steady rate, and what they experienced.

Bounded: at most `CROWD` requests are under way, a customer gives up after `PATIENCE_S`, and all ends with the
sandbox. The series is theirs alone: one point a second, of the requests that ended in it.
"""

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

import aiohttp

from bot.sandbox.loopback import Bell

CROWD = 300
PATIENCE_S = 8.0
POINTS = 180
WALKS = (("GET", "/", 30), ("GET", "/products", 30), ("POST", "/checkout", 22), ("POST", "/pay", 18))


@dataclass(slots=True)
class Second:
    """What the customers of one second saw; `latencies` in milliseconds."""

    at: int
    errors: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.latencies)

    @property
    def p95_ms(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0.0

    def point(self) -> dict[str, float]:
        """A point of the graph: requests, share of errors in percent, p95 in milliseconds."""
        share = 100 * self.errors / self.n if self.n else 0.0
        return {"at": self.at, "rps": self.n, "errors": round(share, 1), "p95": round(self.p95_ms, 1)}


class Load:
    """Customers at `rate` requests a second, once started."""

    def __init__(self, url: str, rate: float = 20.0, seed: int = 7) -> None:
        self.url, self.rate = url, rate
        self.seconds: deque[Second] = deque(maxlen=POINTS)
        self.bell = Bell()
        self._random = random.Random(seed)
        self._under_way: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._come())

    async def close(self) -> None:
        tasks = [*self._under_way, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def points(self) -> list[dict[str, float]]:
        """The closed seconds, oldest first."""
        now = int(time.monotonic())
        return [second.point() for second in list(self.seconds) if second.at < now]

    async def _come(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            due = time.monotonic()
            while True:
                due = max(due + 1 / self.rate, time.monotonic() - 1)
                await asyncio.sleep(due - time.monotonic())
                self._second()
                if len(self._under_way) < CROWD:
                    task = asyncio.create_task(self._visit(session))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        (method, path, _) = self._random.choices(WALKS, [weight for *_, weight in WALKS])[0]
        began = time.monotonic()
        failed = refused = False
        try:
            async with session.request(method, self.url + path) as answer:
                failed = answer.status >= 500
        except (aiohttp.ClientError, TimeoutError):
            failed = refused = True
        self._ended(time.monotonic() - began, failed=failed, refused=refused)

    def _ended(self, seconds: float, *, failed: bool, refused: bool) -> None:
        now = self._second()
        now.latencies.append(seconds * 1000)
        now.errors += failed
        now.refused += refused
        self.bell.ring()

    def _second(self) -> Second:
        now = int(time.monotonic())
        if not self.seconds or self.seconds[-1].at != now:
            self.seconds.append(Second(now))
        return self.seconds[-1]
