"""What other tools say is wrong: the alerts that fire now, and what policy makes of them.

1. All alerts of one service are one trouble: a storm is one card, and the worst of them heads it.
2. An alert fires until its tool says that it is resolved, or has not spoken of it for a day.
3. An alert whose service the charter does not name is not lost: it is about the service UNASSIGNED.
4. What the tools wrote is foreign text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from handlers.sanitise import clean
from ledger.events import Reading

SIGNAL = "alert"
UNASSIGNED = "unassigned"
SILENT_MS = 86_400_000
NAMED = 3


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: *key* stays the same for as long as it is the same alert; *heard_ms*: last told of."""

    source: str
    key: str
    service: str
    title: str
    critical: bool = False
    firing: bool = True
    since_ms: int = 0
    heard_ms: int = 0


@dataclass
class Alerts:
    """The alerts of one tenant that fire, in memory, by source and key."""

    known: Mapping[str, Alert] = field(default_factory=dict)

    def of(self, service: str, now_ms: int) -> list[Alert]:
        """What fires about *service*, the worst and oldest first."""
        own = (one for one in self.known.values() if one.service == service)
        live = [one for one in own if now_ms - one.heard_ms < SILENT_MS]
        return sorted(live, key=lambda one: (not one.critical, one.since_ms, one.key))


def reading_of_alerts(service: str, firing: Sequence[Alert], deploy: str = "") -> Reading:
    """What *firing*, the worst first, amounts to. With none: that nothing fires any more."""
    if not firing:
        return Reading(
            service=service,
            rule="",
            signal="",
            severity="none",
            headline="no alert fires",
            explanation="Each alert was resolved by the tool that sent it.",
            deploy=deploy,
        )
    worst = firing[0]
    others = f" and {len(firing) - 1} more" if len(firing) > 1 else ""
    titles = "; ".join(one.title for one in firing[:NAMED])
    return Reading(
        service=service,
        rule=f"alert_{worst.source}",
        signal=SIGNAL,
        severity="critical" if worst.critical else "warning",
        headline=clean(f"{worst.source} says: {worst.title}", 100) + others,
        explanation=clean(
            f"{len(firing)} alert{'s' * (len(firing) > 1)} fire{'s' * (len(firing) == 1)}: {titles}", 300
        ),
        since_ms=min(one.since_ms for one in firing),
        deploy=deploy,
    )
