"""`python -m ledger keep`: takes the copy off the box on any other machine, and keeps it.

Point LEDGER_SINK_URL here, through whatever speaks TLS: this listens on this machine alone unless told
otherwise. Each batch is on disk before it is acknowledged. GET / says what is kept.
"""

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from ledger.clock import Clock, WallClock
from ledger.commands.serving import add_listen, serve_until_told
from ledger.keep import Copy, Damaged, NotNext
from ledger.note import BadKey, Verifier, read_note
from ledger.offbox import MOST_BYTES, BadBatch, Batch, read_batch
from ledger.verify import Unreadable
from sdk import signature

NAME = "keep"
HELP = "take the copy off the box, on another machine"
log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    add_listen(parser)
    parser.add_argument("--folder", type=Path, required=True, help="where the copies are kept")
    parser.add_argument(
        "--secret-file", type=Path, required=True, help="what `python -m bot sink` prints, in a file"
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="VKEY", help="refuse notes that none of these signed"
    )


async def run(given: argparse.Namespace) -> int:
    try:
        keeper = Keeper(
            given.folder, _secret(given.secret_file), WallClock(), [Verifier.parse(key) for key in given.key]
        )
    except BadKey as error:
        raise Unreadable(str(error)) from None
    await keeper.open_all()
    return await serve_until_told(application(keeper), given, f"Keeping copies in {given.folder}")


def _secret(file: Path) -> bytes:
    try:
        return signature.key_of(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise Unreadable(f"The secret in {file} cannot be read: {error}.") from None


class Keeper:
    """The copies of every tenant whose batches carry a signature under *secret*."""

    def __init__(self, folder: Path, secret: bytes, clock: Clock, keys: Sequence[Verifier] = ()) -> None:
        self._folder = folder
        self._secret = secret
        self._clock = clock
        self._keys = keys
        self._copies: dict[str, Copy] = {}
        self._one_at_a_time = asyncio.Lock()

    async def open_all(self) -> None:
        """Read every copy that is there. Raises Unreadable for one that was damaged."""
        found = await asyncio.to_thread(lambda: sorted(self._folder.glob("*.jsonl")))
        for file in found:
            try:
                await self._copy(file.stem)
            except Damaged as damaged:
                raise Unreadable(str(damaged)) from None

    async def take(self, request: web.Request) -> web.Response:
        """Keep the batch in *request*, and say so once it is on disk."""
        body = await request.read()
        if not self._genuine(request, body):
            return web.Response(
                status=401, text="The signature is not ours, or is older than five minutes.\n"
            )
        try:
            size = await self._take(read_batch(request.headers, body))
        except NotNext as error:
            return web.Response(status=409, text=f"{error.size}\n{error}\n")
        except (BadBatch, BadKey) as error:
            return web.Response(status=400, text=f"{error}\n")
        except Damaged as error:
            return web.Response(status=500, text=f"{error}\n")
        except OSError as error:
            log.error("Nothing can be kept in %s: %s", self._folder, error)  # noqa: TRY400  the sentence says it
            return web.Response(status=507, text=f"Nothing can be kept: {error.strerror}.\n")
        return web.Response(text=f"{size}\n")

    async def told(self, request: web.Request) -> web.Response:
        """How many entries of each tenant are kept, and how many of them a note covers."""
        return web.json_response(
            {tenant: {"size": copy.size, "signed": _signed(copy)} for tenant, copy in self._copies.items()}
        )

    async def _take(self, batch: Batch) -> int:
        async with self._one_at_a_time:
            copy = await self._copy(batch.tenant)
            return await asyncio.to_thread(copy.take, batch)

    async def _copy(self, tenant: str) -> Copy:
        if tenant not in self._copies:
            self._copies[tenant] = await asyncio.to_thread(Copy, self._folder, tenant, self._keys)
        return self._copies[tenant]

    def _genuine(self, request: web.Request, body: bytes) -> bool:
        name, at, given = (
            request.headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature")
        )
        return signature.is_fresh(at, self._clock.now().timestamp()) and signature.verify(
            self._secret, name, at, body, given
        )


def _signed(copy: Copy) -> int:
    return read_note(copy.note)[0].size if copy.note else 0


def application(keeper: Keeper) -> web.Application:
    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_get("/", keeper.told)
    app.router.add_post("/{anywhere:.*}", keeper.take)
    return app
