"""How much the counts speak for "sick" against "healthy", in nats (natural log of the likelihood ratio).

Page's CUSUM (Biometrika 41, 1954), which asks for the fewest requests at a given rate of false alarms:
evidence adds up while requests look sick, falls back while they look healthy, and never goes below zero.
It is capped, so that a long incident does not take as long to forget. Low traffic needs no special case:
evidence waits for requests, not for time. 12 nats are odds of 160,000 to one.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt

Z99 = 2.5758293035489004  # two-sided 99 %


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a test stands: the nats, and the counts of the run that made them (since they last were zero)."""

    nats: float = 0.0
    k: int = 0
    n: int = 0
    expected: float = 0.0
    since_ms: int = 0
    seen_ms: int = 0  # how much of the run had requests in it
    limit_ns: int = 0  # what counted as slow, the same all through the run

    @property
    def centinats(self) -> int:
        return round(self.nats * 100)


NONE = Evidence()


def bernoulli(
    before: Evidence,
    k: int,
    n: int,
    *,
    p0: float,
    p1: float,
    cap: float,
    at_ms: int,
    span_ms: int,
    limit_ns: int = 0,
) -> Evidence:
    """Return the evidence that the share of bad requests is *p1* and not *p0*, after *k* bad ones of *n*."""
    if n <= 0:
        return before
    k = min(max(k, 0), n)  # the app at the other end counts, and it is sick
    bad, well = _weights(p0, p1)
    nats = before.nats + k * bad + (n - k) * well
    if nats <= 0:
        return NONE
    return Evidence(
        nats=min(nats, cap),
        k=before.k + k,
        n=before.n + n,
        since_ms=before.since_ms or at_ms - span_ms,
        seen_ms=before.seen_ms + span_ms,
        limit_ns=limit_ns,
    )


@lru_cache(maxsize=1024)
def _weights(p0: float, p1: float) -> tuple[float, float]:
    """Return what one bad request speaks for, and one that is not."""
    return log(p1 / p0), log((1 - p1) / (1 - p0))


def poisson_drop(
    before: Evidence, n: int, expected: float, *, factor: float, cap: float, at_ms: int, span_ms: int
) -> Evidence:
    """Return the evidence that traffic is *factor* of the usual, after *n* where *expected* were due."""
    nats = before.nats + n * log(factor) + (1 - factor) * expected
    if nats <= 0:
        return NONE
    return Evidence(
        nats=min(nats, cap),
        k=before.k + n,
        n=before.n + n,
        expected=before.expected + expected,
        since_ms=before.since_ms or at_ms - span_ms,
        seen_ms=before.seen_ms + span_ms,
    )


def wilson(k: int, n: int, z: float = Z99) -> tuple[float, float]:
    """Return the interval that holds the true share behind *k* of *n* (Wilson, JASA 22, 1927)."""
    if n <= 0:
        return 0.0, 1.0
    share, z2 = k / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
