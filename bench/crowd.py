"""A thousand people tap Approve on one request at the same moment, through the whole program.

    python -m bench.crowd [--people 1000]

The program is one process with an embedded Valkey (`appendfsync always`). Another process is Telegram: it
posts all taps at once and waits until each was answered. Bars: exactly one Authorized, every tap answered,
and the last within two seconds.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

import aiohttp
from aiohttp import web

from bench.taps import SECRET, Api, tap, whole
from bot.ingress import SECRET_HEADER
from bot.sandbox.loopback import serve
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import RedisStore, connect

BAR_S = 2.0


class Crowd(Api):
    """Telegram, which keeps what each tap was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        if request.match_info["method"] == "answerCallbackQuery":
            self.told.append(str((await request.post()).get("text", "")))
        return await super().handle(request)


async def telegram(people: int) -> None:
    api = Crowd()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", api.handle)
    served = await serve(app)
    print(served.url, flush=True)
    url, data = (await asyncio.to_thread(sys.stdin.readline)).split()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={SECRET_HEADER: SECRET}) as session:

        async def post(n: int) -> None:
            async with session.post(url, json=tap(n, n, data)) as answer:
                assert answer.status == 200

        began = perf_counter()
        await asyncio.gather(*(post(n) for n in range(1, people + 1)))
        stored = perf_counter() - began
        await api.until(people)
        answered = perf_counter() - began
    won = sum(text.startswith("Approved") for text in api.told)
    print(json.dumps({"stored": stored, "answered": answered, "told": len(api.told), "won": won}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await served.close()


async def crowd(people: int) -> tuple[dict[str, float], Counter[str]]:
    """What Telegram saw, and how often each event stands in the ledger."""
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.crowd", "--telegram", "--people", str(people)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdin
    assert other.stdout
    api = (await other.stdout.readline()).decode().strip()
    with tempfile.TemporaryDirectory(prefix="crowd") as folder:
        async with whole(api, Path(folder), people, '"admin"') as (url, data):
            other.stdin.write(f"{url} {data}\n".encode())
            result: dict[str, float] = json.loads(await other.stdout.readline())
            store = RedisStore(connect(EmbeddedValkey(Path(folder)).url_of("owner")))
            log = await store.read("acme", 0, 10_000)
            await store.close()
            other.stdin.close()
        await other.wait()
    return result, Counter(entry.event for entry in log)


def main(people: int) -> None:
    told, events = asyncio.run(crowd(people))
    good = (told["told"], told["won"], events["Authorized"]) == (people, 1, 1)
    met = "met" if good and told["answered"] < BAR_S else "MISSED"
    print(f"{people} people tap one request at once, one process, appendfsync always: {met}")
    print(
        f"  all stored after {told['stored']:.2f} s, answered after {told['answered']:.2f} s (bar {BAR_S:g})"
    )
    print(
        f"  {events['Authorized']} Authorized, {told['won']:g} told that they won, {told['told']:g} answers"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--people", type=int, default=1000)
    options.add_argument("--telegram", action="store_true", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.telegram:
        asyncio.run(telegram(asked.people))
    else:
        main(asked.people)
