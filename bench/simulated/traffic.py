"""Requests of one simulated service, and what a poll each few seconds sees of them.

* Each request is drawn: when it starts, how long it takes, whether it fails, which route it is on. Nothing is
  approximated: what is in flight at a poll, and for how long, is counted from the requests themselves.
* Requests are drawn a block of ticks at a time, as arrays: a day at 100 requests a second takes seconds.
* A `Change` is something that happens to the requests that start while it is on: slower, failing, more of
  them. Healthy days and incidents are both made of changes.
* Histograms are those of sdk/histogram.py, bucket for bucket.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detectors.window import Missed, Part, Tick

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
EPOCH_MS = 1_764_000_000_000
DAY_S = 86_400
BLOCK = 720  # ticks that are drawn together
BIN_S = 1.0  # the rate is constant for so long
LOWEST_NS, HIGHEST_NS = 32.0, float(1 << 36)


@dataclass
class Batch:
    """Some requests by rising start: when, how many seconds, failed or not, on which route."""

    start: Floats
    seconds: Floats
    failed: Mask
    route: NDArray[np.int64]

    @property
    def end(self) -> Floats:
        return self.start + self.seconds

    def where(self, chosen: Mask | NDArray[np.int64]) -> "Batch":
        return Batch(self.start[chosen], self.seconds[chosen], self.failed[chosen], self.route[chosen])

    def and_then(self, other: "Batch") -> "Batch":
        """Return both as one, by rising start."""
        both = Batch(
            np.concatenate((self.start, other.start)),
            np.concatenate((self.seconds, other.seconds)),
            np.concatenate((self.failed, other.failed)),
            np.concatenate((self.route, other.route)),
        )
        return both.where(np.argsort(both.start, kind="stable"))


def nobody() -> Batch:
    return Batch(np.zeros(0), np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))


Touch = Callable[[Generator, Batch, Mask], Batch | None]


@dataclass(frozen=True)
class Change:
    """While *on* is true of the start of a request: *load* times as many, and *touch* changes them."""

    on: Callable[[Floats], Mask]
    load: float = 1.0
    touch: Touch | None = None


def after(begins: float) -> Callable[[Floats], Mask]:
    return lambda at: at >= begins


def between(begins: float, ends: float) -> Callable[[Floats], Mask]:
    return lambda at: (at >= begins) & (at < ends)


def each(period_s: float, lasts_s: float, phase_s: float = 0.0) -> Callable[[Floats], Mask]:
    return lambda at: (at + phase_s) % period_s < lasts_s


@dataclass(frozen=True)
class Service:
    """What one service is like when it is well: *modes* are (share, times the median) of its latency."""

    rps: float = 20.0
    median_s: float = 0.08
    sigma: float = 0.5
    modes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    failing: float = 0.001
    depth: float = 0.0  # how deep the night is: 0.98 leaves a fiftieth of the traffic
    noon_s: float = DAY_S / 2
    burst: float = 0.0  # the spread of each minute's rate around what is due, as a share
    routes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)  # share of the traffic, times the median
    changes: tuple[Change, ...] = ()

    def rate(self, rng: Generator, at: Floats) -> Floats:
        """Return the requests a second that are due at each of *at*; the day's peak is *rps*."""
        due = self.rps * (1 - self.depth * (1 - np.cos(2 * np.pi * (at - self.noon_s) / DAY_S)) / 2)
        if self.burst:
            minutes = (at // 60).astype(np.int64)
            noise = rng.gamma(1 / self.burst**2, self.burst**2, int(minutes[-1] - minutes[0]) + 1)
            due = due * noise[minutes - minutes[0]]
        for change in self.changes:
            due = np.where(change.on(at), due * change.load, due)
        return due

    def requests(self, rng: Generator, began: float, ended: float) -> Batch:
        """Return the requests that start in [began, ended)."""
        bins = np.arange(began, ended, BIN_S)
        widths = np.minimum(BIN_S, ended - bins)
        counts = rng.poisson(self.rate(rng, bins + widths / 2) * widths)
        n = int(counts.sum())
        start = np.sort(np.repeat(bins, counts) + rng.random(n) * np.repeat(widths, counts))
        batch = Batch(
            start,
            rng.lognormal(np.log(self.median_s), self.sigma, n),
            np.zeros(n, bool),
            self._routes(rng, n),
        )
        batch.seconds *= np.array([times for _, times in self.routes])[batch.route] * self._modes(rng, n)
        batch.failed = rng.random(n) < self.failing
        for change in self.changes:
            chosen = change.on(batch.start)
            if change.touch and chosen.any():
                batch = change.touch(rng, batch, chosen) or batch
        return batch

    def _routes(self, rng: Generator, n: int) -> NDArray[np.int64]:
        return rng.choice(len(self.routes), n, p=[share for share, _ in self.routes])

    def _modes(self, rng: Generator, n: int) -> Floats:
        shares = [share for share, _ in self.modes]
        return np.array([times for _, times in self.modes])[rng.choice(len(shares), n, p=shares)]

    def during(self, *changes: Change) -> "Service":
        return replace(self, changes=self.changes + changes)


class Look(NamedTuple):
    """One poll: what it brought, and the requests behind it in the order in which they ended."""

    seen: Tick | Missed
    at_s: float
    latencies_s: Floats = np.zeros(0)
    failed: Mask = np.zeros(0, bool)


@dataclass
class Traffic:
    """A service being watched: `play` goes on from where it stands."""

    service: Service
    rng: Generator
    now: float = 0.0
    tick_s: float = 5.0
    pending: Batch = field(default_factory=nobody)

    def play(self, until: float) -> Iterator[Look]:
        """Yield a look each tick until *until* is reached."""
        while self.now < until - 1e-9:
            ticks = min(BLOCK, round((until - self.now) / self.tick_s) or 1)
            yield from self._block(ticks)

    def forked(self, service: Service, seed: Sequence[int]) -> "Traffic":
        """Return traffic that goes on from here as *service*, with chance of its own."""
        return Traffic(service, np.random.default_rng(seed), self.now, self.tick_s, self.pending)

    def _block(self, ticks: int) -> Iterator[Look]:
        edges = self.now + self.tick_s * np.arange(1, ticks + 1)
        batch = self.pending.and_then(self.service.requests(self.rng, self.now, float(edges[-1])))
        ended = batch.end < edges[-1]
        inflight, oldest = _waiting(batch, edges, self.tick_s)
        began, self.now, self.pending = self.now, float(edges[-1]), batch.where(~ended)
        done = batch.where(ended)
        done = done.where(np.argsort(done.end, kind="stable"))
        cuts = np.searchsorted(done.end, np.concatenate(([began], edges)))
        hists = _hists(np.searchsorted(edges, done.end, "right"), done, ticks, 1, [""])
        names = [f"GET /r{number}" for number in range(len(self.service.routes))]
        parts = _hists(np.searchsorted(edges, done.end, "right"), done, ticks, len(names), names)
        for tick in range(ticks):
            (whole,) = hists[tick] or (Part("", 0, 0, {}),)
            first, last = cuts[tick], cuts[tick + 1]
            seen = Tick(
                at_ms=EPOCH_MS + round(float(edges[tick]) * 1000),
                span_ms=round(self.tick_s * 1000),
                n=whole.n,
                errors=whole.errors,
                client_errors=0,
                aborted=0,
                hist=whole.hist,
                inflight=int(inflight[tick]),
                oldest_ms=max(0, round(float(oldest[tick]) * 1000)),
                routes=tuple(parts[tick]),
            )
            yield Look(seen, float(edges[tick]), done.seconds[first:last], done.failed[first:last])


def _waiting(batch: Batch, edges: Floats, tick_s: float) -> tuple[NDArray[np.int64], Floats]:
    """Return how many requests are in flight at each edge, and for how many seconds the oldest is."""
    end = batch.end
    begun = np.searchsorted(batch.start, edges, "right")
    inflight = begun - np.searchsorted(np.sort(end), edges, "right")
    since = edges.copy()
    first, last = np.searchsorted(edges, batch.start), np.searchsorted(edges, end)
    for at in np.flatnonzero(last > first)[::-1]:  # the earliest start comes last, and stays
        since[first[at] : last[at]] = batch.start[at]
    return inflight, edges - since


def _buckets(seconds: Floats) -> NDArray[np.int64]:
    """Return the bucket of each latency, as sdk/histogram.py's `index` says it."""
    mantissa, exponent = np.frexp(np.clip(np.rint(seconds * 1e9), LOWEST_NS, HIGHEST_NS))
    return (exponent.astype(np.int64) - 6) * 32 + (mantissa * 64).astype(np.int64)


def _hists(
    tick: NDArray[np.int64], done: Batch, ticks: int, width: int, names: Sequence[str]
) -> list[list[Part]]:
    """Return the requests of each tick, and of each route where *width* counts them, as a list of parts."""
    cell = tick * width + (done.route if width > 1 else 0)
    errors = np.bincount(cell, done.failed, ticks * width).astype(np.int64).tolist()
    n = np.bincount(cell, minlength=ticks * width).tolist()
    keys, counts = np.unique(cell * 1025 + _buckets(done.seconds), return_counts=True)
    cuts = np.searchsorted(keys, np.arange(ticks * width + 1) * 1025).tolist()
    buckets, heights = (keys % 1025).tolist(), counts.tolist()

    def part(at: int) -> Part:
        first, last = cuts[at], cuts[at + 1]
        why = {"TimeoutError": errors[at]} if errors[at] else {}
        return Part(
            names[at % width],
            n[at],
            errors[at],
            dict(zip(buckets[first:last], heights[first:last], strict=True)),
            why,
        )

    return [[part(at) for at in range(row * width, (row + 1) * width) if n[at]] for row in range(ticks)]
