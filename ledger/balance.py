"""What the books say, in the one form that has a digest: the trial balance, and each exception once. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256

from ledger import events as ev

LAST_MS = 253_402_300_800_000
"""The end of the year 9999: a period that ends here has no end."""


class Kind(StrEnum):
    """What can be wrong with the books."""

    UNAUTHORIZED = "executed without authorization"
    TWO_OUTCOMES = "two outcomes"
    NO_OUTCOME = "no outcome in time"
    DIGEST = "digest differs"
    NOT_ENTITLED = "approver not entitled"
    POLICY = "policy differs"
    NEVER_PAGED = "page never delivered"
    RECEIPT = "receipt missing or different"
    OWN_PROPOSAL = "approved by who proposed it"
    TWICE = "one person counted twice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One exception: the entry that shows it, and a sentence for a person."""

    kind: Kind
    seq: int
    incident: str
    sentence: str


@dataclass(slots=True)
class Row:
    """One account of the trial balance."""

    service: str
    action: str
    authorized: int = 0
    executed: int = 0
    failed: int = 0
    stood_down: int = 0
    unknown: int = 0
    open: int = 0
    receipts: int = 0

    @property
    def difference(self) -> int:
        """Zero where each authorization has its one outcome, or still has time."""
        settled = self.executed + self.failed + self.stood_down + self.unknown
        return self.authorized - settled - self.open


COLUMNS: Mapping[str, str] = {
    ev.Executed.__name__: "executed",
    ev.WebhookFailed.__name__: "failed",
    ev.StoodDown.__name__: "stood_down",
    ev.OutcomeUnknown.__name__: "unknown",
}
"""Where a debit is booked."""
FIGURES = ("authorized", *COLUMNS.values(), "open", "difference", "receipts")


@dataclass(frozen=True, slots=True)
class Report:
    """What the books of one tenant say: for [from_ms, to_ms), as they stood at *until_ms*."""

    tenant: str
    from_ms: int
    to_ms: int
    until_ms: int
    last_seq: int
    head: str
    balance: tuple[Row, ...]
    exceptions: tuple[Finding, ...]

    @property
    def balanced(self) -> bool:
        return not any(row.difference for row in self.balance)

    @property
    def clean(self) -> bool:
        return self.balanced and not self.exceptions

    @property
    def counts(self) -> dict[str, int]:
        """Exceptions by kind, all kinds, in their order."""
        return {kind: sum(one.kind is kind for one in self.exceptions) for kind in Kind}

    @property
    def total(self) -> Row:
        """The sum of all accounts."""
        whole = Row("all", "")
        for row in self.balance:
            for name in ("authorized", *COLUMNS.values(), "open", "receipts"):
                setattr(whole, name, getattr(whole, name) + getattr(row, name))
        return whole

    @property
    def digest(self) -> str:
        """SHA-256 of `text`."""
        return sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """The whole report in its one form, for a file or a screen."""
        lines = [
            "COUNTERSIGN RECONCILIATION 1",
            f"tenant {self.tenant}",
            f"period {stamp(self.from_ms)} to {stamp(self.to_ms)}",
            f"as of {stamp(self.until_ms)}, entry {self.last_seq}, head {self.head or '-'}",
            "",
            "TRIAL BALANCE",
            *(_line(row) for row in (*self.balance, self.total)),
            "",
            "EXCEPTIONS",
            *(f"{count} {kind}" for kind, count in self.counts.items()),
            *(f"#{one.seq} {one.incident or '-'}: {one.kind}: {one.sentence}" for one in self.exceptions),
            "",
            "RESULT",
            self._result(),
        ]
        return "\n".join(lines) + "\n"

    def lines(self, most: int = 12) -> list[str]:
        """The report for a phone: the result, the figures that matter, the first exceptions."""
        whole = self.total
        found = [
            self._result(),
            f"{stamp(self.from_ms, 'the first entry')} to {stamp(self.to_ms, 'now')}, #{self.last_seq}",
            f"{whole.authorized} authorized: {whole.executed} executed, {whole.failed} failed,",
            f"{whole.stood_down} stood down, {whole.unknown} unknown, {whole.open} open",
            f"Difference {whole.difference}; {whole.receipts} of {whole.executed} runs with a receipt",
            *(f"#{one.seq} {one.incident}: {one.sentence}" for one in self.exceptions),
        ]
        if len(found) > most - 1:
            found = [*found[: most - 2], f"… and {len(found) - most + 2} more exceptions"]
        return [*found, f"Report {self.digest[:16]}"]

    def fact(self) -> ev.Reconciled:
        """The report as an entry names it."""
        return ev.Reconciled(
            decision="reconcile",
            reason=self._result(),
            digest=self.digest,
            exceptions=len(self.exceptions),
            balanced=self.balanced,
            from_ms=self.from_ms,
            to_ms=self.to_ms,
            until_ms=self.until_ms,
            last_seq=self.last_seq,
        )

    def _result(self) -> str:
        books = "The books balance" if self.balanced else "The books do NOT balance"
        count = len(self.exceptions)
        return f"{books}, {count or 'no'} exception{'s' if count != 1 else ''}."


def stamp(at_ms: int, otherwise: str = "-") -> str:
    """An instant as the report prints it, and *otherwise* for the ends of time."""
    if not 0 < at_ms < LAST_MS:
        return otherwise
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def _line(row: Row) -> str:
    figures = ", ".join(f"{name} {getattr(row, name)}" for name in FIGURES)
    return f"{row.service} {row.action or '-'}: {figures}"
