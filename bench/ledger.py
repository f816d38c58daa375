"""The ledger beside the bare server, and beside bare hashing, in one run.

    python -m bench.ledger

append    facts through `Ledger.record` (decide, canonical bytes, hash, compare-and-append, durable) against
          XADD of as many bytes by as many clients, each waiting for its own reply. One server with
          `appendfsync always`, one process; the two take turns, and the ratio is of the medians.
replay    the same entries again, one core: hashed alone, then parsed, linked and folded as a start does it,
          then as the verifier of an export checks them.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from statistics import median

from bot import votes
from ledger.chain import Entry, parse
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Act, Actor
from ledger.ledger import Ledger
from ledger.redis_store import RedisStore, commands, connect
from ledger.verify import Verifier
from ledger.view import View

ROUNDS, EACH_S = 7, 0.7
BARS = {1: 0.75, 8: 1.0, 64: 1.5}
BOT = Actor.orchestrator("bench")


def refused(number: int) -> Act:
    return Act(channel="telegram", update=str(number), message="7", digest="d" * 64, at_ms=1)


async def rate(clients: int, one: Callable[[], Awaitable[object]]) -> float:
    """How often *clients* who each wait for their reply do *one* a second."""
    ends, done = time.perf_counter() + EACH_S, 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await one()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - began)


async def append(folder: Path) -> list[Entry]:
    """Print the rates, and return what was appended."""
    server = EmbeddedValkey(folder)
    await server.start()
    raw, client = connect(server.url_of("owner"), connections=64), connect(server.url, connections=64)
    store = RedisStore(client)
    await store.load_functions()
    ledger, send = Ledger("acme", store, WallClock(), random.Random(1)), commands(raw)
    await ledger.sweep()
    numbers = iter(range(10**9))

    async def record() -> None:
        made = await ledger.record(BOT, votes.refuse("stranger", "", "", refused(next(numbers))))
        assert isinstance(made, Entry), made

    await record()
    size = len((await store.read("acme", 0, 1))[0].line)
    body = b"x" * size

    async def xadd() -> None:
        await send("XADD", "raw", "*", "e", body)

    print(f"append, entries of {size} bytes, appendfsync always, a second (median of {ROUNDS})")
    print(f"{'clients':>8}{'XADD':>10}{'ledger':>10}{'ratio':>8}{'bar':>7}")
    for clients, bar in BARS.items():
        both = [(await rate(clients, xadd), await rate(clients, record)) for _ in range(ROUNDS)]
        bare, ours = (median(column) for column in zip(*both, strict=True))
        met = "met" if ours / bare >= bar else "MISSED"
        print(f"{clients:8}{bare:10,.0f}{ours:10,.0f}{ours / bare:8.2f}{bar:7.2f}  {met}")
    entries = [e for at in range(0, ledger.view.head.seq, 1000) for e in await store.read("acme", at, 1000)]
    await store.close()
    await raw.aclose()
    await server.stop()
    return entries


def replay(lines: list[bytes]) -> None:
    """Print how many entries a second are hashed, folded and verified."""
    view, verifier = View("acme"), Verifier()
    ways: dict[str, Callable[[bytes], object]] = {
        "hashed": lambda line: sha256(b"\0" + line).digest(),
        "folded": lambda line: view.absorb(parse(line)),
        "verified": verifier.take,
    }
    print(f"\nreplay, {len(lines):,} entries, a second")
    floor = 0.0
    for name, take in ways.items():
        began = time.perf_counter()
        for line in lines:
            take(line)
        found = len(lines) / (time.perf_counter() - began)
        floor = floor or found
        print(f"{name:>10}{found:12,.0f}   {found / floor:.2f} of hashing")


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bl-") as folder:
        entries = asyncio.run(append(Path(folder)))
    replay([entry.line for entry in entries])


if __name__ == "__main__":
    main()
