"""`python -m ledger prove SEQ`: a file that proves one entry alone, and `--check FILE` whether it does."""

import argparse
import asyncio
from pathlib import Path

from ledger import proof
from ledger.commands.place import add_place, add_tenant, opened
from ledger.commands.trust import add_trust
from ledger.prove import CannotProve, prove
from ledger.verify import Unreadable

NAME = "prove"
HELP = "a file that proves one entry alone, or a check of one"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("seq", type=int, nargs="?", metavar="SEQ", help="the entry's number")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write it there instead of here")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check a proof instead")
    add_trust(parser)
    add_place(parser, required=False)
    add_tenant(parser, required=False)


async def run(given: argparse.Namespace) -> int:
    if given.check:
        return await asyncio.to_thread(proof.judge, given.check, given.keys, given.receipts)
    if given.seq is None or not given.tenant:
        raise Unreadable("Say which entry of whom: prove SEQ --tenant NAME, and where its ledger is.")
    async with opened(given) as store:
        try:
            made = await prove(store, given.tenant, given.seq)
        except CannotProve as error:
            print(error)
            return 1
    if given.to is None:
        print(made.text, end="")
        return 0
    await asyncio.to_thread(given.to.write_text, made.text, encoding="utf-8")
    print(f"Entry {given.seq} of {given.tenant} is proved by {given.to}. With ledger/proof.py and verify.py:")
    print(f"python3 -I -S proof.py {given.to} --key {made.key}")
    return 0
