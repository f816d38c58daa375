"""`python -m ledger doctor`: whether the server is fit to keep a ledger."""

import argparse

from ledger.commands.place import add_place, opened
from ledger.doctor import examine

NAME = "doctor"
HELP = "whether the server is fit to keep a ledger"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)


async def run(given: argparse.Namespace) -> int:
    async with opened(given) as store:
        found = [finding async for finding in examine(store)]
    for finding in found:
        print({True: "well   ", False: "NOT SO ", None: "unknown"}[finding.well], finding.sentence)
    judged = {finding.well for finding in found}
    return 1 if False in judged else 2 if None in judged else 0
