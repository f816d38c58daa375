"""A thousand people tap Approve on one request at the same moment, through the whole program.

    python -m bench.crowd [--people 1000] [--connections 1000]

The program is one process with an embedded Valkey (`appendfsync always`). Another process is Telegram: it
posts all taps at once, each on a connection of its own (Telegram itself has at most 100), and waits until
each was answered. Bars: exactly one Authorized, every tap answered, and the last within two seconds.

Beside it stand the same taps where nothing is done but to take each and to answer it: that is the floor.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from urllib.parse import parse_qs

import aiohttp
import httpx
from aiohttp import web

from bench.taps import MESSAGE, SECRET, TOKEN, Way, tap, whole
from bench.wire import Served, post, post_all
from bot.ingress import SECRET_HEADER
from bot.sandbox.loopback import serve
from bot.serve import settle
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import RedisStore, connect

BAR_S = 2.0
CONNECTIONS = 32
ME = {"id": 1, "is_bot": True, "first_name": "Bench", "username": "bench_bot"}

type Say = Callable[[str, dict[str, str]], Awaitable[object]]


class Crowd:
    """Telegram, which keeps what each tap was told."""

    def __init__(self, people: int) -> None:
        self.told: dict[str, str] = {}
        self.people = people
        self.all = asyncio.Event()

    def answer(self, path: str, body: bytes) -> bytes:
        result: object = True
        match path.rpartition("/")[2]:
            case "getMe":
                result = ME
            case "answerCallbackQuery":
                form = parse_qs(body.decode())
                self.told[form["callback_query_id"][0]] = form.get("text", [""])[0]
                if len(self.told) == self.people:
                    self.all.set()
            case _:
                result = MESSAGE
        return json.dumps({"ok": True, "result": result}).encode()


async def telegram(people: int, connections: int) -> None:
    crowd = Crowd(people)
    server = await asyncio.get_running_loop().create_server(lambda: Served(crowd.answer), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    url, data = (await asyncio.to_thread(sys.stdin.readline)).split()
    bodies = (json.dumps(tap(n, n, data)).encode() for n in range(1, people + 1))
    requests = [post(url, {SECRET_HEADER: SECRET}, body) for body in bodies]
    began, busy = perf_counter(), process_time()
    said = await post_all(url, requests, connections)
    stored = perf_counter() - began
    assert set(said) == {200}, Counter(said)
    async with asyncio.timeout(120):
        await crowd.all.wait()
    result = {
        "stored": stored,
        "answered": perf_counter() - began,
        "busy": process_time() - busy,
        "told": len(crowd.told),
        "won": sum(text.startswith("Approved") for text in crowd.told.values()),
    }
    print(json.dumps(result), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def bare(way_out: Callable[[], Say]) -> Way:
    """Takes each tap and answers it, and does nothing else."""

    @asynccontextmanager
    async def opened(api: str, folder: Path, people: int) -> AsyncIterator[tuple[str, str]]:
        answering, say = set[asyncio.Task[object]](), way_out()

        async def take(request: web.Request) -> web.Response:
            query = json.loads(await request.read())["callback_query"]["id"]
            form = {"callback_query_id": query, "text": "Rudo was first"}
            url = f"{api}/bot{TOKEN}/answerCallbackQuery"
            answering.add(asyncio.create_task(say(url, form)))  # type: ignore[arg-type]
            return web.Response()

        app = web.Application()
        app.router.add_post("/telegram/webhook", take)
        served = await serve(app)
        yield f"{served.url}/telegram/webhook", "-"
        await asyncio.gather(*answering)
        await say("", {})
        await served.close()

    return opened


def by_aiohttp() -> Say:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))

    async def say(url: str, form: dict[str, str]) -> object:
        if not url:
            await session.close()
            return None
        async with session.post(url, data=form) as answer:
            return await answer.json()

    return say


def by_httpx() -> Say:
    """As python-telegram-bot has it, but for the number of connections."""
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=CONNECTIONS), timeout=60)

    async def say(url: str, form: dict[str, str]) -> object:
        if not url:
            await client.aclose()
            return None
        return (await client.post(url, data=form)).json()

    return say


async def measure(people: int, connections: int, way: Way) -> tuple[dict[str, float], Counter[str]]:
    """What Telegram saw, with the processor's time of this process; and how often each event stands."""
    told = (f"--people={people}", f"--connections={connections}")
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.crowd", "--telegram", *told),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdin
    assert other.stdout
    api = (await other.stdout.readline()).decode().strip()
    events = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="crowd") as folder:
        async with way(api, Path(folder), people) as (url, data):
            settle()
            busy = process_time()
            other.stdin.write(f"{url} {data}\n".encode())
            result: dict[str, float] = json.loads(await other.stdout.readline())
            result["bot"] = process_time() - busy
            if way is through:
                store = RedisStore(connect(EmbeddedValkey(Path(folder)).url_of("owner")))
                events = Counter(entry.event for entry in await store.read("acme", 0, 10_000))
                await store.close()
            other.stdin.close()
        await other.wait()
    return result, events


@asynccontextmanager
async def through(api: str, folder: Path, people: int) -> AsyncIterator[tuple[str, str]]:
    """The whole program, in which everybody may approve and nobody is on call."""
    async with whole(api, folder, people, '"admin"') as found:
        yield found


def main(people: int, connections: int) -> None:
    told, events = asyncio.run(measure(people, connections, through))
    floors = {
        name: asyncio.run(measure(people, connections, bare(way)))[0]
        for name, way in (("aiohttp", by_aiohttp), ("httpx", by_httpx))
    }
    good = (told["told"], told["won"], events["Authorized"]) == (people, 1, 1)
    met = "met" if good and told["answered"] < BAR_S else "MISSED"
    print(f"{people} people tap one request at once, one process, appendfsync always: {met}")
    print(
        f"  {events['Authorized']} Authorized, {told['won']:g} told that they won, {told['told']:g} answers"
    )
    print(f"  bar {BAR_S:g} s   stored  answered   processor, a tap: bot  Telegram's part")
    for name, one in {"the program": told, **{f"nothing, {k}": v for k, v in floors.items()}}.items():
        share = 1000 / people
        print(
            f"  {name:15} {one['stored']:5.2f} s  {one['answered']:6.2f} s"
            f" {one['bot'] * share:18.2f} ms {one['busy'] * share:10.2f} ms"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--people", type=int, default=1000)
    options.add_argument("--connections", type=int, default=0, help="as many as people, if left out")
    options.add_argument("--telegram", action="store_true", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.telegram:
        asyncio.run(telegram(asked.people, asked.connections))
    else:
        main(asked.people, asked.connections or asked.people)
