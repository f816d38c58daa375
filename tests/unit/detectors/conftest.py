"""A service in seconds: ticks of healthy or sick traffic, made by hand, and a watcher that judges them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest

from detectors.policy import Policy
from detectors.verdict import ServiceState, Verdict, judge, should_open, should_recover
from detectors.window import Gauge, Missed, Part, Tick
from sdk import histogram

START = 1_764_000_000_000


def latencies(n: int, median_ms: float = 80.0, sigma: float = 0.5) -> dict[int, int]:
    """Return *n* log-normal latencies without chance: the quantiles themselves."""
    return histogram.of(round(median_ms * 1e6 * math.exp(sigma * _normal((i + 0.5) / n))) for i in range(n))


def _normal(p: float) -> float:
    low, high = -8.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * (1 + math.erf(middle / math.sqrt(2))) < p else (low, middle)
    return low


@cache
def shape(n: int, median_ms: float, sigma: float = 0.5) -> dict[int, int]:
    return latencies(n, median_ms, sigma)


@dataclass
class Watched:
    """One service and what policy says of it; `see` is one poll, `for_s` many."""

    policy: Policy = field(default_factory=Policy)
    state: ServiceState = field(default_factory=lambda: ServiceState.fresh(Policy()))
    at_ms: int = START
    verdict: Verdict | None = None
    incident_open: bool = False
    openings: list[int] = field(default_factory=list)
    app_ahead_ms: int | None = None
    """By how much the app's clock is ahead of ours; None: it tells none."""

    def see(
        self,
        n: int = 100,
        errors: int = 0,
        median_ms: float = 80.0,
        span_s: float = 5.0,
        hist: dict[int, int] | None = None,
        inflight: int = 2,
        oldest_ms: int = 100,
        routes: tuple[Part, ...] = (),
        dependencies: tuple[Part, ...] = (),
        gauges: tuple[Gauge, ...] = (),
        passed_s: float | None = None,
        workers: int = 1,
        workers_stale: int = 0,
    ) -> Verdict:
        """One answered poll: *span_s* seconds of the app's, *passed_s* of ours (the same unless said)."""
        self.at_ms += round((span_s if passed_s is None else passed_s) * 1000)
        counts = (shape(n, median_ms) if n else {}) if hist is None else hist
        return self._judge(
            Tick(
                self.at_ms,
                round(span_s * 1000),
                n,
                errors,
                0,
                0,
                counts,
                inflight,
                oldest_ms,
                routes,
                dependencies,
                gauges,
                0 if self.app_ahead_ms is None else self.at_ms + self.app_ahead_ms,
                workers,
                workers_stale,
            )
        )

    def miss(self, after_s: float = 1.0, why: str = "connection refused") -> Verdict:
        self.at_ms += round(after_s * 1000)
        return self._judge(Missed(self.at_ms, why))

    def for_s(self, seconds: float, span_s: float = 5.0, **traffic: object) -> Verdict:
        for _ in range(round(seconds / span_s)):
            verdict = self.see(span_s=span_s, **traffic)  # type: ignore[arg-type]
        return verdict

    def until_alarm(self, within_s: float, **traffic: object) -> float:
        """Return the seconds until the first alarm; fail when there is none in time."""
        began, span_s = self.at_ms, float(traffic.get("span_s", 5.0))  # type: ignore[arg-type]
        while self.at_ms - began < within_s * 1000:
            if self.see(**{**traffic, "span_s": span_s}).alarms:  # type: ignore[arg-type]
                return (self.at_ms - began) / 1000
        pytest.fail(f"no alarm within {within_s} s")

    def restart(self) -> None:
        """Lose everything but what was stored."""
        import json

        self.state = ServiceState.load(json.loads(json.dumps(self.state.dump())))

    def _judge(self, seen: Tick | Missed) -> Verdict:
        self.state, verdict = judge(self.state, seen, self.policy, open_incident=self.incident_open)
        if not self.incident_open and should_open(verdict):
            self.incident_open = True
            self.openings.append(self.at_ms)
        elif self.incident_open and should_recover(verdict, self.policy):
            self.incident_open = False
        self.verdict = verdict
        return verdict


@pytest.fixture
def fresh() -> Watched:
    return Watched()


@pytest.fixture(scope="session")
def warm_state() -> tuple[ServiceState, int]:
    watched = Watched()
    watched.for_s(2_400)
    return watched.state, watched.at_ms


@pytest.fixture
def warm(warm_state: tuple[ServiceState, int]) -> Watched:
    """A service at 20 rps with a median of 80 ms, healthy for 40 minutes."""
    state, at_ms = warm_state
    return Watched(state=state, at_ms=at_ms)


@pytest.fixture
def watch() -> Callable[[Policy], Watched]:
    return lambda policy: Watched(policy=policy, state=ServiceState.fresh(policy))
