"""Everything about one service that a tick may change, as one value that can be stored and replayed.

* Samples are at least five seconds each, so that a service polled each second costs no more to remember.
* `dump` and `load` are exact: a restart in the middle of an incident forgets nothing. What a version before
  did not know yet has a default.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import TypeAdapter

from detectors import clock, evidence, lines
from detectors.baseline import Baseline, adopt
from detectors.burn import Burn
from detectors.evidence import Evidence
from detectors.lines import Lines
from detectors.policy import Policy, Row
from detectors.suspects import Readings
from detectors.window import Gauge, Tick
from sdk import histogram

SAMPLE_MS = 5_000
RECENT_MS = 120_000
MINUTE_MS = 60_000
STALE_MS = 3_600_000
STILL = "still"
"""Held while an app answers and tells nothing new."""


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
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # by test: bad ones, of how many

    @property
    def began_ms(self) -> int:
        return self.at_ms - self.span_ms


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What is known of one service between two polls."""

    at_ms: int = 0
    heard_ms: int = 0  # the last poll that was answered
    ended_ms: int = 0  # the last tick in which a request ended
    app_ms: int = 0  # what the app's clock said then; 0: nothing
    missed: int = 0
    missed_since_ms: int = 0
    why: str = ""
    quiet_ms: int = 0  # watched time without a sign of sickness
    normal: int = 0  # the number of the last "new normal" that was followed
    tests: Mapping[str, Evidence] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)  # a condition -> since when it holds
    recent: tuple[Sample, ...] = ()
    good: tuple[Sample, ...] = ()  # the last good window before the alarm that is on
    gauges: tuple[Gauge, ...] = ()
    workers: int = 1
    workers_stale: int = 0
    baseline: Baseline = field(default_factory=Baseline)
    burn: Burn = field(default_factory=Burn)
    sick_ms: int = 0  # when any rule but the budget's last saw something
    step: clock.Step | None = None  # the last clock that was set
    lines: Lines = lines.NONE  # the gauges minute by minute

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
        state = _ADAPTER.validate_python(dumped)
        return replace(state, baseline=state.baseline.complete())

    def test(self, rule: str) -> Evidence:
        return self.tests.get(rule, evidence.NONE)

    def slept(self, tick: Tick) -> bool:
        """Return whether *tick* ends a time that nobody watched."""
        return bool(self.heard_ms) and tick.at_ms - self.heard_ms > clock.WATCHED_MS

    def bad(self, row: Row, sample: Sample) -> int:
        """Return how many requests of *sample* were bad in the sense of *row*."""
        if row.slow is None:
            return sample.errors
        if row.rule in sample.counts:
            return sample.counts[row.rule][0]
        return histogram.above(sample.hist, self.baseline.limit_ns(row.slow))

    def moved(self, by_ms: int) -> Self:
        """Return the state with all that it remembers dated anew: our clock was set by so much."""
        baseline = self.baseline
        frozen = baseline.frozen_since_ms
        return replace(
            self,
            at_ms=self.at_ms + by_ms,
            heard_ms=self.heard_ms + by_ms,
            ended_ms=self.ended_ms + by_ms,
            missed_since_ms=self.missed_since_ms + by_ms if self.missed_since_ms else 0,
            tests=clock.moved_runs(self.tests, by_ms),
            held=clock.moved(self.held, by_ms),
            recent=tuple(replace(one, at_ms=one.at_ms + by_ms) for one in self.recent),
            good=tuple(replace(one, at_ms=one.at_ms + by_ms) for one in self.good),
            baseline=replace(baseline, frozen_since_ms=frozen + by_ms) if frozen else baseline,
            sick_ms=self.sick_ms + by_ms,
            lines=lines.moved(self.lines, by_ms),
        )

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


def new_normal(state: ServiceState, policy: Policy, number: int = 0) -> ServiceState:
    """Return the state after a person said that what is seen now is usual: new baseline, tests at zero.

    *number* tells this word from the next. Where nothing was seen yet there is nothing to learn anew.
    """
    if not state.recent:
        return replace(state, normal=number)
    seen = histogram.merge(*(sample.hist for sample in state.newest(policy.close_ms)))
    recent = tuple(replace(sample, counts={}) for sample in state.recent)
    usual = adopt(seen, policy)
    return replace(settled(state), baseline=usual, recent=recent, normal=number)


def settled(state: ServiceState) -> ServiceState:
    """Return the state after an incident closed in quiet: what spoke for it says nothing of the next."""
    return replace(state, tests={}, held={}, good=(), lines=lines.settled(state.lines))


def caveats(state: ServiceState) -> tuple[str, ...]:
    """Return what makes the figures less sure than they look: silent workers, a clock that was set."""
    found = []
    if state.workers_stale:
        of = state.workers + state.workers_stale
        found.append(
            f"{state.workers_stale} of {of} workers have fallen silent: the others are counted alone."
        )
    if state.step and (said := state.step.sentence(state.at_ms)):
        found.append(said)
    return tuple(found)


def hang_limit_ms(state: ServiceState, policy: Policy) -> int:
    """Return the age from which the oldest request in flight is a sign: streams and long polls are usual."""
    usual = state.baseline.p99_ns * policy.hang_times_milli // 1_000_000_000 if state.baseline.warm else 0
    return max(policy.hang_ms, usual, 2 * state.baseline.usual_oldest_ms)
