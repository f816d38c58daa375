"""What a charter says of other tools' alerts: who sends them, with which secret, what service is meant."""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from handlers.charter_kinds import SERVICE, Secret, Strict

Kind = Literal["alertmanager", "grafana", "sentry", "json"]
_SERVICE = re.compile(SERVICE)
FIELDS = frozenset({"key", "service", "state", "title", "severity"})


class Source(Strict):
    """One tool that posts to `/alerts/{kind}/{tenant}`.

    The *label* of an alert names the service, as it is or through *services*; with Sentry the project does.
    What is *critical* rings. For kind json, *fields* says where in the body each part stands, such as
    `title = "alert.name"`, and *resolved* which states end an alert.
    """

    kind: Kind
    secret: Secret
    label: str = "service"
    services: Mapping[str, str] = Field(default_factory=dict)
    critical: tuple[str, ...] = ("critical", "page", "fatal", "error")
    fields: Mapping[str, str] = Field(default_factory=dict)
    resolved: tuple[str, ...] = ("resolved", "ok", "closed")

    @model_validator(mode="after")
    def _fits(self) -> "Source":
        wrong = next((name for name in self.fields if name not in FIELDS), None)
        if wrong:
            raise ValueError(f"fields.{wrong} is no part of an alert. There are {', '.join(sorted(FIELDS))}")
        if self.kind == "json" and not {"key", "title"} <= self.fields.keys():
            raise ValueError(
                'does not say where key and title stand. Write fields = { key = "id", title = "name" }'
            )
        if self.kind != "json" and self.fields:
            raise ValueError(f"is of kind {self.kind}, whose form is known. Remove fields")
        return self

    def service_of(self, name: str) -> str:
        """The charter's service that a tool calls *name*; empty where it is none."""
        found = self.services.get(name, name)
        return found if _SERVICE.fullmatch(found) else ""
