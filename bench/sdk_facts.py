"""What the SDK promises beside its cost: a record, a percentile, its memory under attack, an answer."""

import asyncio
import json
import math
import random
import statistics
import time
import tracemalloc
from contextlib import suppress

import numpy

from sdk import Monitor, histogram, middleware
from sdk.cell import Cell
from sdk.window import SECOND_NS, Window

ROUTES, BUCKETS, KEPT_S = 128, 40, 60
FEW = 8
"""Requests a route and second, of an app that answers 1,000 a second."""
START_S = 1_764_000_000


def run(bars, share):
    """Measure each and note it in *bars*; a *share*-th of the work."""
    record(bars, 200_000 // share)
    percentiles(bars, 200_000 // share)
    attack(bars, 1_000_000 // share, 10_000 // share)
    answer(bars)


def record(bars, n):
    """What a request waits for, an append, and what its second costs for it once it is over."""
    latencies = [int(one) for one in numpy.random.default_rng(1).lognormal(17, 0.9, n)]
    cell = Cell("GET /")

    def recorded():
        for ns in latencies:
            cell.times.append(ns)

    def looped():
        for _ in latencies:
            pass

    seconds = [latencies[at : at + 1_000] for at in range(0, n, 1_000)]

    def closed():
        for second in seconds:
            cell.times = second
            cell.take()

    waited, later = math.inf, math.inf
    for _ in range(7):
        cell.times = []
        waited = min(waited, timed(recorded) - timed(looped))
        later = min(later, timed(closed))
    print(f"\nA record: {waited / n:.0f} ns of the request, {later / n:.0f} ns when its second is over")
    bars.most("a record", waited / n, 100, "ns")


def timed(work):
    begun = time.thread_time_ns()
    work()
    return time.thread_time_ns() - begun


def percentiles(bars, n):
    rng = numpy.random.default_rng(2)
    data = {
        "log-normal": rng.lognormal(17, 0.9, n),
        "bimodal": numpy.concatenate([rng.normal(5e6, 5e5, n // 2), rng.normal(9e8, 5e7, n // 2)]),
        "heavy-tailed": 1e6 * (1 + rng.pareto(1.2, n)),
    }
    print("\nPercentiles beside numpy, error of p50, p90, p95, p99, p99.9")
    worst = 0.0
    for name, values in data.items():
        raw = numpy.clip(values, histogram.LOWEST_NS, histogram.HIGHEST_NS).astype(numpy.int64)
        counts = histogram.of(int(one) for one in raw)
        errors = []
        for q in (0.5, 0.9, 0.95, 0.99, 0.999):
            true = float(numpy.quantile(raw, q, method="inverted_cdf"))
            errors.append(abs(histogram.quantile(counts, q) - true) / true)
        worst = max(worst, *errors)
        print(f"  {name:14}" + "".join(f"{100 * one:8.2f} %" for one in errors))
    bars.most("a percentile: worst error", 100 * worst, 1.6, "%")


class Trouble(Exception):
    """What an attacked app raises, in ten thousand kinds."""


async def shaken(scope, receive, send):
    if "trouble" in scope:
        raise scope["trouble"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def nowhere(message):
    return


async def ask(app, **scope):
    """Ask *app* once; return how long it took."""
    begun = time.perf_counter_ns()
    with suppress(Trouble):
        await app({"type": "http", "method": "GET", "path": "/", **scope}, None, nowhere)
    return time.perf_counter_ns() - begun


async def usual(app):
    return statistics.median([await ask(app) for _ in range(5_000)])


async def attacked(paths, few):
    """Return what the SDK kept of an attack, in MB, and how much dearer a request then is."""
    window = Window()
    app = middleware.install(shaken, window, {})
    before = await usual(app)
    tracemalloc.start()
    for n in range(paths):
        await ask(app, path=f"/{n}", **({"path_template": f"/{n}"} if n % 2 else {}))
    for n in range(few):
        await ask(app, method=f"M{n}")
        await ask(app, trouble=type(f"E{n}", (Trouble,), {}))
        if n % 500 == 0:
            window.turn()
    window.turn()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return kept / 2**20, await usual(app) / before


def attack(bars, paths, few):
    """Ask for *paths* distinct paths, *few* methods and exception types; see what that leaves."""
    mb, ratio = asyncio.run(attacked(paths, few))
    print(f"\n{paths} paths, {few} methods, {few} exception types: {mb:.1f} MB kept")
    bars.most("memory under attack", mb, 8.0, "MB")
    bars.most("a request after the attack, median, to before", ratio, 1.25, "×")


def answer(bars):
    """Ask for the health of an app with 128 busy routes, a full minute of them."""
    print(f"\nGET /health/alerts, {ROUTES} routes × {BUCKETS} buckets × {KEPT_S} s")
    for each, bar in ((BUCKETS, "GET /health/alerts"), (FEW, "GET /health/alerts as a slot closes")):
        same, closing = asked_for(each)
        rate = ROUTES * each
        print(f"  at {rate} requests a second {same:.2f} ms, as a slot closes {closing:.2f} ms")
        bars.most(bar, same if each == BUCKETS else closing, 2.0, "ms")


def asked_for(each):
    """Return the ms of an answer, and of one that has to close a slot, *each* requests a route and second."""
    clock = [0]
    window = Window(ROUTES, now=lambda: clock[0], wall=lambda: START_S * SECOND_NS + clock[0])
    monitor = Monitor("shop", window)
    chosen = random.Random(3)
    spans = [range(first, first + BUCKETS) for first in chosen.choices(range(500, 700), k=ROUTES)]

    def second():
        for n, span in enumerate(spans):
            times = window.cell(f"GET /route{n}/{{id}}").times
            times += map(histogram.midpoint, chosen.sample(span, each))
        clock[0] += SECOND_NS

    def asked():
        return json.dumps(monitor.health()).encode()

    for _ in range(KEPT_S):
        second()
        window.turn()
    closing, same = [], []
    for _ in range(30):
        second()
        closing.append(timed(asked) / 1e6)
        same.append(timed(asked) / 1e6)
    return statistics.median(same), statistics.median(closing)
