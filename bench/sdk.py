"""What the SDK costs and keeps, beside the floor and its peers, in one interleaved run: about a minute.

    python bench/sdk.py [--requests 10000] [--quick]

Apps are called in process, in turn, request by request, in a shuffled order; what a candidate costs is its
median request less that of the bare app, so that other programs on the machine disturb little. *floor* is
what nobody can avoid: two clocks, one bucket, the status through a wrapped ``send``. Ours and the floor run
beside the bare app, and then the peers do. Nanoseconds vary by machine, ratios hardly.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import os
import random
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastapi import FastAPI

from bench import sdk_facts, sdk_server
from sdk import instrument

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
WARM_UP = 200
OURS = ("bare", "floor", "countersign")
ALERTENGINE, INSTRUMENTATOR = "fastapi-alertengine", "prometheus-fastapi-instrumentator"
EXPORTER, OTEL = "starlette_exporter", "opentelemetry-instrumentation-fastapi"


async def noop(scope, receive, send):
    await send(START)
    await send(BODY)


def floor(app):
    clock, hist, classes = time.perf_counter_ns, [0] * 1100, [0] * 6

    async def measured(scope, receive, send):
        begun, status = clock(), 0

        def watch(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        await app(scope, receive, watch)
        ns = clock() - begun
        e = ns.bit_length() - 6
        hist[(e << 5) + (ns >> e)] += 1
        classes[status // 100] += 1

    return measured


def shop(**options):
    app = FastAPI(**options)

    @app.get("/orders/{order}")
    async def order(order: int):
        return {"order": order}

    return app


def added(middleware, **options):
    app = shop()
    app.add_middleware(middleware, **options)
    return app


def instrumented(app):
    return instrument(app, share=False).app


def alertengine(app):
    """fastapi-alertengine in memory mode, as its middleware measures; its background drain is not running."""
    from fastapi_alertengine.config import AlertConfig
    from fastapi_alertengine.engine import AlertEngine
    from fastapi_alertengine.middleware import RequestMetricsMiddleware

    return RequestMetricsMiddleware(app, alert_engine=AlertEngine(config=AlertConfig()))


def instrumentator():
    from prometheus_client import CollectorRegistry
    from prometheus_fastapi_instrumentator import Instrumentator

    app = shop()
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    return app


def exporter():
    from starlette_exporter import PrometheusMiddleware

    return added(PrometheusMiddleware, app_name="shop", prefix="shop")


def otel():
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.trace import NoOpTracerProvider

    app = shop()
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
    FastAPIInstrumentor.instrument_app(app, meter_provider=meters, tracer_provider=NoOpTracerProvider())
    return app


def candidates():
    """Return {workload: (path, {name: app})} and what was left out, with its reason."""
    asgi = {"bare": noop, "floor": floor(noop), "countersign": instrumented(noop)}
    fastapi = {"bare": shop(), "floor": added(floor), "countersign": instrumented(shop())}
    peers = {
        ALERTENGINE: lambda: added(alertengine),
        INSTRUMENTATOR: instrumentator,
        EXPORTER: exporter,
        OTEL: otel,
    }
    skipped = {}
    for name, make in peers.items():
        try:
            fastapi[name] = make()
        except ImportError as e:
            skipped[name] = str(e)
    if ALERTENGINE in fastapi:
        asgi[ALERTENGINE] = alertengine(noop)
    return {"no-op ASGI": ("/", asgi), "FastAPI route": ("/orders/7", fastapi)}, skipped


async def measure(apps, path, requests):
    """Return the ns a request of the bare app, and what each other app adds to it."""
    template = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "app": None,  # the peer asks for it even where there is no framework
    }

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        return

    async def once(app):
        scope = template.copy()
        begun = time.perf_counter_ns()
        await app(scope, receive, send)
        return time.perf_counter_ns() - begun

    order, taken = list(apps), {name: [] for name in apps}
    shuffle = random.Random(1)
    for n in range(requests + WARM_UP):
        shuffle.shuffle(order)
        for name in order:
            took = await once(apps[name])
            if n >= WARM_UP:
                taken[name].append(took)
    medians = {name: statistics.median(ns) for name, ns in taken.items()}
    bare = medians.pop("bare")
    return bare, {name: ns - bare for name, ns in medians.items()}


class Bars:
    """The bars, and whether each was met."""

    def __init__(self):
        self.rows = []

    def most(self, what, value, bar, unit=""):
        self.rows.append((what, value, bar, unit, value <= bar))

    def show(self):
        print("\nThe bars")
        for what, value, bar, unit, met in self.rows:
            digits = 4 if value < 0.1 else 2
            verdict = "met" if met else "MISSED"
            print(f"  {what:54}{value:>9.{digits}f} {unit:3} at most {bar:>7.{digits}f}   {verdict}")


def table(workload, bare, over):
    """Print one workload."""
    print(f"\n{workload}: bare {bare / 1000:.2f} µs a request")
    print(f"  {'':40}{'over bare':>12}{'of the floor':>14}{'ours is':>12}")
    for name, ns in over.items():
        ratio = "" if name in {"floor", "countersign"} else f"1/{ns / over['countersign']:.0f}"
        print(f"  {name:40}{ns / 1000:>9.2f} µs{ns / over['floor']:>13.2f}x{ratio:>12}")


def in_process(bars, requests):
    workloads, skipped = candidates()
    most_us = {"no-op ASGI": 1.5, "FastAPI route": 3.0}
    for workload, (path, apps) in workloads.items():
        with contextlib.redirect_stdout(io.StringIO()):  # a peer greets its first request
            bare, over = asyncio.run(measure({name: apps[name] for name in OURS}, path, requests))
            peers = {name: app for name, app in apps.items() if name == "bare" or name not in OURS}
            over |= asyncio.run(measure(peers, path, requests // 10))[1]
        table(workload, bare, over)
        ours = over["countersign"]
        bars.most(f"{workload}: over bare", ours / 1000, most_us[workload], "µs")
        bars.most(f"{workload}: of the floor", ours / over["floor"], 2.0, "×")
        for name, ns in over.items():
            if name not in {"floor", "countersign"}:
                bars.most(f"{workload}: of {name}", ours / ns, 1 / (40 if name == ALERTENGINE else 10), "×")
    for name, why in skipped.items():
        print(f"\nskipped: {name} ({why})")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--quick", action="store_true", help="a tenth of everything: to see that it runs")
    chosen = arguments.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    share = 10 if chosen.quick else 1
    bars = Bars()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    in_process(bars, chosen.requests // share)
    sdk_server.run(bars, 4_000 // share)
    sdk_facts.run(bars, share)
    bars.show()


if __name__ == "__main__":
    main()
