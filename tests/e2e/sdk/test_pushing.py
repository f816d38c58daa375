"""An app that nobody can reach, and the real program: it pushes, is judged, and is missed when silent."""

import asyncio
import os
import re
import secrets
import signal
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from bot.sandbox.premises import free_port
from tests.e2e.sdk.test_workers import serving
from tests.stages import ASK_S, CARD_S, END_S, QUICK, Books, Stage, an_environment, short_folder, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sdk_pushing"), pytest.mark.timeout(240)]

UVICORN = ("uvicorn", "tests.e2e.sdk.on_fastapi:app", "--workers", "2", "--log-level", "error", "--port")
TOKEN = secrets.token_hex(16)


class Pushing(Stage):
    """checkout is not asked: it pushes."""

    def write_charter(self, **changes):
        super().write_charter(**changes)
        file = self.folder / "charter.toml"
        text = re.sub(r"health_url = .*\ntoken_env = .*\n", 'push = "ACME_CHECKOUT_PUSH"\n', file.read_text())
        file.write_text(text)

    def environment(self):
        return super().environment() | {"ACME_CHECKOUT_PUSH": TOKEN}


@asynccontextmanager
async def customers(port):
    """Some thirty requests a second, whatever comes of them, until the block ends."""

    async def come():
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get("/pid/someone"):
                        pass
                await asyncio.sleep(0.03)

    coming = asyncio.create_task(come())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_an_app_that_only_pushes_opens_an_incident_recovers_and_is_missed_when_it_is_silent(
    monkeypatch,
):
    with short_folder() as folder:
        stage = Pushing(
            folder, an_environment(), charter={"policy": QUICK}, settings={"LOOP_INTERVAL_S": "1"}
        )
        async with stage:
            await stage.adopt()
            broken, port = folder / "broken", free_port()
            monkeypatch.setenv("PUSH_URL", f"{stage.world.bot_url}/ingest/acme/checkout")
            monkeypatch.setenv("PUSH_TOKEN", TOKEN)
            monkeypatch.setenv("BROKEN", str(broken))
            rudo, books = stage.world.phone("rudo").in_private, Books(folder)
            try:
                async with serving(*UVICORN, str(port)) as app, customers(port):
                    await says(rudo, r"checkout: 100/100, [1-9][\d.]* req/s")
                    broken.touch()
                    opened = await books.shows("Detected", CARD_S)
                    reading = opened.data["reading"]
                    assert (reading["signal"], reading["service"]) == ("errors", "checkout")
                    await stage.world.phone("rudo").expects_card("checkout", CARD_S)
                    broken.unlink()
                    await books.shows("Recovered", END_S + ASK_S)
                    os.killpg(app.pid, signal.SIGKILL)
                    await app.wait()
                again = await books.shows("Reopened", END_S)
                assert again.data["reading"]["signal"] == "unreachable"
                assert re.search(r"no push for 1\d s", again.data["reading"]["explanation"])
            finally:
                await books.close()


async def says(phone, pattern):
    """Sooner or later /status says it."""

    async def look():
        await phone.sends("/status")
        await phone.expects("checkout:")
        return re.search(pattern, phone.history()[-1])

    await until(look, f"/status says {pattern}", CARD_S)
