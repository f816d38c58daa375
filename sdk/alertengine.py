"""The smaller endpoints of fastapi-alertengine, under its own paths and keys, so that its readers can switch.

Where it keeps a queue, a circuit breaker and learned thresholds, there is nothing here to be dropped, broken
or learned: those keys say so, truthfully, and never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .cell import Closed, Packed
from .minute import Sum
from .told import Told

BUCKET_S = 10
Document = dict[str, object]


def history(told: Told, buckets: int = 10) -> Document:
    """Return ``GET /metrics/history``: the last minute, newest first, in at most *buckets* of ten seconds."""
    by_bucket: dict[int, list[Closed]] = {}
    for one in told.closed:
        by_bucket.setdefault(one.t // BUCKET_S * BUCKET_S, []).append(one)
    newest = sorted(by_bucket, reverse=True)[:buckets]
    return {"metrics": [row for t in newest for row in _rows(told.now.service, t, by_bucket[t])]}


def _rows(service: str, t: int, closed: Iterable[Closed]) -> Iterator[Document]:
    sums: dict[str, Sum] = {}
    for packed in (part for one in closed for part in one.routes):
        _sum(sums, packed)
    for name, whole in sums.items():
        curve = whole.curve()
        method, _, path = name.partition(" ")
        yield {
            "bucket_ts": t,
            "service": service,
            "path": path or name,
            "method": method if path else "",
            "status_group": "all",
            "count": whole.n,
            "avg_latency_ms": round(whole.mean_ms(), 3),
            "max_latency_ms": curve.ms(1.0),
            "p50_ms": curve.ms(0.50),
            "p95_ms": curve.ms(0.95),
            "errors": whole.errors,
        }


def _sum(sums: dict[str, Sum], packed: Packed) -> None:
    sums.setdefault(packed.name, Sum()).add(packed)


def ingestion(told: Told) -> Document:
    """Return ``GET /metrics/ingestion``: what has been counted since the workers began."""
    health = told.health()["health_score"]
    score = health["score"] if isinstance(health, dict) else None
    return {
        "enqueued": sum(totals.counted for totals in told.totals.values()),
        "dropped": 0,
        "last_drain_at": told.closed[-1].t + 1 if told.closed else None,
        "dropped_agg_keys": 0,
        "dropped_alerts": 0,
        "circuit_breaker": BREAKER,
        "baseline_snapshots": 0,
        "adaptive_active": False,
        "health_score": score,
        "roc_events_recent": 0,
        "workers": told.now.workers,
        "workers_stale": told.now.workers_stale,
    }


BREAKER: Document = {
    "state": "closed",
    "failure_count": 0,
    "buffer_size": 0,
    "dropped_events": 0,
    "opened_at": None,
}


def status(told: Told) -> Document:
    """Return ``GET /__alertengine/status``: what is at work here, and how it is."""
    return {
        "engine": "countersign-sdk",
        "mode": "shared" if told.now.workers + told.now.workers_stale > 1 else "memory",
        "metrics_active": True,
        "alerts_active": True,
        "ingestion": ingestion(told),
        "circuit_breaker": BREAKER,
        "baseline_mode": False,
        "learning_mode": False,
        "adaptive_thresholds": None,
        "demo_mode": bool(told.now.faults),
        "faults": list(told.now.faults),
        **told.notes,
    }
