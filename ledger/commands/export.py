"""`python -m ledger export`: a folder that anybody can verify."""

import argparse
import sys
from pathlib import Path

from ledger.commands.place import add_place, add_tenant, opened
from ledger.export import export

NAME = "export"
HELP = "a folder that anybody can verify"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_tenant(parser)
    parser.add_argument("--to", type=Path, required=True, help="the folder to write")


async def run(given: argparse.Namespace) -> int:
    async with opened(given) as store:
        head = await export(store, given.tenant, given.to, _progress)
    print(f"{head.seq} entries of {given.tenant} are in {given.to}.")
    print(f"Verify them anywhere: python3 -I -S {given.to / 'verify.py'} {given.to}")
    return 0


def _progress(done: int, size: int) -> None:
    if sys.stderr.isatty():
        print(f"{done:,} of {size:,} entries", end="\r", file=sys.stderr, flush=True)
