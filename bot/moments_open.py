"""The cards of an incident for which nobody can approve anything yet: opened, deciding, withheld."""

from bot import blocks, keyboards
from bot.draft import NOTHING, Draft, diagnosed, earlier, failed_before, failure, opening
from bot.fit import Line, may, must
from bot.moments_after import not_recovered
from bot.rings import entered
from bot.scene import Scene
from bot.words import about, foreign
from handlers import council
from ledger import events as ev
from ledger.events import ENGINEER
from ledger.machine import Fact, Incident

COUNCIL_MS = 12_000
MINUTE_MS = 60_000
_MODELS = {0: "No model is asked here: policy alone asks you.", 1: "One model is looking."}


def opened(scene: Scene) -> Draft:
    """Detected, asked again or reopened."""
    if failure(scene.incident):
        return not_recovered(scene)
    offers = _offers_anything(scene)
    ask = "Your approval will be asked in seconds." if offers else "No action is named: please look."
    head = scene.first(scene.light, _again(scene) or scene.alarm(), ask)
    fact = entered(scene.incident)
    told = fact if _began(fact) else opening(scene.incident)
    waiting = (
        _waiting(scene) if offers else [may(4, "Your charter names no action here, so none is offered.")]
    )
    return Draft(
        [
            [must(head), *_why(scene), *blocks.worsened(scene), *blocks.numbers(scene)],
            [*waiting, NOTHING, *blocks.small(scene, told, earlier(scene))],
        ],
        keyboards.opened(scene),
    )


def _offers_anything(scene: Scene) -> bool:
    service = scene.charter.service(scene.incident.service)
    return service is not None and bool(service.actions)


def _began(fact: Fact) -> bool:
    return isinstance(fact.event, ev.Detected | ev.Reopened | ev.AskedAgain)


def _again(scene: Scene) -> str:
    """checkout fails again: 22 % of requests fail, where policy opened it a second time."""
    if not scene.incident.last(ev.Reopened):
        return ""
    return f"{scene.incident.service} {scene.signal.again}: {scene.trouble}"


def _why(scene: Scene) -> list[Line]:
    """Who declared it, and whether it was over before."""
    first, lines = scene.incident.facts[0], []
    if first.actor.kind is ENGINEER:
        name = scene.name(first.actor.id)
        lines.append(must(f"Declared by {name} at {scene.hm(first.at_ms)}, not by policy."))
        if scene.notes.said:
            lines.append(may(2, *(f"“{foreign(scene.notes.said, most)}”" for most in (300, 120))))
    if back := scene.incident.every(ev.Reopened):
        lines.append(must(_came_back(scene, back)))
    return lines


def _came_back(scene: Scene, back: list[tuple[Fact, ev.Reopened]]) -> str:
    times, at_ms = len(back) + 1, back[-1][0].at_ms
    if times == 2:
        return f"It was over, and came back at {scene.hm(at_ms)}."
    often = f"{times} times in {about(at_ms - scene.incident.opened_ms)}"
    quiet = back[-1][1].quiet_ms
    stays = f" It stays open until it was quiet for {about(quiet)}." if quiet else ""
    return f"<b>It is flapping</b>: {often}.{stays} Look for what comes and goes."


def _waiting(scene: Scene) -> list[Line]:
    """What is being waited for, and until when at most."""
    incident = scene.incident
    by = scene.hm(incident.asked_ms + COUNCIL_MS + MINUTE_MS - 1)
    asked = incident.last(ev.AskedAgain) if incident.asked_again else None
    lines = (
        [must(f"{scene.subject(asked.actor.id)} asked again at {scene.hms(asked.at_ms)}.")] if asked else []
    )
    if diagnosed(incident):
        return [*lines, must(f"{_heard(incident)} Your approval is asked by {by} at the latest.")]
    looking = _MODELS.get(scene.notes.models, "Two models are looking.")
    waits = "" if scene.notes.models == 0 else " With or without them"
    ask = f"{waits} you will be asked by {by}." if waits else f" You will be asked by {by}."
    return [*lines, must(f"{looking}{ask}")]


def _heard(incident: Incident) -> str:
    if council.is_spent(incident.diagnoses()):
        return "No model is asked: today's budget for them is spent."
    heard = incident.diagnoses().values()
    said = sum(one.outcome == "answered" for one in heard)
    none = "No model could answer." if len(heard) > 1 else "A model could not answer."
    return {0: none, 1: "One model has answered."}.get(said, "Both models have answered.")


def withheld(scene: Scene) -> Draft:
    """Nothing passed policy's gates. It says why, and until when."""
    event = scene.incident.latest(ev.Withheld)
    kept, until = (event.held, event.until_ms) if event else ((), 0)
    ask = f"Nothing can be offered before {scene.hm(until)}" if until else "Nothing can be offered, you look"
    return Draft(
        [
            [must(scene.first(scene.light, scene.alarm(), ask)), *failed_before(scene)],
            [may(2, "<b>Held back by policy, so you look yourself:</b>"), *blocks.held(scene, kept, 2)],
            [*blocks.worsened(scene), *blocks.numbers(scene)],
            blocks.measured(scene) or blocks.nearest_deploy(scene),
            [
                may(4, "<b>Ask again</b> looks anew. It runs nothing."),
                NOTHING,
                *blocks.small(scene, entered(scene.incident), earlier(scene)),
            ],
        ],
        keyboards.ask(scene),
    )
