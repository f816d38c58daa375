"""The cards of what somebody approved: it runs, was called off, failed, did not help, or nobody knows."""

from bot import blocks, keyboards
from bot.draft import (
    ASK_AGAIN,
    NOTHING,
    Draft,
    approval,
    approved,
    approved_short,
    approved_title,
    failure,
    with_approval,
)
from bot.fit import Line, may, must
from bot.phrases import STOOD_DOWN
from bot.rings import entered
from bot.scene import Scene
from bot.words import count, foreign, span
from ledger import events as ev
from ledger.machine import Fact

_TIMES = {1: "once", 2: "twice"}


def running(scene: Scene) -> Draft:
    """Authorized, executing or executed: nothing is asked of anybody."""
    fact, _ = approval(scene)
    executed = scene.incident.last(ev.Executed)
    done = executed.event if executed and executed.seq > fact.seq else None
    what = f"“{approved_short(scene)}”"
    ask = f"{what} ran once. Measuring whether it helped" if done else f"{what} is running"
    now = _answered(done) if isinstance(done, ev.Executed) else _sending(scene, fact)
    return Draft(
        [
            [
                must(scene.first("⏳", scene.incident.service, ask, join=": ")),
                must(approved(scene)),
                must(now),
            ],
            [*blocks.numbers(scene)],
            [
                must("Nothing more is asked of you. The outcome comes here as a new message."),
                *blocks.small(scene, fact, ("approval",)),
            ],
        ]
    )


def _answered(done: ev.Executed) -> str:
    answered = f"The webhook answered {done.status} after {span(done.took_ms)}"
    return f"{answered}. Policy measures before and after."


def _sending(scene: Scene, given: Fact) -> str:
    tries = [e.attempt for f, e in scene.incident.every(ev.ExecutionStarted) if f.seq > given.seq]
    if max(tries, default=0) <= 1:
        return "It is being sent, once."
    return f"Not confirmed yet: attempt {max(tries)} of 3, under the same idempotency key, so it counts once."


def stood_down(scene: Scene) -> Draft:
    """What was approved was not sent, and why."""
    fact = entered(scene.incident)
    why = _why(scene.incident.latest(ev.StoodDown))
    head = scene.first(
        scene.light, f"{scene.incident.service}: “{scene.short(approved_title(scene), 28)}” NOT run: {why}"
    )
    whole = [must(f"<b>Not run</b>: {foreign(why, 140)}.")] if "…" in head else []
    return Draft(
        [
            [must(head), *whole],
            [must(approved(scene)), *blocks.worsened(scene), *blocks.numbers(scene)],
            [
                may(4, "If it is still wanted: <b>Ask again</b>, look, then tap. Ask again runs nothing."),
                NOTHING,
                *blocks.small(scene, fact, with_approval(scene)),
            ],
        ],
        keyboards.ask(scene),
    )


def _why(stood: ev.StoodDown | None) -> str:
    if stood is None:
        return "it was called off"
    return (stood.reason or STOOD_DOWN.get(stood.why) or stood.why).removeprefix("Not run: ").rstrip(". ")


def webhook_failed(scene: Scene) -> Draft:
    """The dead letter: what the webhook answered."""
    fact = entered(scene.incident)
    dead = scene.incident.latest(ev.WebhookFailed) or ev.WebhookFailed(attempt=1)
    answered = f"the webhook answered {dead.status}" if dead.status else "the webhook did not answer"
    ask = f"“{approved_short(scene)}” FAILED, {answered}. Ask again?"
    why = f": {foreign(dead.why.rstrip('. '), 120)}" if dead.why and not dead.status else ""
    sent = f"It was sent {_TIMES.get(dead.attempt, f'{dead.attempt} times')}; {answered}"
    return Draft(
        [
            [
                must(scene.first("🔴", scene.incident.service, ask, join=": ")),
                must(approved(scene)),
                Line((f"{sent}{why}.", f"{sent}."), 2),
                may(4, "No attempt was confirmed. Part of it may have happened all the same: look first."),
            ],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene, 5)],
            [ASK_AGAIN, NOTHING, *blocks.small(scene, fact, with_approval(scene))],
        ],
        keyboards.failed(scene),
    )


def unknown(scene: Scene) -> Draft:
    """Cut off: a person finds out and says so."""
    fact = entered(scene.incident)
    lost = scene.incident.latest(ev.OutcomeUnknown)
    why = foreign(lost.why.rstrip(". "), 130) if lost and lost.why else "No answer was seen"
    name = foreign(scene.incident.id, 44)
    ask = f"nobody knows whether “{approved_short(scene)}” ran. Please look"
    return Draft(
        [
            [
                must(scene.first("🔴", scene.incident.service, ask, join=": ")),
                must(approved(scene)),
                may(3, f"It was sent. {why[:1].upper()}{why[1:]}. It is not sent again by itself."),
            ],
            [*blocks.worsened(scene), *blocks.numbers(scene)],
            [
                must(
                    "<b>Look at the service, then say what you found</b>: "
                    f"<code>/outcome {name} ran</code> or <code>/outcome {name} did_not_run</code>"
                ),
                ASK_AGAIN,
                NOTHING,
                *blocks.small(scene, fact, with_approval(scene)),
            ],
        ],
        keyboards.failed(scene),
    )


def not_recovered(scene: Scene) -> Draft:
    """It ran and did not help; the next request follows by itself, if there is one."""
    failed = failure(scene.incident)
    assert failed is not None  # noqa: S101  the stage says so
    fact, event = failed
    return Draft(
        [
            [must(failure_line(scene, event, "What next?")), *what_failed(scene, failed)],
            [
                may(4, "A new request follows in seconds, if policy has one. It runs nothing by itself."),
                NOTHING,
                *blocks.small(scene, fact, with_approval(scene)),
            ],
        ],
        ((keyboards.wake_the_next(scene), keyboards.on_it(scene)),),
    )


def failure_line(scene: Scene, event: ev.NotRecovered, ask: str) -> str:
    """checkout NOT fixed: errors 19 → 18 % after “Restart workers”. Roll back? Until 03:21"""
    what = f"{scene.incident.service} NOT fixed: {scene.change(event.before, event.after, short=True)}"
    long = scene.first("🔴", f"{what} after “{scene.short(approved_title(scene), 24)}”", ask)
    return scene.first("🔴", what, ask) if "…" in long else long


def what_failed(scene: Scene, failed: tuple[Fact, ev.NotRecovered]) -> list[Line]:
    """Rudo approved …. It ran once (200). 90 s later, 1,680 requests seen: figures, and what they mean."""
    fact, event = failed
    executed = scene.incident.last(ev.Executed)
    status = executed.event.status if executed and isinstance(executed.event, ev.Executed) else 0
    ran = f"It ran once ({status}). " if executed else ""
    later = f"{span(fact.at_ms - executed.at_ms)} later" if executed else "Then"
    seen = f", {count(event.after.n)} requests seen" if event.after.n else ""
    return [
        Line((f"{approved(scene)} {ran}{later}{seen}:", f"{ran}{later}{seen}:"), 4),
        must(scene.figures(event.before, event.after)),
        *_looks_wrong(scene),
    ]


def _looks_wrong(scene: Scene) -> list[Line]:
    _, authorized = approval(scene)
    theory = f", theory {authorized.theory}," if authorized.theory in {"A", "B"} else ""
    wrong = f"So {authorized.cause}{theory} looks wrong." if authorized.theory else ""
    commit = next((s for s in scene.incident.suspects if s.kind == "commit"), None)
    suspect = f"Deploy <code>{foreign(commit.name[:12], 14)}</code> is the next suspect." if commit else ""
    both = f"{wrong} {suspect}".strip()
    return [may(5, both, wrong)] if both else []


def inconclusive(scene: Scene) -> Draft:
    """Nobody asked the service for anything: silence proves nothing."""
    fact = entered(scene.incident)
    event = scene.incident.latest(ev.Inconclusive)
    seen = event.after.n if event else 0
    few = f"only {count(seen)} requests" if seen else "no traffic"
    ask = f"{few} since “{approved_short(scene)}”, so nobody can say whether it helped"
    figures = [may(4, scene.figures(event.before, event.after))] if event and seen else []
    return Draft(
        [
            [
                must(scene.first("🟠", scene.incident.service, ask, join=": ")),
                must(approved(scene)),
                *figures,
            ],
            [
                may(
                    4,
                    "Policy goes on watching, and closes it after a quiet minute with traffic. Please look.",
                )
            ],
            [ASK_AGAIN, NOTHING, *blocks.small(scene, fact, with_approval(scene))],
        ],
        keyboards.ask(scene),
    )
