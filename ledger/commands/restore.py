"""`python -m ledger restore`: makes a ledger of an export, or of the copy off the box, to be continued.

    python -m ledger restore export/acme --key-file ledger.key --redis redis://app:…@host/0
    python -m ledger restore copies/acme.jsonl --key-file ledger.key --data-dir var --text charter.json

Exit code: 0 restored · 1 tampered with, or not restored, and why · 2 incomplete or unsigned · 3 unreadable.
"""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from ledger import verify
from ledger.chain import receipt_of
from ledger.commands.place import add_key, add_place, opened, seed
from ledger.commands.trust import add_trust, expecting
from ledger.note import public_key, vkey
from ledger.outside import NoteFile
from ledger.restore import CannotRestore, Source, check_newest, found, judged, read_note, restore

NAME = "restore"
HELP = "make a ledger of an export or of the copy off the box"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", type=Path, help="an export's folder, or the .jsonl of the copy off the box")
    add_place(parser)
    add_trust(parser)
    add_key(parser)
    parser.add_argument("--unsigned", action="store_true", help="a log that nobody signed will do")
    parser.add_argument(
        "--signed-part", action="store_true", help="leave out what the copy has behind its newest note"
    )
    parser.add_argument("--text", type=Path, action="append", default=[], help="a charter's or policy's text")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="where notes are kept: DATA_DIR/state")


async def run(given: argparse.Namespace) -> int:
    source = await asyncio.to_thread(found, given.export, given.text)
    if given.signed_part and source.note:
        source = replace(source, size=int(read_note(source.note)["size"]))
    log = _trusting(given, source)
    print(await asyncio.to_thread(judged, source, log, unsigned=given.unsigned))
    try:
        return await _restored(given, source, log)
    except CannotRestore as error:
        print(f"NOT RESTORED. {error}")
        return 1


async def _restored(given: argparse.Namespace, source: Source, log: verify.Verifier) -> int:
    kept = _outside(given, log.tenant)
    if kept:
        check_newest(log, await asyncio.to_thread(kept.read), kept.where)
    async with opened(given, new=True) as store:
        missing = await restore(store, source, log)
    if kept and source.note:
        await asyncio.to_thread(kept.keep, source.note)
    print(f"RESTORED. {log.size} entries of {log.tenant}, up to {log.size}:{receipt_of(log.head)}")
    for digest in missing:
        print(f"The text {digest} of entry {log.digests[digest]} is missing: name its file with --text.")
    if not kept:
        print("Not compared with the note that a bot keeps outside: name its DATA_DIR/state with --state.")
    return 0


def _outside(given: argparse.Namespace, tenant: str) -> NoteFile | None:
    folder = given.state or (given.data_dir / "state" if given.data_dir else None)
    return NoteFile(folder, tenant) if folder else None


def _trusting(given: argparse.Namespace, source: Source) -> verify.Verifier:
    """What takes the lines and trusts the keys that did not come with them. Raises Unreadable without one."""
    log = expecting(given)
    if (known := seed(given)) and source.note:
        log.keys.append(vkey(read_note(source.note)["origin"], public_key(known)))
    if source.note and all(map(verify.is_witness, log.keys)):
        raise verify.Unreadable("Say whose signature counts: --key-file with the LEDGER_KEY, or --key VKEY.")
    return log
