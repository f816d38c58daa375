"""Whether the control was on in a span of time: who watched, how well, and how true the clock was. Pure.

A process counts as present from its Started to its last entry. One that never stopped counts an hour and five
minutes longer, as an idle process writes once an hour.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ledger import events as ev
from ledger.machine import Fact
from ledger.report_gather import Gathered, Sign

SILENT_MS = 65 * 60_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Watch:
    """`absent_ms`: without any process. `reports` is how many hourly reports stand in the span; of the
    polls due in them `missed` were not made. `offset` is the newest measured clock offset, with its entry."""

    absent_ms: int
    reports: int
    due: int
    missed: int
    offset: tuple[Fact, ev.Watched] | None
    refused: Mapping[str, int]

    @property
    def absent_min(self) -> int:
        """Begun minutes: a second without anybody is one."""
        return -(-self.absent_ms // MINUTE_MS)


def watch(gathered: Gathered, from_ms: int, to_ms: int) -> Watch:
    """What is known of the span from *from_ms* to *to_ms*."""
    reports = gathered.every(ev.Watched)
    within = [event for fact, event in reports if from_ms <= fact.at_ms <= to_ms]
    before = [one for one in reports if one[0].at_ms <= to_ms]
    refused = gathered.every(ev.Refused)
    return Watch(
        absent_ms=absent(gathered.signs, from_ms, to_ms),
        reports=len(within),
        due=sum(event.due for event in within),
        missed=sum(event.missed for event in within),
        offset=before[-1] if before else None,
        refused=Counter(e.kind for fact, e in refused if from_ms <= fact.at_ms <= to_ms),
    )


def absent(signs: Iterable[Sign], from_ms: int, to_ms: int) -> int:
    """How many milliseconds of the span no process was there."""
    covered, at = 0, from_ms
    for since, until in sorted((s.since_ms, s.until_ms + (0 if s.stopped else SILENT_MS)) for s in signs):
        since, until = max(since, at), min(until, to_ms)
        if until > since:
            covered += until - since
            at = until
    return max(0, to_ms - from_ms) - covered
