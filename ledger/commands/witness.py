"""`python -m ledger witness`: a C2SP witness, for whoever wants to vouch for logs that others keep.

It prints the key that verifiers must know. One process a folder; the folder is its memory, and a witness that
lost it must begin with another key.
"""

import argparse
import asyncio
import fcntl
from pathlib import Path
from typing import IO

from aiohttp import web

from ledger.clock import Clock, WallClock
from ledger.commands.serving import add_listen, serve_until_told
from ledger.keys import seed_in
from ledger.note import BadKey, Verifier, Witness
from ledger.verify import Unreadable
from ledger.witness import Watchman

NAME = "witness"
HELP = "serve add-checkpoint: vouch for the logs of others"
MOST_BYTES = 128 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    add_listen(parser)
    parser.add_argument("--folder", type=Path, required=True, help="where it remembers what it cosigned")
    parser.add_argument("--key-file", type=Path, required=True, help="as `python -m ledger keygen` makes one")
    parser.add_argument("--name", required=True, help="such as witness.example.com/w1")
    parser.add_argument("--log", action="append", default=[], metavar="VKEY", help="a log's key")
    parser.add_argument(
        "--logs", type=Path, metavar="FILE", help="logs' keys, one a line, as keys.txt has them"
    )


async def run(given: argparse.Namespace) -> int:
    try:
        witness = Witness(given.name, seed_in(given.key_file))
        keys = [Verifier.parse(line) for line in await asyncio.to_thread(_keys, given)]
    except (BadKey, OSError) as error:
        raise Unreadable(str(error)) from None
    watchman = Watchman(given.folder, witness, keys)
    with await asyncio.to_thread(_alone, given.folder):
        print(witness.vkey, flush=True)
        what = f"Witnessing {len({key.name for key in keys})} logs"
        return await serve_until_told(application(watchman, WallClock()), given, what)


def _keys(given: argparse.Namespace) -> list[str]:
    lines = given.logs.read_text(encoding="utf-8").splitlines() if given.logs else []
    return [line for line in (*given.log, *lines) if line.strip()]


def _alone(folder: Path) -> IO[str]:
    """What holds the folder for this process. Raises Unreadable while another has it."""
    lock = (folder / "LOCK").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Unreadable(f"Another witness runs in {folder}.") from None
    return lock


def application(watchman: Watchman, clock: Clock) -> web.Application:
    one_at_a_time = asyncio.Lock()

    async def add_checkpoint(request: web.Request) -> web.Response:
        body = (await request.read()).decode(errors="replace")
        async with one_at_a_time:
            reply = await asyncio.to_thread(watchman.answer, body, int(clock.now().timestamp()))
        return web.Response(status=reply.status, text=reply.text, content_type=reply.kind)

    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_post("/add-checkpoint", add_checkpoint)
    return app
