"""The cards of an incident in which nothing was run: nobody answered, or somebody said no."""

from bot import blocks, keyboards
from bot.draft import ASK_AGAIN, NOTHING, Draft, earlier
from bot.fit import Line, may, must
from bot.rings import entered
from bot.scene import Scene
from bot.words import about, count, foreign, span
from ledger import events as ev


def expired(scene: Scene) -> Draft:
    fact, asked = entered(scene.incident), scene.incident.latest(ev.Validated)
    deadline = scene.hm(asked.deadline_ms if asked else fact.at_ms)
    head = scene.first("⌛", _still(scene), f"Nothing was run: no answer by {deadline}")
    return Draft(
        [
            [must(head), *_on_it(scene), *_asked_whom(scene, asked), *_lasting(scene)],
            _on_offer(scene, asked),
            [
                may(
                    3,
                    "<b>Ask again</b> renews it with the numbers of that moment. It runs nothing; the new "
                    "Approve does. A tap on an old Approve does the same.",
                    "<b>Ask again</b> renews it. It runs nothing; the new Approve does.",
                )
            ],
            [*_any_of(scene, asked), NOTHING, *blocks.small(scene, fact, earlier(scene))],
        ],
        keyboards.ask(scene),
    )


def denied(scene: Scene) -> Draft:
    fact = entered(scene.incident)
    theory = foreign(fact.event.theory, 2) if isinstance(fact.event, ev.Denied) else ""
    name, at = scene.name(fact.actor.id), scene.hms(fact.at_ms)
    if theory:
        ask, did = "You look yourself. Nothing was run", f"theory {theory}, which runs nothing. Said at {at}."
        said = f"{scene.subject(fact.actor.id)} {'trust' if name == 'you' else 'trusts'} {did}"
    else:
        ask, said = (
            f"Nothing was run: {name} denied it",
            f"{scene.subject(fact.actor.id)} denied {_what(scene)} at {at}.",
        )
    return Draft(
        [
            [must(scene.first(scene.light, _still(scene), ask)), must(said)],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene)],
            [ASK_AGAIN, NOTHING, *blocks.small(scene, fact, earlier(scene))],
        ],
        keyboards.ask(scene),
    )


def _what(scene: Scene) -> str:
    """What was denied: the action, or all of what was offered."""
    asked = scene.incident.latest(ev.Validated)
    titles = [scene.title(one, 56) for one in (asked.options if asked else ()) if one.action]
    return f"“{titles[0]}”" if len(titles) == 1 else "what was offered"


def _still(scene: Scene) -> str:
    """checkout still failing (22 %)."""
    reading = scene.notes.now or scene.reading
    figure = f" ({blocks.share(reading)})" if reading.signal == "errors" and reading.n else ""
    return f"{scene.incident.service} {scene.signal.still}{figure}"


def _on_it(scene: Scene) -> list[Line]:
    fact = scene.incident.acknowledged
    if fact is None:
        return []
    name = scene.subject(fact.actor.id)
    return [
        must(f"{name} {'are' if name == 'You' else 'is'} on it since {scene.hm(fact.at_ms)}: still wanted?")
    ]


def _asked_whom(scene: Scene, asked: ev.Validated | None) -> list[Line]:
    """Asked 03:12, Rudo and Tendai woken 03:15, 1 of 2 approved: no decision."""
    fact = scene.incident.last(ev.Validated)
    if fact is None or asked is None:
        return []
    woken = [
        f"{scene.names(event.to, 2)} woken {scene.hm(one.at_ms)}"
        for one, event in scene.incident.every(ev.Escalated)
        if one.seq > fact.seq and event.to
    ]
    votes = [
        f"{have} of {need} approved"
        for have, need, voters in (blocks.progress(scene, one) for one in asked.options)
        if voters
    ]
    said = ", ".join([f"Asked {scene.hm(fact.at_ms)}", *woken[:3], *votes[:2]])
    return [may(5, f"{said}: no decision.")]


def _lasting(scene: Scene) -> list[Line]:
    """Failing for 5 min: 1,310 of 5,980 requests in 5 min. Getting worse: errors 19 → 22 %."""
    reading, now, until = scene.reading, scene.notes.now, entered(scene.incident).at_ms
    since = about(until - (reading.since_ms or scene.incident.opened_ms))
    lasts = f"Failing for {since}" if reading.signal == "errors" else f"For {since} now"
    seen = now if now and now.n else reading
    counted = (
        f": {count(seen.failed)} of {count(seen.n)} requests failed in {span(seen.window_ms)}"
        if seen.n
        else ""
    )
    return [may(4, f"{lasts}{counted}.{_moved(scene)}", f"{lasts}{counted}.", f"{lasts}.")]


def _moved(scene: Scene) -> str:
    now, was = scene.notes.now, scene.reading
    if now is None or not now.n or now.error_permille == was.error_permille:
        return ""
    worse = "worse" if now.error_permille > was.error_permille else "better"
    return f" Getting {worse}: {scene.change(was, now, short=True)}."


def _on_offer(scene: Scene, asked: ev.Validated | None) -> list[Line]:
    options = [one for one in (asked.options if asked else ()) if one.action][:2]
    if not options:
        return []
    alone = len(options) == 1 and options[0].theory
    cause = [may(6, f"Cause unchanged: {options[0].cause}.")] if alone else []
    return [must("<b>Still on offer:</b>"), *(_offer(scene, one) for one in options), *cause]


def _offer(scene: Scene, option: ev.Option) -> Line:
    risk = "<b>High risk</b>" if option.risk == "high" else "Low risk"
    runs = (f" (<code>{foreign(option.request, most)}</code>)" if option.request else "" for most in (90, 50))
    what = f"{scene.title(option, 60)}{blocks.with_values(option)}"
    return Line(tuple(f"{what}{request}. {risk}." for request in (*runs, "")), 2)


def _any_of(scene: Scene, asked: ev.Validated | None) -> list[Line]:
    options = [one for one in (asked.options if asked else ()) if one.action]
    able = list(dict.fromkeys(person for one in options for person in scene.able(one)))
    called = scene.notes.next_call
    after = f"Next call: {scene.name(called[0])}, {scene.hm(called[1])}." if called else ""
    said = f"Any of: {scene.names(able, 3)}." if able else ""
    both = f"{said} {after}".strip()
    return [may(5, both)] if both else []
