"""What the SDK costs a request, beside the floor and its peers, interleaved in one run.

    python bench/sdk.py [--rounds 30] [--requests 1000]

Apps are called in process. Each round runs every candidate in a shuffled order; medians over rounds. *floor*
is what nobody can avoid: two clocks, one bucket, the status through a wrapped ``send``. Ratios are of
overheads over the bare app of the same run: nanoseconds vary by machine, ratios hardly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import random
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastapi import FastAPI

from sdk import instrument

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
BARS = {"no-op ASGI": 1.5, "FastAPI route": 3.0}


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


def peer(app):
    """fastapi-alertengine in memory mode, as its middleware measures; its background drain is not running."""
    from fastapi_alertengine.config import AlertConfig
    from fastapi_alertengine.engine import AlertEngine
    from fastapi_alertengine.middleware import RequestMetricsMiddleware

    return RequestMetricsMiddleware(app, alert_engine=AlertEngine(config=AlertConfig()))


def shop(**options):
    app = FastAPI(**options)

    @app.get("/orders/{order}")
    async def order(order: int):
        return {"order": order}

    return app


def added(middleware):
    app = shop()
    app.add_middleware(middleware)
    return app


def instrumented(app):
    return instrument(app).app


def candidates():
    """Return {workload: (path, {name: app})} and what was left out, with its reason."""
    asgi = {"bare": noop, "floor": floor(noop), "countersign": instrumented(noop)}
    fastapi = {"bare": shop(), "floor": added(floor), "countersign": instrumented(shop())}
    skipped = {}
    try:
        asgi["fastapi-alertengine"] = peer(noop)
        fastapi["fastapi-alertengine"] = added(peer)
    except ImportError as e:
        skipped["fastapi-alertengine"] = str(e)
    return {"no-op ASGI": ("/", asgi), "FastAPI route": ("/orders/7", fastapi)}, skipped


async def measure(apps, path, rounds, requests):
    """Return the median ns a request of each app."""
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

    async def once(app, n):
        begun = time.perf_counter_ns()
        for _ in range(n):
            await app(template.copy(), receive, send)
        return (time.perf_counter_ns() - begun) / n

    order, taken = list(apps), {name: [] for name in apps}
    shuffle = random.Random(1)
    for app in apps.values():
        await once(app, 200)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            taken[name].append(await once(apps[name], requests // 10 if "alertengine" in name else requests))
    return {name: statistics.median(ns) for name, ns in taken.items()}


def table(workload, medians):
    """Print one workload; return what ours costs over bare, in µs, and that over the floor's."""
    bare = medians["bare"]
    over = {name: ns - bare for name, ns in medians.items()}
    print(f"\n{workload}: bare {bare / 1000:.2f} µs a request")
    print(f"  {'':24}{'over bare':>12}{'of the floor':>14}{'ours is':>12}")
    for name in list(medians)[1:]:
        ratio = f"1/{over[name] / over['countersign']:.1f}" if name != "countersign" else ""
        print(f"  {name:24}{over[name] / 1000:>9.2f} µs{over[name] / over['floor']:>13.2f}x{ratio:>12}")
    return over["countersign"] / 1000, over["countersign"] / over["floor"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--requests", type=int, default=1000)
    chosen = arguments.parse_args()
    warnings.simplefilter("ignore")
    workloads, skipped = candidates()
    version, cpus = sys.version.split()[0], os.cpu_count()
    print(f"Python {version}, {cpus} CPUs, {chosen.rounds} rounds × {chosen.requests} requests")
    for workload, (path, apps) in workloads.items():
        with contextlib.redirect_stdout(io.StringIO()):  # the peer greets its first request
            medians = asyncio.run(measure(apps, path, chosen.rounds, chosen.requests))
        us, ratio = table(workload, medians)
        print(f"  bar: at most {BARS[workload]} µs over bare, here {us:.2f}; the floor's {ratio:.2f}×")
    for name, why in skipped.items():
        print(f"\nskipped: {name} ({why})")


if __name__ == "__main__":
    main()
