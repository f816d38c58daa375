"""Where a page comes from: an export, verified first, or a store that is exported for it.

1. The export is verified. What stands before the first bad entry is believed, and nothing after it.
2. What is believed is reconciled, and read again for what the page is about: a log of any length fits.
3. A log is called intact only where somebody vouches for all of it: a signature, or a receipt that is held
   elsewhere.
"""

import asyncio
import gzip
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger import report_signed, verify
from ledger.balance import LAST_MS, Kind, Report
from ledger.books import Books
from ledger.chain import Entry, Frontier, leaf_hash, parse
from ledger.export import export
from ledger.replay import Replay
from ledger.report import page
from ledger.report_gather import Scope, gather
from ledger.report_verdict import Known, Made, Reconciliation, Standing, Verdict
from ledger.report_words import count
from ledger.store import Durability, Store

PARTLY = "No signature covers it. Receipts that others hold vouch up to #{}, and for nothing after it."
UNVOUCHED = "The chain holds. Nobody signed it, and no receipt that others hold was compared with it."


class NoSuchIncident(Exception):
    """The log was read to its end and tells of no such incident."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known from elsewhere: receipts that people kept, by entry, and how the off-box copy stands."""

    receipts: Mapping[int, str] = field(default_factory=dict)
    off_box: str = ""


@dataclass(frozen=True, slots=True)
class Believed:
    """How an export stands, why, its first bad entry, and the last that can be believed."""

    standing: Standing
    last: int
    why: str = ""
    first_bad: int | None = None


async def page_of(
    store: Store, tenant: str, scope: Scope, made: Made, outside: Outside | None = None
) -> bytes:
    """The page about *scope* in the log of *tenant*, as PDF. The work is done in a thread.

    Raises CannotExport, NoSuchIncident, BadZone.
    """
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        whole = Path(folder) / "export"
        await export(store, tenant, whole)
        return await asyncio.to_thread(page_from, whole, scope, made, outside)


def page_from(folder: Path, scope: Scope, made: Made, outside: Outside | None = None) -> bytes:
    """The page about *scope* in the export *folder*, as PDF. Blocks. Raises NoSuchIncident, BadZone."""
    outside, texts = outside or Outside(), _texts(folder)
    believed = _checked(folder, outside)
    books, tree, tenant = _booked(folder, believed.last, texts)
    gathered = gather(lambda: _read(folder, believed.last), scope)
    if scope.incident and not gathered.incidents and believed.standing is not Standing.NOT_INTACT:
        raise NoSuchIncident(
            f"The log's {count(believed.last, 'entry', 'entries')} tell of no incident {scope.incident}."
        )
    verdict = _verdict(folder, believed, tree, tenant, outside)
    return page(gathered, texts, Known(verdict, _reconciled(books, tenant, scope)), scope, made)


def _checked(folder: Path, outside: Outside) -> Believed:
    verifier, replay, last = verify.Verifier(outside.receipts.items()), Replay(), 0
    try:
        for line in verify.check_export(folder, verifier):
            last = replay.take(line).seq
    except verify.Tampered as error:
        before = last if error.seq is None else min(last, error.seq - 1)
        return Believed(Standing.NOT_INTACT, before, str(error), error.seq)
    except (verify.Incomplete, verify.Unreadable) as error:
        return Believed(Standing.NOT_CHECKABLE, last, str(error))
    return Believed(Standing.INTACT, last)


def _booked(folder: Path, last: int, texts: Mapping[str, str]) -> tuple[Books, Frontier, str]:
    """The books and the tree of the entries up to *last*, and whose they are."""
    books, tree, tenant = Books(texts), Frontier(), ""
    for entry in _read(folder, last):
        books.take(json.loads(entry.line), entry.hash)
        tree, tenant = tree.append(leaf_hash(entry.line)), entry.tenant_id
    return books, tree, tenant


def _verdict(folder: Path, found: Believed, tree: Frontier, tenant: str, outside: Outside) -> Verdict:
    kept = [seq for seq in outside.receipts if seq <= found.last]
    signed = report_signed.signed(folder, tree)
    vouched = found.last if signed.signer else max(kept, default=0)
    doubtful = found.standing is Standing.INTACT and vouched < found.last
    why = PARTLY.format(vouched) if vouched else UNVOUCHED
    return Verdict(
        standing=Standing.NOT_CHECKABLE if doubtful and not vouched else found.standing,
        tenant=tenant,
        last_seq=found.last,
        root=tree.root().hex(),
        why=why if doubtful else found.why,
        first_bad=found.first_bad,
        signer=signed.signer,
        fingerprint=signed.key,
        receipts=len(kept),
        receipts_to=max(kept, default=0),
        cosignatures=signed.others,
        cosigned_to=tree.size if signed.others else 0,
        durability=_durability(folder),
        off_box=outside.off_box,
    )


def _reconciled(books: Books, tenant: str, scope: Scope) -> Reconciliation:
    """What *books* say of the whole log, and of what the page is about."""
    whole = _report(books, tenant, 0, LAST_MS)
    here = whole if scope.incident else _report(books, tenant, scope.from_ms, scope.to_ms)
    ours = [one for one in here.exceptions if scope.incident in ("", one.incident)]
    return Reconciliation(
        here={str(kind): sum(one.kind is kind for one in ours) for kind in Kind},
        everywhere=whole.counts,
        balance=f"the trial balance is {whole.total.difference}",
        digest=whole.digest,
    )


def _report(books: Books, tenant: str, from_ms: int, to_ms: int) -> Report:
    return books.report(tenant, books.last_ms, from_ms, to_ms, "")


def _read(folder: Path, last: int) -> Iterator[Entry]:
    """The entries up to *last*, which were verified."""
    if last:
        yield from itertools.islice(_entries(folder), last)


def _entries(folder: Path) -> Iterator[Entry]:
    for file in sorted(folder.glob("entries-*.jsonl.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                yield parse(line.removesuffix(b"\n"))


def _texts(folder: Path) -> dict[str, str]:
    return {
        file.stem: file.read_text("utf-8", "replace") for file in sorted((folder / "texts").glob("*.txt"))
    }


def _durability(folder: Path) -> str:
    """What the manifest says of it: the word of whoever exported."""
    try:
        said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["durability"]
        return f"{Durability(said)}: {Durability(said).sentence}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "not known"
