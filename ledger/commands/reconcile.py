"""`python -m ledger reconcile`: the trial balance of an export or of a log on a server, and every exception.

Its chain is verified on the way. Exit code: 0 the books balance without exception · 1 they do not, or it was
tampered with · 2 incomplete · 3 unreadable.
"""

import argparse
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ledger import verify
from ledger.balance import LAST_MS, Report
from ledger.books import Books
from ledger.commands.place import add_place, add_tenant, opened
from ledger.receipts import Secrets
from ledger.redis_store import RedisStore
from ledger.verify import Verifier
from ledger.view import epoch_ms
from sdk import receipt

NAME = "reconcile"
HELP = "the trial balance, and every exception"
PAGE = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", help="an export: its folder")
    add_place(parser, required=False)
    add_tenant(parser, required=False)
    parser.add_argument("--from", dest="from_ms", type=instant, default=0, metavar="DATE")
    parser.add_argument("--to", dest="to_ms", type=instant, default=LAST_MS, metavar="DATE")
    parser.add_argument(
        "--until", dest="until_ms", type=instant, default=0, metavar="DATE",
        help="the present of the report; left out, the newest entry's time",
    )  # fmt: skip
    parser.add_argument(
        "--receipt-secret-file", dest="secrets", type=secret, action="append", default=[], metavar="FILE",
        help="the secret that an app signs its receipts with, to check them again; may be repeated",
    )  # fmt: skip


async def run(given: argparse.Namespace) -> int:
    report = _of_export(given) if given.path else await _of_store(given)
    print(report.text(), end="")
    print(f"digest {report.digest}")
    return 0 if report.clean else 1


def instant(text: str) -> int:
    """A date or a time as epoch ms; in UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date. Write 2026-05-01, or 2026-05-01T12:00Z"
        ) from None
    return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def secret(path: str) -> str:
    """The secret that stands in the file *path*."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
        receipt.key_id(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} holds no secret: {error}") from None
    return text


def _of_export(given: argparse.Namespace) -> Report:
    verifier, books = Verifier(), Books(_texts(given.path / "texts"), Secrets(given.secrets))
    for line in verify.check_export(given.path, verifier):
        books.take(json.loads(line), verifier.head)
    return _report(given, books, verifier)


def _texts(folder: Path) -> Mapping[str, str]:
    found = {}
    for path in folder.glob("*.txt"):
        with suppress(OSError, UnicodeDecodeError):  # who needs it finds that it is not here
            found[path.stem] = path.read_text(encoding="utf-8")
    return found


async def _of_store(given: argparse.Namespace) -> Report:
    if not given.tenant:
        raise verify.Unreadable("Name an export, or say with --tenant whose ledger is meant.")
    texts: dict[str, str] = {}
    verifier, books = Verifier(), Books(texts, Secrets(given.secrets))
    verifier.tenant = given.tenant
    async with opened(given) as store:
        async for line in _lines(store, given.tenant):
            verifier.take(line)
            entry = json.loads(line)
            if entry["event"] == "CharterAdopted":
                digest = str(entry["data"].get("digest"))
                texts[digest] = await store.get_text(given.tenant, digest) or ""
            books.take(entry, verifier.head)
    verifier.finish()
    return _report(given, books, verifier)


async def _lines(store: RedisStore, tenant: str) -> AsyncIterator[bytes]:
    after = 0
    while page := await store.elements(tenant, after, PAGE):
        for element in page:
            yield element[65:]
        after += len(page)


def _report(given: argparse.Namespace, books: Books, verifier: Verifier) -> Report:
    until_ms = given.until_ms or books.last_ms
    return books.report(verifier.tenant, until_ms, given.from_ms, given.to_ms, verifier.head)
