"""How many taps a second one process takes: stored durably, and answered on the wire.

    python -m bench.taps [--taps 3000] [--at-once 32] [--door]

One process is the whole program with an embedded Valkey (`appendfsync always`): 32 people on call tap Approve
on one request, over and over; the first is counted, the others are told who was first, and what cannot run is
on record. With `--door` its desk answers at once: door, inbox, python-telegram-bot and channel are left.
Another process is Telegram: it posts the taps, and counts `answerCallbackQuery` calls. "stored" is taps until
the last 200, "answered" until the last verdict arrived there.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import aiohttp
from aiohttp import web

from bot.channels.telegram import TelegramChannel, TelegramReceiver, build_application, builder
from bot.ingress import SECRET_HEADER, Inbox, TelegramDoor
from bot.outbox import Outbox
from bot.ports import Answer, Said, Tap, Verb
from bot.production import running
from bot.sandbox.loopback import serve
from bot.sandbox.premises import free_port
from bot.settings import read
from bot.tokens import Tokens
from ledger import events as ev
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Actor, Reading
from ledger.redis_store import commands, connect

TOKEN, SECRET, GROUP = "100200:bench", "bench", -100200300
ALERT_SECRET = b"a secret of this measurement alone"
SICK = Reading(
    service="shop",
    rule="err_crit",
    signal="errors",
    severity="critical",
    headline="19 % of requests fail",
    explanation="36 of 187 requests failed in 10 s.",
)
BAR = 500


type Way = Callable[[str, Path, int], AbstractAsyncContextManager[tuple[str, str]]]


class Desk:
    async def tapped(self, tenant: str, tap: Tap) -> Answer:
        assert tap.genuine
        return Answer("Approved 03:14:02. Restart is running. #45", alert=False)

    async def said(self, tenant: str, said: Said) -> Answer | None:
        return None


@asynccontextmanager
async def door(api: str, folder: Path, people: int) -> AsyncIterator[tuple[str, str]]:
    """The way in and out without a desk: where taps go, and a button's data."""
    clock = WallClock()
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    client = connect(valkey.url, connections=64)
    application = build_application(builder(TOKEN, api))
    tokens, outbox = Tokens(ALERT_SECRET, clock), Outbox(clock)
    channel = TelegramChannel(application.bot, tokens)
    inbox = Inbox(commands(client), "bench")
    app = web.Application()
    app.router.add_post("/telegram/webhook", TelegramDoor(inbox, clock, SECRET, channel.not_run).webhook)
    served = await serve(app)

    async def moved(old: str, new: str) -> None: ...

    receiver = TelegramReceiver(application, channel, outbox, Desk(), tokens, lambda *_: ["acme"], moved)
    running_inbox = asyncio.create_task(inbox.run({"telegram": receiver}))
    yield f"{served.url}/telegram/webhook", tokens.mint("acme", str(GROUP), Verb.APPROVE, "1", "7f3a91c2" * 8)
    running_inbox.cancel()
    await asyncio.gather(running_inbox, return_exceptions=True)
    await receiver.close()
    await outbox.close()
    await served.close()
    await client.aclose()
    await valkey.stop()


@asynccontextmanager
async def whole(
    api: str, folder: Path, people: int, roles: str = '"oncall", "admin"'
) -> AsyncIterator[tuple[str, str]]:
    """The whole program with one open request. All people have *roles*, and who is on call gets cards."""
    (folder / "charter.toml").write_text(charter(people, roles), encoding="utf-8")
    told = {
        "ALERT_SECRET": ALERT_SECRET.decode(),
        "LEDGER_KEY": ALERT_SECRET.decode(),
        "CHARTER": str(folder / "charter.toml"),
        "DATA_DIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "TELEGRAM_API_BASE": api,
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_WEBHOOK_SECRET": SECRET,
        "ACME_SHOP_RECOVERY": "s" * 32,
    }
    told["PUBLIC_BASE_URL"] = f"http://127.0.0.1:{told['PORT']}"
    async with running(read(told), told) as program:
        [room] = program.rooms
        await room.keep_rules()
        rules = ev.CharterAdopted(
            digest=room.proposed.digest(),
            policy_digest=room.proposed_policy.digest(),
            policy_label=room.proposed_policy.label,
        )
        await room.ledger.record(Actor.engineer("p1", "telegram"), lambda view, now: rules)
        opened = ev.Detected(incident_id="shop-1", reading=SICK)
        await room.ledger.record(Actor.policy(), lambda view, now: opened)
        changed = asyncio.Event()
        room.ledger.on_change(changed.set)
        while not (request := room.ledger.view.incidents["shop-1"].request):
            changed.clear()
            await changed.wait()
        tokens = Tokens(ALERT_SECRET, room.clock)
        data = tokens.mint("acme", str(GROUP), Verb.APPROVE, "1", request.hash)
        yield f"{told['PUBLIC_BASE_URL']}/telegram/webhook", data


def charter(people: int, roles: str) -> str:
    person = '[[people]]\nid = "p{n}"\nname = "P{n}"\nroles = [{roles}]\ntelegram = {n}\n'
    oncall = "".join(person.format(n=n, roles=roles) for n in range(1, people + 1))
    return f"""
[tenant]
id = "acme"
allow_networks = ["127.0.0.0/8"]
{oncall}
[[chats]]
telegram = {GROUP}
[[services]]
id = "shop"
health_url = "http://127.0.0.1:9/health/alerts"
[[services.actions]]
id = "restart"
title = "Restart"
webhook = "http://127.0.0.1:9/recover"
secret_env = "ACME_SHOP_RECOVERY"
approve = "1 oncall or 1 admin"
outside = true
default = true
"""


async def program(taps: int, at_once: int, way: Way) -> None:
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
        async with way(api, Path(folder), at_once) as (url, data):
            telegram.stdin.write(f"{url} {data}\n".encode())
            result = json.loads(await telegram.stdout.readline())
            telegram.stdin.close()
        await telegram.wait()
    report(taps, at_once, result)


def report(taps: int, at_once: int, told: dict[str, float]) -> None:
    met = "met" if told["answered"] >= BAR else "MISSED"
    print(f"{taps} taps, {at_once} at once, one process, appendfsync always")
    print(f"  stored    {told['stored']:7.0f}/s   200 after p50 {told['p50']:.1f}, p99 {told['p99']:.1f} ms")
    print(f"  answered  {told['answered']:7.0f}/s   bar {BAR}/s: {met}")
    print(f"  one at a time: verdict on the wire p50 {told['one_p50']:.1f}, p99 {told['one_p99']:.1f} ms")


MESSAGE = {"message_id": 7, "date": 1, "chat": {"id": GROUP, "type": "supergroup", "title": "acme"}}


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
        if request.match_info["method"] != "answerCallbackQuery":
            return web.json_response({"ok": True, "result": MESSAGE})
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
    result = {
        "stored": taps / stored,
        "answered": taps / answered,
        "p50": median(took) * 1000,
        "p99": quantiles(took, n=100)[98] * 1000,
        "one_p50": median(alone) * 1000,
        "one_p99": quantiles(alone, n=100)[98] * 1000,
    }
    print(json.dumps(result), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await served.close()


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
    options.add_argument("--door", action="store_true", help="without the desk")
    asked = options.parse_args()
    if asked.telegram:
        asyncio.run(telegram(asked.taps, asked.at_once))
    else:
        asyncio.run(program(asked.taps, asked.at_once, door if asked.door else whole))
