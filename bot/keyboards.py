"""The buttons of a card. Row 1 decides, row 2 does not; the costly one never stands where the harmless was.

*anchor* is the hash of the entry that a button is about: the Validated one for votes and denials, the fact
that began the stage for Ask again, Detected or Reopened for an acknowledgement, Verified for the cause.
"""

from bot.feedback import is_learned, lasts
from bot.ports import Button, Verb
from bot.rings import entered
from bot.scene import Scene
from bot.words import cap
from ledger import events as ev

type Row = tuple[Button, ...]
type Rows = tuple[Row, ...]

NO_BUTTONS: Rows = ()


def on_it(scene: Scene) -> Button:
    return Button(Verb.ACK, "👀 I am on it", _opening(scene))


def not_an_incident(scene: Scene) -> Button:
    return Button(Verb.NOT_INCIDENT, "🙅 Not an incident", _opening(scene))


def new_normal(scene: Scene) -> Button:
    return Button(Verb.NEW_NORMAL, "📏 New normal", _opening(scene))


def wake_the_next(scene: Scene) -> Button:
    return Button(Verb.ESCALATE, "📞 Wake the next", _opening(scene))


def ask_again(scene: Scene) -> Button:
    return Button(Verb.ASK_AGAIN, "🔁 Ask again", entered(scene.incident).hash, style="primary")


def audit(scene: Scene) -> Button:
    return Button(Verb.AUDIT, "📄 Audit", _opening(scene))


def opened(scene: Scene) -> Rows:
    return ((on_it(scene),),)


def request(scene: Scene, option: ev.Option, anchor: str, *, failed_before: bool) -> Rows:
    second = (wake_the_next(scene), on_it(scene)) if failed_before else (on_it(scene), not_an_incident(scene))
    if not option.action or not scene.able(option):
        return (second,)
    what = _small_first(scene.short(option.title or option.action, 28))
    approve = Button(Verb.APPROVE, f"✅ Approve: {what}", anchor, option.key, "success")
    return ((approve, Button(Verb.DENY, "✖ Deny", anchor, style="danger")), second)


def dissent(scene: Scene, options: tuple[ev.Option, ...], anchor: str) -> Rows:
    trust = [one for one in options if not one.action or scene.able(one)]
    neither = (Button(Verb.DENY, "Neither", anchor, style="danger"), on_it(scene))
    return (*((_trust(scene, one, anchor),) for one in trust), neither)


def _trust(scene: Scene, option: ev.Option, anchor: str) -> Button:
    what = _small_first(scene.short(option.title or option.action, 30)) if option.action else "run nothing"
    return Button(Verb.APPROVE, f"Trust theory {cap(option.key, 1)}: {what}", anchor, option.key)


def ask(scene: Scene) -> Rows:
    return ((ask_again(scene), on_it(scene)), _verdict(scene))


def failed(scene: Scene) -> Rows:
    return ((ask_again(scene), on_it(scene)), (wake_the_next(scene), audit(scene)))


def solved(scene: Scene) -> Rows:
    verified = scene.incident.last(ev.Verified)
    found = scene.incident.authorization
    if verified is None or found is None:
        return tuple(row for row in ((audit(scene),), _verdict(scene)) if row)
    theory = found[1].theory
    asked = f"Was {theory} the cause? Yes" if theory in {"A", "B"} else "Was that the cause? Yes"
    yes = Button(Verb.CAUSE_RIGHT, asked, verified.hash)
    return ((audit(scene), yes, Button(Verb.CAUSE_WRONG, "No", verified.hash)),)


def _verdict(scene: Scene) -> Row:
    """What can be said of policy's verdict: that it was none, and that what it saw is usual from now on."""
    incident = scene.incident
    said = {event.kind for _, event in incident.every(ev.Resolved)}
    wrong = (not_an_incident(scene),) if "not_an_incident" not in said else ()
    return (*wrong, new_normal(scene)) if is_learned(incident) and lasts(incident) else wrong


def _opening(scene: Scene) -> str:
    fact = scene.incident.last(ev.Detected, ev.Reopened)
    return (fact or scene.incident.facts[0]).hash


def _small_first(text: str) -> str:
    """Restart workers → restart workers, but not API → aPI."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
