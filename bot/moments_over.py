"""The cards of an incident that is over: verified, recovered, or closed by a person."""

from bot import blocks, keyboards
from bot.draft import Draft, approval, approved, earlier, executed_since_opened, opening, with_approval
from bot.fit import Line, may, must
from bot.rings import entered
from bot.scene import Scene
from bot.words import count, foreign, span
from ledger import events as ev
from ledger.machine import Fact

NOTHING_MORE = "Nothing more is asked of you."
_WHICH = {1: "first", 2: "second", 3: "third"}
_RECEIPTS = {
    "matches": " The app's own receipt matches.",
    "unchecked": " The app's own receipt is on record, for who holds its secret.",
    "differs": " <b>The app's own receipt says otherwise.</b>",
}


def recovered(scene: Scene) -> Draft:
    """Policy saw a quiet minute."""
    fact, ran = entered(scene.incident), executed_since_opened(scene.incident)
    event = scene.incident.latest(ev.Recovered)
    after = event.after if event else scene.reading
    by_itself = "" if ran else " by itself"
    what = f"{scene.incident.service} recovered{by_itself}: {scene.change(scene.reading, after, short=True)}"
    did = [may(3, approved(scene)), *_it_ran(scene)] if ran else [must("Nothing was run.")]
    return Draft(
        [
            [must(scene.first("✅", what, NOTHING_MORE)), *did],
            [
                may(3, scene.figures(scene.reading, after)),
                *_normal(scene),
                may(3, _lasted(scene, fact)),
                *_after(scene, fact),
            ],
            blocks.small(scene, fact, with_approval(scene) if ran else earlier(scene)),
        ],
        keyboards.solved(scene),
    )


def _normal(scene: Scene) -> list[Line]:
    """Who said while it was open that this is usual from now on: then it is not better, but normal."""
    began = opening(scene.incident).seq
    said = [f for f, e in scene.incident.every(ev.Feedback) if e.kind == "new_normal" and f.seq > began]
    return [
        may(4, f"{scene.subject(one.actor.id)} called it the new normal at {scene.hm(one.at_ms)}.")
        for one in said[-1:]
    ]


def resolved(scene: Scene) -> Draft:
    """Verified by policy, or closed by a person."""
    fact = entered(scene.incident)
    if isinstance(fact.event, ev.Verified):
        return _verified(scene, fact, fact.event)
    wrong = isinstance(fact.event, ev.Resolved) and fact.event.kind == "not_an_incident"
    name = scene.name(fact.actor.id)
    says = f"{name} {'say' if name == 'you' else 'says'} it is not an incident"
    what = f"closed, {says}" if wrong else f"closed by {name}"
    ran = executed_since_opened(scene.incident)
    did = [may(3, approved(scene))] if ran else [must("Nothing was run.")]
    head = scene.first("☑️", scene.incident.service, f"{what}. {NOTHING_MORE}", join=": ")
    return Draft(
        [
            [must(head), *did],
            [may(3, _lasted(scene, fact)), may(5, "It opens again if policy sees it get worse.")],
            blocks.small(scene, fact, with_approval(scene) if ran else earlier(scene)),
        ],
        keyboards.solved(scene),
    )


def _verified(scene: Scene, fact: Fact, event: ev.Verified) -> Draft:
    given, _ = approval(scene)
    what = f"{scene.incident.service} recovered: {scene.change(event.before, event.after, short=True)}"
    seen = f", {count(event.after.n)} requests" if event.after.n else ""
    return Draft(
        [
            [must(scene.first("✅", what, NOTHING_MORE)), must(approved(scene)), *_it_ran(scene)],
            [
                must(f"Policy measured {span(event.quiet_ms)} of quiet{seen}, done {scene.hms(fact.at_ms)}:"),
                must(scene.figures(event.before, event.after)),
            ],
            [may(4, _lasted(scene, fact, given)), *_still_open(scene), *_after(scene, fact)],
            [
                *blocks.warning(scene),
                must(f"Approval {_code(scene, given)}"),
                must(f"Outcome {_code(scene, fact)}"),
            ],
        ],
        keyboards.solved(scene),
    )


def _it_ran(scene: Scene) -> list[Line]:
    """It ran once: 200 after 1.1 s, first attempt. The app's own receipt matches."""
    found = executed_since_opened(scene.incident)
    if found is None:
        return []
    _, done = found
    ran = (
        f"It ran once: {done.status} after {span(done.took_ms)}, {_WHICH.get(done.attempt, 'last')} attempt."
    )
    return [may(3, f"{ran}{_RECEIPTS.get(done.receipt, '')}", ran)]


def _lasted(scene: Scene, closed: Fact, given: Fact | None = None) -> str:
    """It lasted 4 min 30 s in all: 12 s to notice, 2 min 10 s to approve, 2 min 8 s to recover."""
    began = opening(scene.incident)
    reading = began.event.reading if isinstance(began.event, ev.Detected | ev.Reopened) else scene.reading
    since = min(reading.since_ms or began.at_ms, began.at_ms)
    whole = f"It lasted {span(closed.at_ms - since)} in all"
    if given is None or given.at_ms < began.at_ms:
        return f"{whole}."
    notice, approve = span(began.at_ms - since), span(given.at_ms - began.at_ms)
    return (
        f"{whole}: {notice} to notice, {approve} to approve, {span(closed.at_ms - given.at_ms)} to recover."
    )


def _still_open(scene: Scene) -> list[Line]:
    commit = next((s for s in scene.incident.suspects if s.kind == "commit"), None)
    if commit is None:
        return []
    return [may(6, f"Still open: deploy <code>{foreign(commit.name[:12], 14)}</code> is live.")]


def _after(scene: Scene, fact: Fact) -> list[Line]:
    until = scene.hm(fact.at_ms + scene.notes.reopen_ms)
    return [may(5, f"Watching until {until}; if it returns you are told in this chat.")]


def _code(scene: Scene, fact: Fact) -> str:
    number, _, receipt = scene.stamp(fact).partition(" · ")
    return f"{number} · <code>{receipt}</code>"
