"""The only way forward for a state: what a poll brought goes into the tests, the samples and the holds.

* A run keeps the limit of "slow" that it began with, so that all its counts mean the same. When what is usual
  has moved by more than a tenth since, the run starts over.
* Twenty routes are asked as well as their sum, so each must show ln(20) more evidence (Bonferroni).
* A route that is slow as a rule is not asked for its tail: it would always say yes.
* A drop of traffic needs time that was watched: a gap in our own watch is no silence of the service.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

from detectors import burn, clock, evidence, lines
from detectors.baseline import added
from detectors.evidence import Evidence
from detectors.policy import Policy, Row
from detectors.state import (
    RECENT_MS,
    SAMPLE_MS,
    STILL,
    Sample,
    ServiceState,
    hang_limit_ms,
)
from detectors.suspects import busiest, one_line, readings
from detectors.window import Gauge, Missed, Part, Tick
from sdk import histogram

TENTH = 10
MOST_RUNS = 60


class Count(NamedTuple):
    """What one test makes of a tick: *k* bad ones of *n*; slow is above *limit_ns*."""

    row: Row
    k: int
    n: int
    limit_ns: int = 0


def dated(state: ServiceState, seen: Tick | Missed) -> tuple[ServiceState, Tick | Missed]:
    """Return *state* and *seen* by clocks that agree, where one of them was set."""
    found = clock.step(clock.Clocks(state.at_ms, state.heard_ms, state.app_ms), seen)
    if found is None:
        return state, seen
    after = replace(state.moved(found.by_ms), at_ms=seen.at_ms) if found.ours else state
    told = clock.unhurried(seen, found, seen.at_ms - state.heard_ms) if isinstance(seen, Tick) else seen
    return replace(after, step=found), told


def fold(state: ServiceState, seen: Tick | Missed, policy: Policy) -> ServiceState:
    """Return the state after one more poll, dated by `dated`."""
    at_ms = max(state.at_ms, seen.at_ms)
    if isinstance(seen, Missed):
        return _missed(state, seen, at_ms)
    busy = busiest(seen.routes)
    counts = _counts(state, seen, busy, policy)
    return replace(
        state,
        at_ms=at_ms,
        heard_ms=at_ms,
        ended_ms=at_ms if seen.n or not state.ended_ms else state.ended_ms,
        app_ms=seen.app_ms,
        missed=0,
        missed_since_ms=0,
        why="",
        tests=_tested(state, seen, counts, policy),
        held=_held(state, seen, policy),
        recent=_remembered(state.recent, seen, at_ms, busy, counts),
        gauges=seen.gauges,
        lines=lines.fold(state.lines, seen, at_ms, policy, calm=state.quiet_ms >= policy.close_ms),
        workers=seen.workers,
        workers_stale=seen.workers_stale,
        burn=burn.count(state.burn, seen.span_ms, seen.n, seen.errors) if seen.span_ms > 0 else state.burn,
    )


def _missed(state: ServiceState, seen: Missed, at_ms: int) -> ServiceState:
    return replace(
        state,
        at_ms=at_ms,
        missed=state.missed + 1,
        missed_since_ms=state.missed_since_ms or seen.at_ms,
        why=seen.why[:80],
        held={name: since_ms for name, since_ms in state.held.items() if name != STILL},
    )


def _held(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, int]:
    """Return since when each condition holds that is a state and not a count."""
    holds = [f"full\t{gauge.name}" for gauge in tick.gauges if is_full(gauge, policy)]
    if _hanging(state, tick, policy):
        holds.append("hang")
    if tick.app_ms and not tick.span_ms:
        holds.append(STILL)
    return {name: state.held.get(name, tick.at_ms) for name in holds}


def is_full(gauge: Gauge, policy: Policy) -> bool:
    return gauge.limit > 0 and gauge.used * 1000 >= gauge.limit * policy.saturation_permille


def _hanging(state: ServiceState, tick: Tick, policy: Policy) -> bool:
    """Return whether more is in flight, and for longer, than is usual; not while that is unknown."""
    known = tick.n == 0 or bool(state.baseline.minutes)
    usual = state.baseline.usual_inflight
    crowd = usual + policy.hang_min + policy.hang_sigmas_milli / 1000 * sqrt(usual)
    return known and tick.inflight >= crowd and tick.oldest_ms >= hang_limit_ms(state, policy)


# --- tests on counts ----------------------------------------------------------------------------------


def _limit_ns(state: ServiceState, name: str, usual_ns: int) -> int:
    """Return what is slow in the run *name*: as when it began, unless the usual has moved since."""
    began_ns = state.test(name).limit_ns
    return began_ns if began_ns and TENTH * abs(usual_ns - began_ns) <= usual_ns else usual_ns


def _counts(state: ServiceState, tick: Tick, busy: Sequence[Part], policy: Policy) -> dict[str, Count]:
    """Return what each test counts in *tick*: one a row, and those of its *busy* routes that are asked."""
    limits = {
        row.rule: _limit_ns(state, row.rule, state.baseline.limit_ns(row.slow))
        for row in policy.rows
        if row.slow is not None
    }
    least = histogram.first_above(min(limits.values()))
    high = {i: c for i, c in tick.hist.items() if i >= least}
    found = {}
    for row in policy.rows:
        limit_ns = limits.get(row.rule, 0)
        k = (histogram.above(high, limit_ns) if high else 0) if row.slow else tick.errors
        found[row.rule] = Count(row, k, tick.n, limit_ns)
    if any("\t" in name for name in state.tests) or any(found[row.rule].k for row in policy.by_route):
        found.update(_of_routes(state, busy, found, policy))
    return found


def _of_routes(
    state: ServiceState, busy: Sequence[Part], whole: Mapping[str, Count], policy: Policy
) -> Iterator[tuple[str, Count]]:
    """Yield the tests of each route that has something bad, or had: a small route drowns in the sum."""
    for row in policy.by_route:
        usual_ns, any_bad = state.baseline.limit_ns(row.slow) if row.slow else 0, whole[row.rule].k
        for part in busy:
            name = _name(row.rule, part.name)
            if name in state.tests or (any_bad and (row.slow or part.errors)):
                yield name, _of_route(state, part, row, name, usual_ns)


@lru_cache(maxsize=16_384)
def _name(rule: str, route: str) -> str:
    return f"{rule}\t{one_line(route)}"


def _of_route(state: ServiceState, part: Part, row: Row, name: str, usual_ns: int) -> Count:
    if row.slow is None:
        return Count(row, part.errors, part.n)
    limit_ns = _limit_ns(state, name, usual_ns)
    return Count(row, histogram.above(part.hist, limit_ns), part.n, limit_ns)


def _tested(
    state: ServiceState, tick: Tick, counts: Mapping[str, Count], policy: Policy
) -> dict[str, Evidence]:
    if tick.span_ms <= 0:
        return dict(state.tests)
    tests = {name: test for name, test in state.tests.items() if "\t" in name}
    for name, count in counts.items():
        if name in state.tests or (count.k and _may_begin(state, name, policy)):
            tests[name] = _run(state, name, count, tick, policy)
    tests["drop"] = _dropped(state, tick, policy)
    found = {name: test for name, test in tests.items() if test.nats > 0}
    return found if len(found) <= MOST_RUNS else _strongest(found)


def _may_begin(state: ServiceState, name: str, policy: Policy) -> bool:
    rule, _, route = name.partition("\t")
    return rule != "tail" or not route or state.baseline.is_quick(route, policy)


def _strongest(tests: Mapping[str, Evidence]) -> dict[str, Evidence]:
    """Return the service's own runs, and the strongest of the routes'."""
    order = sorted(tests.items(), key=lambda item: ("\t" in item[0], -item[1].nats, item[0]))
    return dict(order[:MOST_RUNS])


def _run(state: ServiceState, name: str, count: Count, tick: Tick, policy: Policy) -> Evidence:
    before = state.test(name)
    return evidence.bernoulli(
        before if before.limit_ns in (0, count.limit_ns) else evidence.NONE,
        count.k,
        count.n,
        p0=count.row.p0,
        p1=count.row.p1,
        cap=policy.cap,
        at_ms=tick.at_ms,
        span_ms=tick.span_ms,
        limit_ns=count.limit_ns,
    )


def tails(samples: Iterable[Sample]) -> dict[str, tuple[int, int]]:
    """Return how many requests of each busy route were in the service's tail, of how many."""
    found: dict[str, tuple[int, int]] = {}
    for sample in samples:
        for key, (_, n) in sample.readings.items():
            if key.startswith("route_errors\t"):
                route = key.split("\t")[1]
                k, of = found.get(route, (0, 0))
                found[route] = k + sample.counts.get(f"tail\t{route}", (0, 0))[0], of + n
    return found


def _dropped(state: ServiceState, tick: Tick, policy: Policy) -> Evidence:
    if state.slept(tick):
        return state.test("drop")
    if state.baseline.expected(policy.drop_window_ms) < policy.drop_min_expected:
        return evidence.NONE
    # Requests that hang have arrived: they are not a drop.
    waited = state.recent[-1].inflight if state.recent else 0
    return evidence.poisson_drop(
        state.test("drop"),
        max(0, tick.n + tick.inflight - waited),
        state.baseline.expected(tick.span_ms),
        factor=policy.drop_factor_permille / 1000,
        cap=policy.cap,
        at_ms=tick.at_ms,
        span_ms=tick.span_ms,
    )


# --- what is remembered -------------------------------------------------------------------------------


def _remembered(
    recent: tuple[Sample, ...],
    tick: Tick,
    at_ms: int,
    busy: Sequence[Part],
    counts: Mapping[str, Count],
) -> tuple[Sample, ...]:
    """Return the samples with *tick* among them: two minutes, and always the last two that had requests.

    A tick of no time is no sample: it says what is in flight, and dates nothing anew.
    """
    if recent and tick.span_ms <= 0 and not tick.n:
        return (*recent[:-1], replace(recent[-1], inflight=tick.inflight, oldest_ms=tick.oldest_ms))
    sample = Sample(
        at_ms,
        max(0, tick.span_ms),
        tick.n,
        tick.errors,
        tick.hist,
        tick.inflight,
        tick.oldest_ms,
        readings(tick, busy),
        counts={name: (count.k, count.n) for name, count in counts.items()},
    )
    if recent and recent[-1].span_ms + sample.span_ms <= SAMPLE_MS:
        sample, recent = _joined(recent[-1], sample), recent[:-1]
    kept = [one.at_ms for one in recent if one.n][-2:]
    return (*[one for one in recent if one.at_ms > at_ms - RECENT_MS or one.at_ms in kept], sample)


def _joined(one: Sample, two: Sample) -> Sample:
    """Return two short samples as one: counts add, states are the newer."""
    summed = dict(one.readings)
    for key, (value, of) in two.readings.items():
        was = summed.get(key, (0, 0))
        flows = key.startswith(("exception", "route_errors", "dependency_errors"))
        summed[key] = (was[0] + value, was[1] + of) if flows else (max(was[0], value), of)
    return Sample(
        two.at_ms,
        one.span_ms + two.span_ms,
        one.n + two.n,
        one.errors + two.errors,
        histogram.merge(one.hist, two.hist),
        two.inflight,
        two.oldest_ms,
        summed,
        counts=added(one.counts, two.counts),
    )
