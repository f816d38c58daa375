"""How many taps a second one process takes: stored durably, and answered on the wire.

    python -m bench.taps [--taps 3000] [--at-once 32]

One process is the program's own: door, inbox, embedded Valkey (`appendfsync always`), python-telegram-bot,
channel. The desk answers at once: what deciding costs is measured in `bench/ledger.py`. Another process is
Telegram: it posts taps of as many people as it has requests open, and counts `answerCallbackQuery` calls.
"stored" is taps until the last 200, "answered" until the last verdict arrived there.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import aiohttp
from aiohttp import web

from bot.channels.telegram import TelegramChannel, TelegramReceiver, build_application, builder
from bot.ingress import SECRET_HEADER, Inbox, TelegramDoor
from bot.outbox import Outbox
from bot.ports import Answer, Said, Tap, Verb
from bot.sandbox.loopback import serve
from bot.tokens import Tokens
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import commands, connect

TOKEN, SECRET, GROUP = "100200:bench", "bench", -100200300
BAR = 500


class Desk:
    async def tapped(self, tenant: str, tap: Tap) -> Answer:
        assert tap.genuine
        return Answer("Approved 03:14:02. Restart is running. #45", alert=False)

    async def said(self, tenant: str, said: Said) -> Answer | None:
        return None


async def program(taps: int, at_once: int) -> None:
    clock = WallClock()
    telegram = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.taps", "--telegram", "--taps", str(taps), "--at-once", str(at_once)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert telegram.stdin
    assert telegram.stdout
    api = (await telegram.stdout.readline()).decode().strip()
    with tempfile.TemporaryDirectory(prefix="taps") as folder:
        valkey = EmbeddedValkey(Path(folder))
        await valkey.start()
        client = connect(valkey.url, connections=64)
        application = build_application(builder(TOKEN, api))
        tokens, outbox = Tokens(b"b" * 32, clock), Outbox(clock)
        channel = TelegramChannel(application.bot, tokens)
        inbox = Inbox(commands(client), "bench")
        door = TelegramDoor(inbox, clock, SECRET, channel.not_run)

        async def moved(old: str, new: str) -> None: ...

        receiver = TelegramReceiver(application, channel, outbox, Desk(), tokens, lambda *_: ["acme"], moved)
        app = web.Application()
        app.router.add_post("/telegram/webhook", door.webhook)
        served = await serve(app)
        running = asyncio.create_task(inbox.run({"telegram": receiver}))
        data = tokens.mint("acme", str(GROUP), Verb.APPROVE, "1", "7f3a91c2" * 8)
        telegram.stdin.write(f"{served.url}/telegram/webhook {data}\n".encode())
        result = json.loads(await telegram.stdout.readline())
        await telegram.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await receiver.close()
        await outbox.close()
        await served.close()
        await client.aclose()
        await valkey.stop()
    report(taps, at_once, result)


def report(taps: int, at_once: int, told: dict[str, float]) -> None:
    met = "met" if told["answered"] >= BAR else "MISSED"
    print(f"{taps} taps, {at_once} at once, one process, appendfsync always")
    print(f"  stored    {told['stored']:7.0f}/s   200 after p50 {told['p50']:.1f}, p99 {told['p99']:.1f} ms")
    print(f"  answered  {told['answered']:7.0f}/s   bar {BAR}/s: {met}")
    print(f"  one at a time: verdict on the wire p50 {told['one_p50']:.1f}, p99 {told['one_p99']:.1f} ms")


class Api:
    """As much of the Bot API as a tap needs."""

    def __init__(self) -> None:
        self.answered: dict[str, float] = {}
        self.wanted = 0
        self.all = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        if request.match_info["method"] == "getMe":
            me = {"id": 1, "is_bot": True, "first_name": "Bench", "username": "bench_bot"}
            return web.json_response({"ok": True, "result": me})
        form = await request.post()
        self.answered[str(form["callback_query_id"])] = perf_counter()
        if len(self.answered) >= self.wanted:
            self.all.set()
        return web.json_response({"ok": True, "result": True})

    async def until(self, count: int) -> None:
        self.wanted = count
        self.all.clear()
        if len(self.answered) < count:
            async with asyncio.timeout(120):
                await self.all.wait()


async def telegram(taps: int, at_once: int) -> None:
    api = Api()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", api.handle)
    served = await serve(app)
    print(served.url, flush=True)
    url, data = (await asyncio.to_thread(sys.stdin.readline)).split()
    async with aiohttp.ClientSession(headers={SECRET_HEADER: SECRET}) as session:

        async def post(n: int) -> float:
            began = perf_counter()
            async with session.post(url, json=tap(n, n % at_once + 1, data)) as answer:
                assert answer.status == 200
            return perf_counter() - began

        alone = []
        for n in range(200):
            began = perf_counter()
            await post(n)
            await api.until(n + 1)
            alone.append(api.answered[str(n)] - began)
        numbers = iter(range(200, 200 + taps))
        took: list[float] = []

        async def person() -> None:
            for n in numbers:
                took.append(await post(n))  # noqa: PERF401  each waits for the one before

        began = perf_counter()
        await asyncio.gather(*(person() for _ in range(at_once)))
        stored = perf_counter() - began
        await api.until(200 + taps)
        answered = perf_counter() - began
    await served.close()
    result = {
        "stored": taps / stored,
        "answered": taps / answered,
        "p50": median(took) * 1000,
        "p99": quantiles(took, n=100)[98] * 1000,
        "one_p50": median(alone) * 1000,
        "one_p99": quantiles(alone, n=100)[98] * 1000,
    }
    print(json.dumps(result), flush=True)


def tap(n: int, person: int, data: str) -> dict[str, object]:
    chat = {"id": GROUP, "type": "supergroup", "title": "acme on-call"}
    return {
        "update_id": n,
        "callback_query": {
            "id": str(n),
            "from": {"id": person, "is_bot": False, "first_name": "Rudo"},
            "message": {"message_id": 7, "date": 1, "chat": chat, "text": "card"},
            "chat_instance": "1",
            "data": data,
        },
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--taps", type=int, default=3000)
    options.add_argument("--at-once", type=int, default=32)
    options.add_argument("--telegram", action="store_true", help=argparse.SUPPRESS)
    asked = options.parse_args()
    asyncio.run((telegram if asked.telegram else program)(asked.taps, asked.at_once))
