"""The embedded Valkey: one server a folder, which ends with its owner and loses nothing."""

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ledger.chain import GENESIS
from ledger.embedded import CannotStart, EmbeddedValkey, _Line
from ledger.redis_store import RedisStore, connect
from ledger.store import Durability, StoreDown
from tests.chains import chain, sealed

LONG_S = 60
"""Longer than any machine needs, however busy."""
OWNER = """
import asyncio, sys
from pathlib import Path
from ledger.embedded import EmbeddedValkey

async def own():
    valkey = EmbeddedValkey(Path(sys.argv[1]))
    await valkey.start()
    print(valkey.pid, valkey.owned, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await valkey.stop()

asyncio.run(own())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.stop()


@contextlib.asynccontextmanager
async def store_of(valkey: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    store = RedisStore(connect(valkey.url))
    await store.load_functions()
    yield store
    await store.close()


@contextlib.asynccontextmanager
async def another_process(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that runs the embedded server of *folder*, and what it says of it: pid and ownership."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    said = (await process.stdout.readline()).decode().strip()
    try:
        yield process, said
    finally:
        if process.returncode is None:
            process.stdin.close()
        await process.wait()


def free(folder: Path) -> bool:
    """Whether no server lives in *folder*. Its process may still be waiting to be buried."""
    with (folder / "LOCK").open() as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110 (it waits for another process)
            await asyncio.sleep(0.005)


async def test_it_writes_to_disk_before_it_answers_and_never_evicts(folder):
    async with running(folder) as valkey, store_of(valkey) as store:
        assert await store.durability() is Durability.DURABLE
        for name, value in {"port": "0", "save": "", "no-appendfsync-on-rewrite": "no"}.items():
            assert await store._call("CONFIG", "GET", name) == [name.encode(), value.encode()]


async def test_only_this_user_can_reach_it(folder):
    async with running(folder / "var") as valkey:
        assert mode(valkey.socket) == 0o700
        assert mode(folder / "var") == 0o700


async def test_what_was_written_is_there_after_an_orderly_end(folder):
    entries = chain(20)
    async with running(folder) as valkey, store_of(valkey) as store:
        await store.append("acme", entries, GENESIS)
    assert free(folder)
    async with running(folder) as valkey, store_of(valkey) as store:
        assert await store.read("acme", 0, 100) == entries
        assert await store.functions_current(), "FUNCTIONs survive too"


async def test_kill_9_of_the_server_loses_nothing_and_another_takes_its_place(folder):
    entries = chain(3)
    async with running(folder) as valkey, store_of(valkey) as store:
        await store.append("acme", entries[:2], GENESIS)
        first = valkey.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: valkey.pid not in {None, first})
        assert await answer(store) == entries[:2]
        assert await store.append("acme", entries[2:], entries[1].head) is None


@pytest.mark.parametrize("moment", ["AUTH", "PING", "FUNCTION"])
@pytest.mark.parametrize("begins", [True, False], ids=["the first", "a later one"])
async def test_a_server_killed_while_it_is_greeted_is_followed_by_one_that_has_all(
    folder, monkeypatch, moment, begins
):
    """Found by killing servers at random: its broken line ended the start, and the supervisor."""
    valkey, killed, ask = EmbeddedValkey(folder), [], _Line.ask

    async def deadly(line: _Line, *words: str) -> bytes:
        if words[0] == moment and not killed:
            killed.append(valkey.pid)
            os.kill(valkey.pid, signal.SIGKILL)
            await line.broken()
        return await ask(line, *words)

    if begins:
        monkeypatch.setattr(_Line, "ask", deadly)
    await valkey.start()
    try:
        if begins:
            assert valkey.pid not in {None, *killed}, "it returns when one answers"
        else:
            monkeypatch.setattr(_Line, "ask", deadly)
            os.kill(valkey.pid, signal.SIGKILL)
        await until(lambda: killed and valkey.pid not in {None, *killed})
        store = RedisStore(connect(valkey.url))
        assert await answer(store) == []
        assert await store.functions_current()
        await store.close()
    finally:
        await valkey.stop()


async def test_who_ends_while_the_server_is_greeted_leaves_no_line_open(folder, monkeypatch):
    reached, ask = asyncio.Event(), _Line.ask

    async def slow(line: _Line, *words: str) -> bytes:
        if words[0] == "FUNCTION":
            reached.set()
            await line.broken()
        return await ask(line, *words)

    async with running(folder) as valkey:
        monkeypatch.setattr(_Line, "ask", slow)
        os.kill(valkey.pid, signal.SIGKILL)
        await reached.wait()
    assert free(folder), "the second server ended as well"


async def test_the_supervisor_outlives_a_disk_that_refuses_it_for_a_while(folder, monkeypatch):
    refused = []

    def full(*_: object) -> None:
        refused.append(True)
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(folder) as valkey, store_of(valkey) as store:
        with monkeypatch.context() as patched:
            patched.setattr("ledger.embedded._locked", full)
            patched.setattr("ledger.embedded.AGAIN_S", 0.01)
            os.kill(valkey.pid, signal.SIGKILL)
            await until(lambda: len(refused) > 1)
        assert await answer(store) == []


async def test_a_disk_that_is_full_in_the_middle_of_a_batch_confirms_nothing_and_keeps_what_was(folder):
    """The server ends rather than go on without its log, and another begins with what is on the disk."""
    entries = chain(3)
    async with running(folder) as valkey, store_of(valkey) as store:
        await store.append("acme", entries[:2], GENESIS)
        (log,) = (folder / "appendonlydir").glob("*.incr.aof")
        room, full = log.stat().st_size + 200, valkey.pid
        resource.prlimit(full, resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(StoreDown):
            await store.append("acme", entries[2:], entries[1].head)
        await until(lambda: valkey.pid not in {None, full})
        assert await answer(store) == entries[:2]
        assert await store.append("acme", entries[2:], entries[1].head) is None


async def test_a_folder_whose_server_does_not_answer_gets_no_second_one_and_that_is_said(folder, monkeypatch):
    async with running(folder) as valkey:
        os.kill(valkey.pid, signal.SIGSTOP)
        monkeypatch.setattr("ledger.embedded.START_S", 0.3)
        try:
            with pytest.raises(CannotStart, match="its LOCK is held") as said:
                await EmbeddedValkey(folder).start()
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
    assert str(folder) in str(said.value)


async def answer(store: RedisStore) -> list:
    async with asyncio.timeout(LONG_S):
        while True:
            with contextlib.suppress(StoreDown):
                return await store.read("acme", 0, 100)
            await asyncio.sleep(0.005)


async def test_a_second_process_attaches_and_lets_go(folder):
    entries = chain(2)
    async with running(folder) as valkey, store_of(valkey) as store:
        async with another_process(folder) as (_, said):
            assert said == "None False"
            await store.append("acme", entries, GENESIS)
        assert await store.read("acme", 0, 10) == entries, "the server outlives who only attached"


async def test_a_second_server_on_the_folder_is_impossible(folder):
    async with running(folder) as one, running(folder) as two:
        assert (one.owned, two.owned) == (True, False)
        assert two.pid is None
        async with store_of(one) as store, store_of(two) as other:
            ids = [
                dict(zip(h[::2], h[1::2], strict=True))
                for h in [await s._call("HELLO") for s in (store, other)]
            ]
            assert ids[0][b"id"] != ids[1][b"id"], "two connections"
            await store.append("acme", [sealed()], GENESIS)
            assert await other.read("acme", 0, 10) == [sealed()]


async def test_starting_many_at_once_makes_one_server(folder):
    many = [EmbeddedValkey(folder) for _ in range(8)]
    await asyncio.gather(*(valkey.start() for valkey in many))
    assert [valkey.owned for valkey in many].count(True) == 1
    assert len([valkey for valkey in many if valkey.pid is not None]) == 1
    for valkey in sorted(many, key=lambda valkey: valkey.owned):
        await valkey.stop()


async def test_the_server_holds_the_lock_as_long_as_it_lives(folder):
    async with running(folder):
        assert not free(folder)
    assert free(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_the_server_ends_when_its_owner_is_killed_and_nothing_is_lost(folder):
    entries = chain(30)
    async with another_process(folder) as (owner, said):
        assert said.endswith("True")
        async with store_of(EmbeddedValkey(folder)) as store:
            await store.append("acme", entries, GENESIS)
        owner.kill()
        await until(lambda: free(folder))
    async with running(folder) as valkey, store_of(valkey) as store:
        assert valkey.owned
        assert await store.read("acme", 0, 100) == entries


async def test_whoever_is_attached_takes_over_when_the_owner_ends(folder):
    async with another_process(folder) as (owner, _), running(folder) as valkey, store_of(valkey) as store:
        assert not valkey.owned
        await store.append("acme", [sealed()], GENESIS)
        owner.stdin.close()
        await owner.wait()
        await until(lambda: valkey.owned)
        assert await answer(store) == [sealed()]


async def test_an_orphan_is_adopted(folder, monkeypatch):
    """What happens after kill -9 of the owner where the kernel does not end the server."""
    monkeypatch.setattr("ledger.embedded._end_with_parent", lambda _: None)
    owner = EmbeddedValkey(folder)
    await owner.start()
    async with store_of(owner) as store:
        await store.append("acme", [sealed()], GENESIS)
    orphan = abandon(owner)
    async with running(folder) as valkey, store_of(valkey) as store:
        assert (valkey.owned, valkey.pid) == (True, None)
        assert await store.read("acme", 0, 10) == [sealed()]
    await orphan.wait()
    assert orphan.returncode == 0


def abandon(owner: EmbeddedValkey) -> asyncio.subprocess.Process:
    """As if the owner had died at this instant, with the server left behind."""
    owner._keeper.cancel()
    os.close(owner._owner)
    owner._line.writer.close()
    return owner._process


async def test_a_folder_whose_name_is_too_long_for_a_socket_gets_a_short_one(folder):
    deep = folder / ("d" * 60) / ("e" * 60)
    async with running(deep) as valkey, store_of(valkey) as store:
        path = valkey.socket
        assert len(str(path)) < 100
        assert mode(path.parent) == 0o700
        await store.append("acme", [sealed()], GENESIS)
        assert EmbeddedValkey(deep).url == valkey.url, "every process finds the same one"
    path.parent.rmdir()


async def test_a_folder_with_odd_letters_works(folder):
    async with running(folder / "my data %20 #1") as valkey, store_of(valkey) as store:
        assert await store.append("acme", [sealed()], GENESIS) is None


async def test_a_folder_that_cannot_be_is_said(folder):
    (folder / "file").write_text("")
    with pytest.raises(CannotStart, match="cannot be used"):
        await EmbeddedValkey(folder / "file").start()
    (folder / "link").symlink_to("/tmp")
    with pytest.raises(CannotStart):
        await EmbeddedValkey(folder / "file" / "x").start()


async def test_a_server_that_does_not_come_up_says_why(folder):
    async with running(folder):
        pass
    (manifest,) = (folder / "appendonlydir").glob("*.manifest")
    manifest.write_text("not a manifest\n")
    with pytest.raises(CannotStart, match="AOF manifest"):
        await EmbeddedValkey(folder).start()


async def test_control_c_in_the_terminal_does_not_reach_the_server(folder):
    async with running(folder) as valkey:
        assert os.getpgid(valkey.pid) != os.getpgid(os.getpid())
