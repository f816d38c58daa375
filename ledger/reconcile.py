"""Reconciliation: each authorization against what became of it, and what else an auditor asks. Pure.

* An authorization is a credit of its service and action; Executed, WebhookFailed, StoodDown and
  OutcomeUnknown are debits. Credits less debits, less what is open within its time, is zero on every line.
* Nothing here trusts the rules that the entries were written under: each control is judged again, from the
  entries, from the charter that was in force, and from what the app signed for.
* An authorization belongs to the period in which it was made, with all that became of it, also later.
* The same entries, texts and period give the same report, byte for byte.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.balance import LAST_MS
from ledger.balance import Finding as Finding
from ledger.balance import Kind as Kind
from ledger.balance import Report as Report
from ledger.balance import Row as Row
from ledger.books import Books, hash_of


def reconcile(
    entries: Iterable[Mapping[str, Any]],
    texts: Mapping[str, str],
    until_ms: int = 0,
    *,
    from_ms: int = 0,
    to_ms: int = LAST_MS,
) -> Report:
    """The report of *entries*, all of a log from the first on, which were verified before.

    *until_ms* is the present of the report; left out, it is when the newest entry was written.
    """
    books, last = Books(texts), None
    for last in entries:
        books.take(last)
    tenant = last["tenant_id"] if last else ""
    head = hash_of(last) if last else ""
    return books.report(tenant, until_ms or books.last_ms, from_ms, to_ms, head)
