"""The paragraphs of cards: opinions, numbers, the nearest deploy, what would run, who may approve.

Every one returns lines that fit into their places at their shortest, whatever strangers wrote into them.
Ranks say what gives way first: 9 what is good to know, 1 what is missed only in need.
"""

import re
from collections.abc import Sequence
from html import escape

from bot.fit import Line, may, must
from bot.scene import Scene
from bot.words import about, count, foreign, percent, span, tenths
from handlers import council
from handlers.charter import Quorum
from handlers.charter_parameters import spoken
from ledger import events as ev
from ledger.events import Cause
from ledger.machine import Fact

NOTHING_RUNS = "<b>Nothing will run without your approval.</b>"
SURE = 60
_ORDINALS = {3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth"}
_NUMBERS = ("nobody", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


# --- what is measured -----------------------------------------------------------------------------------


def numbers(scene: Scene, rank: int = 3) -> list[Line]:
    """36 of 187 failed in 10 s, normal is at most 2 %. p95 2.8 s. Score 23/100, falling. Since 03:11:40."""
    reading = scene.reading
    if not (reading.n or reading.explanation):
        return []
    counted = _counted(reading)
    since = f"Since {scene.hms(reading.since_ms or scene.incident.opened_ms)}."
    trend = f", {reading.trend}" if reading.trend in {"falling", "rising"} else ""
    if not reading.n or reading.signal == "unreachable":
        return [Line((f"{counted} {since}".strip(), since), rank)]
    return [
        Line(
            (
                f"{counted} p95 {span(reading.p95_ms)}. Score {reading.score}/100{trend}. {since}",
                f"{counted} {since}",
                f"{count(reading.failed)} of {count(reading.n)} failed. {since}",
            ),
            rank,
        )
    ]


def _counted(reading: ev.Reading) -> str:
    """The counts that policy's evidence is made of: of the route, where the alarm is about one."""
    if reading.signal != "errors" or not reading.n:
        return _bare(reading.explanation)
    failed = f"{count(reading.failed)} of {count(reading.n)} failed in {span(reading.window_ms)}"
    if one_route := _ONE_ROUTE.match(reading.explanation):
        k, n, route, window = one_route.groups()
        failed = f"{k} of {n} to {foreign(route, 48)} failed in {foreign(window, 16)}"
    normal = _NORMAL.search(reading.explanation)
    return f"{failed}, normal is {normal[1]}." if normal else f"{failed}."


_ONE_ROUTE = re.compile(r"(\d+) of (\d+) requests to (.+?) failed in (\d[\w. ]*?) \(")
_NORMAL = re.compile(r"Normal is (at most \d[\d.e+-]* %)")


def _bare(explanation: str) -> str:
    """Policy's explanation without the odds: they are for the auditor."""
    kept = [s for s in explanation.split(". ") if not s.startswith("Evidence ")]
    text = ". ".join(kept).rstrip(".")
    return f"{foreign(text, 150)}." if text else ""


def worsened(scene: Scene) -> list[Line]:
    """What policy said since it opened, where that is worse."""
    fact = scene.incident.last(ev.Worsened, ev.Reopened, ev.Detected)
    if fact is None or not isinstance(fact.event, ev.Worsened):
        return []
    was = scene.incident.opened.reading
    change = f": {tenths(was.error_permille)} → {tenths(fact.event.reading.error_permille)} %"
    errors = was.signal == fact.event.reading.signal == "errors"
    new = "".join(f": {foreign(kind, 40)} is new" for kind in fact.event.kinds[:1])
    return [may(6, f"<b>It got worse</b> at {scene.hm(fact.at_ms)}{new or change * errors}.")]


def nearest_deploy(scene: Scene, rank: int = 4) -> list[Line]:
    """The commit that policy suspects most, and how long before the trouble it came."""
    commit = next((s for s in scene.incident.suspects if s.kind == "commit"), None)
    if commit is None:
        live = foreign(scene.reading.deploy, 12)
        return [may(9, f"Live: <code>{live}</code>")] if live else []
    when = _when(scene, commit)
    return [Line(tuple(f"Deployed {when}: {_commit(commit, most)}" for most in (120, 70, 40, 0)), rank)]


def _when(scene: Scene, commit: ev.Suspect) -> str:
    since = scene.reading.since_ms or scene.incident.opened_ms
    return f"{about(since - commit.since_ms)} before" if 0 < commit.since_ms <= since else "last"


def _commit(commit: ev.Suspect, most: int) -> str:
    text = commit.text.removeprefix(commit.name[:7]).strip(" :")
    sha = f"<code>{foreign(commit.name[:12], 14)}</code>"
    return f"{sha} {foreign(text, most)}" if most and text else sha


def measured(scene: Scene, most: int = 3) -> list[Line]:
    """The evidence itself, strongest first, where nobody has an opinion on it."""
    lines = [
        may(5 + place, *(f"{foreign(s.id, 4)} {_evidence(scene, s, most)}" for most in (90, 44)))
        for place, s in enumerate(scene.incident.suspects[:most])
    ]
    return [may(5, "Measured, strongest first:"), *lines] if lines else []


def _evidence(scene: Scene, suspect: ev.Suspect, most: int) -> str:
    if suspect.kind == "commit":
        return f"deployed {_when(scene, suspect)}: {_commit(suspect, most)}"
    since = f", since {scene.hms(suspect.since_ms)}" if suspect.since_ms else ""
    return f"{foreign(suspect.text, most)}{since}"


# --- what is thought ------------------------------------------------------------------------------------


def opinion(scene: Scene, verdict: str, option: ev.Option | None) -> list[Line]:
    """What the models say, and how far it can be trusted. Only AGREE may say that they agree."""
    match verdict:
        case "AGREE":
            return _agreed(scene, option)
        case "PARTIAL":
            return [
                must(f"<b>Same cause, not the same evidence</b>: {_cause(option)}.{_doubt(option)}"),
                *_each(scene),
            ]
        case "SINGLE":
            return _single(scene, option)
        case _:
            return _nobody(scene, option)


def _agreed(scene: Scene, option: ev.Option | None) -> list[Line]:
    lens = _spokesman(scene)
    sure = (
        option.confidence if option and option.confidence is not None else (lens.confidence if lens else None)
    )
    says = f" They say {sure} %" if sure is not None else ""
    right = _right_before(scene, "AB", "; when they agreed here before, right {} of {} times")
    head = (
        "<b>Both models agree</b>"
        if sure is None or sure >= SURE
        else "<b>No confident diagnosis</b>, both say"
    )
    return [
        Line(
            tuple(
                f"{head}{':' if 'agree' in head else ''} {_because(scene, option, lens, most)}.{tail}"
                for most, tail in (
                    (160, f"{says}{right}." if says else ""),
                    (90, f"{says}." if says else ""),
                    (40, ""),
                )
            ),
            2,
        )
    ]


def _single(scene: Scene, option: ev.Option | None) -> list[Line]:
    lens = _spokesman(scene)
    sure = lens.confidence if lens else None
    says = f" It says {sure} %." if sure is not None else ""
    head = "<b>One model answered</b>, so nobody checked it"
    return [
        Line(
            tuple(f"{head}: {_because(scene, option, lens, most)}.{says}" for most in (160, 90, 40)),
            2,
        )
    ]


def _nobody(scene: Scene, option: ev.Option | None) -> list[Line]:
    answered = [d for d in scene.incident.diagnoses().values() if d.outcome == "answered"]
    named = "your charter names one action" if option and option.action else "your charter names no action"
    if answered:
        said = ", ".join(
            f"{foreign(d.lens, 2)} says {_word(d.cause)} ({d.confidence or 0} %)" for d in answered[:2]
        )
        return [
            must(f"<b>No confident diagnosis.</b> {said}."),
            may(5, f"This is policy alone: for {scene.signal.kind} {named}.", "This is policy alone."),
        ]
    waited = _waited(scene)
    after = f" in {waited}" if waited else ""
    if council.is_spent(scene.incident.diagnoses()):
        limit = foreign(scene.charter.limits.model_usd_per_day, 12)
        asked = f"<b>No model was asked</b>: today's budget for them, ${limit}, is spent."
        return [Line((f"{asked} This is policy alone: for {scene.signal.kind} {named}.", asked), 3)]
    return [
        Line(
            (
                f"<b>No model answered{after}.</b> This is policy alone: for {scene.signal.kind} {named}.",
                f"<b>No model answered{after}.</b> This is policy alone.",
            ),
            3,
        )
    ]


def _waited(scene: Scene) -> str:
    """How long the models were given, from the request's own clock."""
    request = scene.incident.last(ev.Validated, ev.Proposed, ev.Withheld)
    ms = request.at_ms - scene.incident.asked_ms if request else 0
    return span(ms // 1000 * 1000) if ms >= 1_000 else ""


def _each(scene: Scene) -> list[Line]:
    """A and B one by one, where they do not say the same thing."""
    said = scene.incident.diagnoses()
    return [
        Line(tuple(f"{foreign(lens, 2)}{_sure(d.confidence)}: {_why(d, most)}" for most in (110, 70, 36)), 3)
        for lens, d in sorted(said.items())[:2]
        if d.outcome == "answered"
    ]


def theory(scene: Scene, option: ev.Option) -> list[Line]:
    """One side of a dissent: cause, how sure, why, and what choosing it runs."""
    return [Line(theory_head(scene, option), 3), must(f"→ {runs(scene, option)}")]


def theory_head(scene: Scene, option: ev.Option) -> tuple[str, ...]:
    """Theory A, database (82 %): connection pool exhausted (E1, E3); ever shorter."""
    lens = scene.incident.diagnoses().get(option.theory or option.key)
    sure = option.confidence if option.confidence is not None else (lens.confidence if lens else None)
    head = f"<b>Theory {foreign(option.theory or option.key, 2)}, {_word(option.cause)}</b>{_sure(sure)}"
    why = [_why(lens, most) for most in (110, 70, 36)] if lens and lens.why else []
    return (*(f"{head}: {one}" for one in why), head)


def runs(scene: Scene, option: ev.Option) -> str:
    if not option.action:
        return "runs nothing: you look yourself"
    risk = ". <b>High risk</b>" if option.risk == "high" else ""
    return f"runs: {scene.title(option, 60)}{with_values(option)}{risk}"


def check_first(scene: Scene) -> list[Line]:
    """What the models would look at to tell their theories apart, and which evidence came first."""
    checks = [_check(scene, d.check) for _, d in sorted(scene.incident.diagnoses().items())]
    named = list(dict.fromkeys(filter(None, checks)))[:2]
    order = _came_first(scene)
    if not named:
        return [may(7, order)] if order else []
    head = f"<b>Check first</b>: {' · '.join(named)}."
    return [may(6, f"{head} {order}".rstrip(), head)]


def look_first(scene: Scene, option: ev.Option) -> list[Line]:
    """What the charter says to look at where this is the cause."""
    service = scene.charter.service(scene.incident.service)
    found = [foreign(one.title, 48) for one in service.checks_for(option.cause)] if service else []
    return [may(7, f"<b>Look first</b>: {' · '.join(found[:2])}.")] if found else []


def _check(scene: Scene, name: str) -> str:
    service = scene.charter.service(scene.incident.service)
    known = next((c for c in service.checks if c.id == name), None) if service else None
    return foreign(known.title, 48) if known else ""


def _came_first(scene: Scene) -> str:
    """E2 began 20 s before E1, for the two strongest whose beginnings are known."""
    dated = [s for s in scene.incident.suspects if s.since_ms and s.kind != "commit"][:2]
    if len(dated) < 2 or dated[0].since_ms == dated[1].since_ms:
        return ""
    early, late = sorted(dated, key=lambda s: s.since_ms)
    return (
        f"{foreign(early.id, 4)} began {about(late.since_ms - early.since_ms)} before {foreign(late.id, 4)}."
    )


def right_before(scene: Scene) -> list[Line]:
    parts = [_right_before(scene, lens, f"{lens} {{}} of {{}}") for lens in ("A", "B")]
    said = ", ".join(filter(None, parts))
    return [may(8, f"Right here before: {said}.")] if said else []


def _right_before(scene: Scene, who: str, form: str) -> str:
    right, of = scene.notes.record.get(who, (0, 0))
    return form.format(right, of) if of else ""


def _spokesman(scene: Scene) -> ev.Diagnosed | None:
    """Of the answers the one that says most for itself."""
    said = [d for _, d in sorted(scene.incident.diagnoses().items()) if d.outcome == "answered"]
    return max(said, key=lambda d: (bool(d.why), len(d.evidence), d.confidence or 0), default=None)


def _because(scene: Scene, option: ev.Option | None, lens: ev.Diagnosed | None, most: int) -> str:
    cause = (
        _cause(option)
        if option and option.cause is not Cause.UNKNOWN
        else _word(lens.cause if lens else None)
    )
    why = _why(lens, most) if lens else ""
    if not why or why.lower().startswith(cause):
        return why or cause
    return f"{cause}, {why}"


def _why(lens: ev.Diagnosed, most: int) -> str:
    why = foreign(lens.why.rstrip(". "), most)
    named = ", ".join(foreign(one, 4) for one in lens.evidence[:4])
    return f"{why} ({named})" if named else why


def _cause(option: ev.Option | None) -> str:
    return _word(option.cause if option else None)


def _word(cause: Cause | None) -> str:
    return {None: "cause unknown", Cause.UNKNOWN: "cause unknown"}.get(cause) or str(cause)


def _sure(confidence: int | None) -> str:
    return f" ({confidence} %)" if confidence is not None else ""


def _doubt(option: ev.Option | None) -> str:
    low = option is not None and option.confidence is not None and option.confidence < SURE
    return " Neither is sure." if low else ""


# --- what would run -------------------------------------------------------------------------------------


def action(scene: Scene, option: ev.Option, *, again: bool = False) -> list[Line]:
    """Exactly what one tap sets off, and what it risks. *again*: it is the second request."""
    if not option.action:
        return [must("<b>No action is named for this cause</b>: you look yourself.")]
    what = scene.title(option)
    request = (
        tuple(f" (<code>{foreign(option.request, most)}</code>)" for most in (110, 60))
        if option.request
        else ("",)
    )
    values = with_values(option)
    return [
        must(f"<b>{_head(option, again=again)}</b>"),
        Line(
            (
                f"{what}{values}{request[0]}. {_risk(option, 120)}{_helped(scene, option)}",
                f"{what}{values}{request[0]}. {_risk(option, 60)}",
                f"{what}{values}{request[-1]}. {_risk(option, 0)}",
            ),
            1,
        ),
        *_reaches(option),
        *_again(scene, option),
    ]


def _head(option: ev.Option, *, again: bool) -> str:
    alone = Quorum.parse(option.approve).needs() <= 1
    if again:
        taps = "A new tap runs exactly this" if alone else "Enough new taps run exactly this"
        return f"New request. {taps}, once:"
    return "Your tap runs exactly this, once:" if alone else "With enough taps exactly this runs, once:"


def _risk(option: ev.Option, most: int) -> str:
    impact = foreign(option.impact.rstrip(". "), most) if most else ""
    if option.risk == "high":
        said = f": {impact}" if impact else ""
        return f"<b>High risk</b>{said}; a second tap in private shows the full request."
    return f"Low risk, {impact}." if impact else "Low risk."


def with_values(option: ev.Option) -> str:
    """The parameters as they are bound, for whoever approves: nothing in them is changed."""
    said = escape(spoken(option.parameters), quote=False)
    return f" with <code>{said}</code>" if said else ""


def _reaches(option: ev.Option) -> list[Line]:
    """Whom it touches, and the number of the change that it is."""
    whom = foreign(option.blast_radius.rstrip(". "), 120)
    change = f"Change <code>{foreign(option.change_ref, 60)}</code>." if option.change_ref else ""
    reach = f"Touches {whom}." if whom else ""
    said = f"{reach} {change}".strip()
    return [may(6, said, reach)] if said else []


def _helped(scene: Scene, option: ev.Option) -> str:
    right, of = scene.notes.record.get(option.action, (0, 0))
    return f" Helped {right} of {of} times." if of else ""


def _again(scene: Scene, option: ev.Option) -> list[Line]:
    ran = scene.notes.runs.get(option.action, 0)
    if ran < 2:
        return []
    return [must(f"⚠️ This would be its {_ORDINALS.get(ran + 1, f'{ran + 1}th')} run in an hour.")]


def held(scene: Scene, kept: tuple[ev.Held, ...], rank: int = 7) -> list[Line]:
    """What is not offered, and why."""
    return [Line((*(_held(scene, one, most) for most in (100, 50)), ""), rank) for one in kept[:3]]


def _held(scene: Scene, one: ev.Held, most: int) -> str:
    until = f" until {scene.hm(one.until_ms)}" if one.until_ms else ""
    title, why = foreign(one.title or one.action, 48), foreign(one.why.rstrip(". "), most)
    if not title:
        return f"{why[:1].upper()}{why[1:]}."
    return f"{title}: held back{until}" + (f", {why}." if why else ".")


# --- who, until when ------------------------------------------------------------------------------------


def who(scene: Scene, options: tuple[ev.Option, ...]) -> list[Line]:
    """Needs one of: Rudo, Tendai. 0 of 2 so far. Or send /approve 4812."""
    chosen = [one for one in options if one.action]
    if not chosen:
        return []
    asked = list(dict.fromkeys(_needs(scene, one) for one in chosen))
    needs = (
        " ".join(asked) if len(asked) == 1 else " ".join(f"{one.key}: {_needs(scene, one)}" for one in chosen)
    )
    return [Line((f"{needs}{_codes(scene, chosen)}", needs), 1), *_votes(scene, chosen)]


def _needs(scene: Scene, option: ev.Option) -> str:
    able = scene.able(option)
    alternatives = Quorum.parse(option.approve).alternatives
    parts = []
    for need, role in alternatives[:3]:
        people = [p for p in able if (known := scene.charter.person(p)) and role in known.roles]
        if people:
            parts.append(f"{_NUMBERS[min(need, 9)]} of: {scene.names(people, 3)}")
    if not parts:
        return "<b>Nobody may approve this</b>: the charter names no approver."
    return f"Needs {', or '.join(parts)}."


def _codes(scene: Scene, options: list[ev.Option]) -> str:
    sent = [(one.key, foreign(scene.codes[one.key], 8)) for one in options if scene.codes.get(one.key)]
    if not sent:
        return ""
    alone = len(sent) == 1
    return " Or send " + ", ".join(
        f"<code>/approve {code}</code>{'' if alone else f' ({key})'}" for key, code in sent
    )


def _votes(scene: Scene, options: list[ev.Option]) -> list[Line]:
    """0 of 2 so far, for each option that needs more than one or has a vote, and who may still vote."""
    tally = scene.incident.votes()
    said = []
    for one in options:
        have, need, voters = progress(scene, one)
        if need > 1 or tally.get(one.key):
            names = f" ({scene.names(voters, 3)})" if voters else ""
            left = [person for person in scene.able(one) if person not in voters] if voters else []
            names += f", {scene.names(left, 3)} may still" if left else ""
            key = f"{one.key}: " if len(options) > 1 else ""
            said.append(f"{key}{have} of {need} so far{names}")
    return [must(f"<b>{', '.join(said)}.</b>")] if said else []


def progress(scene: Scene, option: ev.Option) -> tuple[int, int, list[str]]:
    """How many votes the nearest alternative of the quorum has, how many it needs, and whose they are."""
    voters = sorted(scene.incident.votes().get(option.key, ()))
    best = (0, 0, voters)
    for need, role in Quorum.parse(option.approve).alternatives:
        have = sum(1 for v in voters if (known := scene.charter.person(v)) and role in known.roles)
        if not best[1] or need - have < best[1] - best[0]:
            best = (have, need, voters)
    return best


# --- small print ----------------------------------------------------------------------------------------


def small(scene: Scene, fact: Fact, before: Sequence[str] = (), *, policy: bool = False) -> list[Line]:
    """The incident and the receipt, which nothing above may push out. *before* stands before its number, in
    forms from the fullest to the shortest."""
    name = foreign(scene.incident.id, 44)
    rules = f"policy {foreign(scene.notes.policy, 24)}" if policy and scene.notes.policy else ""
    forms = [f"{one} {scene.stamp(fact)}" for one in before] or [scene.stamp(fact)]
    full = " · ".join(filter(None, (name, rules, forms[0])))
    return [*warning(scene), Line((f"<i>{full}</i>", *(f"<i>{name} · {one}</i>" for one in forms)), 9)]


def warning(scene: Scene) -> list[Line]:
    """What stands on every card, such as that nobody knows whether entries outlive the server."""
    return [may(2, f"⚠️ {foreign(scene.notes.warning, 120)}")] if scene.notes.warning else []


def share(reading: ev.Reading) -> str:
    return f"{percent(reading.error_permille)} %"
