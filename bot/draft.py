"""A card before it is made to fit, and what several moments ask of an incident's past."""

from dataclasses import dataclass

from bot import keyboards
from bot.blocks import NOTHING_RUNS
from bot.fit import Line, Paragraphs, may, must
from bot.scene import Scene
from bot.words import foreign
from handlers.manual import by_hand
from ledger import events as ev
from ledger.machine import Fact, Incident

NOTHING = must(NOTHING_RUNS)
ASK_AGAIN = may(
    4,
    "<b>Ask again</b> renews it with fresh numbers. It runs nothing; the new Approve does.",
    "<b>Ask again</b> runs nothing; the new Approve does.",
)

CHANNELS = {
    "telegram": "Telegram",
    "whatsapp": "WhatsApp",
    "slack": "Slack",
    "web": "the browser",
    "link": "the browser",
    "sms": "SMS",
}


@dataclass(frozen=True, slots=True)
class Draft:
    paragraphs: Paragraphs
    rows: keyboards.Rows = keyboards.NO_BUTTONS


def opening(incident: Incident) -> Fact:
    """With what the incident opened, or opened again."""
    return incident.last(ev.Detected, ev.Reopened) or incident.facts[0]


def diagnosed(incident: Incident) -> bool:
    """Whether a model has said anything in this round of asking."""
    fact = incident.last(ev.Diagnosed)
    return fact is not None and fact.at_ms >= incident.asked_ms


def failure(incident: Incident) -> tuple[Fact, ev.NotRecovered] | None:
    """The NotRecovered that the present round of asking answers."""
    found = incident.every(ev.NotRecovered)
    return found[-1] if found and found[-1][0].at_ms >= incident.asked_ms else None


def proposer(incident: Incident, option: ev.Option) -> str:
    """Who proposed *option* by hand, by charter id; empty where policy did."""
    fact = by_hand(incident)
    chosen = fact.event.options if fact and isinstance(fact.event, ev.Proposed) else ()
    same = any((one.action, one.parameters) == (option.action, option.parameters) for one in chosen)
    return fact.actor.id if fact and same else ""


def executed_since_opened(incident: Incident) -> tuple[Fact, ev.Executed] | None:
    found = incident.every(ev.Executed)
    return found[-1] if found and found[-1][0].seq > opening(incident).seq else None


def approval(scene: Scene) -> tuple[Fact, ev.Authorized]:
    found = scene.incident.authorization
    assert found is not None  # noqa: S101  no stage that asks for it is reached without it
    return found


def approved_title(scene: Scene) -> str:
    """What people called it when they approved it; foreign."""
    _, authorized = approval(scene)
    requests = [event for fact, event in scene.incident.every(ev.Validated) if fact.ref == authorized.ref]
    options = requests[-1].options if requests else ()
    return next((o.title for o in options if o.key == authorized.option and o.title), authorized.action)


def approved_short(scene: Scene, most: int = 36) -> str:
    """The same without the service's name, escaped: Restart workers."""
    return foreign(scene.short(approved_title(scene)), most)


def approved(scene: Scene) -> str:
    """Rudo approved “Restart checkout workers” at 03:14:02 in Telegram, trusting theory A (database)."""
    fact, authorized = approval(scene)
    voters = authorized.voters or (fact.actor.id,)
    who = scene.names(voters, 3) if len(voters) > 1 else scene.subject(fact.actor.id)
    via = f" in {CHANNELS.get(fact.actor.via, foreign(fact.actor.via, 12))}" if fact.actor.via else ""
    trusts = authorized.theory in {"A", "B"}
    trusting = f", trusting theory {authorized.theory} ({authorized.cause})" if trusts else ""
    what = foreign(approved_title(scene), 56)
    did = "broke the glass for" if authorized.break_glass else "approved"
    return f"<b>{who[:1].upper()}{who[1:]}</b> {did} “{what}” at {scene.hms(fact.at_ms)}{via}{trusting}."


def failed_before(scene: Scene) -> list[Line]:
    """“Restart workers” did not help: errors 19.3 → 18.1 %."""
    found = failure(scene.incident)
    if found is None:
        return []
    change = scene.change(found[1].before, found[1].after)
    return [must(f"<b>“{approved_short(scene)}” did not help</b>: {change}.")]


OUTCOMES = (ev.StoodDown, ev.WebhookFailed, ev.OutcomeUnknown, ev.NotRecovered, ev.Inconclusive)


def earlier(scene: Scene) -> tuple[str, ...]:
    """The receipts of the approval that came before this and of its outcome, for the small print.

    The message that brought them may have become this card. Where there is little room, the approval's number
    has to do: whoever approved was told its code.
    """
    given, settled = scene.incident.authorization, scene.incident.last(*OUTCOMES)
    if not given or not settled or not opening(scene.incident).seq < given[0].seq < settled.seq:
        return ()
    outcome = f"outcome {scene.stamp(settled)} · this"
    return f"approval {scene.stamp(given[0])} · {outcome}", f"approval #{given[0].seq} · {outcome}"


def with_approval(scene: Scene) -> tuple[str, ...]:
    """The approval's receipt, before that of its outcome."""
    fact, _ = approval(scene)
    return (f"approval {scene.stamp(fact)} · outcome",)
