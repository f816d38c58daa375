"""A verdict as the ledger keeps it: the worst alarm and the figures that anyone can recompute."""

from detectors.verdict import Verdict, recovered_because
from ledger import events as ev
from ledger.events import Reading
from ledger.machine import Incident


def reading_of(service: str, verdict: Verdict | None, deploy: str = "") -> Reading:
    """What *verdict* measured of *service*. Without an alarm, rule and signal are empty, severity is none."""
    if verdict is None:
        nothing = "Nothing was measured: the service did not answer."
        return Reading(
            service=service, rule="", signal="", severity="none", headline="not measured", explanation=nothing
        )
    seen, worst = verdict.numbers, verdict.alarms[0] if verdict.alarms else None
    return Reading(
        service=service,
        rule=worst.rule if worst else "",
        signal=worst.signal if worst else "",
        severity=worst.severity if worst else "none",
        headline=worst.headline if worst else "healthy",
        explanation=worst.explanation if worst else recovered_because(verdict),
        score=verdict.score,
        trend=verdict.trend,
        since_ms=worst.since_ms if worst else 0,
        n=seen.n,
        failed=seen.failed,
        window_ms=seen.window_ms,
        p50_ms=seen.p50_ms,
        p95_ms=seen.p95_ms,
        rps_milli=seen.rps_milli,
        error_permille=seen.error_permille,
        inflight=seen.inflight,
        oldest_ms=seen.oldest_ms,
        evidence_cn=worst.evidence_cn if worst else 0,
        threshold_cn=worst.threshold_cn if worst else 0,
        deploy=deploy,
    )


def reading_before(incident: Incident, seq: int) -> Reading:
    """The last that policy had said of *incident* when entry *seq* was written."""
    told = (
        fact.event.reading
        for fact in reversed(incident.facts)
        if fact.seq < seq and isinstance(fact.event, ev.Detected | ev.Worsened | ev.Reopened)
    )
    return next(told, incident.opened.reading)
