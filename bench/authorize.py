"""From a tap to the recovery webhook, both on the wire, through the whole program, each entry on disk first.

    python -m bench.authorize [TAPS]

A bot with as many sick services as taps, each with a request that waits. A tap is Telegram's own POST to the
bot's webhook; it ends when the recovery endpoint of that service is called. One after the other, so that each
measures the path and not a queue. Bars: p50 under 15 ms, p99 under 50 ms. Many taps at once are measured by
bench/crowd.py, and executors against each other and against kill -9 by bench/races.py.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from bot.ports import Verb
from bot.sandbox.stage import Stage
from bot.sandbox.world import RUDO, World
from bot.tokens import Tokens
from ledger.clock import WallClock

WARM = 10


class Sick:
    """Health addresses where half of all requests fail, and recovery endpoints that take notes."""

    def __init__(self) -> None:
        self.called: dict[str, asyncio.Future[float]] = {}
        self.url = ""

    async def health(self, request: web.Request) -> web.Response:
        now_ms = time.time_ns() // 1_000_000
        newest, since = now_ms // 1000 - 1, int(request.query["since"])
        slots = [
            {"t": t, "n": 20, "errors": 10, "hist": [640, 20], "routes": []}
            for t in range(max(since + 1, newest - 5), newest + 1)
        ]
        told = {"schema": "slots/1", "service": "s", "now_ms": now_ms, "slots": slots}
        return web.json_response(told)

    async def recover(self, request: web.Request) -> web.Response:
        at = time.perf_counter()
        await request.read()
        self.called[request.match_info["service"]].set_result(at)
        return web.json_response({"ok": True})

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{service}/health/alerts", self.health)
        app.router.add_post("/{service}/recover", self.recover)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner


class Many(Stage):
    """A stage with *count* services at *url* and one person, without the shop."""

    def __init__(self, folder: Path, count: int, url: str) -> None:
        super().__init__(folder, dict(os.environ), settings={"COUNCIL_ENABLED": "false"})
        self.world = World(folder, dict(os.environ), shop=False)
        self.count, self.url = count, url

    def write_charter(self, **changes: object) -> None:
        head = f"""
[tenant]
id = "acme"
allow_networks = ["127.0.0.0/8"]
[limits]
services = {self.count}
[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "admin"]
telegram = {RUDO}
"""
        service = """
[[services]]
id = "s{n}"
health_url = "{url}/s{n}/health/alerts"
[[services.actions]]
id = "restart"
title = "Restart"
webhook = "{url}/s{n}/recover"
secret_env = "ACME_CHECKOUT_RECOVERY"
approve = "1 oncall"
default = true
outside = true
"""
        text = head + "".join(service.format(n=n, url=self.url) for n in range(self.count))
        (self.folder / "charter.toml").write_text(text, encoding="utf-8")


async def requests(stage: Many) -> dict[str, str]:
    """The hash of each service's request, once all stand."""
    async with asyncio.timeout(120):
        while True:
            found = {e.incident_id: e.hash for e in await stage.entries() if e.event == "Validated"}
            if len(found) >= stage.count:
                return {str(name).rpartition("-")[0]: digest for name, digest in found.items()}
            await asyncio.sleep(1)


def update(number: int, data: str) -> bytes:
    rudo = {"id": RUDO, "is_bot": False, "first_name": "Rudo"}
    message = {"message_id": 5, "date": 1, "chat": {"id": RUDO, "type": "private"}, "text": "card"}
    query = {"id": str(number), "from": rudo, "chat_instance": "1", "message": message, "data": data}
    return json.dumps({"update_id": 900_000_000 + number, "callback_query": query}).encode()


async def measure(count: int) -> list[float]:
    sick, took = Sick(), []
    runner = await sick.start()
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        async with Many(Path(folder), count, sick.url) as stage, aiohttp.ClientSession() as session:
            await stage.adopt()
            tokens = Tokens(stage.world.keys["ALERT_SECRET"].encode(), WallClock())
            headers = {"X-Telegram-Bot-Api-Secret-Token": stage.world.keys["TELEGRAM_WEBHOOK_SECRET"]}
            for number, (service, request) in enumerate((await requests(stage)).items()):
                called = sick.called[service] = asyncio.get_running_loop().create_future()
                data = tokens.mint("acme", str(RUDO), Verb.APPROVE, "1", request)
                began = time.perf_counter()
                url = f"{stage.world.bot_url}/telegram/webhook"
                async with session.post(url, data=update(number, data), headers=headers) as response:
                    assert response.status == 200, response.status
                async with asyncio.timeout(10):
                    took.append(await called - began)
    await runner.cleanup()
    return took[WARM:]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 210
    took = sorted(1000 * one for one in asyncio.run(measure(count)))
    p99 = took[int(len(took) * 0.99)]
    print(f"tap → recovery webhook, {len(took)} taps, appendfsync always")
    print(
        f"p50 {statistics.median(took):.1f} ms (bar: 15), p99 {p99:.1f} ms (bar: 50), worst {took[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
