"""A process that appends to a ledger until it is killed, as the program does, and tells what was confirmed.

Each entry has a number, and is added once: who does not know whether it counted looks, and asks again.
"""

import asyncio
import itertools
import multiprocessing
import os
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.events import AccessReviewed, Act, Actor, Event
from ledger.keys import seed_of
from ledger.ledger import Decide, Ledger, Refusal
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from ledger.view import View

KEY = seed_of(b"k" * 32)
RUDO = Actor.engineer("rudo", "telegram")
THERE = Refusal("there", "It counted already.")
SILENT_S = 60.0


def adding(number: int, writer: str = "") -> Decide:
    """Add entry *number* of *writer*, unless it is there."""
    act = Act(channel=writer, update=str(number))

    def decide(view: View, now: datetime) -> Event | Refusal:
        return THERE if (writer, act.update) in view.acts else AccessReviewed(act=act)

    return decide


async def add(ledger: Ledger, number: int, writer: str = "") -> Entry | None:
    """Return once entry *number* is there: the entry, or None if it was there before."""
    while True:
        made = await ledger.record(RUDO, adding(number, writer))
        if isinstance(made, Entry):
            return made
        if made is THERE:
            return None
        if ledger.sealed:
            raise RuntimeError(ledger.sealed)
        await asyncio.sleep(0.001)


def number_of(entry: Entry) -> int:
    return int(entry.data["act"]["update"])


async def _append(folder: Path, first: int, said: Connection) -> None:
    server = EmbeddedValkey(folder)
    await server.start()
    store = RedisStore(connect(server.url))
    ledger = Ledger(
        "acme",
        store,
        WallClock(),
        random.Random(first),
        signer=KEY,
        outside=NoteFile(folder / "state", "acme"),
    )
    for number in itertools.count(first):
        made = await add(ledger, number)
        confirmed = f"{number} {made.seq} {made.hash}\n" if made else f"{number} 0 -\n"
        os.write(said.fileno(), confirmed.encode())


def append_until_killed(folder: str, first: int, said: Connection) -> None:
    try:
        asyncio.run(_append(Path(folder), first, said))
    except BaseException as error:
        os.write(said.fileno(), f"failed: {error!r}\n".encode())
        raise


@dataclass
class Bot:
    """The process as its parent sees it."""

    folder: Path
    process: multiprocessing.process.BaseProcess
    hears: Connection
    rest: bytes = b""
    confirmed: dict[int, str] = field(default_factory=dict)
    """The hash of each entry that was confirmed, by its number in the log."""

    last: int = 0
    """The last of its own numbers that it said was there."""

    def listen(self, seconds: float) -> bool:
        """Hear what was said, waiting for it at most *seconds*. False if nothing came."""
        if not select.select([self.hears.fileno()], [], [], seconds)[0]:
            return False
        heard = os.read(self.hears.fileno(), 65536)
        *lines, self.rest = (self.rest + heard).split(b"\n")
        for line in lines:
            self._take(line.decode())
        return bool(heard)

    def _take(self, line: str) -> None:
        assert not line.startswith("failed"), line
        number, seq, digest = line.split()
        self.last = int(number)
        if seq != "0":
            self.confirmed[int(seq)] = digest

    def confirms(self, more: int) -> None:
        """Return once it has confirmed so many *more*."""
        wanted = self.last + more
        while self.last < wanted:
            assert self.listen(SILENT_S), "it says nothing any more"

    def end(self) -> None:
        """kill -9, if that has not been done, and hear what it said before."""
        self.process.kill()
        self.process.join()
        while self.listen(0):
            pass
        self.hears.close()
        self.process.close()


class Bots:
    """Starts one after the other, each a fork of a process that has imported all that it needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.appender"])

    @contextmanager
    def one(self, first: int) -> Iterator[Bot]:
        hears, says = self._context.Pipe(duplex=False)
        process = self._context.Process(target=append_until_killed, args=(str(self._folder), first, says))
        process.start()
        says.close()
        bot = Bot(self._folder, process, hears, last=first - 1)
        try:
            yield bot
        finally:
            bot.end()


def server_pid(path: Path) -> int | None:
    """Who listens on the unix socket at *path*, if anybody does."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except OSError:
            return None
        says: Callable[[int, int, int], bytes] = line.getsockopt
        return struct.unpack("3i", says(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
