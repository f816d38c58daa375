"""A span of time as the auditor's page tells it: what was asked, decided and run, by whom, how fast. Pure.

Each figure counts entries whose time lies in the span. The table lists the incidents that have one there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low

from ledger import events as ev
from ledger.events import Event
from ledger.machine import OUTCOMES, Fact, Incident
from ledger.report_gather import Gathered, Scope
from ledger.report_incident import offset
from ledger.report_statement import Section, Table, line
from ledger.report_watch import Watch
from ledger.report_words import NOTHING, Times, after, count, listed, tally

MOST_ROWS = 2_000
ASKED: tuple[type[Event], ...] = (ev.Validated, ev.Withheld, ev.Authorized, ev.Denied, ev.Expired)
ENDED: tuple[type[Event], ...] = (
    ev.Verified, ev.NotRecovered, ev.Inconclusive, ev.Recovered, ev.Resolved, ev.Reopened,
)  # fmt: skip
VOTES: tuple[type[Event], ...] = (ev.Approved, ev.Withdrawn, ev.Authorized, ev.Denied)


@dataclass(frozen=True, slots=True)
class Period:
    incidents: tuple[Incident, ...]
    opened: int
    counts: Mapping[str, int]
    votes: Mapping[str, int]
    linked: tuple[tuple[Fact, ev.Linked], ...]
    adopted: tuple[tuple[Fact, ev.CharterAdopted], ...]
    told_ms: tuple[int, ...]
    decided_ms: tuple[int, ...]
    receipts: Mapping[str, int]
    refused: Mapping[str, int]
    glass: int
    unreviewed: int
    """Of those by break-glass, how many nobody had signed off by the newest entry."""


def period(gathered: Gathered, scope: Scope) -> Period:
    facts = [fact for one in gathered.incidents for fact in one.facts if _within(fact, scope)]
    executed = [fact.event for fact in facts if isinstance(fact.event, ev.Executed)]
    return Period(
        incidents=gathered.incidents,
        opened=sum(isinstance(fact.event, ev.Detected) for fact in facts),
        counts=Counter(type(fact.event).__name__ for fact in facts),
        votes=Counter(fact.actor.id for fact in facts if isinstance(fact.event, VOTES)),
        linked=tuple(one for one in gathered.every(ev.Linked) if _within(one[0], scope)),
        adopted=tuple(one for one in gathered.every(ev.CharterAdopted) if _within(one[0], scope)),
        told_ms=_delays(gathered.incidents, ev.Detected, ev.Paged, scope),
        decided_ms=_delays(gathered.incidents, ev.Validated, ev.Authorized, scope),
        receipts=Counter(event.receipt for event in executed),
        refused=Counter(fact.event.kind for fact in facts if isinstance(fact.event, ev.Refused)),
        glass=sum(isinstance(one.event, ev.Authorized) and one.event.break_glass for one in facts),
        unreviewed=sum(_within(f, scope) for one in gathered.incidents for f, _ in one.unreviewed),
    )


def _within(fact: Fact, scope: Scope) -> bool:
    return scope.from_ms <= fact.at_ms < scope.to_ms


def _delays(
    incidents: Iterable[Incident], since: type[Event], until: type[Event], scope: Scope
) -> tuple[int, ...]:
    """From each *since* to the first *until* after it, where that lies in the span."""
    found = []
    for incident in incidents:
        began: Fact | None = None
        for fact in incident.facts:
            if isinstance(fact.event, since):
                began = fact
            elif began and isinstance(fact.event, until):
                if _within(fact, scope):
                    found.append(fact.at_ms - began.at_ms)
                began = None
    return tuple(found)


def sections(found: Period, times: Times, watched: Watch) -> tuple[Section, ...]:
    return _changes(found), _people(found, times), _speed(found, times, watched), _results(found)


def _changes(found: Period) -> Section:
    first = f"{found.opened} opened in this time, {len(found.incidents)} touched"
    return Section("The changes", (line("Incidents", first), line("Requests", _counted(found, ASKED))))


def _counted(found: Period, kinds: Iterable[type[Event]]) -> str:
    return " · ".join(f"{kind.__name__}: {found.counts.get(kind.__name__, 0)}" for kind in kinds)


def _people(found: Period, times: Times) -> Section:
    links = (
        f"{linked.person} on {linked.channel}, {times.short(fact.at_ms)} (#{fact.seq}), "
        f"code issued by {linked.issued_by}"
        for fact, linked in found.linked
    )
    charters = (
        f"{event.digest[:16]}, {times.short(fact.at_ms)} (#{fact.seq}), by {fact.actor.id}"
        for fact, event in found.adopted
    )
    return Section(
        "Who",
        (
            line("Votes by person", tally(found.votes)),
            line("Break-glass", f"{found.glass} authorized alone, {found.unreviewed} not signed off"),
            line("Accounts linked", *links),
            line("Charters adopted", *charters),
        ),
    )


def _speed(found: Period, times: Times, watched: Watch) -> Section:
    return Section(
        "When",
        (
            line("Detected to told", _spread(found.told_ms)),
            line("Asked to authorized", _spread(found.decided_ms)),
            offset(watched, times),
        ),
    )


def _spread(delays: tuple[int, ...]) -> str:
    if not delays:
        return "nothing to measure"
    middle, worst = after(median_low(delays)), after(max(delays))
    return f"median {middle}, slowest {worst}, of {count(len(delays), 'case')}"


def _results(found: Period) -> Section:
    outcomes = sorted(OUTCOMES, key=lambda kind: kind.__name__)
    return Section(
        "Results",
        (
            line("Outcomes", _counted(found, outcomes)),
            line("Afterwards", _counted(found, ENDED)),
            line("Apps' receipts", tally(found.receipts)),
        ),
    )


def table(found: Period, times: Times) -> Table:
    shown = found.incidents[:MOST_ROWS]
    rows = [_row(incident, times) for incident in shown]
    if left := len(found.incidents) - len(shown):
        rows.append((f"… ({left:,} more)", "", "", "", "", ""))
    return Table(
        "Incidents",
        ("Incident", "Opened", "Stage now", "Ran", "Authorized by", "Outcome"),
        (22, 20, 15, 30, 25, 20),
        tuple(rows),
    )


def _row(incident: Incident, times: Times) -> tuple[str, ...]:
    ran = incident.authorization
    ends = [type(fact.event).__name__ for fact in incident.facts if type(fact.event) in OUTCOMES]
    return (
        incident.id,
        times.short(incident.opened_ms),
        incident.stage,
        f"{ran[1].action} (#{ran[0].seq})" if ran else NOTHING,
        listed(dict.fromkeys((*ran[1].voters, ran[0].actor.id))) if ran else NOTHING,
        listed(ends),
    )
