"""`python -m ledger keygen`: a new LEDGER_KEY."""

import argparse

from ledger.keys import keygen

NAME = "keygen"
HELP = "print a new LEDGER_KEY; keep a copy where this machine's end does not reach it"


def configure(parser: argparse.ArgumentParser) -> None:
    """It needs to be told nothing."""


async def run(given: argparse.Namespace) -> int:
    print(keygen())
    return 0
