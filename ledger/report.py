"""The auditor's page: one A4 page about an incident or a span of time, with an annex. Pure.

It is made from verified entries, the texts that they adopt, and what is known of the log. It reads no clock
and no network: the same values give the same bytes. Its order is that of `ledger.report_statement`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ledger import events as ev
from ledger import report_incident, report_period
from ledger.machine import Fact, Incident
from ledger.report_case import case
from ledger.report_gather import Gathered, Scope
from ledger.report_paper import draw
from ledger.report_statement import (
    Line,
    Section,
    Statement,
    Table,
    banner,
    code,
    exceptions,
    heading,
    how_to_check,
    not_covered,
    trail,
    verified,
)
from ledger.report_verdict import Known, Made
from ledger.report_watch import Watch, watch
from ledger.report_words import Times, listed, tally

NO_RECEIPT = "none: no entry could be verified"
NO_ENTRY = "no verified entry tells of it"


@dataclass(frozen=True, slots=True)
class Told:
    """What a page has to say of its subject. `sections` are those from the change to the result."""

    span: str
    from_ms: int
    to_ms: int
    refused: Mapping[str, int]
    sections: Callable[[Watch], tuple[Section, ...]]
    receipts: tuple[Fact, ...]
    charters: tuple[str, ...]
    table: Table | None


def page(gathered: Gathered, texts: Mapping[str, str], known: Known, scope: Scope, made: Made) -> bytes:
    """The page as PDF. Raises BadZone if *made* names no time zone."""
    return draw(statement(gathered, texts, known, scope, made))


def statement(
    gathered: Gathered, texts: Mapping[str, str], known: Known, scope: Scope, made: Made
) -> Statement:
    """The page as text. Raises BadZone."""
    times = Times(made.zone)
    told = _told(gathered, texts, scope, times)
    watched = watch(gathered, max(told.from_ms, gathered.began_ms), min(told.to_ms, made.at_ms))
    proof = code(told.receipts[0]) if told.receipts else NO_RECEIPT
    title = f"{f'Incident {scope.incident}' if scope.incident else 'Period'} · {known.verdict.tenant}"
    sections = (
        heading(known.verdict, made, times, told.span, _versions(gathered)),
        verified(known.verdict),
        *told.sections(watched),
        exceptions(known.books, watched, tally(told.refused)),
        not_covered(known.verdict),
        how_to_check(known.verdict, proof, [code(fact) for fact in told.receipts]),
    )
    return Statement(
        title=title,
        banner=banner(known.verdict),
        standing=known.verdict.standing,
        first_bad=known.verdict.first_bad,
        sections=tuple(Section(f"{n}. {one.title}", one.lines) for n, one in enumerate(sections, start=1)),
        code=proof,
        table=told.table,
        texts=tuple((_named(digest), texts[digest]) for digest in told.charters if digest in texts),
        foot=f"{title} · #1 to #{known.verdict.last_seq} · root {known.verdict.root}",
    )


def _told(gathered: Gathered, texts: Mapping[str, str], scope: Scope, times: Times) -> Told:
    if not scope.incident:
        return _period(gathered, scope, times)
    if gathered.incidents:
        return _incident(gathered, gathered.incidents[0], texts, times)
    return Told(f"incident {scope.incident}", 0, 0, {}, _nothing, (), (), None)


def _nothing(_: Watch) -> tuple[Section, ...]:
    """Four empty sections, for an incident of which no verified entry is left."""
    return tuple(Section(name, (Line("", (NO_ENTRY,)),)) for name in ("The change", "Who", "When", "Result"))


def _incident(gathered: Gathered, incident: Incident, texts: Mapping[str, str], times: Times) -> Told:
    found = case(incident, gathered, texts)
    versions = {entry.seq: entry.policy_version for entry in gathered.trail}
    adopted = found.adopted[1] if found.adopted else None

    def sections(watched: Watch) -> tuple[Section, ...]:
        return (
            report_incident.change(found),
            report_incident.who(found, times, versions),
            report_incident.when(found, times, watched),
            report_incident.result(found),
        )

    proofs = (found.proof, found.outcome, incident.facts[-1])
    return Told(
        span=f"incident {incident.id}, {times.span(incident.opened_ms, found.until_ms)}",
        from_ms=incident.opened_ms,
        to_ms=found.until_ms,
        refused=found.refused,
        sections=sections,
        receipts=tuple(dict.fromkeys(fact for fact in proofs if fact)),
        charters=tuple(filter(None, (found.charter.digest, adopted.policy_digest if adopted else ""))),
        table=trail(gathered.trail, times),
    )


def _period(gathered: Gathered, scope: Scope, times: Times) -> Told:
    found = report_period.period(gathered, scope)
    adopted = [digest for _, one in found.adopted for digest in (one.digest, one.policy_digest)]
    return Told(
        span=f"{times.span(scope.from_ms, scope.to_ms)}, that last moment excluded",
        from_ms=scope.from_ms,
        to_ms=scope.to_ms,
        refused=found.refused,
        sections=lambda watched: report_period.sections(found, times, watched),
        receipts=(gathered.last,) if gathered.last else (),
        charters=tuple(dict.fromkeys(adopted)),
        table=report_period.table(found, times),
    )


def _versions(gathered: Gathered) -> str:
    """Which versions of the program wrote the log."""
    found = dict.fromkeys(started.version for _, started in gathered.every(ev.Started) if started.version)
    return listed(found)


def _named(digest: str) -> str:
    return f"Annex B: text with the SHA-256 {digest}"
