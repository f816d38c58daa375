"""A simulated power cut: of the server's log, what was not yet synced to the disk is gone.

A library between the server and the system writes down how long the log was at each sync, and ends the server
like kill -9 at a sync of our choice, before the disk or before the reply. Then the log is cut to what was
synced, or somewhere in what was not. Only appends to the log are imitated: no torn sector, no lying disk.
"""

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.events import Actor, Stopped
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.outside import NoteFile
from ledger.redis_store import RedisStore, connect
from tests.servers import KINDS, SMALL, bare, url_of

CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler is here (apt-get install gcc)")
KEY = seed_of(b"k" * 32)
BOT = Actor.orchestrator("bot")
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int count;

static void die_at(const char *name) {
    const char *at = getenv(name);
    if (at && count == atoi(at)) raise(SIGKILL);
}

static int synced(int fd, const char *call) {
    char link[64], path[4096], line[64];
    struct stat before;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    int is_log = strstr(path, ".incr.aof") && fstat(fd, &before) == 0;
    if (is_log) count++, die_at("DIE_BEFORE_SYNC");
    int result = ((int (*)(int))dlsym(RTLD_NEXT, call))(fd);
    if (is_log && result == 0) {
        int out = open(getenv("SYNCED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
        int size = snprintf(line, sizeof line, "%lld\\n", (long long)before.st_size);
        if (write(out, line, size) != size) abort();
        close(out);
        die_at("DIE_AFTER_SYNC");
    }
    return result;
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
"""


@dataclass(frozen=True)
class Machine:
    """A folder on a disk that can lose its power, and a server that starts there."""

    kind: str
    folder: Path
    shim: Path

    @property
    def log(self) -> Path:
        (log,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return log

    @property
    def synced(self) -> int:
        """How many bytes of the log are on the disk for certain."""
        told = self.folder / "synced"
        return int(told.read_text().split()[-1]) if told.exists() else 0

    @asynccontextmanager
    async def on(self, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
        env = {key: value for key, value in settings.items() if key.isupper()}
        env |= {"LD_PRELOAD": str(self.shim), "SYNCED": str(self.folder / "synced")}
        rest = {key: value for key, value in settings.items() if not key.isupper()}
        async with bare(self.kind, self.folder, env, **rest) as process:
            yield process

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[tuple[Ledger, RedisStore]]:
        store = RedisStore(connect(url_of(self.folder, "app")), segment=SMALL)
        outside = NoteFile(self.folder / "state", "acme")
        ledger = Ledger("acme", store, WallClock(), random.Random(1), signer=KEY, outside=outside)
        try:
            yield ledger, store
        finally:
            await ledger.close()
            await store.close()

    async def prepare(self) -> None:
        """Let the server make its files and take the ledger's function."""
        async with self.on():
            deploy = RedisStore(connect(url_of(self.folder, "deploy")))
            await deploy.load_functions()
            await deploy.close()

    def lose_power(self, *, survives: float = 0.0) -> None:
        """The server is dead. *survives* is how much of what was not synced is on the disk by chance."""
        unsynced = self.log.stat().st_size - self.synced
        os.truncate(self.log, self.synced + int(unsynced * survives))

    async def what_stands(self) -> tuple[list[Entry], str]:
        """After the power is back: the entries, and why the ledger is sealed, if it is."""
        async with self.on(), self.ledger() as (ledger, store):
            await ledger.sweep()
            return await store.read("acme", 0, 10_000), ledger.sealed


@pytest.fixture(scope="module")
def shim() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sh", dir="/tmp") as folder:
        source, made = Path(folder) / "shim.c", Path(folder) / "shim.so"
        source.write_text(SHIM)
        subprocess.run([CC, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
        yield made


@pytest.fixture(params=KINDS)
async def machine(request, shim) -> AsyncIterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="pw", dir="/tmp") as folder:
        machine = Machine(request.param, Path(folder), shim)
        await machine.prepare()
        yield machine


async def say(ledger: Ledger) -> Entry | None:
    made = await ledger.record(BOT, lambda view, now: Stopped())
    return made if isinstance(made, Entry) else None


async def confirmed_until_death(machine: Machine, **death: str) -> list[Entry]:
    """What was confirmed before the server died at a sync."""
    confirmed = []
    async with machine.on(**death) as process, machine.ledger() as (ledger, _):
        while process.returncode is None and (made := await say(ledger)):
            confirmed.append(made)
        await process.wait()
    return confirmed


@pytest.mark.parametrize("moment", ["DIE_BEFORE_SYNC", "DIE_AFTER_SYNC"])
async def test_what_was_confirmed_was_on_the_disk_whenever_the_power_fails(machine, moment):
    """`appendfsync always`: the reply waits for the disk."""
    confirmed: list[Entry] = []
    for number, survives in enumerate((0.0, 0.3, 0.6, 0.9, 1.0), 2):
        confirmed += await confirmed_until_death(machine, **{moment: str(number)})
        machine.lose_power(survives=survives)
        entries, sealed = await machine.what_stands()
        assert sealed == ""
        assert {entry.hash for entry in confirmed} <= {entry.hash for entry in entries}
        assert len(entries) >= len(confirmed)
    assert len(confirmed) > 10


async def test_without_always_what_was_confirmed_is_lost_and_the_loss_is_noticed(machine):
    """`appendfsync everysec`, not durable as the doctor says. It shows that the cut above cuts."""
    confirmed = []
    async with machine.on(appendfsync="everysec") as process, machine.ledger() as (ledger, _):
        while not confirmed or machine.synced >= machine.log.stat().st_size:
            confirmed.append(await say(ledger))
        process.kill()
        await process.wait()
    assert all(confirmed)
    machine.lose_power()
    entries, sealed = await machine.what_stands()
    assert len(entries) < len(confirmed)
    assert sealed.startswith("rollback detected")


@pytest.mark.parametrize("machine", ["valkey"], indirect=True)
async def test_waitaof_of_the_embedded_server_calls_safe_what_a_power_cut_takes(machine):
    """It acknowledges WAITAOF between two syncs: the ledger never relies on it. Redis 7.0 has none."""
    async with machine.on(appendfsync="everysec") as process, machine.ledger() as (ledger, store):
        safe = 0
        while not safe or machine.synced >= machine.log.stat().st_size:
            assert await say(ledger)
            safe, _ = await store.commands("WAITAOF", 1, 0, 5000)
        told = ledger.view.head.seq
        process.kill()
        await process.wait()
    machine.lose_power()
    entries, sealed = await machine.what_stands()
    assert len(entries) < told
    assert sealed.startswith("rollback detected")
