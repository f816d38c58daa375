"""The ledger's command line. It is told by flags where the ledger is.

    python -m ledger verify FOLDER | FILE.jsonl[.gz]
    python -m ledger verify --data-dir var --tenant acme
    python -m ledger export --redis redis://… --tenant acme --to export/acme
    python -m ledger doctor --data-dir var

Exit code of verify: 0 intact · 1 tampered with, the first bad entry is named · 2 incomplete · 3 unreadable.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Sequence
from typing import Protocol

from ledger import verify
from ledger.commands import (
    acl,
    archive,
    doctor,
    erase,
    export,
    keep,
    keygen,
    prove,
    reconcile,
    replay,
    report,
    restore,
    rotate,
    witness,
)
from ledger.commands import verify as check
from ledger.embedded import CannotStart
from ledger.export import CannotExport
from ledger.store import Sealed, StoreDown


class Command(Protocol):
    """One module of `ledger.commands`."""

    NAME: str
    HELP: str

    def configure(self, parser: argparse.ArgumentParser, /) -> None: ...
    def run(self, given: argparse.Namespace, /) -> Awaitable[int]: ...


COMMANDS: tuple[Command, ...] = (
    check,
    export,
    prove,
    replay,
    restore,
    report,
    acl,
    doctor,
    keep,
    witness,
    reconcile,
    archive,
    erase,
    keygen,
    rotate,
)


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    try:
        return int(asyncio.run(given.run(given)))
    except (verify.Tampered, verify.Incomplete, verify.Unreadable) as error:
        return verify.say_bad(error)
    except (StoreDown, CannotStart) as error:
        return verify.say_bad(verify.Unreadable(str(error)))
    except Sealed as error:
        return verify.say_bad(verify.Tampered(None, error.reason))
    except CannotExport as error:
        print(error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ledger", description="Verify, export and examine a ledger."
    )
    commands = parser.add_subparsers(required=True, metavar="|".join(command.NAME for command in COMMANDS))
    for command in COMMANDS:
        named = commands.add_parser(command.NAME, help=command.HELP)
        command.configure(named)
        named.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
