"""Real servers with several workers: whoever is asked tells of all, exactly, also of one that was killed."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from bot.sandbox.premises import free_port
from sdk import wire
from tests.stages import ROOT, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sdk_workers")]

UVICORN = ("uvicorn", "--log-level", "warning")
GUNICORN = ("gunicorn", "--log-level", "warning")
HALF = 200
PATIENCE_S = 45.0


class Served:
    """A server and its workers, as a client and the one who polls them see it."""

    def __init__(self, http):
        self._http = http

    async def asks(self, times):
        """Send *times* requests, each on a connection of its own; the workers that answered."""
        free = asyncio.Semaphore(8)

        async def once():
            async with free, self._http.get("/pid/someone") as answer:
                assert answer.status == 200
                return int(await answer.text())

        return set(await asyncio.gather(*(once() for _ in range(times))))

    async def is_up(self):
        with suppress(aiohttp.ClientError):
            async with self._http.get("/health/alerts") as answer:
                return answer.status == 200
        return False

    async def slots(self):
        async with self._http.get("/health/alerts", params={"format": "slots", "since": 0}) as answer:
            return wire.decode(await answer.read())

    async def tells(self, count):
        """Wait until all *count* requests are told; at no time are there more."""

        async def look():
            told = await self.slots()
            merged = wire.merge_slots(told.slots)
            assert merged.n <= count
            assert sum(merged.hist.values()) == merged.n
            return merged if merged.n == count else None

        return await until(look, f"{count} requests are told", PATIENCE_S)

    async def covers(self, workers, stale):
        """Wait until an answer says that it covers so many workers, and how many are stale."""

        async def look():
            told = await self.slots()
            return (told.workers, told.workers_stale) == (workers, stale)

        await until(look, f"{workers} workers and {stale} stale are told", PATIENCE_S)


@asynccontextmanager
async def serving(*command):
    """The server, with everything that it started; all of it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def uvicorn(app, workers, port):
    return *UVICORN, "--workers", str(workers), "--port", str(port), f"tests.e2e.sdk.{app}:app"


def gunicorn(app, workers, port, *how):
    return (
        *GUNICORN,
        "--workers",
        str(workers),
        *how,
        "--bind",
        f"127.0.0.1:{port}",
        f"tests.e2e.sdk.{app}:app",
    )


def threads(app, workers, port):
    return gunicorn(app, workers, port, "--threads", "2")


def its_own(app, workers, port):
    return gunicorn(app, workers, port, "--worker-class", "aiohttp.GunicornWebWorker")


@pytest.mark.parametrize(
    ("server", "app", "workers"),
    [
        (uvicorn, "on_fastapi", 4),
        (uvicorn, "on_starlette", 2),
        (uvicorn, "on_litestar", 2),
        (uvicorn, "on_bare", 2),
        (threads, "on_flask", 3),
        (threads, "on_django", 3),
        (its_own, "on_aiohttp", 2),
    ],
    ids=["fastapi", "starlette", "litestar", "bare", "flask", "django", "aiohttp"],
)
async def test_any_worker_tells_of_all_and_a_killed_one_loses_nothing_that_was_told(server, app, workers):
    port = free_port()
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        serving(*server(app, workers, port)),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as http,
    ):
        served = Served(http)
        await until(served.is_up, "the server answers", PATIENCE_S)
        sent, found = 0, set()
        while len(found) < workers:
            found |= await served.asks(HALF)
            sent += HALF
            assert sent < 100 * HALF
        merged = await served.tells(sent)
        assert {part.n for part in merged.routes} == {sent}
        await served.covers(workers, 0)
        os.kill(min(found), signal.SIGKILL)
        left = set()
        while len(left) < workers:
            left |= await served.asks(HALF) - {min(found)}
            sent += HALF
        await served.tells(sent)
        await served.covers(workers, 1)
