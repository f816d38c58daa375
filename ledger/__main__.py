"""The ledger's command line. It is told by flags where the ledger is, and changes nothing in it.

    python -m ledger verify FOLDER | FILE.jsonl[.gz]
    python -m ledger verify --data-dir var --tenant acme
    python -m ledger export --redis redis://… --tenant acme --to export/acme
    python -m ledger doctor --data-dir var

Exit code of verify: 0 intact · 1 tampered with, the first bad entry is named · 2 incomplete · 3 unreadable.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path

from ledger import verify
from ledger.chain import canonical
from ledger.doctor import examine
from ledger.embedded import CannotStart, EmbeddedValkey
from ledger.export import CannotExport, export
from ledger.redis_store import RedisStore, connect
from ledger.replay import Replay
from ledger.store import Sealed, StoreDown

PAGE = 1000


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
    commands = parser.add_subparsers(required=True, metavar="verify|export|doctor")
    check = commands.add_parser("verify", help="chain, form, transitions, actors, references")
    check.add_argument(
        "path", type=Path, nargs="?", help="an export: its folder, or a .jsonl or .jsonl.gz file"
    )
    check.add_argument("--file", type=Path, help="the same")
    check.add_argument("--receipt", type=verify.read_receipt, action="append", default=[], metavar="SEQ:CODE")
    check.set_defaults(run=_verify)
    pack = commands.add_parser("export", help="a folder that anybody can verify")
    pack.add_argument("--to", type=Path, required=True, help="the folder to write")
    pack.set_defaults(run=_export)
    ask = commands.add_parser("doctor", help="whether the server is fit to keep a ledger")
    ask.set_defaults(run=_doctor)
    for command, tenant_needed in ((check, False), (pack, True), (ask, False)):
        where = command.add_mutually_exclusive_group(required=command is not check)
        where.add_argument("--redis", metavar="URL", help="the server that keeps the ledger")
        where.add_argument("--data-dir", type=Path, help="the folder of the embedded server")
        command.add_argument("--tls-verify", default="full", help="full, none or ca:<path>, for rediss://")
        command.add_argument("--tenant", required=tenant_needed)
    return parser


async def _verify(given: argparse.Namespace) -> int:
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
    async with _opened(given) as store:
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


async def _export(given: argparse.Namespace) -> int:
    async with _opened(given) as store:
        head = await export(store, given.tenant, given.to)
    print(f"{head.seq} entries of {given.tenant} are in {given.to}.")
    print(f"Verify them anywhere: python3 -I -S {given.to / 'verify.py'} {given.to}")
    return 0


async def _doctor(given: argparse.Namespace) -> int:
    async with _opened(given) as store:
        found = [finding async for finding in examine(store)]
    for finding in found:
        print({True: "well   ", False: "NOT SO ", None: "unknown"}[finding.well], finding.sentence)
    judged = {finding.well for finding in found}
    return 1 if False in judged else 2 if None in judged else 0


@contextlib.asynccontextmanager
async def _opened(given: argparse.Namespace) -> AsyncIterator[RedisStore]:
    """The store that the flags name. The embedded server is started if nobody runs it."""
    async with contextlib.AsyncExitStack() as closing:
        url = given.redis or await _embedded(given.data_dir, closing)
        store = RedisStore(connect(url, tls_verify=given.tls_verify))
        closing.push_async_callback(store.close)
        yield store


async def _embedded(folder: Path | None, closing: contextlib.AsyncExitStack) -> str:
    if folder is None:
        raise verify.Unreadable("Name an export, or the ledger's place with --redis or --data-dir.")
    if not await asyncio.to_thread((folder / "LOCK").exists):
        raise verify.Unreadable(f"There is no ledger in {folder}.")
    valkey = EmbeddedValkey(folder)
    await valkey.start()
    closing.push_async_callback(valkey.stop)
    return valkey.url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
