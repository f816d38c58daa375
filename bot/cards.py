"""The card of an incident: what is wrong, what would run, who may approve it, until when.

Pure. The first line is the notification and stands alone. Then: why, numbers, nearest deploy, exactly what
runs, who and until when, that nothing runs, small print. Every card is at most 900 UTF-16 units of Telegram's
HTML; foreign text is escaped; only AGREE is called agreement.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bot import blocks, keyboards, letters
from bot.fit import Line, Paragraphs, fit, may, must
from bot.phrases import STOOD_DOWN
from bot.ports import Card
from bot.rings import entered, mark
from bot.scene import NO_NOTES, Notes, Reader, Scene
from bot.words import about, count, foreign, plain, span
from handlers.charter import Charter, Quorum
from ledger import events as ev
from ledger.events import ENGINEER
from ledger.machine import Fact, Incident, Stage

__all__ = ["Notes", "Reader", "render"]

S = Stage
NOTHING_RUNS = must(blocks.NOTHING_RUNS)
_NO_CODES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Draft:
    """A card before it is made to fit."""

    paragraphs: Paragraphs
    rows: keyboards.Rows = keyboards.NO_BUTTONS


def render(
    incident: Incident,
    charter: Charter,
    reader: Reader,
    now_ms: int,
    *,
    approval_code: Mapping[str, str] = _NO_CODES,
    notes: Notes = NO_NOTES,
) -> Card:
    """The card of *incident* as *reader* sees it at *now_ms*. *approval_code* is by option key."""
    scene = Scene(incident, charter, reader, now_ms, approval_code, notes)
    draft = MOMENTS[incident.stage](scene)
    html = fit(draft.paragraphs)
    stands = mark(incident)
    letter = letters.letter(scene, plain(html))
    return Card(
        incident=incident.id,
        revision=stands.revision,
        sounded=stands.sounded,
        ring=stands.ring,
        html=html,
        plain=plain(html),
        rows=draft.rows,
        template=letter.template,
        variables=letter.variables,
        sms=letter.sms,
    )


# --- before anybody is asked ----------------------------------------------------------------------------


def _opened(scene: Scene) -> Draft:
    """Detected, asked again or reopened; nothing can be approved yet."""
    incident = scene.incident
    failure = _failure(incident)
    if failure:
        return _not_recovered(scene)
    head = must(
        scene.first(scene.light, _again(scene) or scene.alarm(), "Your approval will be asked in seconds.")
    )
    return Draft(
        [
            [head, *_why_opened(scene), *blocks.worsened(scene), *blocks.numbers(scene)],
            [*_deciding(scene), NOTHING_RUNS, *blocks.small(scene, _opening(incident))],
        ],
        keyboards.opened(scene),
    )


def _again(scene: Scene) -> str:
    """checkout fails again: 22 % of requests fail, where policy opened it a second time."""
    if not scene.incident.last(ev.Reopened):
        return ""
    service = f"{scene.incident.service} {scene.signal.again}"
    return f"{service}: {scene.alarm().partition(': ')[2]}"


def _why_opened(scene: Scene) -> list[Line]:
    incident = scene.incident
    lines = []
    first = incident.facts[0]
    if first.actor.kind is ENGINEER:
        lines.append(
            must(f"Declared by {scene.name(first.actor.id)} at {scene.hm(first.at_ms)}, not by policy.")
        )
    if back := incident.every(ev.Reopened):
        lines.append(must(_came_back(scene, back)))
    return lines


def _came_back(scene: Scene, back: list[tuple[Fact, ev.Reopened]]) -> str:
    times, since = len(back) + 1, scene.incident.opened_ms
    if times == 2:
        return f"It was over, and came back at {scene.hm(back[-1][0].at_ms)}."
    often = f"{times} times in {about(back[-1][0].at_ms - since)}"
    return f"<b>It is flapping</b>: {often}. Look for what comes and goes."


def _deciding(scene: Scene) -> list[Line]:
    """What is being waited for, and until when at most."""
    incident = scene.incident
    by = scene.hm(incident.asked_ms + 12_000 + 59_999)
    said = (
        [d for d in incident.diagnoses().values() if d.outcome == "answered"] if _diagnosed(incident) else []
    )
    lines = []
    if incident.asked_again and (asked := incident.last(ev.AskedAgain)):
        lines.append(must(f"{scene.subject(asked.actor.id)} asked again at {scene.hms(asked.at_ms)}."))
    if _diagnosed(incident):
        heard = {0: "A model failed to answer.", 1: "One model has answered."}.get(
            len(said), "Both models have answered."
        )
        lines.append(must(f"{heard} Your approval is asked by {by} at the latest."))
    else:
        lines.append(must(f"Two models are looking. With or without them you will be asked by {by}."))
    return lines


def _diagnosed(incident: Incident) -> bool:
    """Whether a model has said anything in this round of asking."""
    fact = incident.last(ev.Diagnosed)
    return fact is not None and fact.at_ms >= incident.asked_ms


def _withheld(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    event = scene.incident.latest(ev.Withheld)
    kept, until = (event.held, event.until_ms) if event else ((), 0)
    ask = f"Nothing can be offered before {scene.hm(until)}" if until else "Nothing can be offered"
    return Draft(
        [
            [must(scene.first(scene.light, scene.alarm(), ask)), *_failed_before(scene)],
            [may(2, "<b>Held back by policy, so you look yourself:</b>"), *blocks.held(scene, kept, 2)],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene)],
            [*blocks.measured(scene)],
            [
                may(5, "<b>Ask again</b> looks anew. It runs nothing."),
                NOTHING_RUNS,
                *blocks.small(scene, fact),
            ],
        ],
        keyboards.ask(scene),
    )


# --- the request ----------------------------------------------------------------------------------------


def _request(scene: Scene) -> Draft:
    fact = scene.incident.last(ev.Validated)
    assert fact is not None and isinstance(fact.event, ev.Validated)  # noqa: S101, PT018  the stage says so
    request = fact.event
    if request.verdict == "DISSENT" and len(request.options) > 1:
        return _dissent(scene, fact, request)
    option = request.options[0] if request.options else ev.Option(key="1")
    return _one_action(scene, fact, request, option)


def _one_action(scene: Scene, fact: Fact, request: ev.Validated, option: ev.Option) -> Draft:
    until = f"Until {scene.hm(request.deadline_ms)}"
    what = foreign(scene.short(option.title or option.action), 36)
    ask = f"{what}? {until}" if option.action else f"You look yourself. {until}"
    failure = _failure(scene.incident)
    head = "New request. A new tap runs exactly this, once:" if failure else ""
    if failure:
        above = [must(_failure_line(scene, failure[1], ask)), *_what_failed(scene, failure)]
        numbers: list[Line] = []
    else:
        above = [must(scene.first(scene.light, scene.alarm(), ask)), *_by_hand(scene, request, option)]
        numbers = [*blocks.worsened(scene), *blocks.numbers(scene)]
    no_opinion = request.verdict == "NONE" and not failure
    return Draft(
        [
            above,
            [*blocks.measured(scene)] if no_opinion else [],
            [*numbers, *([] if failure else blocks.nearest_deploy(scene))],
            blocks.action(scene, option, head if len(scene.able(option)) and not _many(option) else ""),
            [
                *blocks.who(scene, (option,)),
                *blocks.held(scene, request.held),
                NOTHING_RUNS,
                *blocks.small(scene, fact, *_earlier(scene)),
            ],
        ],
        keyboards.request(scene, option, fact.hash, failed_before=failure is not None),
    )


def _many(option: ev.Option) -> bool:
    return Quorum.parse(option.approve).needs() > 1


def _by_hand(scene: Scene, request: ev.Validated, option: ev.Option) -> list[Line]:
    proposed = scene.incident.last(ev.Proposed)
    if proposed and proposed.actor.kind is ENGINEER:
        return [must(f"<b>Proposed by {scene.name(proposed.actor.id)}</b>, not by policy.")]
    return blocks.opinion(scene, request.verdict, option)


def _dissent(scene: Scene, fact: Fact, request: ev.Validated) -> Draft:
    options = request.options[:2]
    until = f"Models disagree, you choose. Until {scene.hm(request.deadline_ms)}"
    same = len({one.action for one in options}) == 1 and options[0].action
    theories = [line for one in options for line in blocks.theory(scene, one)[: 1 if same else 2]]
    if same:
        title = scene.title(options[0], 56)
        theories.append(must(f"→ both run: {title}. Your choice records the cause."))
    return Draft(
        [
            [must(scene.first(scene.light, scene.alarm(), until)), *_failed_before(scene), *theories],
            [*blocks.check_first(scene), *blocks.right_before(scene)],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene)],
            [
                *_one_tap(same=bool(same)),
                *blocks.who(scene, options),
                *blocks.held(scene, request.held),
                NOTHING_RUNS,
                *blocks.small(scene, fact, *_earlier(scene)),
            ],
        ],
        keyboards.dissent(scene, options, fact.hash),
    )


def _one_tap(*, same: bool) -> list[Line]:
    return [
        may(4, "One tap runs it, once." if same else "One tap runs one action, once; the other is dropped.")
    ]


# --- nobody, or no ---------------------------------------------------------------------------------------


def _expired(scene: Scene) -> Draft:
    incident, fact = scene.incident, entered(scene.incident)
    request = incident.latest(ev.Validated)
    deadline = request.deadline_ms if request else fact.at_ms
    ask = f"Nothing was run: no answer by {scene.hm(deadline)}"
    head = scene.first("⌛", _still(scene), ask)
    acknowledged = incident.acknowledged
    on_it = (
        [
            must(
                f"{scene.subject(acknowledged.actor.id)} {_are(scene, acknowledged)} on it since "
                f"{scene.hm(acknowledged.at_ms)}: still wanted?"
            )
        ]
        if acknowledged
        else []
    )
    return Draft(
        [
            [must(head), *on_it, *_asked_whom(scene), *_lasting(scene)],
            _on_offer(scene, request),
            [
                may(
                    3,
                    "<b>Ask again</b> renews it with the numbers of that moment. It runs nothing; the new "
                    "Approve does. A tap on an old Approve does the same.",
                    "<b>Ask again</b> renews it. It runs nothing; the new Approve does.",
                )
            ],
            [*_any_of(scene, request), NOTHING_RUNS, *blocks.small(scene, fact)],
        ],
        keyboards.ask(scene),
    )


def _are(scene: Scene, fact: Fact) -> str:
    return "are" if scene.name(fact.actor.id) == "you" else "is"


def _still(scene: Scene) -> str:
    reading = scene.notes.now or scene.reading
    figure = f" ({blocks.share(reading)})" if reading.signal == "errors" and reading.n else ""
    return f"{scene.incident.service} {scene.signal.still}{figure}"


def _asked_whom(scene: Scene) -> list[Line]:
    """Asked 03:12, Tendai called 03:15, no answer."""
    asked = scene.incident.last(ev.Validated)
    since = asked.seq if asked else 0
    calls = [
        f"{scene.names(e.to, 2)} called {scene.hm(f.at_ms)}"
        for f, e in scene.incident.every(ev.Escalated)
        if f.seq > since and e.to
    ]
    said = ", ".join([f"Asked {scene.hm(asked.at_ms)}" if asked else "Asked", *calls[:3]])
    return [may(5, f"{said}: no decision.")]


def _lasting(scene: Scene) -> list[Line]:
    reading, now = scene.reading, scene.notes.now
    since = reading.since_ms or scene.incident.opened_ms
    fact = entered(scene.incident)
    lasts = (
        f"Failing for {about(fact.at_ms - since)}"
        if reading.signal == "errors"
        else f"For {about(fact.at_ms - since)} now"
    )
    figures = now or reading
    counted = (
        f": {count(figures.failed)} of {count(figures.n)} requests in {span(figures.window_ms)}"
        if figures.n
        else ""
    )
    moved = ""
    if now and now.error_permille != reading.error_permille:
        worse = now.error_permille > reading.error_permille
        moved = f" Getting {'worse' if worse else 'better'}: {scene.change(reading, now, short=True)}."
    return [may(4, f"{lasts}{counted}.{moved}", f"{lasts}.")]


def _on_offer(scene: Scene, request: ev.Validated | None) -> list[Line]:
    options = [one for one in (request.options if request else ()) if one.action][:2]
    if not options:
        return []
    lines = [
        Line(
            tuple(
                f"{scene.title(one, 60)}{f' (<code>{foreign(one.request, most)}</code>)' if most else ''}. "
                f"{'<b>High risk</b>' if one.risk == 'high' else 'Low risk'}."
                for most in (90, 50, 0)
            ),
            2,
        )
        for one in options
    ]
    cause = f"Cause unchanged: {options[0].cause}." if len(options) == 1 and options[0].theory else ""
    return [must("<b>Still on offer:</b>"), *lines, *([may(6, cause)] if cause else [])]


def _any_of(scene: Scene, request: ev.Validated | None) -> list[Line]:
    options = [one for one in (request.options if request else ()) if one.action]
    able = list(dict.fromkeys(p for one in options for p in scene.able(one)))
    called = scene.notes.next_call
    after = f" Next call: {scene.name(called[0])}, {scene.hm(called[1])}." if called else ""
    said = f"Any of: {scene.names(able, 3)}." if able else ""
    return [may(5, f"{said}{after}".strip())] if said or after else []


def _denied(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    denied = scene.incident.latest(ev.Denied)
    theory = denied.theory if denied else ""
    by, at = scene.subject(fact.actor.id), scene.hms(fact.at_ms)
    did = f"{by} trusted theory {foreign(theory, 2)}, which runs nothing" if theory else f"{by} denied it"
    ask = f"Nothing was run: {scene.name(fact.actor.id)} denied it"
    head = scene.first(scene.light, _still(scene), "You look yourself. Nothing was run" if theory else ask)
    return Draft(
        [
            [must(head), must(f"{did} at {at}."), *blocks.worsened(scene), *blocks.numbers(scene)],
            _on_offer(scene, scene.incident.latest(ev.Validated)),
            [
                may(
                    4, "<b>Ask again</b> renews it with fresh numbers. It runs nothing; the new Approve does."
                ),
                NOTHING_RUNS,
                *blocks.small(scene, fact),
            ],
        ],
        keyboards.ask(scene),
    )


# --- somebody said yes ------------------------------------------------------------------------------------


def _running(scene: Scene) -> Draft:
    """Authorized, executing or executed: nothing is asked of anybody."""
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    short = foreign(scene.short(title), 40)
    executed = scene.incident.latest(ev.Executed) if scene.incident.stage is S.EXECUTED else None
    attempt = _attempt(scene.incident, approval)
    ask, now = f"“{short}” is running", "It is being sent now, once."
    if executed:
        ask = f"“{short}” ran once. Measuring whether it helped"
        answered = f"The webhook answered {executed.status} after {span(executed.took_ms)}"
        now = f"{answered}. Policy measures before and after."
    elif attempt > 1:
        now = f"No answer yet, attempt {attempt} of 3, with the same idempotency key."
    return Draft(
        [
            [
                must(scene.first("⏳", scene.incident.service, ask, join=": ")),
                must(_approved(scene, approval, authorized, title)),
                must(now),
            ],
            [*blocks.numbers(scene)],
            [
                must("Nothing more is asked of you. The outcome comes here as a new message."),
                *blocks.small(scene, approval, "approval"),
            ],
        ],
        ((keyboards.on_it(scene),),) if scene.incident.stage is S.EXECUTED else keyboards.NO_BUTTONS,
    )


def _approval(scene: Scene) -> tuple[Fact, ev.Authorized]:
    found = scene.incident.authorization
    assert found is not None  # noqa: S101  no stage that is rendered here is reached without it
    return found


def _authorized_title(scene: Scene, authorized: ev.Authorized) -> str:
    """What people called it when they approved it, raw."""
    request = scene.incident.latest(ev.Validated)
    options = request.options if request else ()
    return next((o.title for o in options if o.key == authorized.option and o.title), authorized.action)


def _attempt(incident: Incident, approval: Fact) -> int:
    return max((e.attempt for f, e in incident.every(ev.ExecutionStarted) if f.seq > approval.seq), default=0)


def _approved(scene: Scene, approval: Fact, authorized: ev.Authorized, title: str) -> str:
    """Rudo approved “Restart checkout workers” at 03:14:02 in Telegram, trusting theory A (database)."""
    voters = authorized.voters or (approval.actor.id,)
    who = scene.names(voters, 3) if len(voters) > 1 else scene.subject(approval.actor.id)
    who = who[:1].upper() + who[1:]
    via = (
        f" in {_CHANNELS.get(approval.actor.via, foreign(approval.actor.via, 12))}"
        if approval.actor.via
        else ""
    )
    trusts = authorized.theory in {"A", "B"}
    trusting = f", trusting theory {authorized.theory} ({authorized.cause})" if trusts else ""
    return f"<b>{who}</b> approved “{foreign(title, 56)}” at {scene.hms(approval.at_ms)}{via}{trusting}."


_CHANNELS = {
    "telegram": "Telegram",
    "whatsapp": "WhatsApp",
    "slack": "Slack",
    "web": "the browser",
    "sms": "SMS",
}


def _stood_down(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    stood = scene.incident.latest(ev.StoodDown)
    why = _why_stood_down(stood)
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    head = scene.first(
        scene.light, scene.incident.service, f"“{foreign(scene.short(title), 40)}” was NOT run", join=": "
    )
    return Draft(
        [
            [must(head), must(f"<b>Not run</b>: {foreign(why, 140)}.")],
            [must(_approved(scene, approval, authorized, title)), *blocks.numbers(scene)],
            [
                may(4, "If it is still wanted: <b>Ask again</b>, look, then tap. Ask again runs nothing."),
                NOTHING_RUNS,
                *blocks.small(scene, fact, f"approval #{approval.seq}"),
            ],
        ],
        keyboards.ask(scene),
    )


def _why_stood_down(stood: ev.StoodDown | None) -> str:
    if stood is None:
        return "it was called off"
    return (stood.reason or STOOD_DOWN.get(stood.why) or stood.why).removeprefix("Not run: ").rstrip(". ")


def _webhook_failed(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    dead = scene.incident.latest(ev.WebhookFailed)
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    short = foreign(scene.short(title), 36)
    answered = f"answered {dead.status}" if dead and dead.status else "did not answer"
    tries = dead.attempt if dead else 0
    why = f" It said: {foreign(dead.why, 120)}." if dead and dead.why else ""
    return Draft(
        [
            [
                must(
                    scene.first(
                        "🔴",
                        scene.incident.service,
                        f"“{short}” FAILED, the webhook {answered}. Ask again?",
                        join=": ",
                    )
                ),
                must(_approved(scene, approval, authorized, title)),
                Line(
                    (
                        f"It was sent {_times(tries)}; the last time the webhook {answered}.{why}",
                        f"It was sent {_times(tries)}; the last time the webhook {answered}.",
                    ),
                    2,
                ),
                may(5, "No attempt was confirmed. The webhook may still have done part of it: look first."),
            ],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene, 5)],
            [
                may(4, "<b>Ask again</b> makes a new request. It runs nothing; the new Approve does."),
                NOTHING_RUNS,
                *blocks.small(scene, fact, f"approval #{approval.seq}"),
            ],
        ],
        keyboards.failed(scene),
    )


def _times(n: int) -> str:
    return {0: "", 1: "once", 2: "twice"}.get(n, f"{n} times")


def _unknown(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    unknown = scene.incident.latest(ev.OutcomeUnknown)
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    short = foreign(scene.short(title), 36)
    name = foreign(scene.incident.id, 44)
    why = f"{foreign(unknown.why.rstrip('. '), 140)}." if unknown and unknown.why else "No answer was seen."
    return Draft(
        [
            [
                must(
                    scene.first(
                        "🔴",
                        scene.incident.service,
                        f"nobody knows whether “{short}” ran. Please look",
                        join=": ",
                    )
                ),
                must(_approved(scene, approval, authorized, title)),
                may(3, f"It was sent, and then: {why} It is not sent again by itself."),
            ],
            [*blocks.worsened(scene), *blocks.numbers(scene)],
            [
                must(
                    "<b>Look at the service, then say what you found</b>: "
                    f"<code>/outcome {name} ran</code> or <code>/outcome {name} did_not_run</code>"
                ),
                may(5, "<b>Ask again</b> makes a new request. It runs nothing; the new Approve does."),
                NOTHING_RUNS,
                *blocks.small(scene, fact, f"approval #{approval.seq}"),
            ],
        ],
        keyboards.failed(scene),
    )


# --- what came of it ---------------------------------------------------------------------------------------


def _failure(incident: Incident) -> tuple[Fact, ev.NotRecovered] | None:
    """The NotRecovered that the present round of asking answers."""
    found = incident.every(ev.NotRecovered)
    return found[-1] if found and found[-1][0].at_ms >= incident.asked_ms else None


def _failure_line(scene: Scene, event: ev.NotRecovered, ask: str) -> str:
    _, authorized = _approval(scene)
    change = scene.change(event.before, event.after, short=True)
    what = f"{scene.incident.service} NOT fixed: {change}"
    after = f" after “{scene.short(_authorized_title(scene, authorized), 24)}”"
    long = scene.first("🔴", what + after, ask)
    return long if "…" not in long else scene.first("🔴", what, ask)


def _what_failed(scene: Scene, failure: tuple[Fact, ev.NotRecovered]) -> list[Line]:
    """Rudo approved …. It ran once (200). 90 s later, 1,680 requests seen: figures, and what they mean."""
    fact, event = failure
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    executed = scene.incident.last(ev.Executed)
    status = executed.event.status if executed and isinstance(executed.event, ev.Executed) else 0
    ran = f"It ran once ({status}). " if executed else ""
    later = f"{span(fact.at_ms - executed.at_ms)} later" if executed else "Then"
    seen = f", {count(event.after.n)} requests seen" if event.after.n else ""
    return [
        Line(
            (
                f"{_approved(scene, approval, authorized, title)} {ran}{later}{seen}:",
                f"{ran}{later}{seen}:",
            ),
            4,
        ),
        must(scene.figures(event.before, event.after)),
        *_looks_wrong(scene, authorized),
    ]


def _looks_wrong(scene: Scene, authorized: ev.Authorized) -> list[Line]:
    theory = {"A": ", theory A,", "B": ", theory B,"}.get(authorized.theory, "")
    wrong = f"So {authorized.cause}{theory} looks wrong." if authorized.theory else ""
    commit = next((s for s in scene.incident.suspects if s.kind == "commit"), None)
    suspect = f"Deploy <code>{foreign(commit.name[:12], 14)}</code> is the next suspect." if commit else ""
    said = " ".join(filter(None, (wrong, suspect)))
    return [may(5, said, wrong)] if said else []


def _failed_before(scene: Scene) -> list[Line]:
    failure = _failure(scene.incident)
    if failure is None:
        return []
    _, authorized = _approval(scene)
    title = foreign(scene.short(_authorized_title(scene, authorized)), 36)
    return [must(f"<b>“{title}” did not help</b>: {scene.change(failure[1].before, failure[1].after)}.")]


def _earlier(scene: Scene) -> list[str]:
    """The approval and the outcome before this request, for its small print."""
    failure, found = _failure(scene.incident), scene.incident.authorization
    return [f"approval #{found[0].seq} · outcome #{failure[0].seq} · this"] if failure and found else []


def _not_recovered(scene: Scene) -> Draft:
    failure = _failure(scene.incident)
    assert failure is not None  # noqa: S101  the stage says so
    fact, event = failure
    approval, _ = _approval(scene)
    return Draft(
        [
            [must(_failure_line(scene, event, "What next?")), *_what_failed(scene, failure)],
            [*blocks.nearest_deploy(scene, 5)],
            [
                may(5, "A new request follows in seconds, if policy has one. It runs nothing by itself."),
                NOTHING_RUNS,
                *blocks.small(scene, fact, f"approval #{approval.seq}"),
            ],
        ],
        ((keyboards.wake_the_next(scene), keyboards.on_it(scene)),),
    )


def _inconclusive(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    event = scene.incident.latest(ev.Inconclusive)
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    seen = event.after.n if event else 0
    few = f"only {count(seen)} requests" if seen else "no traffic"
    return Draft(
        [
            [
                must(
                    scene.first(
                        "🟠",
                        scene.incident.service,
                        f"{few} since “{foreign(scene.short(title), 36)}”. Nobody can say whether it helped",
                        join=": ",
                    )
                ),
                must(_approved(scene, approval, authorized, title)),
                *([may(4, f"{scene.figures(event.before, event.after)}")] if event and seen else []),
            ],
            [may(4, "Policy goes on watching, and closes it when it sees a quiet minute of traffic.")],
            [
                may(4, "<b>Ask again</b> makes a new request. It runs nothing; the new Approve does."),
                NOTHING_RUNS,
                *blocks.small(scene, fact, f"approval #{approval.seq}"),
            ],
        ],
        keyboards.ask(scene),
    )


def _recovered(scene: Scene) -> Draft:
    """Policy saw a quiet minute."""
    fact = entered(scene.incident)
    event = scene.incident.latest(ev.Recovered)
    executed = _executed_since_opened(scene.incident)
    by_itself = "" if executed else " by itself"
    change = scene.change(scene.reading, event.after, short=True) if event else ""
    head = scene.first(
        "✅", f"{scene.incident.service} recovered{by_itself}: {change}", "Nothing more is asked of you."
    )
    ran = [must("Nothing was run.")] if not executed else _what_ran(scene)
    return Draft(
        [
            [must(head), *ran],
            [
                *([may(3, f"{scene.figures(scene.reading, event.after)}")] if event else []),
                may(3, _lasted(scene, fact)),
                may(5, _watching(scene, fact)),
            ],
            blocks.small(scene, fact),
        ],
        keyboards.solved(scene),
    )


def _executed_since_opened(incident: Incident) -> bool:
    opening = _opening(incident)
    return any(f.seq > opening.seq for f, _ in incident.every(ev.Executed))


def _what_ran(scene: Scene) -> list[Line]:
    approval, authorized = _approval(scene)
    return [may(3, _approved(scene, approval, authorized, _authorized_title(scene, authorized)))]


def _resolved(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    if isinstance(fact.event, ev.Verified):
        return _verified(scene, fact, fact.event)
    resolved = scene.incident.latest(ev.Resolved)
    who = scene.name(fact.actor.id)
    wrong = resolved is not None and resolved.kind == "not_an_incident"
    what = (
        f"closed, {scene.subject(fact.actor.id)} {'say' if who == 'you' else 'says'} it is not an incident"
        if wrong
        else f"closed by {who}"
    )
    ran = _what_ran(scene) if _executed_since_opened(scene.incident) else [must("Nothing was run.")]
    return Draft(
        [
            [
                must(
                    scene.first(
                        "☑️", scene.incident.service, f"{what}. Nothing more is asked of you.", join=": "
                    )
                ),
                *ran,
            ],
            [may(3, _lasted(scene, fact)), may(5, "It opens again if policy sees it get worse.")],
            blocks.small(scene, fact),
        ],
        keyboards.solved(scene),
    )


def _verified(scene: Scene, fact: Fact, event: ev.Verified) -> Draft:
    change = scene.change(event.before, event.after, short=True)
    approval, authorized = _approval(scene)
    title = _authorized_title(scene, authorized)
    head = scene.first("✅", f"{scene.incident.service} recovered: {change}", "Nothing more is asked of you.")
    seen = f", {count(event.after.n)} requests" if event.after.n else ""
    return Draft(
        [
            [must(head), must(_approved(scene, approval, authorized, title)), *_it_ran(scene)],
            [
                must(f"Policy measured {span(event.quiet_ms)} of quiet{seen}, done {scene.hms(fact.at_ms)}:"),
                must(scene.figures(event.before, event.after)),
            ],
            [may(4, _lasted(scene, fact, approval)), *_still_open(scene), may(5, _watching(scene, fact))],
            _receipts(scene, approval, fact),
        ],
        keyboards.solved(scene),
    )


def _it_ran(scene: Scene) -> list[Line]:
    executed = scene.incident.latest(ev.Executed)
    if executed is None:
        return []
    which = {1: "first attempt", 2: "second attempt", 3: "third attempt"}[min(executed.attempt, 3)]
    ran = f"It ran once: {executed.status} after {span(executed.took_ms)}, {which}."
    return [may(3, f"{ran}{_RECEIPTS.get(executed.receipt, '')}", ran)]


_RECEIPTS = {
    "valid": " The app's own receipt matches.",
    "matches": " The app's own receipt matches.",
    "invalid": " <b>The app's own receipt does not match.</b>",
    "mismatch": " <b>The app's own receipt does not match.</b>",
}


def _lasted(scene: Scene, closed: Fact, approval: Fact | None = None) -> str:
    """Failing 4 min 30 s in all: 12 s to notice, 2 min 10 s to approve, 2 min 8 s to recover."""
    opening = _opening(scene.incident)
    event = opening.event
    since = event.reading.since_ms if isinstance(event, ev.Detected | ev.Reopened) else 0
    began = min(since or opening.at_ms, opening.at_ms)
    whole = f"It lasted {span(closed.at_ms - began)} in all"
    if approval is None or approval.at_ms < opening.at_ms:
        return f"{whole}."
    notice, approve = span(opening.at_ms - began), span(approval.at_ms - opening.at_ms)
    recover = span(closed.at_ms - approval.at_ms)
    return f"{whole}: {notice} to notice, {approve} to approve, {recover} to recover."


def _still_open(scene: Scene) -> list[Line]:
    commit = next((s for s in scene.incident.suspects if s.kind == "commit"), None)
    return (
        [may(6, f"Still open: deploy <code>{foreign(commit.name[:12], 14)}</code> is live.")]
        if commit
        else []
    )


def _watching(scene: Scene, fact: Fact) -> str:
    until = scene.hm(fact.at_ms + scene.notes.reopen_ms)
    return f"Watching until {until}; if it returns you are told in this chat."


def _receipts(scene: Scene, approval: Fact, outcome: Fact) -> list[Line]:
    def code(fact: Fact) -> str:
        number, _, receipt = scene.stamp(fact).partition(" · ")
        return f"{number} · <code>{receipt}</code>"

    warning = [may(2, f"⚠️ {foreign(scene.notes.warning, 120)}")] if scene.notes.warning else []
    return [*warning, must(f"Approval {code(approval)}"), must(f"Outcome {code(outcome)}")]


def _opening(incident: Incident) -> Fact:
    return incident.last(ev.Detected, ev.Reopened) or incident.facts[0]


MOMENTS: Mapping[Stage, Callable[[Scene], Draft]] = {
    S.DETECTED: _opened,
    S.PROPOSED: _opened,
    S.WITHHELD: _withheld,
    S.VALIDATED: _request,
    S.AUTHORIZED: _running,
    S.DENIED: _denied,
    S.EXPIRED: _expired,
    S.STOOD_DOWN: _stood_down,
    S.EXECUTING: _running,
    S.EXECUTED: _running,
    S.WEBHOOK_FAILED: _webhook_failed,
    S.UNKNOWN: _unknown,
    S.NOT_RECOVERED: _not_recovered,
    S.INCONCLUSIVE: _inconclusive,
    S.RECOVERED: _recovered,
    S.RESOLVED: _resolved,
}
"""What each stage looks like: every stage has its moment."""
