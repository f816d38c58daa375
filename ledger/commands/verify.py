"""`python -m ledger verify`: all that `verify.py` checks, and the rules, of an export or on a server.

Exit code: 0 intact · 1 tampered with, first bad entry named · 2 incomplete or unsigned · 3 unreadable.
"""

import argparse
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from ledger import lines, verify
from ledger.aide import Aide
from ledger.audit import Audit, audit
from ledger.chain import MAX_INT
from ledger.commands.place import add_place, add_tenant, opened
from ledger.commands.trust import add_trust, expecting
from ledger.redis_store import RedisStore

NAME = "verify"
HELP = "chain, signatures, form, transitions, actors, references"
PAGE = 1000
LONG = 2**20
"""Bytes of an export, packed, from which on a second process is worth its start."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, nargs="?", help="an export's folder, or a .jsonl or .jsonl.gz file"
    )
    parser.add_argument("--file", type=Path, help="the same")
    add_trust(parser)
    add_place(parser, required=False)
    add_tenant(parser, required=False)


async def run(given: argparse.Namespace) -> int:
    path, log = given.path or given.file, expecting(given)
    found = _verified(path, log) if path else await _verify_store(given, log)
    if found.unsettled:
        print(f"{found.unsettled} authorizations have no outcome yet.")
    print(verify.SAFE.sub("?", log.verdict()))
    return 0


def _verified(path: Path, log: verify.Verifier) -> Audit:
    """The rules are judged beside, a few pages behind: what is wrong first is named, wherever it is found."""
    stopped: list[Exception] = []

    def checked() -> Iterator[bytes]:
        try:
            yield from lines.check(path, log)
        except (verify.Tampered, verify.Incomplete, verify.Unreadable) as error:
            stopped.append(error)

    with ExitStack() as stack:
        aide = stack.enter_context(Aide()) if _size(path) > LONG and (os.cpu_count() or 1) > 1 else None
        found = audit(checked(), aide=aide)
    if stopped:
        raise stopped[0]
    return found


def _size(path: Path) -> int:
    files = path.rglob("*.gz") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


async def _verify_store(given: argparse.Namespace, log: verify.Verifier) -> Audit:
    if not given.tenant:
        raise verify.Unreadable("Name an export, or say with --tenant whose ledger is meant.")
    log.tenant, found = given.tenant, Audit(given.tenant)
    async with opened(given) as store:
        note = await store.note(given.tenant)
        async for element in _elements(store, given.tenant, note):
            log.take(element[65:])
            found.take(element[65:])
            if element[:65] != f"{log.head} ".encode():
                raise verify.Tampered(log.size, "the hash that stands before it is not its own")
        log.notes += map(_note, [*await store.kept_notes(given.tenant), *([note] if note else [])])
        log.finish()
        for digest, seq in log.digests.items():
            _check_text(digest, seq, await store.get_text(given.tenant, digest))
    return found


def _note(text: str) -> re.Match[str]:
    try:
        return verify.read_note(text)
    except ValueError as error:
        raise verify.Tampered(None, f"its note is none ({error})") from None


def _check_text(digest: str, seq: int, text: str | None) -> None:
    if text is None:
        raise verify.Incomplete(f"The text {digest} that entry {seq} adopts is missing.")
    if sha256(text.encode()).hexdigest() != digest:
        raise verify.Tampered(seq, f"the text that it adopts does not have the digest {digest}")


async def _elements(store: RedisStore, tenant: str, note: str) -> AsyncIterator[bytes]:
    """All up to where *note* ends. What stands behind that only if nobody signed it: a newer note says that
    writers went on meanwhile."""
    size, after = int(_note(note)["size"]) if note else MAX_INT, 0
    while page := await store.elements(tenant, after, PAGE):
        moved = after + len(page) > size and await store.note(tenant) != note
        for element in page[: size - after] if moved else page:
            yield element
        after += len(page)
        if moved:
            return
