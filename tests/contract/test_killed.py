"""kill -9 of the program, of its server, and of both, a hundred times while it appends: nothing is lost."""

import asyncio
import collections
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.chain import GENESIS, Entry
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.ledger import Ledger
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from ledger.store import check_chain
from tests.appender import KEY, Bot, Bots, number_of, server_pid
from tests.servers import verified

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("killed"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent"),
]
TIMES = 100
TOO_MANY = 5000
VICTIMS = ("bot", "server", "both")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as path:
        yield Path(path)


def test_after_a_hundred_deaths_every_confirmed_entry_is_there_once_and_in_order(folder):
    chance, bots = random.Random(2026), Bots(folder)
    victims = [VICTIMS[n % 3] for n in range(TIMES)]
    chance.shuffle(victims)
    confirmed: dict[int, str] = {}
    killed = collections.Counter[str]()
    next_number = 1
    while victims:
        with bots.one(next_number) as bot:
            while victims and bot.process.is_alive():
                kill(bot, victims[-1], chance)
                killed[victims.pop()] += 1
        confirmed |= bot.confirmed
        next_number = bot.last + 1
    entries, sealed = asyncio.run(what_stands(folder))
    assert killed.total() == TIMES
    assert min(killed.values()) >= TIMES // 3
    assert not sealed
    check_chain(GENESIS, entries)
    assert len(confirmed) > TIMES
    assert {seq: entries[seq - 1].hash for seq in confirmed} == confirmed
    assert [number_of(entry) for entry in entries] == list(range(1, len(entries) + 1))
    assert len(entries) in (next_number - 1, next_number), "at most the one under way"


def kill(bot: Bot, victim: str, chance: random.Random) -> None:
    """kill -9 at any moment, that of its beginning too. Whoever survives goes on with another server."""
    bot.confirms(chance.choice((0, 0, 1, 2, 3, 8)))
    bot.listen(chance.uniform(0, 0.003))
    place = bot.folder / "valkey.sock"
    while victim != "bot" and server_pid(place) is None:
        bot.confirms(1)
    pids = {"bot": bot.process.pid, "server": server_pid(place)}
    doomed = [pids[name] for name in pids if victim in (name, "both")]
    chance.shuffle(doomed)
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    if victim != "server":
        return bot.process.join()
    told = bot.last
    while server_pid(place) in (None, pids["server"]):
        assert bot.last < told + TOO_MANY, "it confirms without a server"
        bot.confirms(1)
    return bot.confirms(1)


async def what_stands(folder: Path) -> tuple[list[Entry], str]:
    server = EmbeddedValkey(folder)
    await server.start()
    store = RedisStore(connect(server.url))
    outside = NoteFile(folder / "state", "acme", keeps=False)
    ledger = Ledger("acme", store, WallClock(), random.Random(1), signer=KEY, outside=outside)
    try:
        await ledger.catch_up()
        assert outside.read()
        assert await asyncio.to_thread(verified, server.url, "acme", ledger.notary.vkey) == 0
        return await store.read("acme", 0, 100_000), ledger.sealed
    finally:
        await ledger.close()
        await store.close()
        await server.stop()
