"""The sick shop: a real FastAPI app, instrumented with our SDK, that falls ill on request.

Its supervisor starts it with a line of JSON on standard input (`Settings`); each further line changes its
faults, and the end of input ends it. Every symptom is real: the pool is exhausted because connections leaked,
payments are slow because another server answers slowly, and the SDK measures both.

    errors   share of requests that fail (0 to 1)      latency  how many times slower the work is
    db       all connections of the pool are leaked     hang     no handler ever answers
    die      the process is gone at once                payments the address that is charged
"""

import asyncio
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TextIO

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI

from sdk import Monitor, instrument

CONNECTIONS = 20
POOL_PATIENCE_S = 1.0
PAYMENTS_PATIENCE_S = 2.0


class OrderRejected(Exception):
    """What the dial for errors makes of a request."""


@dataclass(frozen=True, slots=True)
class Settings:
    port: int
    payments: str
    token: str = ""
    seed: int = 7


@dataclass(slots=True)
class Faults:
    errors: float = 0.0
    latency: float = 1.0
    db: bool = False
    hang: bool = False

    def on(self) -> list[str]:
        """The names of the faults that are on."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


@dataclass(slots=True)
class Pool:
    """A pool of database connections: full means that who asks waits, and fails after a second."""

    limit: int = CONNECTIONS
    used: int = 0
    leaked: bool = False
    free: asyncio.Condition = field(default_factory=asyncio.Condition)

    def gauge(self) -> tuple[int, int]:
        return (self.limit if self.leaked else self.used), self.limit

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        """One connection; raises TimeoutError when none came free in time."""
        async with asyncio.timeout(POOL_PATIENCE_S), self.free:
            await self.free.wait_for(lambda: not self.leaked and self.used < self.limit)
            self.used += 1
        try:
            yield
        finally:
            async with self.free:
                self.used -= 1
                self.free.notify()

    async def leak(self, *, leaked: bool) -> None:
        async with self.free:
            self.leaked = leaked
            self.free.notify_all()


class Shop:
    """The shop's work, and what ails it."""

    monitor: Monitor

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.payments = settings.payments
        self.faults = Faults()
        self.pool = Pool()
        self._random = random.Random(settings.seed)
        self._session: aiohttp.ClientSession | None = None

    async def work(self, milliseconds: float) -> None:
        """Takes about *milliseconds* times the dial for latency; fails as often as that for errors says."""
        spread = self._random.lognormvariate(0, 0.35)
        await asyncio.sleep(milliseconds / 1000 * spread * self.faults.latency)
        if self._random.random() < self.faults.errors:
            raise OrderRejected

    async def hang(self) -> None:
        """Returns at once, or never."""
        if self.faults.hang:
            await asyncio.Event().wait()

    async def query(self, milliseconds: float) -> None:
        async with self.pool.connection():
            await self.work(milliseconds)

    async def pay(self) -> None:
        """Charges the card while holding a connection, as so many shops do: slow payments fill the pool."""
        async with self.pool.connection():
            await self.work(6)
            await self._charge()

    async def _charge(self) -> None:
        with self.monitor.dependency("payments-api"):
            async with asyncio.timeout(PAYMENTS_PATIENCE_S):
                async with self._client().post(f"{self.payments}/charge") as answer:
                    answer.raise_for_status()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    async def change(self, order: dict[str, Any]) -> None:
        """Applies one line from the supervisor."""
        self.payments = order.pop("payments", self.payments)
        for name, value in order.items():
            setattr(self.faults, name, value)
            self.monitor.fault(name, on=name in self.faults.on())
        await self.pool.leak(leaked=self.faults.db)

    async def close(self) -> None:
        if self._session:
            await self._session.close()


def build(shop: Shop) -> FastAPI:
    """The app with its four routes, instrumented."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await shop.close()

    app = FastAPI(title="checkout", lifespan=lifespan)
    routes: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
        ("GET", "/", lambda: shop.work(4)),
        ("GET", "/products", lambda: shop.query(8)),
        ("POST", "/checkout", lambda: shop.query(15)),
        ("POST", "/pay", shop.pay),
    ]
    for method, path, serve in routes:
        app.add_api_route(path, _endpoint(shop, serve), methods=[method])
    shop.monitor = instrument(app, service="checkout", token=shop.settings.token or None)
    shop.monitor.saturation("db_pool", shop.pool.gauge)
    return app


def _endpoint(shop: Shop, serve: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[dict[str, bool]]]:
    async def answer() -> dict[str, bool]:
        await shop.hang()
        await serve()
        return {"ok": True}

    return answer


def _listen(source: TextIO, loop: asyncio.AbstractEventLoop, shop: Shop) -> None:
    """Hands each line to the shop. The end of input, or the order to die, ends the process at once."""
    for line in source:
        order = orjson.loads(line)
        if order.pop("die", False):
            os._exit(1)
        asyncio.run_coroutine_threadsafe(shop.change(order), loop).result()
    os._exit(0)


async def main(source: TextIO) -> None:
    """Serves until standard input ends."""
    shop = Shop(Settings(**orjson.loads(source.readline())))
    threading.Thread(
        target=_listen, args=(source, asyncio.get_running_loop(), shop), name="orders", daemon=True
    ).start()
    config = uvicorn.Config(
        build(shop), host="127.0.0.1", port=shop.settings.port, log_level="critical", access_log=False
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(sys.stdin))
