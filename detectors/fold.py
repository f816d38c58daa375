"""The only way forward for a state: what a poll brought goes into the tests, the samples and the holds.

* A run keeps the limit of "slow" that it began with, so that all its counts mean the same. When what is usual
  has moved by more than a tenth since, the run starts over.
* Twenty routes are asked as well as their sum, so each must show ln(20) more evidence (Bonferroni).
* A route that is slow as a rule is not asked whether it is: it would always say yes.
* A drop of traffic needs time that was watched: a gap in our own watch is no silence of the service.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from detectors import burn, clock, evidence
from detectors.evidence import Evidence
from detectors.policy import Policy, Row
from detectors.state import (
    MINUTE_MS,
    RECENT_MS,
    ROUTES,
    SAMPLE_MS,
    STILL,
    Sample,
    ServiceState,
    hang_limit_ms,
)
from detectors.suspects import one_line, readings
from detectors.window import Gauge, Missed, Part, Tick
from sdk import histogram

TENTH = 10


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
    slow = _slow(state, seen, policy)
    return replace(
        state,
        at_ms=at_ms,
        heard_ms=at_ms,
        ended_ms=at_ms if seen.n or not state.ended_ms else state.ended_ms,
        app_ms=seen.app_ms,
        missed=0,
        missed_since_ms=0,
        why="",
        tests=_tested(state, seen, slow, policy),
        held=_held(state, seen, policy),
        recent=_remembered(state.recent, seen, at_ms, slow),
        minute=_minute(state, at_ms, seen.hist),
        gauges=seen.gauges,
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
        minute=_minute(state, at_ms, {}),
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
    crowd = 2 * state.baseline.usual_inflight + policy.min_events
    return known and tick.inflight >= crowd and tick.oldest_ms >= hang_limit_ms(state, policy)


# --- tests on counts ----------------------------------------------------------------------------------


def _limit_ns(state: ServiceState, name: str, usual_ns: int) -> int:
    """Return what is slow in the run *name*: as when it began, unless the usual has moved since."""
    began_ns = state.test(name).limit_ns
    return began_ns if began_ns and TENTH * abs(usual_ns - began_ns) <= usual_ns else usual_ns


def _slow(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, tuple[int, int]]:
    """Return, by test, how many requests of *tick* were slow, and above which limit in ns."""
    found = {}
    for row in policy.rows:
        if row.slow is not None:
            limit_ns = _limit_ns(state, row.rule, state.baseline.limit_ns(row.slow))
            found[row.rule] = histogram.above(tick.hist, limit_ns), limit_ns
    return found


def _tested(
    state: ServiceState, tick: Tick, slow: Mapping[str, tuple[int, int]], policy: Policy
) -> dict[str, Evidence]:
    if tick.span_ms <= 0:
        return dict(state.tests)
    tests = {"drop": _dropped(state, tick, policy)}
    for row in policy.rows:
        k, limit_ns = slow.get(row.rule, (tick.errors, 0))
        tests[row.rule] = _bernoulli(state, row, row.rule, (k, tick.n), limit_ns, tick, policy)
    tests |= _routes_tested(state, tick, policy)
    return {name: test for name, test in tests.items() if test.nats > 0}


def _bernoulli(
    state: ServiceState, row: Row, name: str, seen: tuple[int, int], limit_ns: int, tick: Tick, policy: Policy
) -> Evidence:
    before = state.test(name)
    return evidence.bernoulli(
        before if before.limit_ns in (0, limit_ns) else evidence.NONE,
        *seen,
        p0=row.p0,
        p1=row.p1,
        cap=policy.cap,
        at_ms=tick.at_ms,
        span_ms=tick.span_ms,
        limit_ns=limit_ns,
    )


def _routes_tested(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, Evidence]:
    """Return the test of each route that fails, or did: a small route drowns in the sum."""
    row = policy.rows[0]
    tested = {name: test for name, test in state.tests.items() if "\t" in name}
    if not (tick.errors or tested):
        return tested
    for part in busiest(tick.routes):
        name = f"{row.rule}\t{one_line(part.name)}"
        if part.errors or name in tested:
            tested[name] = _bernoulli(state, row, name, (part.errors, part.n), 0, tick, policy)
    return dict(sorted(tested.items(), key=lambda item: -item[1].nats)[:ROUTES])


def busiest(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the twenty routes with the most requests."""
    if len(parts) <= ROUTES:
        return parts
    least = sorted(part.n for part in parts)[-ROUTES]
    return sorted((part for part in parts if part.n >= least), key=lambda part: (-part.n, part.name))[:ROUTES]


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
    recent: tuple[Sample, ...], tick: Tick, at_ms: int, slow: Mapping[str, tuple[int, int]]
) -> tuple[Sample, ...]:
    """Return the samples with *tick* among them: two minutes, and always the last two that had requests."""
    sample = Sample(
        at_ms,
        max(0, tick.span_ms),
        tick.n,
        tick.errors,
        tick.hist,
        tick.inflight,
        tick.oldest_ms,
        readings(tick),
        slow={name: k for name, (k, _) in slow.items()},
    )
    if recent and recent[-1].span_ms + sample.span_ms <= SAMPLE_MS:
        sample, recent = _joined(recent[-1], sample), recent[:-1]
    busy = [one.at_ms for one in recent if one.n][-2:]
    kept = (one for one in recent if one.at_ms > at_ms - RECENT_MS or one.at_ms in busy)
    return (*kept, sample)


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
        slow={name: one.slow.get(name, 0) + k for name, k in two.slow.items()},
    )


def _minute(state: ServiceState, at_ms: int, came: Mapping[int, int]) -> dict[int, int]:
    """Return the histogram of the last minute: what came is added, and what left is taken away."""
    if state.minute is None or at_ms - state.at_ms > MINUTE_MS // 2:
        return histogram.merge(*(one.hist for one in state.since(at_ms - MINUTE_MS)), came)
    found = histogram.merge(state.minute, came)
    for one in _left(state, at_ms):
        for i, c in one.hist.items():
            found[i] -= c
            if not found[i]:
                del found[i]
    return found


def _left(state: ServiceState, at_ms: int) -> Iterator[Sample]:
    for one in state.recent:
        if one.at_ms > at_ms - MINUTE_MS:
            return
        if one.at_ms > state.at_ms - MINUTE_MS:
            yield one
