"""`python -m ledger rotate`: from here on another LEDGER_KEY signs.

Exit code: 0 rotated · 1 not rotated, and why · 3 a key or the ledger cannot be read.
"""

import argparse
from pathlib import Path

from ledger import verify
from ledger.clock import WallClock
from ledger.commands.place import add_place, add_tenant, opened
from ledger.keys import seed_in
from ledger.note import BadKey
from ledger.rotation import CannotRotate, rotate

NAME = "rotate"
HELP = "let another LEDGER_KEY sign from here on"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_tenant(parser)
    for which in ("old", "new"):
        parser.add_argument(
            f"--{which}-key-file", type=Path, required=True, help=f"the {which} LEDGER_KEY, in a file"
        )


async def run(given: argparse.Namespace) -> int:
    try:
        old, new = seed_in(given.old_key_file), seed_in(given.new_key_file)
    except BadKey as error:
        raise verify.Unreadable(str(error)) from None
    async with opened(given) as store:
        try:
            key = await rotate(store, WallClock(), given.tenant, old, new)
        except CannotRotate as error:
            print(error)
            return 1
    print(f"The log of {given.tenant} is signed from here on by\n  {key.vkey}")
    print("Set the new LEDGER_KEY and restart: a process that has the old one writes no more.")
    print("Keep the old key's public half: it stands in each export. Verifiers who pinned it need the new.")
    return 0
