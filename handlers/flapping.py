"""When an incident that keeps coming back may close: the Reopened says so, and is folded like any fact.

The first times it closes after a minute of quiet and rings when it is back. From the third time on it stays
open until it was quiet for longer, twice as long with each time, an hour at most: one incident, and a handful
of rings however long it goes on.
"""

from detectors.policy import Policy
from detectors.suspects import ms
from ledger import events as ev
from ledger.machine import Incident

MOST_MS = 3_600_000


def asks_ms(before: Incident, policy: Policy) -> int:
    """How long *before*, which is to reopen now, must be quiet until it closes; 0: as long as any."""
    beyond = len(before.every(ev.Reopened)) + 1 - policy.flap_reopens
    return min(MOST_MS, policy.flap_close_ms << min(beyond, 8)) if beyond >= 0 else 0


def quiet_ms(standing: Incident, policy: Policy) -> int:
    """How long *standing* must be quiet until it closes."""
    last = standing.last(ev.Detected, ev.Reopened)
    asked_ms = last.event.quiet_ms if last and isinstance(last.event, ev.Reopened) else 0
    return max(policy.close_ms, asked_ms)


def sentence(before: Incident, asked_ms: int, now_ms: int) -> str:
    """What to say of it when it reopens; nothing the first times."""
    if not asked_ms:
        return ""
    often = f"{len(before.every(ev.Reopened)) + 1} times in {ms(now_ms - before.opened_ms)}"
    return f". It came back {often}, and stays open until it was quiet for {ms(asked_ms)}"
