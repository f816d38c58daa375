"""Everything about one service that a tick may change, as one value that can be stored and replayed.

* `fold` is the only way forward: what a poll brought goes into the tests, the recent samples and the holds.
* Samples are at least five seconds each, so that a service polled each second costs no more to remember.
* `dump` and `load` are exact: a restart in the middle of an incident forgets nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import TypeAdapter

from detectors import evidence
from detectors.baseline import Baseline, adopt
from detectors.evidence import Evidence
from detectors.policy import Policy
from detectors.suspects import Readings, one_line, readings
from detectors.window import Gauge, Missed, Tick
from sdk import histogram

SAMPLE_MS = 5_000
RECENT_MS = 120_000
STALE_MS = 3_600_000
ROUTES = 20  # each may alarm on its own, with ln(20) more evidence (Bonferroni)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some seconds of one service: counts, the state at their end, and the readings for suspects."""

    at_ms: int
    span_ms: int
    n: int
    errors: int
    hist: Mapping[int, int]
    inflight: int
    oldest_ms: int
    readings: Readings
    score: int = 100

    @property
    def began_ms(self) -> int:
        return self.at_ms - self.span_ms


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What is known of one service between two polls."""

    at_ms: int = 0
    heard_ms: int = 0  # the last poll that was answered
    ended_ms: int = 0  # the last tick in which a request ended
    missed: int = 0
    missed_since_ms: int = 0
    why: str = ""
    quiet_ms: int = 0  # watched time without a sign of sickness
    tests: Mapping[str, Evidence] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)  # a condition -> since when it holds
    recent: tuple[Sample, ...] = ()
    good: tuple[Sample, ...] = ()  # the last good window before the alarm that is on
    gauges: tuple[Gauge, ...] = ()
    baseline: Baseline = field(default_factory=Baseline)

    @classmethod
    def fresh(cls, policy: Policy) -> Self:
        """Return the state of a service that nothing is known of."""
        return cls()

    def dump(self) -> dict[str, object]:
        """Return the state as JSON-ready values."""
        dumped: dict[str, object] = _ADAPTER.dump_python(self, mode="json")
        return dumped

    @classmethod
    def load(cls, dumped: Mapping[str, object]) -> "ServiceState":
        """Return the state that *dumped* was made of; pydantic's ValidationError when it is not one."""
        return _ADAPTER.validate_python(dumped)

    def test(self, rule: str) -> Evidence:
        return self.tests.get(rule, evidence.NONE)

    def newest(self, span_ms: int) -> Iterator[Sample]:
        """Yield the newest samples with requests, back until they cover *span_ms*; no stale ones."""
        covered = 0
        for sample in reversed(self.recent):
            if covered >= span_ms or self.at_ms - sample.at_ms > STALE_MS:
                return
            if sample.n:
                covered += sample.span_ms
                yield sample

    def since(self, at_ms: int) -> tuple[Sample, ...]:
        """Return the recent samples that ended after *at_ms*."""
        return tuple(sample for sample in self.recent if sample.at_ms > at_ms)


_ADAPTER = TypeAdapter(ServiceState)


def fold(state: ServiceState, seen: Tick | Missed, policy: Policy) -> ServiceState:
    """Return the state after one more poll."""
    if isinstance(seen, Missed):
        return replace(
            state,
            at_ms=max(state.at_ms, seen.at_ms),
            missed=state.missed + 1,
            missed_since_ms=state.missed_since_ms or seen.at_ms,
            why=seen.why[:80],
        )
    at_ms = max(state.at_ms, seen.at_ms)
    return replace(
        state,
        at_ms=at_ms,
        heard_ms=at_ms,
        ended_ms=at_ms if seen.n or not state.ended_ms else state.ended_ms,
        missed=0,
        missed_since_ms=0,
        why="",
        tests=_tested(state, seen, policy),
        held=_held(state, seen, policy),
        recent=_remembered(state.recent, seen, at_ms),
        gauges=seen.gauges,
    )


def new_normal(state: ServiceState, policy: Policy) -> ServiceState:
    """Return the state after a person said that what is seen now is usual: new baseline, tests at zero."""
    seen = histogram.merge(*(sample.hist for sample in state.newest(policy.close_ms)))
    return replace(state, baseline=adopt(seen, policy), tests={}, held={}, good=())


def settled(state: ServiceState) -> ServiceState:
    """Return the state after an incident closed in quiet: what spoke for it says nothing of the next."""
    return replace(state, tests={}, held={}, good=())


def hang_limit_ms(state: ServiceState, policy: Policy) -> int:
    """Return the age from which the oldest request in flight is a sign: streams and long polls are usual."""
    usual = state.baseline.p99_ns * policy.hang_times_milli // 1_000_000_000 if state.baseline.warm else 0
    return max(policy.hang_ms, usual, 2 * state.baseline.usual_oldest_ms)


def _hanging(state: ServiceState, tick: Tick, policy: Policy) -> bool:
    """Return whether more is in flight, and for longer, than is usual; not while that is unknown."""
    known = tick.n == 0 or bool(state.baseline.minutes)
    crowd = 2 * state.baseline.usual_inflight + policy.min_events
    return known and tick.inflight >= crowd and tick.oldest_ms >= hang_limit_ms(state, policy)


def _held(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, int]:
    """Return since when each condition holds that is a state and not a count."""
    holds = [f"full\t{gauge.name}" for gauge in tick.gauges if is_full(gauge, policy)]
    if _hanging(state, tick, policy):
        holds.append("hang")
    return {name: state.held.get(name, tick.at_ms) for name in holds}


def is_full(gauge: Gauge, policy: Policy) -> bool:
    return gauge.limit > 0 and gauge.used * 1000 >= gauge.limit * policy.saturation_permille


def _tested(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, Evidence]:
    if tick.span_ms <= 0:
        return dict(state.tests)
    tests = {"drop": _dropped(state, tick, policy)}
    for row in policy.rows:
        k = tick.errors if row.slow is None else histogram.above(tick.hist, state.baseline.limit_ns(row.slow))
        tests[row.rule] = evidence.bernoulli(
            state.test(row.rule),
            k,
            tick.n,
            p0=row.p0,
            p1=row.p1,
            cap=policy.cap,
            at_ms=tick.at_ms,
            span_ms=tick.span_ms,
        )
    tests |= _routes_tested(state, tick, policy)
    return {name: test for name, test in tests.items() if test.nats > 0}


def _routes_tested(state: ServiceState, tick: Tick, policy: Policy) -> dict[str, Evidence]:
    """Return the test of each route that fails, or did: a small route drowns in the sum."""
    row = policy.rows[0]
    tested = {name: test for name, test in state.tests.items() if "\t" in name}
    for part in sorted(tick.routes, key=lambda part: (-part.n, part.name))[:ROUTES]:
        name = f"{row.rule}\t{one_line(part.name)}"
        if part.errors or name in tested:
            tested[name] = evidence.bernoulli(
                tested.get(name, evidence.NONE),
                part.errors,
                part.n,
                p0=row.p0,
                p1=row.p1,
                cap=policy.cap,
                at_ms=tick.at_ms,
                span_ms=tick.span_ms,
            )
    return dict(sorted(tested.items(), key=lambda item: -item[1].nats)[:ROUTES])


def _dropped(state: ServiceState, tick: Tick, policy: Policy) -> Evidence:
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


def _remembered(recent: tuple[Sample, ...], tick: Tick, at_ms: int) -> tuple[Sample, ...]:
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
    )
