"""What is usual for one service: how fast it answers, how much traffic it has, how much is in flight.

* It learns by the minute, and only from good minutes: one with an alarm in it is thrown away.
* Old minutes count less: all counts are halved each half-life.
* While an incident is open nothing is learned, for two hours at most. Then what lasts is the new usual
  (on real monitoring data an endless freeze made detection worse).
* Until it is warm it says so, and slow means slower than a fixed limit.
* From the third week on it knows the hours of the week (detectors/hours.py).
* Of each busy route it knows how many requests are in the service's tail as a rule.
* A person who says "new normal" replaces it by what is seen now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import exp, log, sqrt
from statistics import median
from typing import NamedTuple

from detectors import hours
from detectors.hours import Hours
from detectors.policy import Policy, Signal, Slow
from sdk import histogram

NS_PER_MS = 1_000_000
MINUTE_MS = 60_000
HOUR = 60  # minutes
REMEMBERED = 6 * HOUR
ROUTES = 40
QUANTILES = (0.99, 0.95, 0.5)
STEADY = 0.08  # how much the rate of a service may move from minute to minute that is called steady
GLANCE = 20  # requests: with fewer nothing is known of a service
GLANCE_MS = 3 * MINUTE_MS  # from then on, what was learned so far may say that a service is a slow one
LEARNED: frozenset[Signal] = frozenset({"latency", "hangs", "traffic"})
"""The signals that are judged by what is usual here, so that a "new normal" says something of them."""


NOBODY: Mapping[str, tuple[int, int]] = {}


class Minute(NamedTuple):
    """What one good minute was like: requests per 1000 s, and the most that was in flight, and its age."""

    rps_milli: int
    inflight: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Pending:
    """The minute that is going on."""

    span_ms: int = 0
    n: int = 0
    hists: tuple[Mapping[int, int], ...] = ()
    inflight: int = 0
    oldest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """The usual, and what follows from it (worked out once a minute)."""

    hist: Mapping[int, int] = field(default_factory=dict)
    learned_ms: int = 0
    since_halving_ms: int = 0
    adopted: bool = False
    pending: Pending = field(default_factory=Pending)
    minutes: tuple[Minute, ...] = ()
    hours: Hours = field(default_factory=Hours)
    routes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # in the tail, of how many
    frozen_since_ms: int = 0
    warm: bool = False
    p50_ns: int = 0
    p95_ns: int = 0
    p99_ns: int = 0
    expected_rps_milli: int = 0
    usual_inflight: int = 0
    usual_oldest_ms: int = 0

    def limit_ns(self, slow: Slow) -> int:
        """Return the latency above which a request is slow in the sense of *slow*."""
        if not self.warm:
            return max(self.times(slow) if self.learned_ms >= GLANCE_MS else 0, slow.cold_ms * NS_PER_MS)
        return max(self.times(slow), slow.floor_ms * NS_PER_MS)

    def times(self, slow: Slow) -> int:
        """Return so many times the usual quantile as *slow* says, in ns."""
        usual = {"p50": self.p50_ns, "p95": self.p95_ns, "p99": self.p99_ns}[slow.of]
        return usual * slow.times_milli // 1000

    def complete(self) -> "Baseline":
        """Return the baseline with the median that a version before did not work out."""
        return self if self.p50_ns else replace(self, p50_ns=histogram.quantile(self.hist, 0.5))

    def knows(self, slow: Slow, share: float) -> bool:
        """Return whether slow is unusual here: of what was learned at most *share* was so slow.

        What a service does from the first moment on is no incident: there is nothing to compare it with.
        """
        n = sum(self.hist.values())
        return n >= GLANCE and histogram.above(self.hist, self.limit_ns(slow)) <= share * n

    def is_quick(self, route: str, policy: Policy) -> bool:
        """Return whether few enough of *route*'s requests are in the tail as a rule; False while unknown."""
        k, n = self.routes.get(route, (0, 0))
        return n >= policy.baseline_min_n and 1000 * k <= n * policy.tail_p0_permille

    def expected(self, span_ms: int) -> float:
        """Return how many requests are due in *span_ms*, on the low side; 0 while that is unknown."""
        return self.expected_rps_milli * span_ms / 1_000_000


def frozen(before: Baseline, at_ms: int, *, open_incident: bool) -> Baseline:
    """Return the baseline with its freeze begun or ended."""
    if not open_incident:
        return before if not before.frozen_since_ms else replace(before, frozen_since_ms=0)
    return before if before.frozen_since_ms else replace(before, frozen_since_ms=at_ms, pending=Pending())


def learns(baseline: Baseline, at_ms: int, policy: Policy) -> bool:
    """Return whether a tick at *at_ms* may be learned from."""
    since = baseline.frozen_since_ms
    return not since or at_ms - since >= policy.baseline_freeze_ms


def learn(
    before: Baseline,
    *,
    span_ms: int,
    n: int,
    hist: Mapping[int, int],
    inflight: int,
    oldest_ms: int,
    policy: Policy,
    at_ms: int = 0,
    routes: Mapping[str, tuple[int, int]] = NOBODY,
) -> Baseline:
    """Return the baseline after one more good tick; it takes effect when the minute is full.

    *routes* are those of the full minute: how many requests were in the service's tail, of how many.
    """
    old = before.pending
    pending = Pending(
        old.span_ms + span_ms,
        old.n + n,
        (*old.hists, hist),
        max(old.inflight, inflight),
        max(old.oldest_ms, oldest_ms),
    )
    if not ends_minute(before, span_ms):
        return replace(before, pending=pending)
    return _commit(before, pending, at_ms, routes, policy)


def ends_minute(before: Baseline, span_ms: int) -> bool:
    """Return whether a tick of *span_ms* more fills the minute that is going on."""
    return before.pending.span_ms + span_ms >= MINUTE_MS


def added(
    before: Mapping[str, tuple[int, int]], more: Mapping[str, tuple[int, int]]
) -> Mapping[str, tuple[int, int]]:
    """Return the sums of counts *k* of *n* by name."""
    summed = dict(before)
    for name, (k, n) in more.items():
        had = summed.get(name)
        summed[name] = (had[0] + k, had[1] + n) if had else (k, n)
    return summed


def forget_minute(before: Baseline) -> Baseline:
    """Return the baseline without the minute that is going on: something in it was not good."""
    return before if not before.pending.span_ms else replace(before, pending=Pending())


def adopt(hist: Mapping[int, int], policy: Policy) -> Baseline:
    """Return a baseline that takes *hist*, what is seen now, for usual; cold when that is too little."""
    return _worked_out(Baseline(hist=dict(hist), adopted=True), policy)


def _commit(
    before: Baseline, pending: Pending, at_ms: int, routes: Mapping[str, tuple[int, int]], policy: Policy
) -> Baseline:
    since_halving = before.since_halving_ms + pending.span_ms
    counts, tails = before.hist, before.routes
    if since_halving >= policy.baseline_half_life_ms:
        counts = {i: count // 2 for i, count in counts.items() if count > 1}
        tails = {name: (k // 2, n // 2) for name, (k, n) in tails.items()}
        since_halving = 0
    hist = histogram.merge(*pending.hists)
    rps_milli = pending.n * 1_000_000 // pending.span_ms
    minute = Minute(rps_milli, pending.inflight, pending.oldest_ms)
    p95 = histogram.index(histogram.quantile(hist, 0.95)) if hist else 0
    learned = replace(
        before,
        hist=histogram.merge(counts, hist),
        learned_ms=before.learned_ms + pending.span_ms,
        since_halving_ms=since_halving,
        pending=Pending(),
        minutes=(*before.minutes, minute)[-REMEMBERED:],
        hours=hours.learn(before.hours, at_ms, rps_milli, p95),
        routes=_busiest(added(tails, routes)),
    )
    return _worked_out(learned, policy, at_ms)


def _busiest(routes: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
    if len(routes) <= ROUTES:
        return routes
    return dict(sorted(routes.items(), key=lambda item: (-item[1][1], item[0]))[:ROUTES])


def _worked_out(baseline: Baseline, policy: Policy, at_ms: int = 0) -> Baseline:
    n = sum(baseline.hist.values())
    p99_ns, p95_ns, p50_ns = histogram.quantiles(baseline.hist, *(_at_most(q, n) for q in QUANTILES))
    usual, quiet = baseline.hours.bucket(at_ms), baseline.hours.rps(at_ms)
    expected = _expected([minute.rps_milli for minute in baseline.minutes], policy)
    hour = baseline.minutes[-HOUR:]
    return replace(
        baseline,
        warm=n >= policy.baseline_min_n
        and (baseline.adopted or baseline.learned_ms >= policy.baseline_warmup_ms),
        p95_ns=max(p95_ns, histogram.midpoint(usual)) if usual else p95_ns,
        p99_ns=p99_ns,
        p50_ns=p50_ns,
        expected_rps_milli=expected if quiet is None else min(expected, quiet),
        usual_inflight=int(median(minute.inflight for minute in hour)) if hour else 0,
        usual_oldest_ms=_quantile([minute.oldest_ms for minute in hour], 0.9) if hour else 0,
    )


def _at_most(q: float, n: int) -> float:
    """Return the share whose quantile, of *n* requests, is at least their true *q* quantile (two sigma)."""
    return min(1.0, q + 2 * sqrt(q * (1 - q) / n)) if n else q


def _expected(rates: Sequence[int], policy: Policy) -> int:
    """Return the rate below which traffic must not fall.

    The median of an hour follows the time of day; the median of six keeps the end of a surge from looking
    like a drop; the 5 % quantile follows a steep but usual decline. Of traffic that comes in bursts less is
    expected: so many sigmas of its minutes less.
    """
    if len(rates) * MINUTE_MS < policy.drop_min_history_ms:
        return 0
    hour = rates[-HOUR:]
    usual = min(median(hour), median(rates))
    lowered = min(usual, max(_quantile(hour, 0.05), usual * policy.drop_lowered_permille / 1000))
    return int(lowered * exp(-policy.drop_sigmas_milli / 1000 * max(0.0, _restless(hour) - STEADY)))


def _restless(rates: Sequence[int]) -> float:
    """Return how much the logarithm of the rate moves from minute to minute, beyond the chance of counting.

    The median of the steps is a robust spread (times 1.4826), and each step is of two minutes.
    """
    counts = [rate * MINUTE_MS / 1_000_000 for rate in rates]
    steps = [abs(log((after + 1) / (before + 1))) for before, after in pairwise(counts)]
    chance = 2 / (1 + sum(counts) / len(counts))
    return sqrt(max(0.0, (1.4826 * median(steps)) ** 2 - chance) / 2) if steps else 0.0


def _quantile(values: Sequence[int], q: float) -> int:
    """Return the *q* quantile of a few values, the lower of two neighbours."""
    return sorted(values)[int(q * (len(values) - 1))]
