"""The health score, 0–100: the worst component, never an average.

* errors, latency: the share of bad requests among the newest (ten seconds and twenty requests, a minute at
  most). 100 where it is what policy calls healthy (p0), 40 where it is what policy calls sick (p1), 0 at five
  times that or at everything, and straight in between.
* hangs: while they alarm, 40 where the oldest is as old as the limit, 0 at three times that.
* traffic: while it is a drop, 40 at the share that counts as one, 0 at nothing.
* unreachable: 0 while nobody can be asked, or nothing new is told.
* saturation: 100 up to 80 % of the fullest gauge, 40 from what policy calls full on.
"""

from collections.abc import Iterator

from detectors.alarm import Alarm
from detectors.alarms import is_known
from detectors.policy import Policy, Signal
from detectors.state import Sample, ServiceState, hang_limit_ms

ENOUGH = 20  # requests; one failed of three says little
WINDOW_MS = 60_000
SICK = 40


def components(state: ServiceState, found: tuple[Alarm, ...], policy: Policy) -> dict[Signal, int]:
    """Return the score of each signal; the service's is the least."""
    on = {alarm.signal: alarm for alarm in found}
    counted = dict(_counted(state, policy))
    return {
        "errors": counted["err_crit"],
        "latency": min(counted["lat_crit"], counted["lat_body"], counted["tail"]),
        "hangs": _hangs(state, policy) if "hangs" in on else 100,
        "traffic": _traffic(on["traffic"], policy) if "traffic" in on else 100,
        "unreachable": 0 if "unreachable" in on else 100,
        "saturation": _saturation(state, policy),
    }


def line(share: float, p0: float, p1: float) -> int:
    """Return 100 up to *p0*, 40 at *p1*, 0 from min(1, 5 × p1), and the straight line between."""
    worst = min(1.0, 5 * p1)
    if share <= p0:
        return 100
    if share <= p1:
        return round(100 - (100 - SICK) * (share - p0) / (p1 - p0))
    return max(0, round(SICK * (worst - share) / (worst - p1))) if worst > p1 else 0


def _counted(state: ServiceState, policy: Policy) -> Iterator[tuple[str, int]]:
    samples = _latest(state, policy)
    n = sum([sample.n for sample in samples])
    for row in policy.rows:
        k = sum([state.bad(row, sample) for sample in samples])
        yield row.rule, line(k / n, row.p0, row.p1) if k and n and is_known(state, row) else 100


def _latest(state: ServiceState, policy: Policy) -> list[Sample]:
    """Return the newest samples: enough time, and enough requests, but at most a minute."""
    found: list[Sample] = []
    span_ms = n = 0
    for sample in reversed(state.recent):
        if sample.at_ms <= state.at_ms - WINDOW_MS or (span_ms >= policy.live_ms and n >= ENOUGH):
            break
        found.append(sample)
        span_ms, n = span_ms + sample.span_ms, n + sample.n
    return found


def _hangs(state: ServiceState, policy: Policy) -> int:
    limit = hang_limit_ms(state, policy)
    return max(0, round(SICK * (1 - (state.recent[-1].oldest_ms - limit) / (2 * limit))))


def _traffic(alarm: Alarm, policy: Policy) -> int:
    """Return 40 at the share that counts as a drop, 0 at nothing."""
    share = alarm.k / alarm.n if alarm.n else 0.0
    return min(SICK, round(SICK * share * 1000 / policy.drop_factor_permille))


def _saturation(state: ServiceState, policy: Policy) -> int:
    """Return 100 up to 80 % of a gauge, 40 at what policy calls full."""
    full = policy.saturation_permille / 1000
    usual = 0.8 if full > 0.8 else full / 2
    fullest = max((gauge.used / gauge.limit for gauge in state.gauges if gauge.limit > 0), default=0.0)
    if fullest <= usual:
        return 100
    return max(SICK, round(100 - (100 - SICK) * (fullest - usual) / (full - usual)))
