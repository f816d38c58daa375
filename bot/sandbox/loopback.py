"""What every server of the sandbox shares: a port on loopback, a bell for those who wait.

* Nothing listens anywhere but on 127.0.0.1.
* Nobody polls: who waits for something to become true is woken when something changed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from ledger.clock import WallClock

HOST = "127.0.0.1"
OURS = frozenset({"127.0.0.1", "localhost"})


def epoch() -> int:
    """Whole seconds since 1970, as vendors stamp their messages."""
    return int(WallClock().now().timestamp())


def first_id() -> int:
    """Where ids that count up begin: beyond those of any earlier sandbox, and within 31 bits."""
    return epoch() % 100_000_000 * 20


def is_loopback(url: str) -> bool:
    """True for an http(s) address on this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and parts.hostname in OURS


class Bell:
    """Rung at every change; whoever waits looks again."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.count = 0

    def ring(self) -> None:
        self.count += 1
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self) -> None:
        """Returns at the next ring."""
        await self._rung.wait()

    async def until[T](self, look: Callable[[], T | None], within: float) -> T | None:
        """What *look* finds, as soon as it is neither None nor False, or None after *within* seconds."""
        try:
            async with asyncio.timeout(within):
                while not (found := look()):
                    await self.wait()
                return found
        except TimeoutError:
            return look() or None


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is up: its address, and how to end it."""

    url: str
    runner: web.AppRunner

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    async def close(self) -> None:
        await self.runner.cleanup()


async def serve(app: web.Application, port: int = 0) -> Served:
    """*app* listening on a free port of 127.0.0.1 or on *port*. An open long poll delays its end 0.1 s."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    await site.start()
    listening: tuple[str, int] = runner.addresses[0][:2]
    return Served(f"http://{HOST}:{listening[1]}", runner)
