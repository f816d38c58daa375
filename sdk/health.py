"""How an app feels, from its last minute alone: ``health/1``, a superset of fastapi-alertengine's answer.

A pure function of the window: asking twice changes nothing. The score is the WORST component, never an
average, because 100 % errors in 5 ms is not a healthy app with fast answers. A component is 100 up to a share
p0, 40 at p1 and 0 at 5 × p1, linear between. Fewer than five bad events never make anything critical.

This is a glance for people and dashboards. What opens an incident is the bot's policy, over the exact slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import sub

from . import advice
from .cell import Closed
from .minute import Curve, Minute, Sum
from .wire import Gauge, gauge

SCHEMA = "health/1"
WINDOW_S = 60
RECENT_S = 10
SLOW_NS = 500_000_000
FEW = 5
TOP_ROUTES = 16
WARNING, CRITICAL = 70, 40
Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Present:
    """What is true at the moment of the answer."""

    service: str
    now_ms: int
    inflight: int = 0
    inflight_peak: int = 0
    oldest_ms: int = 0
    streams: int = 0
    saturation: tuple[Gauge, ...] = ()
    faults: tuple[str, ...] = ()
    workers: int = 1
    workers_stale: int = 0


def evaluate(present: Present, closed: Sequence[Closed], minute: Minute) -> Document:
    """Return the ``health/1`` document of the closed slots of the last minute, and what they add up to."""
    edge = present.now_ms // 1000 - RECENT_S
    whole, recent = minute.total, Sum()
    for one in closed:
        if one.t >= edge:
            recent.add(one.total)
    before = whole.less(recent)
    seconds = closed[-1].t - closed[0].t + 1 if closed else 0
    components = {
        "latency": component(recent.curve().above(SLOW_NS), recent.n, 0.05, 0.15),
        "errors": component(recent.errors, recent.n, 0.02, 0.10),
        "anomalies": _anomalies(recent, before),
        "traffic": _traffic(recent.n, before.n, seconds - RECENT_S),
        "saturation": min((_fullness(g) for g in present.saturation), default=100),
        "hangs": _linear(present.oldest_ms, (5_000, 100), (15_000, 40), (60_000, 0)),
    }
    score = min(components.values())
    status = "critical" if score <= CRITICAL else "warning" if score < WARNING else "ok"
    return {
        "status": status,
        **({} if whole.n else {"reason": "no_data"}),
        "service_name": present.service,
        "instance_id": "merged",
        "timestamp": present.now_ms // 1000,
        "metrics": _metrics(present, minute, seconds),
        "health_score": {
            "score": score,
            "status": {"ok": "healthy", "warning": "degraded"}.get(status, status),
            "trend": _trend(recent, before),
            "components": components,
        },
        "alerts": _alerts(components, recent, before),
        **advice.suggest(status, components),
        "adaptive_thresholds": None,
        "rate_of_change": [],
        "routes": _routes(minute),
        "saturation": [gauge(g) for g in present.saturation],
        "faults": list(present.faults),
        "schema": SCHEMA,
    }


def component(k: int, n: int, p0: float, p1: float) -> int:
    """Return 100 when *k* of *n* is at most the share p0, 40 at p1, 0 from 5 × p1."""
    if not n:
        return 100
    score = _linear(k / n, (p0, 100), (p1, 40), (min(1.0, 5 * p1), 0))
    return score if k >= FEW else max(score, CRITICAL + 1)


def _linear(x: float, *points: tuple[float, int]) -> int:
    """Return the height at *x* of the line through *points*, flat outside them."""
    (x0, y0) = points[0]
    if x <= x0:
        return y0
    for x1, y1 in points[1:]:
        if x <= x1:
            return round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        x0, y0 = x1, y1
    return y0


def _anomalies(recent: Sum, before: Sum) -> int:
    """Share of recent requests slower than twice the p95 before."""
    if before.n < 20:
        return 100
    usual = max(2 * before.curve().ns(0.95), 50_000_000)
    return component(recent.curve().above(usual), recent.n, 0.05, 0.15)


def _traffic(recent: int, before: int, seconds_before: int) -> int:
    """Recent requests against the rate before; no opinion where fewer than 15 were to be expected."""
    expected = before / seconds_before * RECENT_S if seconds_before > 0 else 0.0
    return 100 if expected < 15 else _linear(-recent / expected, (-0.4, 100), (-0.1, 40), (0.0, 20))


def _fullness(one: Gauge) -> int:
    return _linear(one.used / one.limit, (0.8, 100), (0.95, 40), (1.0, 20)) if one.limit else 100


def _trend(recent: Sum, before: Sum) -> str:
    if not (recent.n and before.n):
        return "stable"
    now, then = (component(s.errors, s.n, 0.02, 0.10) for s in (recent, before))
    now = min(now, _anomalies(recent, before))
    return "degrading" if now < then - 10 else "improving" if now > then + 10 else "stable"


def _metrics(present: Present, minute: Minute, seconds: int) -> Document:
    whole = minute.total
    hooks = [one.counts for name, one in minute.routes.items() if "webhook" in name]
    webhooks = list(map(sum, zip(*hooks))) if hooks else [0]  # noqa: B905 - all are as long as BUCKETS
    api = list(map(sub, whole.counts, webhooks)) if hooks else whole.counts
    curve = whole.curve()
    p95, mean = curve.ms(0.95), whole.mean_ms()
    return {
        "overall_p95_ms": p95,
        "webhook_p95_ms": Curve(webhooks).ms(0.95),
        "api_p95_ms": Curve(api).ms(0.95),
        "error_rate": round(whole.error_rate, 6),
        "anomaly_score": round(abs(p95 - mean) / mean, 3) if mean else 0.0,
        "sample_size": whole.n,
        "p50_ms": curve.ms(0.50),
        "p99_ms": curve.ms(0.99),
        "rps": round(whole.n / seconds, 3) if seconds else 0.0,
        "inflight": present.inflight,
        "inflight_peak": present.inflight_peak,
        "oldest_ms": present.oldest_ms,
        "streams": present.streams,
        "streams_begun": minute.streams.n,
        "first_byte_p95_ms": minute.streams.curve().ms(0.95),
        "client_error_rate": round(whole.client_errors / whole.n, 6) if whole.n else 0.0,
        "aborted": whole.aborted,
        "window_s": WINDOW_S,
        "workers": present.workers,
        "workers_stale": present.workers_stale,
    }


def _alerts(components: Mapping[str, int], recent: Sum, before: Sum) -> list[Document]:
    slow = recent.curve().above(SLOW_NS)
    said = {
        "errors": (
            "error_anomaly",
            f"{recent.errors} of {recent.n} requests failed in {RECENT_S} s ({recent.error_rate:.1%})",
            100 * before.error_rate,
            100 * recent.error_rate,
        ),
        "latency": (
            "latency_spike",
            f"{slow} of {recent.n} requests in {RECENT_S} s were slower than {SLOW_NS // 1_000_000} ms",
            before.curve().ms(0.95),
            recent.curve().ms(0.95),
        ),
    }
    return [_alert(components[what], *said[what]) for what in said if components[what] < WARNING]


def _alert(score: int, kind: str, sentence: str, then: float, now: float) -> Document:
    return {
        "type": kind,
        "severity": "critical" if score <= CRITICAL else "warning",
        "message": sentence,
        "reason_for_trigger": sentence,
        "trend_direction": "increasing" if now > then else "stable",
        "triggered_by": "absolute_threshold",
        "baseline_comparison": {
            "baseline_value": round(then, 2),
            "current_value": round(now, 2),
            "deviation_pct": round(100 * (now - then) / then, 1) if then else None,
        },
    }


def _routes(minute: Minute) -> list[Document]:
    """The routes with most errors, then most requests."""
    ranked = sorted(minute.routes.items(), key=lambda kv: (-kv[1].errors, -kv[1].n))
    return [_route(name, whole) for name, whole in ranked[:TOP_ROUTES]]


def _route(name: str, whole: Sum) -> Document:
    curve = whole.curve()
    return {
        "route": name,
        "n": whole.n,
        "p50_ms": curve.ms(0.50),
        "p95_ms": curve.ms(0.95),
        "error_rate": round(whole.error_rate, 6),
        "slow_share": round(curve.above(SLOW_NS) / whole.n, 6),
        "exceptions": dict(whole.exceptions),
    }
