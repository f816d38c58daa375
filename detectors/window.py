"""What one look at a service brought: counts that can be added, never rates that cannot.

* A `Tick` is what a poll brought, merged over workers; a `Missed` is a poll that brought nothing.
* Times are epoch milliseconds, durations milliseconds, latencies buckets of sdk/histogram.py.
* Adding ticks is exact: merge(split(requests)) equals the whole, bucket for bucket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sdk import histogram
from sdk.wire import Gauge, Part, merge_parts

__all__ = ["Gauge", "Missed", "Part", "Tick", "merge"]


@dataclass(frozen=True, slots=True)
class Tick:
    """The requests that ended in the *span_ms* before *at_ms*, and what was in flight at *at_ms*.

    *app_ms* is what the app's own clock said then, 0 where it said nothing. *workers* are those that the
    counts are of; *workers_stale* more have fallen silent.
    """

    at_ms: int
    span_ms: int
    n: int
    errors: int
    client_errors: int
    aborted: int
    hist: Mapping[int, int]
    inflight: int
    oldest_ms: int
    routes: tuple[Part, ...] = ()
    dependencies: tuple[Part, ...] = ()
    gauges: tuple[Gauge, ...] = ()
    app_ms: int = 0
    workers: int = 1
    workers_stale: int = 0


@dataclass(frozen=True, slots=True)
class Missed:
    """A poll that failed: when, and why in a few words."""

    at_ms: int
    why: str


def merge(ticks: Iterable[Tick]) -> Tick:
    """Return one tick for many: of several hosts over the same time, or of one host over successive times.

    Requests add up. What was in flight, and the gauges, are a state and not a flow: they are summed over
    the ticks of the newest instant and forgotten of older ones. Raises ValueError without any tick.
    """
    found = sorted(ticks, key=lambda tick: tick.at_ms)
    if not found:
        raise ValueError("There is no tick to merge.")
    at_ms = found[-1].at_ms
    now = [tick for tick in found if tick.at_ms == at_ms]
    return Tick(
        at_ms=at_ms,
        span_ms=at_ms - min(tick.at_ms - tick.span_ms for tick in found),
        n=sum(tick.n for tick in found),
        errors=sum(tick.errors for tick in found),
        client_errors=sum(tick.client_errors for tick in found),
        aborted=sum(tick.aborted for tick in found),
        hist=histogram.merge(*(tick.hist for tick in found)),
        inflight=sum(tick.inflight for tick in now),
        oldest_ms=max(tick.oldest_ms for tick in now),
        routes=merge_parts(part for tick in found for part in tick.routes),
        dependencies=merge_parts(part for tick in found for part in tick.dependencies),
        gauges=_merge_gauges(gauge for tick in now for gauge in tick.gauges),
        app_ms=max(tick.app_ms for tick in now),
        workers=sum(tick.workers for tick in now),
        workers_stale=sum(tick.workers_stale for tick in now),
    )


def _merge_gauges(gauges: Iterable[Gauge]) -> tuple[Gauge, ...]:
    by_name: dict[str, Gauge] = {}
    for gauge in gauges:
        seen = by_name.get(gauge.name, Gauge(gauge.name, 0, 0))
        by_name[gauge.name] = Gauge(gauge.name, seen.used + gauge.used, seen.limit + gauge.limit)
    return tuple(by_name.values())
