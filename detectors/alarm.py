"""One rule that speaks: what it says, and the numbers that it says it by."""

from dataclasses import dataclass

from detectors.policy import Severity, Signal


@dataclass(frozen=True, slots=True)
class Alarm:
    """One rule that speaks: *k* of *n* in *window_ms* since *since_ms*, and why that is not chance.

    *evidence_cn* of *threshold_cn* are hundredths of nats, 0 for rules that are no test.
    *subject* is the route, gauge or nothing that the alarm is about.
    """

    rule: str
    signal: Signal
    severity: Severity
    headline: str
    explanation: str
    since_ms: int
    k: int
    n: int
    window_ms: int
    evidence_cn: int
    threshold_cn: int
    subject: str = ""
