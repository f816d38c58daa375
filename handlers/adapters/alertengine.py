"""What an app tells that runs fastapi-alertengine (1.7.0) instead of our SDK, made into ticks.

It answers averages over its last 200 requests, and a counter of all requests. So:

* n is how far the counter has moved since the last poll, less our own two requests, which it counts as well.
* Of those n the failed share is the share of its window. No request is counted twice; a change shows with a
  delay of at most those 200 requests.
* Its mean follows from p95 and its anomaly score, which is |p95 − mean| / mean. A tenth of the requests is
  put at p95, the others at the mean: enough to see that everything is slow, not to tell how the tail looks.
* A counter that runs backwards is another worker, or a restart: nothing is counted then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from detectors.window import Tick
from handlers.ports import PortError
from sdk import histogram

OURS = 2
LONGEST_SPAN_MS = 60_000
NS_A_MS = 1_000_000


def counter_url(health_url: str) -> str:
    """Where the counter is: `/metrics/ingestion` of the same origin."""
    parts = urlsplit(health_url)
    return urlunsplit((parts.scheme, parts.netloc, "/metrics/ingestion", "", ""))


@dataclass
class Memory:
    """The counter as last seen, by service: in memory, since a missed difference costs one poll."""

    seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def tick(
        self, service: str, answer: Mapping[str, object], counter: Mapping[str, object], now_ms: int
    ) -> Tick:
        """What ended since the last poll. Raises PortError where the answer is not the peer's."""
        metrics = answer.get("metrics")
        if not isinstance(metrics, dict):
            raise PortError("answered neither slots nor the metrics of fastapi-alertengine")
        total = int(_number(counter, "enqueued"))
        before, before_ms = self.seen.get(service, (total, now_ms))
        self.seen[service] = total, now_ms
        n = max(0, total - before - OURS)
        failed = round(n * min(1.0, _number(metrics, "error_rate")))
        p95 = _number(metrics, "overall_p95_ms")
        mean = p95 / (1 + _number(metrics, "anomaly_score"))
        return Tick(
            at_ms=now_ms,
            span_ms=min(LONGEST_SPAN_MS, max(0, now_ms - before_ms)),
            n=n,
            errors=failed,
            client_errors=0,
            aborted=0,
            hist=_hist(n, mean, p95),
            inflight=0,
            oldest_ms=0,
        )


def _hist(n: int, mean_ms: float, p95_ms: float) -> dict[int, int]:
    slow = n // 10
    parts = ((n - slow, mean_ms), (slow, p95_ms))
    return histogram.merge(*({histogram.index(int(ms * NS_A_MS)): count} for count, ms in parts if count))


def _number(values: Mapping[str, object], key: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise PortError(f"answered no usable {key}")
    return float(value)
