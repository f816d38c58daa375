"""Entries as the rows that `/audit` prints and exports, in the names and types of an accounting ledger."""

from typing import TypedDict

from ledger.chain import Entry
from ledger.events import ActorKind

SHOWN_AS = {ActorKind.MODEL: "claude"}


class Row(TypedDict):
    timestamp: float
    incident_id: str
    stage: str
    actor: str
    decision: str
    reason: str
    confidence: float | None
    policy_version: str
    tenant_id: str
    seq: int
    hash: str
    actor_id: str


def row(entry: Entry) -> Row:
    """One entry as a row: `timestamp` in epoch seconds, `confidence` from 0 to 1."""
    kind = ActorKind(entry.actor["kind"])
    return Row(
        timestamp=entry.at.timestamp(),
        incident_id=entry.incident_id or "",
        stage=entry.stage or "",
        actor=SHOWN_AS.get(kind, kind.value),
        decision=entry.decision,
        reason=entry.reason,
        confidence=None if entry.confidence is None else entry.confidence / 100,
        policy_version=entry.policy_version,
        tenant_id=entry.tenant_id,
        seq=entry.seq,
        hash=entry.hash,
        actor_id=entry.actor["id"],
    )
