"""What goes wrong, by class, and how long it takes until somebody who watches should know.

A fault begins at a random instant of a tick in a service that was watched for an hour. What nobody could see
is not asked for: five requests must have gone wrong before anything can be said at all, so that faint faults
(5 % and less of the requests) are put to services with at least 3 requests a second, and the thin services
have rows of their own, which the bars do not ask about. `asked` is the bar on the median, in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from bench.simulated import touches
from bench.simulated.traffic import Change, Service, after
from bench.simulated.weather import drawn


@dataclass(frozen=True)
class Fault:
    """One class: *change* says what happens from an instant on."""

    name: str
    group: str
    change: Callable[[Generator, Service, float], Change]
    asked: float | None = None
    low: float = 0.5
    high: float = 100.0
    missed: bool = False  # its polls fail


def _touch(make: Callable[[Generator], touches.Touch]) -> Callable[[Generator, Service, float], Change]:
    return lambda rng, _service, begins: Change(after(begins), touch=make(rng))


def _errors(share: float, seconds: float | None = None) -> Callable[[Generator, Service, float], Change]:
    return _touch(lambda _rng: touches.failing(share, seconds))


def _slower(times: float) -> Callable[[Generator, Service, float], Change]:
    return _touch(lambda _rng: touches.slower(times))


def _leak(rng: Generator, _service: Service, begins: float) -> Change:
    over_s = rng.uniform(240, 600)
    return Change(after(begins), touch=touches.leaking(8, begins, over_s))


def _hangs(share: float) -> Callable[[Generator, Service, float], Change]:
    def change(rng: Generator, service: Service, begins: float) -> Change:
        """Return requests that hang for ever, for thirty seconds or five, and far longer than is usual."""
        slowest = service.median_s * max(times for _, times in service.modes)
        seconds = max(rng.choice((5.0, 30.0, touches.FOR_EVER_S)), 20 * slowest)
        return Change(after(begins), touch=touches.hanging(share, seconds))

    return change


def _traffic(to: float) -> Callable[[Generator, Service, float], Change]:
    return lambda _rng, _service, begins: Change(after(begins), load=to)


def _one_route(rng: Generator, service: Service, begins: float) -> Change:
    """Return a failure of half or more of one route, which has at least a fiftieth of the traffic."""
    busy = [number for number, (share, _) in enumerate(service.routes) if share >= 0.02]
    inner = touches.failing(rng.uniform(0.5, 1.0))
    return Change(after(begins), touch=touches.on_route(int(rng.choice(busy)), inner))


def _storm(rng: Generator, _service: Service, begins: float) -> Change:
    return Change(after(begins), touch=touches.retried(rng.uniform(0.3, 0.6), 3, rng.uniform(1.5, 3)))


def _half_dead(rng: Generator, _service: Service, begins: float) -> Change:
    """Return two of four workers that stand still: theirs is lost, the others answer slower."""
    both = touches.both(touches.slower(rng.uniform(1.2, 2)), touches.lost(0.5))
    return Change(after(begins), touch=both)


def _nothing(_rng: Generator, _service: Service, begins: float) -> Change:
    return Change(after(begins))


FAULTS = (
    Fault("errors 100 %", "errors", _errors(1.0), 15),
    Fault("errors 100 %, in 5 ms", "errors", _errors(1.0, 0.005), 15),
    Fault("errors 50 %", "errors", _errors(0.5), 15),
    Fault("errors 20 %", "errors", _errors(0.2), 15),
    Fault("errors 5 %", "faint errors", _errors(0.05), low=3),
    Fault("errors 2 %", "faint errors", _errors(0.02), low=3),
    Fault("latency × 10", "latency", _slower(10), 15),
    Fault("latency × 5", "latency", _slower(5), 15),
    Fault("latency × 3", "latency", _slower(3)),
    Fault("leak to × 8 in 4–10 min", "latency", _leak),
    Fault("10 % hang", "hangs", _hangs(0.1), 30),
    Fault("5 % hang", "hangs", _hangs(0.05)),
    Fault("traffic to zero", "drops", _traffic(0.0), 15),
    Fault("traffic − 80 %", "drops", _traffic(0.2), 15),
    Fault("one route of several fails", "parts", _one_route, low=2),
    Fault("retry storm", "parts", _storm),
    Fault("two workers of four dead", "parts", _half_dead, low=2),
    Fault("unreachable", "gone", _nothing, 15, missed=True),
    Fault("thin: errors 100 %", "thin", _errors(1.0), low=0.1, high=0.5),
    Fault("thin: 10 % hang", "thin", _hangs(0.1), low=0.1, high=0.5),
    Fault("thin: traffic to zero", "thin", _traffic(0.0), low=0.1, high=0.5),
)


def service_for(fault: Fault, seed: int, at_s: float) -> Service:
    """Return the service that *fault* meets: its rate is what was drawn at *at_s*, by day or by night."""
    rng = np.random.default_rng([seed, round(fault.low * 10), round(fault.high * 10)])
    service = replace(drawn(rng, fault.low, fault.high), burst=0.0)
    now = float(service.rate(rng, np.array([at_s]))[0])
    return replace(service, rps=service.rps**2 / now, burst=min(0.1, service.depth / 5))
