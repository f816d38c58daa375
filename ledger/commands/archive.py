"""`python -m ledger archive`: takes old, full segments off the server, once they are safe in a folder."""

import argparse
import random
from datetime import timedelta
from pathlib import Path

from ledger.archive import Archive
from ledger.clock import WallClock
from ledger.commands.place import add_key, add_place, add_tenant, opened, seed
from ledger.ledger import Ledger
from ledger.redis_store import SEGMENT
from ledger.retire import retire

NAME = "archive"
HELP = "take old, full segments off the server"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_tenant(parser)
    add_key(parser)
    parser.add_argument("--to", type=Path, help="the archive's folder; the program reads DATA_DIR/archive")
    parser.add_argument("--keep-days", type=int, default=90, help="what is younger stays (%(default)s)")


async def run(given: argparse.Namespace) -> int:
    folder = given.archive = given.to or given.archive or given.data_dir / "archive"
    async with opened(given, "archiver") as store:
        ledger = Ledger(given.tenant, store, WallClock(), random.Random(), signer=seed(given))
        count = await retire(store, ledger, Archive(folder), timedelta(days=given.keep_days))
        await ledger.close()
        left = await store.archived(given.tenant)
    print(f"{count} segments of {SEGMENT} entries were archived now, {left} in all; they are in {folder}.")
    print("Keep that folder as you keep the server's: the ledger cannot be read without it.")
    return 0
