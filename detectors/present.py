"""Alarms on what is, not on counts: no answer, an old one, requests that hang, gauges that are full or odd.

Each must hold for as long as policy says; its window is how long it has. A gauge that is unlike its past is
an event: it alarms for as long as policy says after the minute in which it was.
"""

from collections.abc import Iterator

from detectors.alarm import Alarm
from detectors.lines import MINUTE_MS, Odd
from detectors.policy import Policy
from detectors.state import STILL, ServiceState, hang_limit_ms
from detectors.suspects import ms, one_line


def unreachable(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    if state.missed < policy.unreachable_polls:
        return
    window_ms = state.at_ms - state.missed_since_ms
    yield Alarm(
        "unreachable",
        "unreachable",
        "critical",
        "does not answer its health check",
        f"{state.missed} polls in a row failed in {ms(window_ms)}, the last with: {one_line(state.why)}.",
        state.missed_since_ms,
        state.missed,
        state.missed,
        window_ms,
        0,
        0,
    )


def hangs(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    since_ms = state.held.get("hang")
    if since_ms is None or not state.recent:
        return
    silent_ms = state.at_ms - state.ended_ms
    silent = silent_ms >= policy.hang_silent_ms
    if not silent and state.at_ms - since_ms < policy.hang_sustain_ms:
        return
    last = state.recent[-1]
    ended = f"none ended for {ms(silent_ms)}" if silent else "others end"
    yield Alarm(
        "hangs",
        "hangs",
        "critical",
        f"requests hang, the oldest for {ms(last.oldest_ms)}",
        f"{last.inflight} requests in flight (usually {state.baseline.usual_inflight}), the oldest for "
        f"{ms(last.oldest_ms)}, {ended}. The limit is {ms(hang_limit_ms(state, policy))}.",
        state.at_ms - last.oldest_ms,
        last.inflight,
        last.inflight + last.n,
        last.oldest_ms,
        0,
        0,
    )


def stale(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    """Yield the alarm of an app that answers, and tells nothing new: an old answer that something keeps."""
    since_ms = state.held.get(STILL, state.at_ms)
    window_ms = state.at_ms - since_ms
    if window_ms < policy.stale_ms:
        return
    yield Alarm(
        "stale",
        "unreachable",
        "critical",
        f"answers, but tells nothing new for {ms(window_ms)}",
        f"Each poll in {ms(window_ms)} was answered, and none with a second that we did not know. "
        f"From {ms(policy.stale_ms)} on nobody knows how it is.",
        since_ms,
        0,
        0,
        window_ms,
        0,
        0,
    )


def full(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    for gauge in state.gauges:
        since_ms = state.held.get(f"full\t{gauge.name}", state.at_ms)
        window_ms = state.at_ms - since_ms
        if window_ms < policy.saturation_sustain_ms:
            continue
        name = one_line(gauge.name)
        yield Alarm(
            "saturation",
            "saturation",
            "warning",
            f"{name} {gauge.used} of {gauge.limit} in use",
            f"{name}: {gauge.used} of {gauge.limit} in use for {ms(window_ms)}. "
            f"Full is from {policy.saturation_permille / 10:.3g} %.",
            since_ms,
            gauge.used,
            gauge.limit,
            window_ms,
            0,
            0,
            name,
        )


def unlike(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    """Yield the alarm of each gauge whose newest minutes were unlike its past, by name."""
    for name, line in sorted(state.lines.past.items()):
        since_ms = state.at_ms - line.odd.began_ms - MINUTE_MS if line.odd else -1
        if line.odd and 0 <= since_ms < policy.series_hold_ms:
            yield _unlike(one_line(name), line.odd, state.at_ms)


def _unlike(name: str, odd: Odd, at_ms: int) -> Alarm:
    return Alarm(
        "series",
        "saturation",
        "warning",
        f"{name} at {odd.value:.4g} is unlike its past",
        f"{name}, a mean a minute, the newest compared with {odd.of} before: {odd.sentence}",
        odd.began_ms,
        1,
        odd.of,
        at_ms - odd.began_ms,
        0,
        0,
        name,
    )
