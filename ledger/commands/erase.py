"""`python -m ledger erase`: removes what people typed, by person or incident. The log stays as it is."""

import argparse
import random
from collections.abc import Callable, Sequence
from datetime import datetime

from ledger.chain import Entry
from ledger.clock import WallClock
from ledger.commands.place import add_key, add_place, add_tenant, opened, seed
from ledger.erasure import erase
from ledger.events import Actor, Erased, Event
from ledger.ledger import Ledger
from ledger.store import StoreDown
from ledger.view import View

NAME = "erase"
HELP = "remove what people typed, by person or incident"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_tenant(parser)
    add_key(parser)
    parser.add_argument("--by", required=True, metavar="PERSON", help="who does this, by charter id")
    parser.add_argument("subject", nargs="+", help="a person's charter id, or an incident's")


async def run(given: argparse.Namespace) -> int:
    async with opened(given, "privacy") as store:
        count = await erase(store, given.tenant, given.subject)
        ledger = Ledger(given.tenant, store, WallClock(), random.Random(), signer=seed(given))
        await record(ledger, given.by, given.subject, count)
        print(f"{count} values of {', '.join(given.subject)} are gone from the vault; the log says so.")
        if await store.write_anew():
            print("The server writes its file anew, without them. Backups of the old one still have them.")
        else:
            print("Its file still has them: as the server's operator, run BGREWRITEAOF. So have backups.")
    return 0


async def record(ledger: Ledger, by: str, subjects: Sequence[str], count: int) -> None:
    """Append one Erased a subject. Raises StoreDown if the ledger does not take it."""
    await ledger.catch_up()
    for subject in subjects:
        made = await ledger.record(Actor.engineer(by, "console"), _erased(subject, count))
        if not isinstance(made, Entry):
            raise StoreDown(
                f"The values are erased, and the log does not say so yet: {made.why} Run it again."
            )
    await ledger.close()


def _erased(subject: str, count: int) -> Callable[[View, datetime], Event]:
    reason = f"{count} values erased from the vault"
    return lambda view, now: Erased(subject=subject, decision="erase", reason=reason)
