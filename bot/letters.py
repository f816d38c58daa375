"""The same moment for a channel that knows only templates, and for one SMS segment.

WhatsApp cannot edit, and outside its 24 hours sends nothing but approved templates. Their bodies are here, so
that what is approved is what is filled: variables are one line each, never empty, never first or last, never
next to each other; button titles have at most 20 characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bot import gsm7
from bot.draft import approved_title, failure, proposer
from bot.rings import Milestone, milestone
from bot.scene import Scene
from bot.words import cap
from handlers.charter_parameters import spoken
from ledger import events as ev
from ledger.machine import Fact

NO_CODE = "(your code)"


@dataclass(frozen=True, slots=True)
class Template:
    """What the vendor approves. `samples` are its example values, one for each variable."""

    body: str
    buttons: tuple[str, ...]
    samples: tuple[str, ...]


TEMPLATES: Mapping[str, Template] = {
    "cs_opened": Template(
        "Incident at {{1}}: {{2}}. It began at {{3}} your time. Two models are looking; your approval will "
        "be asked here in seconds. Receipt {{4}} stands in the ledger. Nothing will run without your "
        "approval.",
        ("I am on it",),
        ("checkout", "19 % of requests fail", "03:11:40", "#38 2M9D-77QA-0XRT-5HWE"),
    ),
    "cs_request": Template(
        "Approval needed for {{1}}: {{2}}. Opinion: {{3}}. If you approve, this runs once: {{4}}. Reply to "
        "this message with RUN, or send RUN {{5}}. Valid until {{6}} your time. Receipt {{7}} stands in the "
        "ledger. Nothing will run without your approval.",
        ("Approve", "Deny", "I am on it"),
        (
            "checkout",
            "19 % of requests fail",
            "both models: database, pool exhausted",
            "Restart checkout workers (POST ops.acme.example/restart)",
            "4812",
            "03:17",
            "#42 7F3A-91C2-K0PM-XQ4T",
        ),
    ),
    "cs_dissent": Template(
        "Approval needed for {{1}}: {{2}}. The two models disagree. Theory A: {{3}}. Theory B: {{4}}. Choose "
        "with a button, or send RUN {{5}} for A or RUN {{6}} for B. Valid until {{7}} your time. Receipt "
        "{{8}} stands in the ledger. Nothing will run without your approval.",
        ("Trust theory A", "Trust theory B", "Neither"),
        (
            "checkout",
            "19 % of requests fail",
            "database, 82 %, runs: Restart checkout workers",
            "network, 76 %, runs: Switch to payments fallback",
            "4812",
            "5190",
            "03:17",
            "#42 7F3A-91C2-K0PM-XQ4T",
        ),
    ),
    "cs_outcome": Template(
        "News of {{1}}: {{2}}. In detail: {{3}}. Receipt {{4}} stands in the ledger.",
        ("I am on it",),
        ("checkout", "recovered: errors 19 to 0.2 %", "Restart ran once, 200", "#49 B5XN-92TC-HH0W-71FJ"),
    ),
}


@dataclass(frozen=True, slots=True)
class Letter:
    template: str = ""
    variables: tuple[str, ...] = ()
    sms: str = ""


def letter(scene: Scene, text: str) -> Letter:
    """What is sent where a card cannot be edited. *text* is the card without its tags."""
    first = text.partition("\n")[0]
    seq, kind = milestone(scene.incident)
    match kind:
        case Milestone.OPENED:
            return _opened(scene, first, _fact(scene, seq))
        case Milestone.REQUEST:
            return _request(scene, first)
        case Milestone.EXPIRED | Milestone.OUTCOME:
            return _outcome(scene, text, _fact(scene, seq))
        case _:
            return Letter(sms=_short(first))


def _fact(scene: Scene, seq: int) -> Fact:
    return next(fact for fact in scene.incident.facts if fact.seq == seq)


def _receipt(scene: Scene, fact: Fact | None) -> str:
    return scene.stamp(fact).replace(" · ", " ") if fact else ""


def _opened(scene: Scene, first: str, fact: Fact) -> Letter:
    since = scene.hms(scene.reading.since_ms or scene.incident.opened_ms)
    said = _filled(scene.incident.service, _what(scene), since, _receipt(scene, fact))
    return Letter("cs_opened", said, _short(first))


def _request(scene: Scene, first: str) -> Letter:
    request = scene.incident.latest(ev.Validated)
    options = request.options if request else ()
    until = scene.hm(request.deadline_ms if request else scene.now_ms)
    receipt = _receipt(scene, scene.incident.last(ev.Validated))
    if request and request.verdict == "DISSENT" and len(options) > 1:
        a, b = options[:2]
        said = _filled(
            scene.incident.service,
            _what(scene),
            _theory(a),
            _theory(b),
            _code(scene, a),
            _code(scene, b),
            until,
            receipt,
        )
        return Letter("cs_dissent", said, _sms_choice(scene, a, b, until))
    option = options[0] if options else ev.Option(key="1")
    verdict = request.verdict if request else "NONE"
    runs = (
        f"{option.title or option.action}{_values(option)} ({option.request})"
        if option.action
        else "nothing, you look yourself"
    )
    said = _filled(
        scene.incident.service,
        _what(scene),
        _opinion(scene, verdict, option),
        runs,
        _code(scene, option),
        until,
        receipt,
    )
    return Letter("cs_request", said, _sms_request(scene, option, until, first))


def _outcome(scene: Scene, text: str, fact: Fact) -> Letter:
    first, _, rest = text.partition("\n")
    receipt = _receipt(scene, fact)
    what = first.partition(" ")[2].removeprefix(scene.incident.service).lstrip(": ").rstrip(".")
    lines = (line for line in rest.split("\n") if line.strip() and not line.endswith(":"))
    details = next(lines, "see the ledger").rstrip(".")
    said = _filled(scene.incident.service, what, details, receipt)
    return Letter("cs_outcome", said, _around(first, receipt))


def _what(scene: Scene) -> str:
    return scene.trouble


def _opinion(scene: Scene, verdict: str, option: ev.Option) -> str:
    who = proposer(scene.incident, option)
    said = f"proposed by {scene.name(who)}, not by policy" if who else _said(verdict, option)
    return f"{scene.short(approved_title(scene))} did not help; {said}" if failure(scene.incident) else said


def _said(verdict: str, option: ev.Option) -> str:
    sure = f", {option.confidence} %" if option.confidence is not None else ""
    match verdict:
        case "AGREE":
            return f"both models: {option.cause}{sure}"
        case "SINGLE":
            return f"one model, unchecked: {option.cause}{sure}"
        case "PARTIAL":
            return f"same cause, not the same evidence: {option.cause}{sure}"
        case _:
            return "no model, policy alone"


def _theory(option: ev.Option) -> str:
    sure = f", {option.confidence} %" if option.confidence is not None else ""
    return f"{option.cause}{sure}, runs: {option.title or option.action or 'nothing'}"


def _code(scene: Scene, option: ev.Option) -> str:
    return scene.codes.get(option.key) or NO_CODE


def _values(option: ev.Option) -> str:
    said = spoken(option.parameters)
    return f" with {said}" if said else ""


def _filled(*values: str) -> tuple[str, ...]:
    return tuple(cap(value, 160).rstrip(". ") or "unknown" for value in values)


# --- SMS --------------------------------------------------------------------------------------------------


def _short(first: str) -> str:
    return gsm7.cut(first)


def _sms_request(scene: Scene, option: ev.Option, until: str, first: str) -> str:
    code = scene.codes.get(option.key)
    if not code or not option.action or option.risk == "high" or option.parameters:
        return _around(first, "Decide in the chat. Nothing runs without you.")
    ask = f"{scene.short(option.title or option.action, 32)}? Reply RUN {code} or NO {code} by {until}."
    return _around(_alarm(scene), f"{ask} Nothing runs without you.")


def _sms_choice(scene: Scene, a: ev.Option, b: ev.Option, until: str) -> str:
    codes = [(one, scene.codes.get(one.key)) for one in (a, b)]
    if any(not code or one.risk == "high" or one.parameters for one, code in codes):
        return _around(_alarm(scene), "Models disagree. Decide in the chat. Nothing runs without you.")
    runs = ", ".join(
        f"RUN {code}={gsm7.cut(scene.short(one.title or one.action, 24) if one.action else 'nothing', 26)}"
        for one, code in codes
    )
    return _around(_alarm(scene), f"Models disagree: {runs}, by {until}. Nothing runs without you.")


def _alarm(scene: Scene) -> str:
    return scene.alarm().replace(" %", "%").replace(" of requests", "")


def _around(alarm: str, ask: str) -> str:
    """*alarm* gives way, *ask* stays."""
    ask = gsm7.cut(ask, gsm7.SEGMENT - 20)
    room = gsm7.SEGMENT - gsm7.septets(ask) - 2
    return f"{gsm7.cut(alarm.rstrip('. '), room)}. {ask}"
