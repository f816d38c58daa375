"""A real Valkey of a test's own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ledger.embedded import EmbeddedValkey
from ledger.redis_store import Commands, commands, connect


@asynccontextmanager
async def a_valkey() -> AsyncIterator[EmbeddedValkey]:
    """The server, in a folder with a short name: a socket's path is at most 100 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vk") as folder:
        server = EmbeddedValkey(Path(folder))
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def connected(server: EmbeddedValkey) -> AsyncIterator[Commands]:
    client = connect(server.url)
    try:
        yield commands(client)
    finally:
        await client.aclose()
