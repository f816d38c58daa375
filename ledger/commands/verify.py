"""`python -m ledger verify`: chain, form, transitions, actors and references, of an export or on a server.

Exit code: 0 intact · 1 tampered with, the first bad entry is named · 2 incomplete · 3 unreadable.
"""

import argparse
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

from ledger import verify
from ledger.chain import canonical
from ledger.commands.place import add_place, add_tenant, opened
from ledger.redis_store import RedisStore
from ledger.replay import Replay

NAME = "verify"
HELP = "chain, form, transitions, actors, references"
PAGE = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, nargs="?", help="an export: its folder, or a .jsonl or .jsonl.gz file"
    )
    parser.add_argument("--file", type=Path, help="the same")
    parser.add_argument(
        "--receipt", type=verify.read_receipt, action="append", default=[], metavar="SEQ:CODE"
    )
    add_place(parser, required=False)
    add_tenant(parser, required=False)


async def run(given: argparse.Namespace) -> int:
    verifier, replay = verify.Verifier(dict(given.receipt)), Replay()
    if path := given.path or given.file:
        for entry in verify.check_export(path, verifier):
            replay.take(canonical(entry))
    else:
        await _verify_store(given, verifier, replay)
    if unsettled := replay.unsettled():
        print(f"{unsettled} authorizations have no outcome yet.")
    return verify.say_intact(verifier)


async def _verify_store(given: argparse.Namespace, verifier: verify.Verifier, replay: Replay) -> None:
    if not given.tenant:
        raise verify.Unreadable("Name an export, or say with --tenant whose ledger is meant.")
    verifier.tenant = given.tenant
    async with opened(given) as store:
        async for element in _elements(store, given.tenant):
            replay.take(canonical(verifier.take(element[65:])))
            if element[:65] != f"{verifier.head} ".encode():
                raise verify.Tampered(verifier.size, "the hash that stands before it is not its own")
        verifier.finish()
        for digest, seq in verifier.digests.items():
            _check_text(digest, seq, await store.get_text(given.tenant, digest))


def _check_text(digest: str, seq: int, text: str | None) -> None:
    if text is None:
        raise verify.Incomplete(f"The text {digest} that entry {seq} adopts is missing.")
    if sha256(text.encode()).hexdigest() != digest:
        raise verify.Tampered(seq, f"the text that it adopts does not have the digest {digest}")


async def _elements(store: RedisStore, tenant: str) -> AsyncIterator[bytes]:
    after = 0
    while page := await store.elements(tenant, after, PAGE):
        for element in page:
            yield element
        after += len(page)
