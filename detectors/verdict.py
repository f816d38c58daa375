"""The judgement: what a poll brought goes in, what is wrong comes out, and nothing else happens.

1. The poll is folded into the state.
2. Alarms are read from the state.
3. Only a good tick is learned from.

An incident opens when there is an alarm and closes after a minute of watched quiet; between the two its
severity only rises.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from detectors import baseline
from detectors.alarm import Alarm
from detectors.alarms import heard, is_sick
from detectors.fold import dated, fold, tails
from detectors.kinds import kinds
from detectors.measured import Measured, Numbers
from detectors.policy import Policy, Severity, Signal
from detectors.score import components
from detectors.state import RECENT_MS, Sample, ServiceState, caveats, new_normal, settled
from detectors.suspects import Candidate, Suspect, ms, rank
from detectors.window import Missed, Tick

__all__ = [
    "Alarm",
    "Numbers",
    "ServiceState",
    "Verdict",
    "judge",
    "kinds",
    "new_normal",
    "recovered_because",
    "rings",
    "settled",
    "should_open",
    "should_recover",
    "suspects",
    "worse",
]

Trend = Literal["falling", "steady", "rising"]
NUMBERS_MS = 60_000
LATELY_MS = 15_000
GOOD_SAMPLES = 12
TREND_POINTS, TREND_SAMPLES = 5, 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy says of one service now."""

    healthy: bool
    alarms: tuple[Alarm, ...]
    quiet_ms: int
    score: int
    trend: Trend
    measured: Measured
    shadowed: tuple[Alarm, ...] = ()
    """What rules in shadow would have said."""
    caveats: tuple[str, ...] = ()
    """What makes the figures less sure than they look, a sentence each."""

    @property
    def numbers(self) -> Numbers:
        """What was measured; added up whenever it is asked for."""
        return self.measured.numbers()

    @property
    def severity(self) -> Severity | None:
        return self.alarms[0].severity if self.alarms else None


def judge(
    state: ServiceState, seen: Tick | Missed, policy: Policy, *, open_incident: bool
) -> tuple[ServiceState, Verdict]:
    """Return the state after *seen*, and the verdict. The same arguments give the same answer, anywhere."""
    state, seen = dated(state, seen)
    folded = fold(state, seen, policy)
    found, shadowed = heard(folded, policy)
    parts = components(folded, found, policy)
    points = min(parts.values())
    scored = () if found else _by_score(folded, parts, policy)
    found, shadowed = (found, shadowed + scored) if policy.shadows("score") else (found + scored, shadowed)
    sick = bool(found) or is_sick(folded, policy)
    usual = baseline.frozen(
        folded.baseline, folded.at_ms, open_incident=open_incident or bool(found or shadowed)
    )
    if isinstance(seen, Tick) and not state.slept(seen):
        usual = _learned(usual, seen, folded, policy)
    after = replace(
        folded,
        recent=_scored(folded.recent, points, seen),
        quiet_ms=_quiet(folded, seen, sick=sick),
        sick_ms=_sick(folded, found, sick=sick),
        good=_good(folded, found, open_incident=open_incident),
        baseline=usual,
    )
    return after, Verdict(
        healthy=not found,
        alarms=found,
        quiet_ms=after.quiet_ms,
        score=points,
        trend=_trend(state.recent, folded.at_ms, points),
        measured=_measured(after, found),
        shadowed=shadowed,
        caveats=caveats(after),
    )


def should_open(verdict: Verdict) -> bool:
    """Return whether an incident is due where none is open."""
    return bool(verdict.alarms)


def should_recover(verdict: Verdict, policy: Policy, quiet_ms: int = 0) -> bool:
    """Return whether an open incident is over: watched quiet, and the score that policy may ask for.

    *quiet_ms* is asked of one that keeps coming back.
    """
    enough = policy.recover_score is None or verdict.score >= policy.recover_score
    return verdict.healthy and verdict.quiet_ms >= max(policy.close_ms, quiet_ms) and enough


def worse(was: Severity, verdict: Verdict) -> bool:
    """Return whether an open incident of severity *was* has become worse; it never becomes less severe."""
    return was == "warning" and verdict.severity == "critical"


def rings(severity: Severity, policy: Policy) -> bool:
    """Return whether an incident of *severity* makes a sound when it opens."""
    return severity == "critical" or policy.warnings_ring


def recovered_because(verdict: Verdict) -> str:
    """Return why the incident was closed, in numbers."""
    seen = verdict.numbers
    return (
        f"Recovered: {seen.failed} of {seen.n} failed in {ms(seen.window_ms)}; "
        f"closed after {ms(verdict.quiet_ms)} quiet."
    )


def suspects(
    state: ServiceState, verdict: Verdict, extra: Iterable[Candidate] = (), *, lately: bool = False
) -> tuple[Suspect, ...]:
    """Return the numbered evidence: what shifted since the worst alarm began, and *extra*, say commits.

    *lately*: something is new since then, so the newest seconds are compared with the time before it began.
    """
    since_ms = verdict.alarms[0].since_ms if verdict.alarms else state.at_ms - NUMBERS_MS
    during = state.since(state.at_ms - LATELY_MS if lately else since_ms) or state.recent[-1:]
    before = state.good or tuple(sample for sample in state.recent if sample.at_ms <= since_ms)
    return rank([one.readings for one in before], [one.readings for one in during], extra)


def _by_score(state: ServiceState, parts: Mapping[Signal, int], policy: Policy) -> tuple[Alarm, ...]:
    """Return the alarm of the optional score rule: the score is low, and was at the sample before."""
    limit, worst = policy.min_score_to_alert, min(parts, key=lambda signal: parts[signal])
    if limit is None or len(state.recent) < 2 or max(parts[worst], state.recent[-2].score) > limit:
        return ()
    seen = state.recent[-2:]
    k, n = sum(one.errors for one in seen), sum(one.n for one in seen)
    text = f"Score {parts[worst]} of 100, your policy alarms at {limit}. {k} of {n} requests failed."
    since_ms = seen[0].began_ms
    window_ms = state.at_ms - since_ms
    headline = f"health score {parts[worst]} of 100"
    return (Alarm("score", worst, "critical", headline, text, since_ms, k, n, window_ms, 0, 0),)


def _scored(recent: tuple[Sample, ...], points: int, seen: Tick | Missed) -> tuple[Sample, ...]:
    if isinstance(seen, Missed) or not recent or recent[-1].score == points:
        return recent
    return (*recent[:-1], replace(recent[-1], score=points))


def _quiet(folded: ServiceState, seen: Tick | Missed, *, sick: bool) -> int:
    """Return the quiet so far. Only watched time counts: a failed poll does not, nor one we slept through."""
    if sick:
        return 0
    return folded.quiet_ms + (0 if isinstance(seen, Missed) else max(0, seen.span_ms))


def _sick(folded: ServiceState, found: tuple[Alarm, ...], *, sick: bool) -> int:
    """Return when any rule but the budget's last saw something. An odd gauge says nothing of errors."""
    alone = bool(found) and all(alarm.rule in {"burn", "series"} for alarm in found)
    return folded.at_ms if sick and not alone else folded.sick_ms


def _good(folded: ServiceState, found: tuple[Alarm, ...], *, open_incident: bool) -> tuple[Sample, ...]:
    """Return the samples from before it began, taken once, when it is first seen."""
    if not found:
        return folded.good if open_incident else ()
    if folded.good:
        return folded.good
    return tuple(sample for sample in folded.recent if sample.at_ms <= found[0].since_ms)[-GOOD_SAMPLES:]


def _learned(usual: baseline.Baseline, seen: Tick, folded: ServiceState, policy: Policy) -> baseline.Baseline:
    if seen.span_ms <= 0 or not baseline.learns(usual, folded.at_ms, policy):
        return usual
    full = baseline.ends_minute(usual, seen.span_ms)
    return baseline.learn(
        usual,
        span_ms=seen.span_ms,
        n=seen.n,
        hist=seen.hist,
        inflight=seen.inflight,
        oldest_ms=seen.oldest_ms,
        policy=policy,
        at_ms=folded.at_ms,
        routes=tails(folded.since(folded.at_ms - NUMBERS_MS)) if full else {},
    )


def _trend(before: tuple[Sample, ...], at_ms: int, points: int) -> Trend:
    past = (sample.score for sample in reversed(before) if at_ms - RECENT_MS < sample.at_ms < at_ms)
    *_, was = (points, *islice(past, TREND_SAMPLES))
    if points <= was - TREND_POINTS:
        return "falling"
    return "rising" if points >= was + TREND_POINTS else "steady"


def _measured(state: ServiceState, found: tuple[Alarm, ...]) -> Measured:
    span_ms = state.at_ms - found[0].since_ms if found else state.quiet_ms or NUMBERS_MS
    return Measured(state.recent, state.at_ms - min(NUMBERS_MS, span_ms))
