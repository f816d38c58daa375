"""Two clocks, the app's and ours, and what to do when one of them is set.

* Counts are dated by the app's clock, alarms by ours. Both advance alike; where they do not, one was set.
* Where ours was set, what is remembered is dated anew: it happened as long ago as before.
* Where the app's was set forward, no more time is taken to have passed than passed here.
* Time that nobody watched says nothing of how much traffic there was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from detectors.evidence import Evidence
from detectors.suspects import ms
from detectors.window import Missed, Tick

AGREE_MS = 10_000  # a worker may be five seconds behind the others, and a poll takes two
LONGEST_MS = 120_000  # between two polls that were answered, unless we slept
WATCHED_MS = 60_000  # as far back as an app remembers
TOLD_MS = 600_000


@dataclass(frozen=True, slots=True)
class Step:
    """A clock that was set: *ours* or the app's, by how many ms, at what time by ours."""

    ours: bool
    by_ms: int
    at_ms: int

    def sentence(self, now_ms: int) -> str:
        """Return what to say of it; nothing ten minutes later."""
        ago = now_ms - self.at_ms
        if ago > TOLD_MS:
            return ""
        way, whose = ("forward" if self.by_ms > 0 else "back"), ("Our" if self.ours else "The app's")
        done = "what was measured before is dated anew" if self.ours else "its requests are counted on"
        when = f"{ms(ago)} ago" if ago >= 1_000 else "just now"
        return f"{whose} clock was set {way} by {ms(abs(self.by_ms))} {when}: {done}."


@dataclass(frozen=True, slots=True)
class Clocks:
    """When we last heard of a service at all, when it last answered, and what its clock said then."""

    at_ms: int
    heard_ms: int
    app_ms: int


def step(before: Clocks, seen: Tick | Missed) -> Step | None:
    """Return which clock was set between *before* and *seen*, if one was.

    Of two that disagree the right one is that which shows a usual pause between polls, the shorter one.
    """
    back_ms = seen.at_ms - before.at_ms
    if isinstance(seen, Missed) or not (seen.app_ms and before.app_ms):
        return Step(True, back_ms, seen.at_ms) if before.at_ms and back_ms < -AGREE_MS else None
    ours, theirs = seen.at_ms - before.heard_ms, seen.app_ms - before.app_ms
    if abs(ours - theirs) <= AGREE_MS:  # both were set back, on one machine
        return Step(True, back_ms, seen.at_ms) if back_ms < -AGREE_MS else None
    if 0 < theirs <= LONGEST_MS and not 0 <= ours < theirs:
        return Step(True, ours - theirs, seen.at_ms)
    return Step(False, theirs - ours, seen.at_ms) if theirs else None


def unhurried(tick: Tick, found: Step | None, passed_ms: int) -> Tick:
    """Return *tick* as that of no more than *passed_ms*, where the app's clock was set."""
    if found is None or found.ours or tick.span_ms <= passed_ms:
        return tick
    return replace(tick, span_ms=max(0, passed_ms))


def moved(times: Mapping[str, int], by_ms: int) -> dict[str, int]:
    return {name: at_ms + by_ms for name, at_ms in times.items()}


def moved_runs(tests: Mapping[str, Evidence], by_ms: int) -> dict[str, Evidence]:
    return {name: replace(test, since_ms=test.since_ms + by_ms) for name, test in tests.items()}
