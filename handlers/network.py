"""What lies between us and all services: when most of them stop answering at once, that is one card about it.

It is judged of all services, and of those that one process looks at: each process has its own way to them.
"""

from collections.abc import Iterable
from datetime import datetime

from handlers.sights import Counts
from ledger import events as ev
from ledger.events import Event, Reading
from ledger.ledger import Decide, Refusal
from ledger.view import View

NETWORK = "network"
"""The service that stands for what lies between us and all the others."""
TOLD_MS = 3_000
"""By then each process has told what it saw, and the others have heard it."""
NOTHING = Refusal("nothing")


def most(counts: Counts) -> bool:
    """Whether more than half of at least three do not answer."""
    missed, of = counts
    return of >= 3 and 2 * missed > of


def unanswered(ours: Counts, others: Iterable[Counts]) -> Counts:
    """How many of all services do not answer. Where that is not most: of ours, if it is most of those."""
    every = ours
    for missed, of in others:
        every = every[0] + missed, every[1] + of
    return ours if most(ours) and not most(every) else every


def down(counts: Counts) -> Decide:
    """What policy appends when most do not answer."""
    reading = _reading(counts)

    def decide(view: View, now: datetime) -> Event | Refusal:
        if view.open_for(NETWORK):
            return NOTHING
        name = view.next_incident_id(NETWORK)
        return ev.Detected(incident_id=name, decision="open", reason=reading.headline, reading=reading)

    return decide


def back(counts: Counts) -> Decide:
    """What policy appends when most answer again."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        standing = view.open_for(NETWORK)
        if standing is None:
            return NOTHING
        return ev.Recovered(
            incident_id=standing.id,
            decision="close",
            reason="The services answer again",
            after=_reading(counts),
        )

    return decide


def _reading(counts: Counts) -> Reading:
    headline = f"{counts[0]} of {counts[1]} services do not answer"
    return Reading(
        service=NETWORK,
        rule="network",
        signal="unreachable",
        severity="critical",
        headline=headline,
        explanation=f"{headline}. It may be our own network.",
    )
