"""What is new among the failures: a type of exception, or a dependency, that was not there before it began.

It must take that share of the last minute's failures which policy names, and some. What failed already in the
last good window is not new.
"""

from collections import Counter
from collections.abc import Iterable

from detectors.policy import Policy
from detectors.state import MINUTE_MS, Sample, ServiceState

KINDS = ("exception", "dependency_errors")


def kinds(state: ServiceState, policy: Policy) -> tuple[str, ...]:
    """Return the names of what is new, the most frequent first."""
    window = state.since(state.at_ms - MINUTE_MS)
    failed = sum(sample.errors for sample in window)
    least = max(policy.min_events, failed * policy.kind_permille / 1000)
    before = _failures(state.good)
    found = _failures(window).most_common()
    return tuple(name for name, count in found if count >= least and not before[name])


def _failures(samples: Iterable[Sample]) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample in samples:
        for key, (count, _) in sample.readings.items():
            if key.startswith(KINDS) and count:
                found[key.split("\t")[1]] += count
    return found
