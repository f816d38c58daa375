"""The auditor's page as text, before it is drawn: a banner, nine sections in a fixed order, an annex. Pure.

1. title and times   2. verdict   3. the change   4. who   5. when   6. result   7. exceptions
8. what the page does not cover   9. how to check it oneself
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.chain import Entry, receipt, receipt_of
from ledger.machine import Fact
from ledger.report_verdict import Made, Reconciliation, Standing, Verdict
from ledger.report_watch import Watch
from ledger.report_words import NOTHING, Times, count, tally
from ledger.view import epoch_ms

UNSIGNED = "nobody: without a signature whoever could write the log could have written another"
NO_OUTSIDE = "none: only what others hold shows that the whole log was not replaced"


@dataclass(frozen=True, slots=True)
class Line:
    """A label and what stands beside it, one item a paragraph. What is `firm` is cut last, what is
    `whole` never: it is ours, and short."""

    label: str
    items: tuple[str, ...]
    firm: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: tuple[str, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """`code` is the receipt that the QR shows, in the form that `--receipt` takes."""

    title: str
    banner: str
    standing: Standing
    first_bad: int | None
    sections: tuple[Section, ...]
    code: str
    table: Table | None
    texts: tuple[tuple[str, str], ...]
    foot: str


def line(label: str, *items: str) -> Line:
    return Line(label, tuple(item for item in items if item) or (NOTHING,))


def firm(label: str, *items: str) -> Line:
    return Line(label, line(label, *items).items, firm=True)


def heading(verdict: Verdict, made: Made, times: Times, span: str, wrote: str) -> Section:
    return Section(
        "Title and times",
        (
            firm("Covers", span),
            firm("Generated", f"{times.full(made.at_ms)} by {made.by or 'nobody named'}; zone {made.zone}"),
            firm(
                "Versions", f"page by Countersign {made.version or 'unknown'}; entries v1, written by {wrote}"
            ),
        ),
    )


def banner(verdict: Verdict) -> str:
    if verdict.first_bad is not None:
        return f"NOT INTACT: first bad entry #{verdict.first_bad}"
    if verdict.standing is Standing.INTACT and not verdict.signer:
        return f"INTACT UP TO #{verdict.receipts_to}"
    return verdict.standing.upper()


def verified(verdict: Verdict) -> Section:
    return Section(
        "Verdict",
        (
            firm("The log is", f"{verdict.standing}. {verdict.why}"),
            firm("Entries", _range(verdict)),
            firm("Root", verdict.root),
            firm("Signed by", verdict.signer or UNSIGNED),
            firm("Held by others", _outside(verdict)),
            firm("Durability", verdict.durability),
            firm("Off-box copy", verdict.off_box or "not known where this page was made"),
        ),
    )


def _range(verdict: Verdict) -> str:
    if verdict.last_seq == 0:
        return "none could be verified"
    said = f"#1 to #{verdict.last_seq} verified"
    return f"{said}; what this page says rests on these alone" if verdict.first_bad is not None else said


def _outside(verdict: Verdict) -> str:
    found = []
    if verdict.receipts:
        found.append(f"{count(verdict.receipts, 'receipt')} up to #{verdict.receipts_to}")
    if verdict.cosignatures:
        found.append(f"{count(verdict.cosignatures, 'cosignature')} up to #{verdict.cosigned_to}")
    return "; ".join(found) or NO_OUTSIDE


def exceptions(books: Reconciliation | None, watched: Watch, refused: str) -> Section:
    """Every kind of exception with its count, zeros too."""
    found, whole = ["not reconciled"], ["not reconciled"]
    if books is not None:
        found = [" · ".join(f"{kind}: {books.here.get(kind, 0)}" for kind in books.everywhere)]
        total = count(sum(books.everywhere.values()), "exception")
        whole = [f"{total}; {books.balance}; report {books.digest}"]
    outside = f"{refused}; outside any incident in this time: {tally(watched.refused)}"
    return Section(
        "Exceptions",
        (
            Line("By kind", tuple(found), whole=True),
            firm("Whole log", *whole),
            line("Refused attempts", outside),
            firm("Not monitored", _unwatched(watched)),
        ),
    )


def _unwatched(watched: Watch) -> str:
    absent = f"{count(watched.absent_min, 'minute')} without a running process"
    if not watched.reports:
        return f"{absent}; no hourly report of polls stands in this time"
    polls = f"{watched.missed:,} of {watched.due:,} polls missed"
    return f"{absent}; {polls} in {count(watched.reports, 'hourly report')}"


def not_covered(verdict: Verdict) -> Section:
    said = [
        f"Anything written after entry #{verdict.last_seq}, and what was done outside Countersign.",
        "Who held the phone: an entry names an account and who linked it.",
        "Words that people typed: the log has commitments to them, so that they can be erased.",
        "What the app did beyond its answer and its signed receipt; what models were told beyond digests.",
    ]
    if not verdict.signer or not (verdict.receipts or verdict.cosignatures):
        said.append("Whether the whole log was replaced: compare the receipt here with one kept elsewhere.")
    return Section("What this page does not cover", (Line("", tuple(said), whole=True),))


def how_to_check(verdict: Verdict, code: str, extra: Sequence[str]) -> Section:
    return Section(
        "Check it yourself",
        (
            firm("Ask for", "the exported folder; the public key, from somebody who does not run the server"),
            firm("Run", f"python3 -I -S verify.py . --receipt {code}"),
            firm("Key", verdict.fingerprint or "none: the log is unsigned"),
            firm("Receipts", " · ".join(extra)),
        ),
    )


def code(fact: Fact) -> str:
    """The receipt of *fact* as `--receipt` takes it: 42:7F3A-91C2-K0PM-XQ4T."""
    return f"{fact.seq}:{receipt_of(fact.hash)}"


def trail(entries: Sequence[Entry], times: Times) -> Table:
    """Every entry of one incident."""
    rows = tuple(
        (
            f"#{entry.seq}",
            times.short(epoch_ms(entry.at)),
            entry.event,
            entry.actor["id"],
            entry.reason or entry.decision,
            receipt(entry),
        )
        for entry in entries
    )
    return Table(
        "Annex A: every entry of the incident",
        ("Entry", "Time", "Fact", "By", "Reason", "Receipt"),
        (8, 19, 17, 20, 45, 22),
        rows,
    )
