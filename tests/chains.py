"""Chains of entries for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ledger.chain import GENESIS, Entry, Head, seal

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)


def sealed(head: Head = GENESIS, **changed: Any) -> Entry:
    """An entry after *head*, plain but for what is *changed*."""
    fields: dict[str, Any] = {
        "ts": NOON,
        "tenant_id": "acme",
        "incident_id": "checkout-3",
        "event": "Authorized",
        "stage": "AUTHORIZED",
        "actor": {"kind": "engineer", "id": "rudo", "via": "telegram"},
        "decision": "approve",
        "reason": "Database connection pool exhausted: restart recommended",
        "confidence": 87,
        "policy_version": "2026.1+3f9ac1d2",
        "ref": {"seq": 1, "hash": "ab" * 32},
        "data": {},
    }
    return seal(head, **(fields | changed))


def chain(count: int, head: Head = GENESIS, **changed: Any) -> Sequence[Entry]:
    """*count* entries after *head*, each linked to the one before."""
    entries = []
    for _ in range(count):
        entries.append(sealed(head, **changed))
        head = entries[-1].head
    return entries
