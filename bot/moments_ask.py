"""The cards that ask: one action, or two theories of which a person chooses."""

from bot import blocks, keyboards
from bot.draft import NOTHING, Draft, earlier, failed_before, failure, proposer
from bot.fit import Line, may, must
from bot.moments_after import failure_line, what_failed
from bot.scene import Scene
from bot.words import foreign
from ledger import events as ev
from ledger.machine import Fact


def request(scene: Scene) -> Draft:
    fact = scene.incident.last(ev.Validated)
    assert fact is not None  # noqa: S101  the stage says so
    asked = fact.event
    assert isinstance(asked, ev.Validated)  # noqa: S101  it was looked for by its kind
    if asked.verdict == "DISSENT" and all(one.key in {"A", "B"} for one in asked.options):
        return _dissent(scene, fact, asked)
    return _one_action(scene, fact, asked, asked.options[0] if asked.options else ev.Option(key="1"))


def _one_action(scene: Scene, fact: Fact, asked: ev.Validated, option: ev.Option) -> Draft:
    failed = failure(scene.incident)
    what = foreign(scene.short(option.title or option.action), 36)
    ask = f"{what}? Until {scene.hm(asked.deadline_ms)}" if option.action else "No action is named, you look"
    if failed:
        above = [
            must(failure_line(scene, failed[1], ask)),
            *what_failed(scene, failed),
            *_next(scene, option),
        ]
        middle: list[list[Line]] = []
    else:
        above = [must(scene.first(scene.light, scene.alarm(), ask)), *_opinion(scene, asked, option)]
        above += blocks.look_first(scene, option)
        middle = _middle(scene, no_opinion=asked.verdict == "NONE")
    return Draft(
        [
            above,
            *middle,
            blocks.action(scene, option, again=failed is not None),
            [
                *blocks.who(scene, (option,)),
                *blocks.held(scene, asked.held),
                NOTHING,
                *blocks.small(scene, fact, earlier(scene), policy=True),
            ],
        ],
        keyboards.request(scene, option, fact.hash, failed_before=failed is not None),
    )


def _middle(scene: Scene, *, no_opinion: bool) -> list[list[Line]]:
    """What was measured; where nobody has an opinion on it, the evidence itself, deploys included."""
    numbers = [*blocks.worsened(scene), *blocks.numbers(scene)]
    evidence = blocks.measured(scene) if no_opinion else []
    return [evidence, numbers if evidence else [*numbers, *blocks.nearest_deploy(scene)]]


def _opinion(scene: Scene, asked: ev.Validated, option: ev.Option) -> list[Line]:
    if who := proposer(scene.incident, option):
        return [must(f"<b>Proposed by {scene.name(who)}</b>, not by policy.")]
    return blocks.opinion(scene, asked.verdict, option)


def _next(scene: Scene, option: ev.Option) -> list[Line]:
    """Whose theory comes next, where it is one's."""
    if option.theory not in {"A", "B"}:
        return []
    return [may(3, *(f"Next: {said}." for said in blocks.theory_head(scene, option)))]


def _dissent(scene: Scene, fact: Fact, asked: ev.Validated) -> Draft:
    until = f"Models disagree, you choose. Until {scene.hm(asked.deadline_ms)}"
    return Draft(
        [
            [
                must(scene.first(scene.light, scene.alarm(), until)),
                *failed_before(scene),
                *_theories(scene, asked),
            ],
            [*blocks.check_first(scene), *blocks.right_before(scene)],
            [*blocks.worsened(scene), *blocks.numbers(scene), *blocks.nearest_deploy(scene)],
            [
                _one_tap(asked),
                *blocks.who(scene, asked.options[:2]),
                *blocks.held(scene, asked.held),
                NOTHING,
                *blocks.small(scene, fact, earlier(scene), policy=True),
            ],
        ],
        keyboards.dissent(scene, asked.options[:2], fact.hash),
    )


def _theories(scene: Scene, asked: ev.Validated) -> list[Line]:
    """Both sides, also one whose action policy holds back."""
    if _same_action(asked):
        title = scene.title(asked.options[0], 56)
        both = must(f"→ both run: {title}. Your choice records the cause.")
        return [*(blocks.theory(scene, one)[0] for one in asked.options), both]
    offered = {one.key: one for one in asked.options}
    lines = [line for one in asked.options for line in blocks.theory(scene, one)]
    for lens, said in sorted(scene.incident.diagnoses().items()):
        if lens not in offered and said.outcome == "answered":
            named = ev.Option(key=lens, theory=lens, cause=said.cause, confidence=said.confidence)
            lines += [blocks.theory(scene, named)[0], must("→ held back by policy")]
    return lines


def _same_action(asked: ev.Validated) -> bool:
    return len(asked.options) > 1 and len({one.action for one in asked.options}) == 1


def _one_tap(asked: ev.Validated) -> Line:
    if _same_action(asked) or len(asked.options) < 2:
        return may(4, "One tap runs it, once.")
    return may(4, "One tap runs one action, once; the other is dropped.", "One tap runs one action, once.")
