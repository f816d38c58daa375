"""How long until policy notices, and how often it cries wolf: simulated traffic through the real `judge`.

    python -m bench.detection [--seeds 10] [--days 1] [--tick 5]

Requests arrive as a Poisson process and take a log-normal time (median 80 ms, sigma 0.5); one in a thousand
fails. The service is watched for 40 minutes before the fault, which begins at a random instant of a tick.
Figures are the median of the seeds, in seconds from the fault to the alarm; "prototype" is what the policy's
prototype reached on its own simulation. Healthy traffic is judged for whole days, and each alarm that would
open an incident is counted.
"""

import argparse
import heapq
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from detectors.policy import Policy
from detectors.verdict import ServiceState, judge, should_open, should_recover
from detectors.window import Missed, Tick
from sdk import histogram

POLICY = Policy()
EPOCH_MS = 1_764_000_000_000
WARM_S = 2_400
NEVER = math.inf


@dataclass
class Request:
    """What happens to one request: how long it takes (inf hangs), whether it fails."""

    seconds: float
    failed: bool


Sick = Callable[[random.Random, Request, float], Request]
Rate = Callable[[float], float]


@dataclass
class Traffic:
    """A service under load: `tick` plays its next seconds."""

    rng: random.Random
    rate: Rate
    sick: Sick
    median_s: float = 0.08
    sigma: float = 0.5
    now: float = 0.0
    pending: list[tuple[float, float, bool]] = field(default_factory=list)  # end, start, failed

    def tick(self, span: float) -> Tick:
        began, self.now = self.now, self.now + span
        for _ in range(_poisson(self.rng, self.rate(began + span / 2) * span)):
            start = began + self.rng.random() * span
            healthy = Request(
                self.median_s * math.exp(self.rng.gauss(0, self.sigma)), self.rng.random() < 0.001
            )
            request = self.sick(self.rng, healthy, start)
            heapq.heappush(self.pending, (start + request.seconds, start, request.failed))
        n = errors = 0
        hist: dict[int, int] = {}
        while self.pending and self.pending[0][0] <= self.now:
            end, start, failed = heapq.heappop(self.pending)
            n, errors = n + 1, errors + failed
            bucket = histogram.index(round((end - start) * 1e9))
            hist[bucket] = hist.get(bucket, 0) + 1
        oldest = self.now - min((start for _, start, _ in self.pending), default=self.now)
        return Tick(
            EPOCH_MS + round(self.now * 1000), round(span * 1000), n, errors, 0, 0, hist, len(self.pending),
            round(oldest * 1000),
        )  # fmt: skip


def _poisson(rng: random.Random, mean: float) -> int:
    """Return a Poisson number by counting exponential gaps."""
    count, total = 0, rng.expovariate(1.0)
    while total < mean:
        count, total = count + 1, total + rng.expovariate(1.0)
    return count


def well(_rng: random.Random, request: Request, _at: float) -> Request:
    return request


def failing(share: float) -> Sick:
    return lambda rng, request, _at: Request(0.005, True) if rng.random() < share else request


def slower(times: float) -> Sick:
    return lambda _rng, request, _at: Request(request.seconds * times, request.failed)


def taking(seconds: float, share: float = 1.0) -> Sick:
    return lambda rng, request, _at: Request(seconds, request.failed) if rng.random() < share else request


def ramp(times: float, over_s: float) -> Sick:
    def sick(_rng: random.Random, request: Request, at: float) -> Request:
        return Request(request.seconds * (1 + (times - 1) * min(1.0, at / over_s)), request.failed)

    return sick


def flapping(period_s: float) -> Sick:
    def sick(_rng: random.Random, request: Request, at: float) -> Request:
        return Request(0.005, True) if int(at / period_s) % 2 == 0 else request

    return sick


@dataclass(frozen=True)
class Fault:
    name: str
    prototype: str
    sick: Sick = well
    rps: float = 20.0
    traffic: float = 1.0  # the factor that traffic falls to
    within_s: int = 600
    bar_s: float | None = None


FAULTS = (
    Fault("100 % 5xx, fast", "10", failing(1.0), bar_s=15),
    Fault("50 % 5xx", "10", failing(0.5), bar_s=15),
    Fault("20 % 5xx", "10", failing(0.2), bar_s=15),
    Fault("5 % 5xx", "40", failing(0.05)),
    Fault("2 % 5xx", "82", failing(0.02)),
    Fault("latency × 10", "10", slower(10), bar_s=15),
    Fault("latency × 3", "30", slower(3)),
    Fault("latency × 1.5", "never", slower(1.5)),
    Fault("latency ramp to × 8 in 5 min", "65", ramp(8, 300)),
    Fault("all take 20 s", "10", taking(20), bar_s=15),
    Fault("all hang for ever", "-", taking(NEVER), bar_s=15),
    Fault("10 % hang for 5 s", "15", taking(5, 0.1)),
    Fault("5 % hang for 5 s", "75", taking(5, 0.05)),
    Fault("10 % hang for ever", "-", taking(NEVER, 0.1)),
    Fault("traffic to zero", "10", traffic=0.0, bar_s=15),
    Fault("traffic − 80 %", "10", traffic=0.2),
    Fault("20 % 5xx at 0.5 rps", "125", failing(0.2), rps=0.5),
    Fault("100 % 5xx at 0.1 rps", "100", failing(1.0), rps=0.1),
    Fault("flapping, 30 s on and off", "10", flapping(30)),
)


def watched(rps: float, seed: int, tick_s: float) -> tuple[ServiceState, Traffic]:
    """Return a healthy service after 40 minutes, and its traffic."""
    traffic = Traffic(random.Random(f"{seed}/{rps}"), lambda _at: rps, well)
    state = ServiceState.fresh(POLICY)
    for _ in range(round(WARM_S / tick_s)):
        state, _verdict = judge(state, traffic.tick(tick_s), POLICY, open_incident=False)
    return state, traffic


def seconds_to(
    fault: Fault, state: ServiceState, warm: Traffic, seed: int, tick_s: float
) -> tuple[float, str]:
    """Return the seconds from the fault to the alarm, and the rule that spoke."""
    rng = random.Random(f"{fault.name}/{seed}")
    begins = warm.now + rng.random() * tick_s

    def rate(at: float) -> float:
        return fault.rps * (fault.traffic if at >= begins else 1.0)

    def sick(of: random.Random, request: Request, at: float) -> Request:
        return fault.sick(of, request, at - begins) if at >= begins else request

    traffic = Traffic(rng, rate, sick, now=warm.now, pending=list(warm.pending))
    while traffic.now < begins + fault.within_s:
        state, verdict = judge(state, traffic.tick(tick_s), POLICY, open_incident=False)
        if should_open(verdict):
            return traffic.now - begins, verdict.alarms[0].rule
    return NEVER, "-"


def killed(state: ServiceState, warm: Traffic, tick_s: float, refused: bool) -> float:
    """Return the seconds until a killed process is noticed: 2 s a poll that hangs, and 1 s between."""
    now, costs = warm.now + tick_s, 0.0 if refused else 2.0
    while True:
        now += costs
        state, verdict = judge(
            state, Missed(EPOCH_MS + round(now * 1000), "refused"), POLICY, open_incident=False
        )
        if should_open(verdict):
            return now - warm.now
        now += 1.0


def detection(seeds: int, tick_s: float) -> bool:
    """Print the table; return whether each bar was reached by every seed."""
    print(f"{'fault':32} {'median s':>9} {'worst':>7} {'missed':>7}  {'rule':12} prototype")
    warm = {(rps, seed): watched(rps, seed, tick_s) for rps in (20.0, 0.5, 0.1) for seed in range(seeds)}
    reached = True
    for fault in FAULTS:
        found = [seconds_to(fault, *warm[fault.rps, seed], seed, tick_s) for seed in range(seeds)]
        took = [seconds for seconds, _ in found]
        missed = sum(seconds == NEVER for seconds in took)
        rule = statistics.mode(rule for _, rule in found)
        ok = fault.bar_s is None or max(took) <= fault.bar_s
        reached = reached and ok
        print(
            f"{fault.name:32} {statistics.median(took):9.1f} {max(took):7.1f} {missed:4}/{seeds:<2}  "
            f"{rule:12} {fault.prototype:9} {'' if ok else f'over {fault.bar_s} s'}"
        )
    state, traffic = warm[20.0, 0]
    print(f"{'process killed (refused)':32} {killed(state, traffic, tick_s, refused=True):9.1f}")
    print(f"{'process stopped (polls hang)':32} {killed(state, traffic, tick_s, refused=False):9.1f}")
    return reached


@dataclass(frozen=True)
class Shape:
    name: str
    rate: Rate
    sick: Sick = well
    median_s: float = 0.08
    sigma: float = 0.5


def day(depth: float) -> Rate:
    return lambda at: 1 - depth * math.cos(2 * math.pi * at / 86_400)


def bimodal(rng: random.Random, request: Request, _at: float) -> Request:
    return Request(request.seconds * (1 if rng.random() < 0.7 else 12), request.failed)


def pauses(_rng: random.Random, request: Request, at: float) -> Request:
    return Request(request.seconds + max(0.0, 0.4 - at % 97), request.failed)


def cron(_rng: random.Random, request: Request, at: float) -> Request:
    return Request(request.seconds * (2 if at % 3600 < 45 else 1), request.failed)


def deploy(_rng: random.Random, request: Request, at: float) -> Request:
    return Request(request.seconds * (1.2 if at > 36_000 else 1), request.failed)


def surge(at: float) -> float:
    return 60.0 if 40_000 < at < 45_400 else 20.0


SHAPES = (
    Shape("steady, 20 rps", lambda _at: 20.0),
    Shape("heavy tail", lambda _at: 10.0, sigma=1.2),
    Shape("bimodal", lambda _at: 10.0, bimodal),
    Shape("by day, 98 %", lambda at: 10 * day(0.98)(at)),
    Shape("pauses of 400 ms each 97 s", lambda _at: 10.0, pauses),
    Shape("hourly job", lambda _at: 10.0, cron),
    Shape("deploy, 20 % slower", lambda _at: 20.0, deploy),
    Shape("surge × 3 for 90 min", surge),
    Shape("0.05 rps", lambda _at: 0.05),
    Shape("0.5 rps, by day, 88 %", lambda at: 0.5 * day(0.88)(at)),
)


def openings(shape: Shape, seed: int, days: float, tick_s: float) -> tuple[int, str, float]:
    """Return how many incidents healthy traffic opened, by which rules, and the seconds that judging took."""
    traffic = Traffic(
        random.Random(f"{shape.name}/{seed}"), shape.rate, shape.sick, shape.median_s, shape.sigma
    )
    state, is_open, rules, spent = ServiceState.fresh(POLICY), False, [], 0.0
    while traffic.now < days * 86_400:
        tick = traffic.tick(tick_s)
        began = perf_counter()
        state, verdict = judge(state, tick, POLICY, open_incident=is_open)
        spent += perf_counter() - began
        if not is_open and should_open(verdict):
            is_open = True
            rules.append(f"{verdict.alarms[0].rule} at {traffic.now / 3600:.1f} h")
        elif is_open and should_recover(verdict, POLICY):
            is_open = False
    return len(rules), ", ".join(rules[:5]), spent


def healthy(seeds: int, days: float, tick_s: float) -> int:
    """Print how often healthy traffic opened an incident; return the sum."""
    print(f"\n{'healthy traffic':32} {'openings':>9} {'of days':>8} {'µs/tick':>8}")
    total = 0
    for shape in SHAPES:
        found = [openings(shape, seed, days, tick_s) for seed in range(seeds)]
        count = sum(one[0] for one in found)
        total += count
        each = 1e6 * sum(one[2] for one in found) / (seeds * days * 86_400 / tick_s)
        rules = "; ".join(one[1] for one in found if one[1])
        print(f"{shape.name:32} {count:9} {seeds * days:8.1f} {each:8.0f}  {rules}")
    print(f"{'together':32} {total:9} {seeds * days * len(SHAPES):8.1f}")
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--days", type=float, default=1.0, help="days of healthy traffic a shape and seed; 0 skips"
    )
    parser.add_argument("--healthy-seeds", type=int, default=1)
    parser.add_argument("--tick", type=float, default=5.0, help="seconds between polls")
    asked = parser.parse_args()
    print(f"policy {POLICY.label}, polls each {asked.tick:g} s, {asked.seeds} seeds, 20 rps unless said\n")
    reached = detection(asked.seeds, asked.tick)
    wolves = healthy(asked.healthy_seeds, asked.days, asked.tick) if asked.days else 0
    return 0 if reached and wolves <= asked.healthy_seeds * len(SHAPES) // 10 else 1


if __name__ == "__main__":
    raise SystemExit(main())
