"""The sections of the page that are about one incident: the change, who, when, the result. Pure."""

from collections.abc import Mapping

from ledger import events as ev
from ledger.events import Actor, ActorKind, Event, Option
from ledger.machine import Fact
from ledger.report_case import Case, Deed
from ledger.report_rule import Share
from ledger.report_statement import Line, Section, firm, line
from ledger.report_watch import Watch
from ledger.report_words import NOTHING, Times, after, count, listed, measured

VOICES: Mapping[ActorKind, str] = {
    ev.POLICY: "policy",
    ev.MODEL: "a model",
    ev.ORCHESTRATOR: "the program, from policy and charter",
}
ACTS: Mapping[tuple[type[Event], ...], str] = {
    (ev.Authorized,): "Authorized by",
    (ev.Approved, ev.Withdrawn): "Voted",
    (ev.Denied,): "Denied by",
}
NO_TEXT = "cannot be said: the charter's text is missing or has another digest"


def change(case: Case) -> Section:
    if case.asked is None or case.request is None:
        return Section("The change", (line("Request", "none: nobody was ever asked to let anything run"),))
    chosen = case.chosen
    return Section(
        "The change",
        (
            firm("Reference", _reference(case) + _repeated(case), _key(case)),
            line("Request", *([_request(chosen)] if chosen else map(_request, case.others))),
            firm("Digest", *([chosen.digest or NOTHING] if chosen else (one.digest for one in case.others))),
            line("Reason", case.asked.reason, f"Policy saw: {case.incident.opened.reading.explanation}"),
            line("Advice", *_advice(case)),
            line("Risk, impact", *_danger(case)),
            line("Alternatives", *_alternatives(case, case.asked)),
        ),
    )


def _alternatives(case: Case, asked: ev.Validated) -> list[str]:
    offered = [f"offered: {_request(one)}" for one in case.others] if case.chosen else []
    held = [f"held back: {one.title or one.action}, {one.why}" for one in asked.held]
    return [*offered, *held] or ["none"]


def _reference(case: Case) -> str:
    said = f"{case.incident.id}, request #{case.request.seq}" if case.request else case.incident.id
    if case.authorized is None:
        return f"{said}; never authorized"
    return f"{said}, authorized by #{case.authorized[0].seq}"


def _key(case: Case) -> str:
    return f"idempotency key {case.authorized[0].hash}" if case.authorized else ""


def _repeated(case: Case) -> str:
    if case.requests < 2:
        return ""
    return f"; one of {case.requests} requests of this incident, the annex has all"


def _request(option: Option) -> str:
    if not option.action:
        return f"{option.key}: run nothing"
    return f"{option.key}: {option.request} ({option.title or option.action}, action {option.action})"


def _advice(case: Case) -> list[str]:
    found = [
        f"{one.lens} {one.model or fact.actor.id}: {_opinion(one)} (#{fact.seq}, evidence {_mark(one)})"
        for fact, one in case.incident.every(ev.Diagnosed)
        if case.request and fact.seq < case.request.seq
    ]
    return found or ["no model was asked, or none answered"]


def _opinion(one: ev.Diagnosed) -> str:
    if one.outcome != "answered":
        return f"no answer, {one.outcome}"
    return f"{one.cause} {one.component}, {one.confidence} %"


def _mark(one: ev.Diagnosed) -> str:
    return one.evidence_digest[:16] or "not digested"


def _danger(case: Case) -> list[str]:
    options = [case.chosen] if case.chosen else list(case.others)
    return [
        f"{one.key}: risk {one.risk}; impact: {one.impact or 'none named'}; undo: {one.undo or 'none named'}"
        for one in options
        if one.action
    ]


def who(case: Case, times: Times, versions: Mapping[int, str]) -> Section:
    """Who requested, voted, authorized and denied, from which account, and under which rule."""
    did = {kinds: [_deed(one, case, times) for one in case.deeds if one.did_any(kinds)] for kinds in ACTS}
    rest = [_deed(deed, case, times) for deed in case.deeds if not any(map(deed.did_any, ACTS))]
    return Section(
        "Who",
        (
            firm("Requested by", _requester(case)),
            *(firm(label, *(did[kinds] or ["nobody"])) for kinds, label in ACTS.items()),
            line("Also acted", *(rest or ["nobody"])),
            firm("Rule in force", *_rule(case, times, versions)),
            firm("Why it was met", *_met(case)),
        ),
    )


def _requester(case: Case) -> str:
    asked = case.request.seq if case.request else 0
    proposed = [fact for fact, _ in case.incident.every(ev.Proposed) if fact.seq < asked]
    return _voice(proposed[-1].actor, case, proposed[-1].seq) if proposed else "nobody"


def _voice(actor: Actor, case: Case, seq: int) -> str:
    return f"{VOICES.get(actor.kind) or case.charter.name(actor.id)} (#{seq})"


def _deed(deed: Deed, case: Case, times: Times) -> str:
    said = f"{case.charter.name(deed.person)} {deed.did}{f' option {deed.option}' if deed.option else ''}"
    parts = [f"{said}, #{deed.fact.seq}, {times.full(deed.fact.at_ms)}"]
    parts.append(f"{deed.fact.actor.via or 'unnamed'} account {_linked(deed, times)}")
    if deed.act and deed.act.digest:
        parts.append(f"raw request {deed.act.digest[:16]}")
    if isinstance(deed.fact.event, ev.Authorized) and deed.fact.event.card_digest:
        parts.append(f"card seen {deed.fact.event.card_digest[:16]}")
    if getattr(deed.fact.event, "stepped_up", False):
        parts.append("with a one-time code")
    if deed.shown:
        page, paged = deed.shown
        parts.append(f"first card shown #{page.seq}, digest {paged.card_digest[:16] or NOTHING}")
    return "; ".join(parts)


def _linked(deed: Deed, times: Times) -> str:
    if deed.linked is None:
        return "named in the charter, not linked by a code"
    fact, linked = deed.linked
    return f"linked {times.short(fact.at_ms)} (#{fact.seq}) with a code issued by {linked.issued_by}"


def _rule(case: Case, times: Times, versions: Mapping[int, str]) -> list[str]:
    if case.asked is None or case.request is None:
        return [NOTHING]
    options = [case.chosen] if case.chosen else list(case.others)
    wanted = listed(f'{one.key}: "{one.approve or "nobody"}"' for one in options if one.action)
    adopted = "never adopted in these entries"
    if case.adopted:
        fact, event = case.adopted
        by = f"by {case.charter.name(fact.actor.id)}{', with the console code' if event.by_console else ''}"
        adopted = f"adopted {times.short(fact.at_ms)} (#{fact.seq}) {by}"
    return [
        f"approve = {wanted}; deadline {times.full(case.asked.deadline_ms)}",
        f"charter {case.asked.charter_digest or NOTHING}, {adopted}",
        f"policy {versions.get(case.request.seq, 'unknown')}",
    ]


def _met(case: Case) -> list[str]:
    if case.authorized is None:
        return ["not met: nothing was authorized"]
    if not case.charter.known:
        return [NO_TEXT]
    if case.authorized[1].break_glass:
        return _glass(case, case.authorized[0])
    said = [_share(share, case) for share in case.shares] or ["the rule names nobody"]
    if not any(share.met for share in case.shares):
        said.insert(0, "NOT MET by the charter then in force")
    return said


def _glass(case: Case, fact: Fact) -> list[str]:
    """Nobody met the rule: who was let through by another one, and who looked at it since."""
    person, allowed = fact.actor.id, case.charter.break_glass
    held = [share for share in case.charter.shares(allowed, [person]) if share.met]
    said = "met by break-glass alone" if held else "NOT MET, and the charter lets this person break no glass"
    signed = [f for f, event in case.incident.every(ev.Reviewed) if event.ref == fact.ref]
    review = _voice(signed[0].actor, case, signed[0].seq) if signed else "NOBODY yet"
    return [
        f'{said}: break_glass = "{allowed or "nobody"}"',
        *(_share(one, case) for one in held),
        f"signed off by {review}",
    ]


def _share(share: Share, case: Case) -> str:
    held = listed(
        f"{case.charter.name(one)} had {' + '.join(case.charter.roles(one))}" for one in share.counted
    )
    return f"{len(share.counted)} of {share.need} {share.role}: {held}"


def when(case: Case, times: Times, watched: Watch) -> Section:
    """Each moment with the time since the one before it."""
    lines = []
    for before, moment in zip((None, *case.moments), case.moments, strict=False):
        since = f", {after(moment.at_ms - before.at_ms)} later" if before else ""
        lines.append(firm(moment.name.capitalize(), f"{times.full(moment.at_ms)} (#{moment.seq}){since}"))
    lines.append(firm("Pages", f"{count(case.paged, 'page')} delivered, {case.unpaged} not"))
    lines.append(offset(watched, times))
    return Section("When", tuple(lines))


def offset(watched: Watch, times: Times) -> Line:
    if watched.offset is None:
        return firm("Clock offset", "not measured before the end of this time")
    fact, report = watched.offset
    against = f"against {report.clock}" if report.clock else "with no other clock to compare"
    said = f"{report.clock_offset_ms} ms {against}, {times.short(fact.at_ms)} (#{fact.seq})"
    return firm("Clock offset", said)


def result(case: Case) -> Section:
    return Section(
        "Result",
        (
            line("Outcome", _outcome(case)),
            firm("Before", measured(case.before)),
            firm("After", measured(case.after) if case.after else "not measured"),
            firm("App's receipt", _receipt(case)),
            line("Incident", _end(case.end, case)),
        ),
    )


def _outcome(case: Case) -> str:
    if case.authorized is None:
        return "nothing was authorized, so nothing ran"
    if case.outcome is None:
        return f"none yet after {count(case.attempts, 'attempt')}"
    event, seq = case.outcome.event, case.outcome.seq
    match event:
        case ev.Executed():
            said = f"executed: HTTP {event.status} in {after(event.took_ms)}, body {event.body_digest[:16]}"
        case ev.WebhookFailed():
            said = f"failed: HTTP {event.status or NOTHING}, {event.why or event.reason}"
        case ev.StoodDown():
            said = f"stood down before it ran: {event.why}"
        case ev.OutcomeUnknown():
            said = f"unknown, a person must look: {event.why or event.reason}"
        case _:
            said = event.reason
    return f"{said} (#{seq}, {count(case.attempts, 'attempt')})"


def _receipt(case: Case) -> str:
    if case.executed is None:
        return "none: nothing was executed"
    if case.executed.receipt == "none":
        return "none: the app does not sign receipts, or did not here"
    said = case.executed.receipt
    if said == "unchecked":
        said = f"signed with a secret that is not held here (key {case.executed.receipt_key_id})"
    return f"{said}; the app's own count is {case.executed.receipt_counter}"


def _end(end: Fact | None, case: Case) -> str:
    stage = f"{case.incident.stage}, {'open' if case.incident.is_open else 'closed'}"
    return f"{stage}: {end.event.reason} (#{end.seq})" if end else stage
