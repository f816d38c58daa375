"""Where a ledger is, as flags say it: a server by its address, or the folder of the embedded one."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from ledger import verify
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import RedisStore, connect


def add_place(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The flags that name a server."""
    where = parser.add_mutually_exclusive_group(required=required)
    where.add_argument("--redis", metavar="URL", help="the server that keeps the ledger")
    where.add_argument("--data-dir", type=Path, help="the folder of the embedded server")
    parser.add_argument("--tls-verify", default="full", help="full, none or ca:<path>, for rediss://")


def add_tenant(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--tenant", required=required)


@contextlib.asynccontextmanager
async def opened(given: argparse.Namespace) -> AsyncIterator[RedisStore]:
    """The store that the flags name. The embedded server is started if nobody runs it."""
    async with contextlib.AsyncExitStack() as closing:
        url = given.redis or await _embedded(given.data_dir, closing)
        store = RedisStore(connect(url, tls_verify=given.tls_verify))
        closing.push_async_callback(store.close)
        yield store


async def _embedded(folder: Path | None, closing: contextlib.AsyncExitStack) -> str:
    if folder is None:
        raise verify.Unreadable("Name an export, or the ledger's place with --redis or --data-dir.")
    if not await asyncio.to_thread((folder / "LOCK").exists):
        raise verify.Unreadable(f"There is no ledger in {folder}.")
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    closing.push_async_callback(valkey.stop)
    return valkey.url
