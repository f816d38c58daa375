"""The figures beside a verdict: what was measured since some moment, added up only when somebody reads them.

A judgement is made at each poll, and most are read by nobody.
"""

from dataclasses import dataclass

from detectors.state import Sample
from sdk import histogram


@dataclass(frozen=True, slots=True)
class Numbers:
    """What was measured since the worst alarm began, or since it became quiet, in the last minute at most."""

    n: int
    failed: int
    window_ms: int
    p50_ms: int
    p95_ms: int
    rps_milli: int
    error_permille: int
    inflight: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The *recent* samples, of which those count that ended after *since_ms*."""

    recent: tuple[Sample, ...]
    since_ms: int

    def numbers(self) -> Numbers:
        """Return the figures of the window; what is in flight is that of the newest sample, however old."""
        window = [sample for sample in self.recent if sample.at_ms > self.since_ms]
        span_ms = sum(sample.span_ms for sample in window)
        n, failed = sum(sample.n for sample in window), sum(sample.errors for sample in window)
        p95_ns, p50_ns = histogram.quantiles(histogram.merge(*(one.hist for one in window)), 0.95, 0.5)
        last = self.recent[-1] if self.recent else None
        return Numbers(
            n=n,
            failed=failed,
            window_ms=span_ms,
            p50_ms=p50_ns // 1_000_000,
            p95_ms=p95_ns // 1_000_000,
            rps_milli=n * 1_000_000 // span_ms if span_ms else 0,
            error_permille=failed * 1000 // n if n else 0,
            inflight=last.inflight if last else 0,
            oldest_ms=last.oldest_ms if last else 0,
        )
