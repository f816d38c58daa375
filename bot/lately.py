"""What happened lately, read from the ledger's view, and what people said of it. Pure.

After a start each fact is taken apart when it is first read, so all but `Past.of` belongs into a thread.

An incident counts for the rule that opened it. Of what people said the newest word counts:

* confirmed: somebody said that the cause was right, or approved an action after which policy saw it recover;
* not an incident, or a new normal: nobody should have been woken;
* unsaid: neither. Nobody is asked to say something, so this says nothing of the rule.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger import events as ev
from ledger.events import Event
from ledger.machine import Incident
from ledger.view import View

DAY_MS = 86_400_000
DAYS = 30
MOST = 2_000
"""No more incidents than these are read, the newest; who counts them says so."""


class Said(StrEnum):
    CONFIRMED = "confirmed"
    NOT = "not an incident"
    NORMAL = "new normal"
    UNSAID = "unsaid"


@dataclass(frozen=True, slots=True)
class Past:
    """All incidents of one moment, the oldest first, and those that were open."""

    incidents: Sequence[Incident]
    open: Sequence[Incident]

    @classmethod
    def of(cls, view: View) -> "Past":
        return cls([*view.incidents.values()], view.open())

    def is_cut(self, from_ms: int) -> bool:
        """Whether more were opened since then than are read."""
        return len(self.incidents) > MOST and self.incidents[-MOST - 1].opened_ms >= from_ms

    def since(self, from_ms: int) -> Iterator[Incident]:
        """Those that were opened since *from_ms*, the newest first, and those that were open still."""
        for incident in reversed(self.incidents[-MOST:]):
            if incident.opened_ms < from_ms:
                break
            yield incident
        yield from (one for one in self.open if one.opened_ms < from_ms)


def said(incident: Incident) -> Said:
    """What people came to say of policy's verdict."""
    found = (_word(fact.event) for fact in reversed(incident.facts))
    return next((word for word in found if word), Said.UNSAID)


def _word(event: Event) -> Said | None:
    match event:
        case ev.Feedback(kind="not_incident") | ev.Resolved(kind="not_an_incident"):
            return Said.NOT
        case ev.Feedback(kind=ev.NEW_NORMAL):
            return Said.NORMAL
        case ev.Feedback(kind="cause_right") | ev.Verified():
            return Said.CONFIRMED
        case _:
            return None


def by_rule(past: Past, now_ms: int) -> dict[str, Counter[Said]]:
    """How often each rule opened an incident in the last thirty days, by what people said of it."""
    found: dict[str, Counter[Said]] = {}
    from_ms = now_ms - DAYS * DAY_MS
    for incident in past.since(from_ms):
        if incident.opened.origin == "policy" and incident.opened_ms >= from_ms:
            found.setdefault(incident.opened.reading.rule, Counter())[said(incident)] += 1
    return found


def precision(tally: Counter[Said]) -> tuple[int, int]:
    """How many were confirmed, of those of which anybody said anything."""
    return tally[Said.CONFIRMED], tally.total() - tally[Said.UNSAID]
