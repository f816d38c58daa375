"""What WhatsApp shows with buttons: the contents behind our templates, and what each of their buttons means.

1. One content a template. Approved by WhatsApp it is sent at any hour; the same content, not approved, is
   sent inside the 24 hours after its reader last wrote: at most three buttons then, titles of at most 20
   characters.
2. A button's id is a variable of the content, filled for each message with a token of its own. A template
   that somebody made by hand has fixed ids: a tap on it is bound by the message that it answers.
3. A button that a card does not offer is still on its template. It carries NOTHING, and decides nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from bot.letters import TEMPLATES, Template
from bot.ports import Button, Card, Verb
from bot.words import cap

LANGUAGE = "en"
NOTHING = "nothing"
TITLE = 20
SESSION_BUTTONS = 3
MEANS: Mapping[str, tuple[Verb, str]] = {
    "Approve": (Verb.APPROVE, ""),
    "Deny": (Verb.DENY, ""),
    "I am on it": (Verb.ACK, ""),
    "Trust theory A": (Verb.APPROVE, "A"),
    "Trust theory B": (Verb.APPROVE, "B"),
    "Neither": (Verb.DENY, ""),
}
"""What a template's button asks for, by its title; the option where that is not the card's only one."""
SHORT: Mapping[Verb, str] = {Verb.CONFIRM: "Approve", Verb.ADOPT: "Adopt"}
_CODE = re.compile(r"RUN \{\{(\d+)\}\}")

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """A button of one message, as it was sent: its title and what it asks for."""

    title: str
    verb: Verb
    anchor: str
    option: str = ""


def offers(card: Card) -> tuple[Offer, ...]:
    """Those buttons of the card's template that the card itself has."""
    template = TEMPLATES.get(card.template)
    return tuple(_offered(card, template.buttons)) if template else ()


def _offered(card: Card, titles: Sequence[str]) -> Iterator[Offer]:
    buttons = [button for row in card.rows for button in row]
    for title in titles:
        verb, option = MEANS[title]
        for button in buttons:
            if button.verb is verb and option in {"", button.option}:
                yield Offer(title, verb, button.anchor, button.option)
                break


def codes(card: Card) -> tuple[str, ...]:
    """The codes that the card's template prints, in their order: of its one option, or of A and B."""
    template = TEMPLATES.get(card.template)
    places = _CODE.findall(template.body) if template else []
    found = [card.variables[int(n) - 1] for n in places if int(n) <= len(card.variables)]
    return tuple(code for code in found if code.isdigit())


def asking(buttons: Sequence[Button]) -> tuple[Template, tuple[Offer, ...]]:
    """A content for the buttons of an answer, which only ever goes out inside the 24 hours."""
    made = tuple(_short(button) for button in buttons[:SESSION_BUTTONS])
    body = "This waits for your tap: {{1}}. Nothing happens without it."
    return Template(body, tuple(offer.title for offer in made), ("Roll back",)), made


def _short(button: Button) -> Offer:
    return Offer(
        SHORT.get(button.verb) or cap(button.label, TITLE), button.verb, button.anchor, button.option
    )


def content(name: str, template: Template) -> Json:
    """The body of POST /v1/Content (twilio.com/docs/content/twilio-quick-reply: variables in actions)."""
    first = len(template.samples) + 1
    ids = range(first, first + len(template.buttons))
    samples = [*template.samples, *(f"button-{n}" for n, _ in enumerate(template.buttons, 1))]
    actions = [
        {"type": "QUICK_REPLY", "title": title, "id": f"{{{{{n}}}}}"}
        for n, title in zip(ids, template.buttons, strict=True)
    ]
    return {
        "friendly_name": name,
        "language": LANGUAGE,
        "variables": {str(n): sample for n, sample in enumerate(samples, 1)},
        "types": {"twilio/quick-reply": {"body": template.body, "actions": actions}},
    }


def filled(template: Template, values: Sequence[str], ids: Mapping[str, str]) -> str:
    """The ContentVariables: the body's *values*, then each button's id, *ids* by title."""
    every = [*values, *(ids.get(title, NOTHING) for title in template.buttons)]
    return orjson.dumps({str(n): value for n, value in enumerate(every, 1)}).decode()


def digest(made: Json) -> str:
    """What tells one content from another, whatever it is called."""
    kind = made["types"]["twilio/quick-reply"]
    seen = [made["language"], kind["body"], [(one["title"], one["id"]) for one in kind["actions"]]]
    return sha256(orjson.dumps(seen)).hexdigest()[:12]


def same(found: Json, made: Json) -> bool:
    """Whether *found*, as Twilio lists it, is the content *made*."""
    try:
        return found["friendly_name"] == made["friendly_name"] and digest(found) == digest(made)
    except (KeyError, TypeError):
        return False
