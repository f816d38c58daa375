"""Servers with the ledger's users: the embedded Valkey, and the Redis 7 that the machine may have."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ledger import acl
from ledger.__main__ import main
from ledger.redis_store import Commands, RedisStore, commands, connect
from ledger.store import StoreDown
from tests.valkey import a_valkey

EVERYBODY = (*acl.names(), acl.OWNER.name)
REDIS = shutil.which("redis-server")
SMALL = 3
"""How many entries a segment has, where the real 65,536 would be too long for a test."""
KINDS = ["valkey", "redis-7"]


@dataclass(frozen=True)
class Peopled:
    """A server, and the address of each of its users."""

    kind: acl.Server
    urls: Mapping[str, str]
    stack: contextlib.AsyncExitStack

    def as_(self, user: str) -> Commands:
        client = connect(self.urls[user])
        self.stack.push_async_callback(client.aclose)
        return commands(client)

    def store(self, user: str = "app", **options) -> RedisStore:
        store = RedisStore(connect(self.urls[user]), **options)
        self.stack.push_async_callback(store.close)
        return store


@contextlib.asynccontextmanager
async def a_server(kind: str) -> AsyncIterator[Peopled]:
    async with contextlib.AsyncExitStack() as stack:
        if kind == "valkey":
            valkey = await stack.enter_async_context(a_valkey())
            urls = {name: valkey.url_of(name) for name in EVERYBODY}
            yield Peopled(acl.Server.parse("valkey-9"), urls, stack)
            return
        if REDIS is None:
            pytest.skip("redis-server is not installed here (apt-get install redis-server)")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="rd")))
        server = acl.Server.parse("redis-7.0")
        users = folder / "users.acl"
        users.write_text(acl.file(server, {name: f"{name}'s" for name in EVERYBODY}))
        await stack.enter_async_context(_redis(folder, users))
        urls = {name: f"unix://{name}:{name}'s@{folder}/s" for name in EVERYBODY}
        made = Peopled(server, urls, stack)
        await made.store("deploy").load_functions()
        yield made


@contextlib.asynccontextmanager
async def _redis(folder: Path, users: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        REDIS, "--dir", str(folder), "--port", "0", "--unixsocket", str(folder / "s"),
        "--aclfile", str(users), "--appendonly", "yes", "--appendfsync", "always",
        "--maxmemory-policy", "noeviction", "--save", "", stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    client = connect(f"unix://owner:owner's@{folder}/s")
    try:
        async with asyncio.timeout(20):
            while not await _answers(commands(client)):  # noqa: ASYNC110 (it waits for another process)
                await asyncio.sleep(0.01)
        yield
    finally:
        await client.aclose()
        process.kill()
        await process.wait()


async def _answers(call: Commands) -> bool:
    try:
        return bool(await call("PING"))
    except StoreDown:
        return False


def verified(url: str, tenant: str, key: str) -> int:
    """What `python -m ledger verify` says of the log on the server at *url*, as its exit code. Blocking."""
    return main(["verify", "--redis", url, "--tenant", tenant, "--key", key])


def shorten_segments(monkeypatch: pytest.MonkeyPatch, segment: int = SMALL) -> None:
    """Let `python -m ledger` read a log whose segments are short."""
    monkeypatch.setattr("ledger.commands.place.RedisStore", partial(RedisStore, segment=segment))
