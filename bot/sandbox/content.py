"""Twilio's Content API: what a template may look like, whether it is approved, what it says when sent.

Sources: twilio.com/docs/content/twilio-quick-reply, /docs/errors/63021.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

type Json = dict[str, Any]

QUICK_REPLY, TEXT = "twilio/quick-reply", "twilio/text"
BODY_CHARACTERS, TITLE_CHARACTERS, APPROVED_BUTTONS, SESSION_BUTTONS = 1024, 20, 10, 3
VARIABLE = re.compile(r"\{\{(\w+)\}\}")
AT_AN_EDGE = re.compile(r"^\s*\{\{\w+\}\}|\{\{\w+\}\}[\s.!?]*$")
ADJACENT = re.compile(r"\}\}\s*\{\{")


class BadContent(Exception):
    """Twilio would not take this template."""


@dataclass(frozen=True, slots=True)
class Button:
    title: str
    id: str


@dataclass(slots=True)
class Content:
    """One template; without approval it serves inside the 24 h window alone."""

    sid: str
    name: str
    language: str
    variables: dict[str, str]
    types: Json
    approval: str = "unsubmitted"
    why: str = ""

    @property
    def approved(self) -> bool:
        return self.approval == "approved"

    @property
    def kind(self) -> Json:
        kind: Json = self.types.get(QUICK_REPLY) or self.types[TEXT]
        return kind

    def render(self, given: dict[str, str]) -> tuple[str, list[Button]]:
        """The text and buttons that the reader sees; raises BadContent when a variable has no value."""
        values = self.variables | given

        def fill(text: str) -> str:
            missing = [name for name in VARIABLE.findall(text) if not values.get(name)]
            if missing:
                raise BadContent(f"no value for {{{{{missing[0]}}}}}")
            return VARIABLE.sub(lambda match: values[match[1]], text)

        buttons = [
            Button(fill(b["title"]), fill(b.get("id", b["title"]))) for b in self.kind.get("actions", [])
        ]
        return fill(self.kind["body"]), buttons

    def submit(self) -> None:
        """WhatsApp's review, which here takes no time."""
        self.why = _why_rejected(self)
        self.approval = "rejected" if self.why else "approved"

    def json(self, base: str) -> Json:
        url = f"{base}/v1/Content/{self.sid}"
        return {
            "sid": self.sid,
            "account_sid": None,
            "friendly_name": self.name,
            "language": self.language,
            "variables": self.variables,
            "types": self.types,
            "url": url,
            "date_created": None,
            "date_updated": None,
            "links": {
                "approval_fetch": f"{url}/ApprovalRequests",
                "approval_create": f"{url}/ApprovalRequests/whatsapp",
            },
        }

    def approval_json(self) -> Json:
        return {
            "name": self.name,
            "category": "UTILITY",
            "content_type": next(iter(self.types)),
            "status": self.approval,
            "rejection_reason": self.why,
            "allow_category_change": True,
        }


def read_content(body: Json) -> Content:
    """The template that a POST to /v1/Content asks for; raises BadContent."""
    types = body.get("types") or {}
    if not isinstance(types, dict) or not types.keys() & {QUICK_REPLY, TEXT}:
        raise BadContent(f"types must hold {QUICK_REPLY} or {TEXT}")
    if not body.get("language"):
        raise BadContent("language is required")
    content = Content(
        "HX" + secrets.token_hex(16),
        str(body.get("friendly_name", "")),
        str(body["language"]),
        {str(k): str(v) for k, v in (body.get("variables") or {}).items()},
        types,
    )
    _check(content.kind)
    return content


def _check(kind: Json) -> None:
    body, actions = str(kind.get("body", "")), kind.get("actions", [])
    if not 1 <= len(body) <= BODY_CHARACTERS:
        raise BadContent(f"body must have 1 to {BODY_CHARACTERS} characters")
    if len(actions) > APPROVED_BUTTONS:
        raise BadContent(f"at most {APPROVED_BUTTONS} actions")
    for action in actions:
        if not 1 <= len(str(action.get("title", ""))) <= TITLE_CHARACTERS:
            raise BadContent(f"an action's title must have 1 to {TITLE_CHARACTERS} characters")


def _why_rejected(content: Content) -> str:
    body = str(content.kind["body"])
    names = VARIABLE.findall(body)
    if AT_AN_EDGE.search(body):
        return "The template starts or ends with a variable."
    if ADJACENT.search(body):
        return "Two variables stand side by side."
    if missing := [name for name in names if not content.variables.get(name)]:
        return f"No sample value for variable {missing[0]}."
    return ""
