"""The ledger beside the bare server, in one run: appended, shared, restarted, proven.

    python -m bench.ledger [ENTRIES]

append    facts through `Ledger.record`, each with all that an entry has: the decision, its state guard,
          pydantic, canonical JSON, chain, Merkle tree, compare-and-append, and a signature and an fsync a
          batch. Beside it XADD of as many bytes by as many clients, each waiting for its own reply. One
          server, one process, one client library; the two take turns, and the ratio is the median of theirs.
shared    two processes on one tenant, each with half of the clients, beside one.
restart   a new ledger on a log of ENTRIES entries (200,000): read, verified and folded until it may act.
proof     an entry's inclusion in a tree of a million leaves.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

from bench.audit import made
from bot import votes
from ledger.chain import Entry, Frontier, leaf_hash
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import Act, Actor
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.proof import root
from ledger.prove import audit_path
from ledger.redis_store import SEGMENT, Commands, RedisStore, commands, connect

ROUNDS, EACH_S = 9, 0.3
BARS = (("always", 1, 0.75), ("everysec", 1, 0.45), ("always", 8, 1.0), ("always", 64, 1.5))
SHARED, SHARED_BAR = 32, 0.6
ENTRIES, RESTART_S = 200_000, 2.0
PROVEN, HASHES = 1_000_000, 20
BOT = Actor.orchestrator("bench")
SEED = seed_of(b"a key for a bench, and for nothing else")

type Doing = Callable[[], Awaitable[object]]
type Rate = Callable[[], Awaitable[float]]


def refused(number: int) -> Act:
    return Act(channel="telegram", update=str(number), message="7", digest="d" * 64, at_ms=1)


async def rate(clients: int, one: Doing) -> float:
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


async def in_turns(one: Rate, other: Rate) -> tuple[float, float, float]:
    """The median rates of both, and the median of the ratios of *other* to *one*; who begins changes."""
    pairs = []
    for turn in range(ROUNDS):
        first, second = (one, other) if turn % 2 else (other, one)
        rates = {first: await first(), second: await second()}
        pairs.append((rates[one], rates[other]))
    bare, ours = (median(column) for column in zip(*pairs, strict=True))
    return bare, ours, median(ours / bare for bare, ours in pairs)


def recorder(ledger: Ledger, kept: set[str]) -> Doing:
    """Records a fact, and keeps the hash of what was acknowledged."""
    numbers = iter(range(10**9))

    async def record() -> None:
        entry = await ledger.record(BOT, votes.refuse("stranger", "", "", refused(next(numbers))))
        assert isinstance(entry, Entry), entry
        kept.add(entry.hash)

    return record


@asynccontextmanager
async def a_ledger(store: RedisStore, tenant: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(tenant, store, WallClock(), random.Random(1), signer=SEED)
    await ledger.sweep()
    assert not ledger.sealed, ledger.sealed
    yield ledger
    await ledger.close()


def verdict(holds: bool) -> str:
    return "met" if holds else "MISSED"


async def append(store: RedisStore, owner: Commands) -> None:
    async with a_ledger(store, "bench") as ledger:
        record = recorder(ledger, set())
        await record()
        body = b"x" * len((await store.read("bench", 0, 1))[0].line)

        async def xadd() -> None:
            await owner("XADD", "raw", "*", "e", body)

        print(f"append, entries of {len(body)} bytes, signed, a second (median of {ROUNDS})")
        print(f"{'fsync':>9}{'clients':>9}{'XADD':>9}{'ledger':>9}{'ratio':>7}{'bar':>6}{'a batch':>9}")
        for fsync, clients, bar in BARS:
            await owner("CONFIG", "SET", "appendfsync", fsync)
            calls, seq = ledger.calls, ledger.view.head.seq
            bare, ours, ratio = await in_turns(partial(rate, clients, xadd), partial(rate, clients, record))
            each = (ledger.view.head.seq - seq) / (ledger.calls - calls)
            print(f"{fsync:>9}{clients:9}{bare:9,.0f}{ours:9,.0f}{ratio:7.2f}{bar:6.2f}{each:9.1f}", end="  ")
            print(verdict(ratio >= bar))
        await owner("CONFIG", "SET", "appendfsync", "always")


async def shared(store: RedisStore, url: str) -> None:
    kept: set[str] = set()
    async with a_ledger(store, "alone") as one, a_ledger(store, "two") as a, another(url) as ask:
        here = recorder(a, kept)

        async def both() -> float:
            return sum(await asyncio.gather(rate(SHARED // 2, here), ask("go")))

        single, found, ratio = await in_turns(partial(rate, SHARED, recorder(one, set())), both)
        theirs = await ask("how many")
        stands = await hashes(store, "two")
    lost = len(kept - stands) + len(kept) + int(theirs) - len(stands)
    print(f"\nshared by two processes, {SHARED} clients, always: {found:,.0f} a second", end=", ")
    print(f"{ratio:.2f} of one ({single:,.0f}), {lost} of {len(stands):,} lost", end="  ")
    print(verdict(ratio >= SHARED_BAR and not lost))


@asynccontextmanager
async def another(url: str) -> AsyncIterator[Callable[[str], Awaitable[float]]]:
    """A second process that writes when it is asked to."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.ledger", "writer", stdin=pipe, stdout=pipe
    )
    assert process.stdin
    assert process.stdout
    lines, answers = process.stdin, process.stdout

    async def ask(line: str) -> float:
        lines.write(f"{line}\n".encode())
        return float(await answers.readline())

    await ask(url)
    yield ask
    lines.close()
    await process.wait()


async def writer() -> None:
    """What that process does: the rate for each line, and how many it wrote in all when it is asked."""
    client, kept = connect(sys.stdin.readline().strip()), set[str]()
    async with a_ledger(RedisStore(client), "two") as ledger:
        print(0, flush=True)
        one = recorder(ledger, kept)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await rate(SHARED // 2, one) if line == "go\n" else len(kept), flush=True)
    await client.aclose()


async def hashes(store: RedisStore, tenant: str) -> set[str]:
    found: list[bytes] = []
    while page := await store.elements(tenant, len(found), 1000):
        found += page
    return {element[:64].decode() for element in found}


async def restart(store: RedisStore, owner: Commands, entries: int) -> None:
    await fill(owner, made(entries - 1))
    async with a_ledger(store, "acme") as first:
        await recorder(first, set())()  # signs the whole of it
    took = []
    for _ in range(3):
        began = time.perf_counter()
        async with a_ledger(store, "acme") as again:
            took.append(time.perf_counter() - began)
            assert again.view.head.seq == entries
            assert again.notary.covers(entries)
        del again  # or the next start would be charged for what this one leaves
    print(f"\nrestart with {entries:,} entries, to a verified view: {min(took):.2f} s (best of 3)", end="  ")
    print(verdict(min(took) < RESTART_S))


async def fill(owner: Commands, lines: list[bytes]) -> None:
    await owner("CONFIG", "SET", "appendfsync", "no")
    for at in range(0, len(lines), 1024):
        part = [leaf_hash(line).hex().encode() + b" " + line for line in lines[at : at + 1024]]
        await owner("RPUSH", f"led:{{acme}}:log:{at // SEGMENT:05}", *part)
    await owner("CONFIG", "SET", "appendfsync", "always")


def prove() -> None:
    leaves = b"".join(leaf_hash(b"%d" % number) for number in range(PROVEN))
    began = time.perf_counter()
    path = audit_path(leaves, PROVEN // 3)
    took = time.perf_counter() - began
    found = root(leaves[PROVEN // 3 * 32 :][:32], PROVEN // 3, PROVEN, path)
    assert found == Frontier().extend(leaves[at : at + 32] for at in range(0, len(leaves), 32)).root()
    print(f"\nproof at {PROVEN:,}: {len(path)} hashes, made in {took:.2f} s  {verdict(len(path) <= HASHES)}")


async def measure(folder: Path, entries: int) -> None:
    server = EmbeddedValkey(folder)
    await server.start()
    ours, client = connect(server.url), connect(server.url_of("owner"), connections=64)
    store, owner = RedisStore(ours), commands(client)
    await append(store, owner)
    await shared(store, server.url)
    await restart(store, owner, entries)
    await ours.aclose()
    await client.aclose()
    await server.stop()


def main(entries: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bl-") as folder:
        asyncio.run(measure(Path(folder), entries))
    prove()


if __name__ == "__main__":
    if sys.argv[1:] == ["writer"]:
        asyncio.run(writer())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES)
