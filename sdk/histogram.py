"""Latency histograms that merge exactly: log-linear buckets over integer nanoseconds.

Every octave has 32 buckets, values are clamped to [32 ns, 2**36 ns = 68.7 s], so a histogram has at most
993 buckets and a midpoint is at most 1.6 % away from any value in its bucket. Counts are plain
``{bucket: count}``: merging is addition, therefore ``merge(split(events)) == single(events)`` bit for bit,
in any order and over any number of workers.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain

PER_OCTAVE = 32
LOWEST_NS = 32
HIGHEST_NS = 1 << 36
BUCKETS = range(32, 1025)


def index(ns: int) -> int:
    """Return the bucket of a latency in nanoseconds, clamped to [LOWEST_NS, HIGHEST_NS]."""
    v = LOWEST_NS if ns < LOWEST_NS else min(ns, HIGHEST_NS)
    e = v.bit_length() - 6
    return (e << 5) + (v >> e)


def bounds(i: int) -> tuple[int, int]:
    """Return [lower, upper) of bucket *i* in nanoseconds."""
    e = (i >> 5) - 1
    m = (i & 31) + PER_OCTAVE
    return m << e, (m + 1) << e


def midpoint(i: int) -> int:
    """Return the value, in nanoseconds, that stands for everything in bucket *i*."""
    lower, upper = bounds(i)
    return (lower + upper) >> 1


def quantile(counts: Mapping[int, int], q: float) -> int:
    """Return the *q* quantile (nearest rank, 0 < q <= 1) in nanoseconds; 0 of an empty histogram."""
    at = rank(q, sum(counts.values()))
    seen = 0
    for i in sorted(counts):
        seen += counts[i]
        if seen >= at:
            return midpoint(i)
    return 0


def quantiles(counts: Mapping[int, int], *qs: float) -> list[int]:
    """Return several quantiles in nanoseconds in one pass; zeros of an empty histogram."""
    buckets = sorted(counts)
    seen = list(accumulate(map(counts.__getitem__, buckets)))
    if not seen or not seen[-1]:
        return [0] * len(qs)
    return [MIDPOINTS[buckets[bisect_left(seen, rank(q, seen[-1]))]] for q in qs]


def rank(q: float, n: int) -> int:
    """Return which of *n* values, by size from 1 on, is their *q* quantile."""
    return max(1, math.ceil(q * n - 1e-9))


def merge(*counts: Mapping[int, int]) -> dict[int, int]:
    """Return the sum of histograms; exact, associative and commutative."""
    merged = dict(counts[0]) if counts else {}
    for one in counts[1:]:
        for i, c in one.items():
            merged[i] = merged.get(i, 0) + c
    return merged


def above(counts: Mapping[int, int], ns: int) -> int:
    """Return how many values lie in buckets whose midpoint is above *ns*."""
    first = first_above(ns)
    return sum(c for i, c in counts.items() if i >= first)


def first_above(ns: int) -> int:
    """Return the first bucket whose midpoint is above *ns*."""
    at = index(ns)
    return at if midpoint(at) > ns else at + 1


MIDPOINTS = [0] * BUCKETS.start + [midpoint(i) for i in BUCKETS]
"""By bucket."""


def of(values: Iterable[int]) -> dict[int, int]:
    """Return the histogram of latencies in nanoseconds."""
    counts: dict[int, int] = {}
    for ns in values:
        if LOWEST_NS <= ns < HIGHEST_NS:  # as `index` has it: a call would cost as much as all the rest
            e = ns.bit_length() - 6
            i = (e << 5) + (ns >> e)
        else:
            i = index(ns)
        counts[i] = counts.get(i, 0) + 1
    return counts


def flat(counts: Mapping[int, int]) -> list[int]:
    """Return ``[bucket, count, bucket, count, ...]`` by rising bucket: the form on the wire."""
    return list(chain.from_iterable(sorted(counts.items())))


def unflat(pairs: Sequence[int]) -> dict[int, int]:
    """Return the histogram of a flat list of distinct buckets."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
