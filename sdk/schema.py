"""``GET /health/alerts?format=schema``: the ``health/1`` document as JSON Schema, for programs and agents.

Keys are only ever added, so a reader must not mind those that it does not know.
"""

from __future__ import annotations

from .advice import ACTIONS
from .health import SCHEMA

Schema = dict[str, object]


def _object(properties: dict[str, Schema], about: str = "", *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    told = {"description": about} if about else {}
    return {"type": "object", **told, "properties": properties, "required": required}


def _a(type: str | list[str], about: str = "", **more: object) -> Schema:
    return {"type": type, **({"description": about} if about else {}), **more}


def _list(items: Schema, about: str = "") -> Schema:
    return _a("array", about, items=items)


def _count(about: str = "") -> Schema:
    return _a("integer", about, minimum=0)


def _amount(about: str = "") -> Schema:
    return _a("number", about, minimum=0)


def _share(about: str = "") -> Schema:
    return _a("number", about, minimum=0, maximum=1)


STATUS = _a("string", "ok, warning or critical", enum=["ok", "warning", "critical"])
SCORE = _a("integer", "100 is well, 0 is down", minimum=0, maximum=100)
EXCEPTIONS = _a("object", "how many, by type", additionalProperties=_count())
METRICS = _object(
    {
        "overall_p95_ms": _amount("of all requests of the last minute, to their last byte"),
        "webhook_p95_ms": _amount("of routes with webhook in their name"),
        "api_p95_ms": _amount("of all others"),
        "error_rate": _share("5xx and exceptions among all requests"),
        "anomaly_score": _amount("distance of p95 from the mean, in means"),
        "sample_size": _count("requests in the last minute"),
        "p50_ms": _amount(),
        "p99_ms": _amount(),
        "rps": _amount("requests a second"),
        "inflight": _count("requests that have begun and not ended"),
        "inflight_peak": _count(),
        "oldest_ms": _count("age of the oldest request in flight"),
        "streams": _count("event streams and websockets that are open"),
        "streams_begun": _count(),
        "first_byte_p95_ms": _amount("of streams and websockets"),
        "client_error_rate": _share("4xx among all requests"),
        "aborted": _count("requests whose client went away"),
        "window_s": _count(),
        "workers": _count("workers that the answer covers"),
        "workers_stale": _count("workers that have fallen silent"),
    }
)
COMPONENTS = ("latency", "errors", "anomalies", "traffic", "saturation", "hangs")
ALERT = _object(
    {
        "type": _a("string"),
        "severity": STATUS,
        "message": _a("string"),
        "reason_for_trigger": _a("string"),
        "trend_direction": _a("string"),
        "triggered_by": _a("string"),
        "baseline_comparison": _object(
            {
                "baseline_value": _amount(),
                "current_value": _amount(),
                "deviation_pct": _a(["number", "null"]),
            }
        ),
    }
)
ROUTE = _object(
    {
        "route": _a("string", "the method and the route's template, never a raw path"),
        "n": _count(),
        "p50_ms": _amount(),
        "p95_ms": _amount(),
        "error_rate": _share(),
        "slow_share": _share("slower than 500 ms"),
        "exceptions": EXCEPTIONS,
    }
)
HEALTH: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": f"urn:countersign:{SCHEMA}",
    "title": "The health of an app over its last minute",
    **_object(
        {
            "status": STATUS,
            "reason": _a("string", "no_data where nothing was asked of the app"),
            "service_name": _a("string"),
            "instance_id": _a("string"),
            "timestamp": _count("epoch seconds"),
            "metrics": METRICS,
            "health_score": _object(
                {
                    "score": SCORE,
                    "status": _a("string", enum=["healthy", "degraded", "critical"]),
                    "trend": _a("string", enum=["stable", "degrading", "improving"]),
                    "components": _object(dict.fromkeys(COMPONENTS, SCORE)),
                },
                "the score is that of the worst component",
            ),
            "alerts": _list(ALERT),
            "suggested_action": _a("string", "advice only, nothing is done", enum=list(ACTIONS)),
            "suggested_by": _object(
                {"rule": _a("string"), "component": _a("string"), "why": _a("string")},
                "the rule that named the action",
            ),
            "adaptive_thresholds": _a("null"),
            "rate_of_change": _list({}),
            "routes": _list(ROUTE, "those with most errors, then most requests"),
            "saturation": _list(_object({"name": _a("string"), "used": _count(), "limit": _count()})),
            "faults": _list(_a("string"), "simulated faults: these numbers are not real trouble"),
            "schema": _a("string", enum=[SCHEMA]),
            "stale": _a("boolean", "whether other workers could not be asked"),
            "stale_reason": _a("string"),
            "push": _object(
                {"trouble": _a("string"), "lost_seconds": _count()}, "how pushing to the bot goes"
            ),
        },
        optional=("reason", "stale", "stale_reason", "push"),
    ),
}
