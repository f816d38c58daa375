"""The alarm of the error budget: it burns too fast, where no faster rule has anything to say.

An outage of a minute burns the budget of an hour, and is long told by then. So this alarm waits until every
other rule has been silent for a while, and it ends when the last minute is on the healthy side again.
"""

from collections.abc import Iterator

from detectors import burn
from detectors.alarm import Alarm
from detectors.policy import Policy
from detectors.state import MINUTE_MS, ServiceState
from detectors.suspects import ms


def burning(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    """Yield the alarm of the first pair of windows that speaks."""
    if state.sick_ms and state.at_ms - state.sick_ms < policy.burn_alone_ms:
        return
    pairs = ((state.burn.fast, policy.burn_fast_times_milli), (state.burn.slow, policy.burn_slow_times_milli))
    for pair, times_milli in pairs:
        if pair is not None and _too_fast(state, pair, times_milli, policy):
            yield _alarm(state, pair, times_milli, policy)
            return


def _too_fast(state: ServiceState, pair: burn.Pair, times_milli: int, policy: Policy) -> bool:
    limit = policy.budget_permille * times_milli  # in millionths
    if (
        any(cell.errors * 1_000_000 < cell.n * limit for cell in pair)
        or pair.short.errors < policy.min_events
    ):
        return False
    newest = state.since(state.at_ms - MINUTE_MS)
    middle = (policy.budget_permille * 1000 + limit) // 2
    return sum(one.errors for one in newest) * 1_000_000 > sum(one.n for one in newest) * middle


def _alarm(state: ServiceState, pair: burn.Pair, times_milli: int, policy: Policy) -> Alarm:
    often = f"{pair.short.share * 1000 / policy.budget_permille:.1f}"
    lately = _counts(pair.short)
    return Alarm(
        "burn",
        "errors",
        "warning",
        f"errors use up the budget {often} times too fast",
        f"{lately}, and {_counts(pair.long)}. {policy.budget_permille / 10:.3g} % may fail: "
        f"from {times_milli / 1000:.3g} times that in both the budget burns too fast.",
        state.at_ms - pair.short.span_ms,
        pair.long.errors,
        pair.long.n,
        pair.long.span_ms,
        0,
        0,
    )


def _counts(cell: burn.Cell) -> str:
    return f"{cell.errors} of {cell.n} requests failed in {ms(cell.span_ms)} ({100 * cell.share:.2f} %)"
