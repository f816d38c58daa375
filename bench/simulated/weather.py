"""What healthy services look like, by kind: each a service drawn by chance, and what happens in its day.

Nothing here is an incident, so whatever opens one is a false alarm. A service is drawn anew for each seed:
its rate between 0.1 and 100 requests a second, its latency, its routes, its night.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from bench.simulated import touches
from bench.simulated.traffic import DAY_S, Change, Look, Service, Traffic, between, each
from detectors.window import Missed, Tick, merge

Seen = Callable[[Generator, Iterator[Look]], Iterator[Look]]


def drawn(rng: Generator, low: float = 0.1, high: float = 100.0) -> Service:
    """Return a service by chance: a third has two kinds of requests, a sixth a heavy tail."""
    modes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    sort = rng.random()
    if sort < 1 / 3:
        modes = two_kinds(rng)
    weights = rng.random(int(rng.integers(1, 9))) + 0.05
    return Service(
        rps=10 ** rng.uniform(np.log10(low), np.log10(high)),
        median_s=10 ** rng.uniform(-2.3, -0.3),
        sigma=1.2 if sort > 5 / 6 else rng.uniform(0.3, 0.8),
        modes=modes,
        failing=rng.uniform(0, 0.001),
        depth=rng.uniform(0, 0.9),
        noon_s=rng.uniform(0, DAY_S),
        burst=rng.uniform(0, 0.15),
        routes=tuple((float(w / weights.sum()), float(np.exp(rng.normal(0, 0.4)))) for w in weights),
    )


def two_kinds(rng: Generator) -> tuple[tuple[float, float], ...]:
    slow = rng.uniform(0.05, 0.4)
    return ((1 - slow, 1.0), (slow, rng.uniform(5, 15)))


@dataclass(frozen=True)
class Weather:
    """One kind of healthy days: the service, and what a poll sees otherwise than the requests say."""

    name: str
    service: Callable[[Generator], Service]
    seen: Seen = lambda _rng, looks: looks
    strict: bool = False  # nothing at all may alarm here

    def day(self, seed: int, tick_s: float = 5.0, days: float = 1.0) -> Iterator[Look]:
        """Yield the looks of whole days."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        traffic = Traffic(self.service(rng), rng, tick_s=tick_s)
        return self.seen(rng, traffic.play(days * DAY_S))


def _steady(rng: Generator) -> Service:
    return replace(drawn(rng), depth=0.0, burst=0.0)


def _heavy(rng: Generator) -> Service:
    return replace(drawn(rng), sigma=1.2, modes=((1.0, 1.0),))


def _two_kinds(rng: Generator) -> Service:
    return replace(drawn(rng), modes=two_kinds(rng), sigma=rng.uniform(0.2, 0.5))


def _night(rng: Generator) -> Service:
    return replace(drawn(rng), depth=0.98)


def _sparse(rng: Generator) -> Service:
    return replace(drawn(rng, 0.1, 1.0), depth=rng.uniform(0.5, 0.9))


def _bursty(rng: Generator) -> Service:
    return replace(drawn(rng), burst=rng.uniform(0.3, 0.5))


def _collector(rng: Generator) -> Service:
    period, lasts, phase = rng.uniform(40, 300), rng.uniform(0.1, 0.8), rng.uniform(0, 300)
    pause = Change(each(period, lasts, phase), touch=touches.paused(period, lasts, phase))
    return drawn(rng).during(pause)


def _hourly_job(rng: Generator) -> Service:
    phase, lasts = rng.uniform(0, 3600), rng.uniform(20, 50)
    job = Change(
        each(3600, lasts, phase), load=rng.uniform(1, 3), touch=touches.slower(rng.uniform(1.2, 1.9))
    )
    return drawn(rng).during(job)


def _deploys(rng: Generator) -> Service:
    begins = rng.uniform(0.2, 0.8) * DAY_S
    return drawn(rng).during(Change(lambda at: at >= begins, touch=touches.slower(1.2)))


def _surges(rng: Generator) -> Service:
    begins = rng.uniform(0.05, 0.25, 3) * DAY_S + np.array([0, 0.3, 0.6]) * DAY_S
    return drawn(rng).during(*(Change(between(at, at + 1200), load=3.0) for at in begins))


def _restarts(rng: Generator) -> Service:
    """Return a service that is started anew each few hours: nothing for seconds, then slow for seconds."""
    period, gap, phase = rng.uniform(3, 8) * 3600, rng.uniform(2, 6), rng.uniform(0, 3600)
    return drawn(rng).during(
        Change(each(period, gap, phase), load=0.0),
        Change(each(period, 6, phase - gap), touch=touches.slower(3)),
    )


def _with_missed_polls(rng: Generator, looks: Iterator[Look]) -> Iterator[Look]:
    """Lose one poll in two thousand, and then see both ticks in one, as the app's slots allow."""
    owed: list[Tick] = []
    for look in looks:
        if not owed and rng.random() < 1 / 2000 and isinstance(look.seen, Tick):
            owed.append(look.seen)
            yield look._replace(seen=Missed(look.seen.at_ms, "timed out"))
            continue
        yield look._replace(seen=merge((*owed, look.seen))) if owed and isinstance(look.seen, Tick) else look
        owed.clear()


def _with_clock_steps(rng: Generator, looks: Iterator[Look]) -> Iterator[Look]:
    """Set the clock of the watcher forth and back, by seconds and by an hour, some times a day."""
    step_ms = 0
    for look in looks:
        if rng.random() < 1 / 3000:
            step_ms += int(rng.choice((-3_600_000, -30_000, -2_000, 2_000, 30_000, 3_600_000)))
        yield look._replace(seen=replace(look.seen, at_ms=look.seen.at_ms + step_ms)) if step_ms else look


KINDS = (
    Weather("steady", _steady),
    Weather("heavy tail", _heavy),
    Weather("two kinds of requests", _two_kinds),
    Weather("night of 2 %", _night),
    Weather("0.1 to 1 rps", _sparse),
    Weather("bursts", _bursty),
    Weather("collector's pauses", _collector, strict=True),
    Weather("hourly job", _hourly_job, strict=True),
    Weather("deploy, 20 % slower", _deploys, strict=True),
    Weather("surge × 3 and its end", _surges, strict=True),
    Weather("restarts, missed polls", _restarts, _with_missed_polls),
    Weather("clock steps", drawn, _with_clock_steps),
)
BY_NAME: Mapping[str, Weather] = {kind.name: kind for kind in KINDS}
