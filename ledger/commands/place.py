"""Where a ledger is, as flags say it: a server by its address, or the folder of the embedded one."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from ledger import verify
from ledger.embedded import EmbeddedValkey
from ledger.keys import seed_in
from ledger.note import BadKey
from ledger.redis_store import RedisStore, connect


def add_place(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The flags that name a server."""
    where = parser.add_mutually_exclusive_group(required=required)
    where.add_argument("--redis", metavar="URL", help="the server that keeps the ledger")
    where.add_argument("--data-dir", type=Path, help="the folder of the embedded server")
    parser.add_argument("--tls-verify", default="full", help="full, none or ca:<path>, for rediss://")
    parser.add_argument("--archive", type=Path, metavar="FOLDER", help="where archived segments are")


def add_tenant(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--tenant", required=required)


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key-file", type=Path, help="the LEDGER_KEY, in a file: a signed log needs it")


def seed(given: argparse.Namespace) -> bytes | None:
    """What signs, or None. Raises verify.Unreadable for a file that has no key."""
    try:
        return seed_in(given.key_file) if given.key_file else None
    except BadKey as error:
        raise verify.Unreadable(str(error)) from None


@contextlib.asynccontextmanager
async def opened(
    given: argparse.Namespace, user: str = "app", *, new: bool = False
) -> AsyncIterator[RedisStore]:
    """The store that the flags name. The embedded server is started if nobody runs it, and met as *user*;
    *new*: also where there is none yet.

    What was archived is read from --archive, or from `archive` in the embedded server's folder.
    """
    async with contextlib.AsyncExitStack() as closing:
        url = given.redis or await _embedded(given.data_dir, user, closing, new=new)
        archive = given.archive or (given.data_dir / "archive" if given.data_dir else None)
        store = RedisStore(connect(url, tls_verify=given.tls_verify), archive=archive)
        closing.push_async_callback(store.close)
        yield store


async def _embedded(folder: Path | None, user: str, closing: contextlib.AsyncExitStack, *, new: bool) -> str:
    if folder is None:
        raise verify.Unreadable("Name an export, or the ledger's place with --redis or --data-dir.")
    if not (new or await asyncio.to_thread((folder / "LOCK").exists)):
        raise verify.Unreadable(f"There is no ledger in {folder}.")
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    closing.push_async_callback(valkey.stop)
    return valkey.url_of(user)
