"""``GET /metrics``: the counters since each worker began, in Prometheus' text exposition format 0.0.4.

The buckets of every histogram have the same fixed edges, factor two apart, so they merge, and Prometheus can
keep them as native histograms with custom buckets (``convert_classic_histograms_to_nhcb: true``).
Counters only rise within a worker; where there are several, each has its own series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .told import Told
from .totals import OCTAVES, Total

TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST, LAST = 10, OCTAVES - 2
"""The finest edge is 32.8 µs, the coarsest 68.7 s; beyond it is +Inf."""
EDGES = {k: f"{(64 << (k - 1)) / 1e9:.12g}" for k in range(FIRST, LAST + 1)}
Labels = Mapping[str, str]
HISTOGRAMS = {
    "routes": ("http_request_duration_seconds", "Time from a request's begin to its last body byte."),
    "dependencies": ("dependency_call_duration_seconds", "Time that a call to a dependency took."),
    "streams": ("http_stream_first_byte_seconds", "Time to the first byte of event streams and websockets."),
}
COUNTERS = {
    "http_request_errors_total": ("routes", "errors", "Requests that failed: 5xx or an exception."),
    "http_request_client_errors_total": ("routes", "client_errors", "Requests answered with 4xx."),
    "http_request_aborted_total": ("routes", "aborted", "Requests whose client went away."),
    "dependency_call_errors_total": ("dependencies", "errors", "Calls to a dependency that raised."),
}


def render(told: Told) -> str:
    """Return the exposition of *told*."""
    many = len(told.totals) > 1
    workers = [({"worker": worker} if many else {}, totals.named) for worker, totals in told.totals.items()]
    lines: list[str] = []
    for kind, (name, about) in HISTOGRAMS.items():
        lines += _head(name, "histogram", about)
        for labels, named in workers:
            for one, total in named[kind].items():
                lines += _histogram(name, {**_named(kind, one), **labels}, total)
    for name, (kind, attribute, about) in COUNTERS.items():
        lines += _head(name, "counter", about)
        lines += (
            _line(name, {**_named(kind, one), **labels}, getattr(total, attribute))
            for labels, named in workers
            for one, total in named[kind].items()
        )
    lines += _head("http_request_exceptions_total", "counter", "Requests that failed, by type of exception.")
    for labels, named in workers:
        for one, total in named["routes"].items():
            lines += (
                _line("http_request_exceptions_total", {**_named("routes", one), "type": type, **labels}, c)
                for type, c in total.exceptions.items()
            )
    return "\n".join([*lines, *_gauges(told)]) + "\n"


def _gauges(told: Told) -> Iterator[str]:
    now = told.now
    single = {
        "http_requests_in_flight": ("Requests that have begun and not ended.", now.inflight),
        "http_request_oldest_seconds": ("Age of the oldest request in flight.", now.oldest_ms / 1000),
        "http_streams_open": ("Event streams and websockets that are open.", told.streams),
        "countersign_workers": ("Workers that this answer covers.", now.workers),
        "countersign_workers_stale": ("Workers that have fallen silent.", now.workers_stale),
        "countersign_simulated_faults": ("Faults that are simulated now.", len(now.faults)),
    }
    for name, (about, value) in single.items():
        yield from _head(name, "gauge", about)
        yield _line(name, {}, value)
    for which in ("used", "limit"):
        yield from _head(f"saturation_{which}", "gauge", f"How full something is: {which}.")
        for gauge in now.saturation:
            yield _line(f"saturation_{which}", {"name": gauge.name}, getattr(gauge, which))


def _named(kind: str, name: str) -> Labels:
    if kind == "dependencies":
        return {"dependency": name}
    method, _, route = name.partition(" ")
    return {"method": method, "route": route} if route else {"method": "", "route": name}


def _histogram(name: str, labels: Labels, total: Total) -> Iterable[str]:
    seen = sum(total.octaves[:FIRST])
    for k, edge in EDGES.items():
        seen += total.octaves[k]
        yield _line(f"{name}_bucket", {**labels, "le": edge}, seen)
    yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, total.n)
    yield _line(f"{name}_sum", labels, total.sum_ns / 1e9)
    yield _line(f"{name}_count", labels, total.n)


def _head(name: str, type: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {type}"]


def _line(name: str, labels: Labels, value: float) -> str:
    if not labels:
        return f"{name} {value}"
    told = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels.items())
    return f"{name}{{{told}}} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
