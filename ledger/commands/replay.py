"""`python -m ledger replay EXPORT`: the state of every incident, made again from an export on any machine.

With --to it is written down (ledger/state.py); with a place (--redis or --data-dir) it is compared, byte for
byte, with what the entries there make, up to where the export ends.

Exit code: 0 the same · 1 not the same, or tampered with · 2 incomplete or unsigned · 3 unreadable.
"""

import argparse
import asyncio
from itertools import zip_longest
from pathlib import Path

from ledger import lines, verify
from ledger.commands.place import add_place, add_tenant, opened
from ledger.commands.trust import add_trust, expecting
from ledger.durable import write_durably
from ledger.replay import Replay
from ledger.state import digest, dump
from ledger.view import View

NAME = "replay"
HELP = "make the state of every incident again from an export"
PAGE = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", type=Path, help="its folder, or a .jsonl or .jsonl.gz file")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write the state there")
    add_trust(parser)
    add_place(parser, required=False)
    add_tenant(parser, required=False)


async def run(given: argparse.Namespace) -> int:
    log = expecting(given)
    view = await asyncio.to_thread(replayed, given.export, log)
    if given.to:
        await asyncio.to_thread(write_durably, given.to, b"".join(dump(view)))
    print(f"{len(view.incidents)} incidents from {view.head.seq} entries: state {digest(view)}")
    if (given.redis or given.data_dir) and not await _is_same(given, view):
        return 1
    print(log.verdict())
    return 0


def replayed(path: Path, log: verify.Verifier) -> View:
    """What the entries of the export at *path* make, each once *log* took it. Raises as `lines.check`."""
    replay = Replay()
    for line in lines.check(path, log):
        replay.take(line)
    return replay.view


async def _is_same(given: argparse.Namespace, view: View) -> bool:
    """Whether the log at the place that the flags name makes the same as *view*; says so."""
    live = await _live(given, view.head.seq)
    pairs = zip_longest(dump(live), dump(view), fillvalue=b"")
    for number, (there, here) in enumerate(pairs, 1):
        if there != here:
            print(f"NOT THE SAME. Line {number} of the state is\n{here!r:.400}\nand there\n{there!r:.400}")
            return False
    print(f"The same, byte for byte, as the live ledger makes of its first {view.head.seq} entries.")
    return True


async def _live(given: argparse.Namespace, size: int) -> View:
    if not given.tenant:
        raise verify.Unreadable("Say with --tenant whose ledger is meant.")
    replay, after = Replay(), 0
    async with opened(given) as store:
        while page := await store.read(given.tenant, after, min(PAGE, size - after)):
            for entry in page:
                replay.take(entry.line)
            after += len(page)
    return replay.view
