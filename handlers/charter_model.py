"""The charter as a value: people, services, what may run and who may approve it.

An empty approver list means nobody. How it is read from a file is in charter.py.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from detectors.policy import EVERY, Policy
from handlers.charter_action import Action
from handlers.charter_alerts import Source
from handlers.charter_duty import RULED, Price, Rota, Rule, Step, Window
from handlers.charter_kinds import NAME, SERVICE, MaybeAddress, QuorumText, Secret, Strict, Zone
from ledger.chain import canonical
from ledger.events import Cause
from ledger.terms import Quorum

GLASS = ("admin", "oncall")
"""Whom a charter may let approve alone what needs more."""


class Tenant(Strict):
    """*github* names the secret with which GitHub signs what it tells of pushes and deploys.

    *break_glass* is who may approve alone what needs more, such as "1 admin"; left out, nobody.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"github", "break_glass"})

    id: str = Field(pattern=SERVICE)
    timezone: Zone = "UTC"
    language: Literal["en"] = "en"
    allow_networks: tuple[str, ...] = ()
    github: Secret | None = None
    break_glass: QuorumText = ""

    @field_validator("break_glass")
    @classmethod
    def _is_one(cls, text: str) -> str:
        if any(need > 1 or role not in GLASS for need, role in Quorum.parse(text).alternatives):
            raise ValueError('is for one admin or one oncall. Write "1 admin" or "1 admin or 1 oncall"')
        return text

    @field_validator("allow_networks")
    @classmethod
    def _known_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks


class Limits(Strict):
    """For whoever hosts it for others. They never silence detection or the first page."""

    LATER: ClassVar[frozenset[str]] = frozenset({"runs_per_hour", "prices"})

    services: int = Field(default=20, ge=1)
    model_usd_per_day: str = Field(default="2.00", pattern=r"^\d{1,5}(\.\d{1,2})?$")
    runs_per_hour: int | None = Field(default=None, ge=1, le=10_000)
    prices: tuple[Price, ...] = ()


class Person(Strict):
    id: str = Field(pattern=NAME)
    name: str = Field(min_length=1, max_length=40)
    roles: tuple[str, ...] = ()
    telegram: int | None = None
    whatsapp: str | None = Field(default=None, pattern=r"^\+[1-9]\d{6,14}$")
    language: Literal["en"] | None = None
    timezone: Zone | None = None


class Chat(Strict):
    telegram: int
    topic: int | None = None


class Check(Strict):
    """Something to look at before deciding. Models may name any; a card names those of its cause."""

    id: str = Field(pattern=NAME)
    title: str = Field(min_length=1, max_length=60)
    url: MaybeAddress = ""
    causes: tuple[Cause, ...] = ()


class Service(Strict):
    """It is asked at its *health_url*; or it pushes, with the token that the secret *push* holds; or, with
    *alerts*, nothing is known of it but what other tools say. *policy* is what is different for it alone; in
    *shadow* it is judged as any other and opens nothing."""

    LATER: ClassVar[frozenset[str]] = frozenset({"push", "alerts", "policy", "shadow"})

    id: str = Field(pattern=SERVICE)
    health_url: MaybeAddress = ""
    push: Secret | None = None
    alerts: bool = False
    token_env: Secret | None = None
    repository: str = ""
    shadow: bool = False
    policy: Mapping[str, Any] | None = None
    checks: tuple[Check, ...] = ()
    actions: tuple[Action, ...] = ()

    @model_validator(mode="after")
    def _is_asked_or_pushes(self) -> "Service":
        if self.push and self.health_url:
            raise ValueError("is both asked at health_url and pushes. Keep one of them")
        if not (self.push or self.health_url or self.alerts):
            raise ValueError(
                'names neither health_url nor push. Write health_url = "https://host/health/alerts"; for an '
                'app that nobody can reach, push = "NAME_OF_THE_SECRET_WITH_ITS_TOKEN"; or, where only other '
                "tools watch it, alerts = true"
            )
        if self.push and self.token_env:
            raise ValueError("pushes: token_env is for health_url. Remove token_env; push names the token")
        return self

    def action(self, name: str) -> Action | None:
        return next((action for action in self.actions if action.id == name), None)

    def action_for(self, cause: Cause) -> Action | None:
        """What the charter names for a cause, if anything."""
        return next((action for action in self.actions if cause in action.causes), None)

    def checks_for(self, cause: Cause) -> list[Check]:
        """What to look at before deciding, where this may be the cause."""
        return [check for check in self.checks if cause in check.causes]

    @property
    def overrides(self) -> dict[str, Any]:
        """The thresholds that are its own."""
        return {**(self.policy or {}), **({"shadow": [EVERY]} if self.shadow else {})}

    @property
    def default_action(self) -> Action | None:
        return next((action for action in self.actions if action.default), None)

    @property
    def secrets(self) -> list[str]:
        """The names of all secrets that it needs."""
        named = [self.push, self.token_env, *(action.secret_env for action in self.actions)]
        return [name for name in named if name]


class Charter(Strict):
    LATER: ClassVar[frozenset[str]] = frozenset({"rules", "rota", "escalation", "maintenance", "alerts"})

    tenant: Tenant
    limits: Limits = Limits()
    people: tuple[Person, ...] = ()
    chats: tuple[Chat, ...] = ()
    services: tuple[Service, ...] = ()
    policy: Mapping[str, Any] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    rota: Rota | None = None
    escalation: tuple[Step, ...] = Field(default=(), max_length=10)
    maintenance: tuple[Window, ...] = ()
    alerts: tuple[Source, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _rules_fill_in(cls, raw: Any) -> Any:
        """What an action does not say itself, the first rule says that holds for it."""
        rules = raw.get("rules") if isinstance(raw, dict) else None
        if not isinstance(rules, list | tuple) or not isinstance(raw.get("services"), list | tuple):
            return raw
        return raw | {"services": [_ruled(service, rules) for service in raw["services"]]}

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Charter":
        groups: dict[str, list[object]] = {
            "people": [p.id for p in self.people],
            "people.telegram": [p.telegram for p in self.people if p.telegram],
            "people.whatsapp": [p.whatsapp for p in self.people if p.whatsapp],
            "services": [s.id for s in self.services],
            "alerts": [source.kind for source in self.alerts],
            "chats": [c.telegram for c in self.chats],
        }
        groups |= {f"services.{s.id}.actions": [a.id for a in s.actions] for s in self.services}
        for group, names in groups.items():
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{group}: {twice!r} stands twice. Each may stand once")
        return self

    @model_validator(mode="after")
    def _secrets_are_the_tenants_own(self) -> "Charter":
        prefix = prefix_of(self.tenant.id)
        named = [("tenant.github", self.tenant.github)] if self.tenant.github else []
        named += [(f"alerts.{source.kind}", source.secret) for source in self.alerts]
        named += [(f"services.{service.id}", name) for service in self.services for name in service.secrets]
        for key, name in named:
            if not name.startswith(prefix):
                reason = f"{key}: the secret {name} is not this tenant's"
                raise ValueError(f"{reason}. Let its name start with {prefix}")
        return self

    def person(self, name: str) -> Person | None:
        return next((person for person in self.people if person.id == name), None)

    def service(self, name: str) -> Service | None:
        return next((service for service in self.services if service.id == name), None)

    def alerting(self, kind: str) -> Source | None:
        """The tool that posts alerts as *kind*."""
        return next((source for source in self.alerts if source.kind == kind), None)

    def action(self, service: str, name: str) -> Action | None:
        found = self.service(service)
        return found.action(name) if found else None

    @property
    def glass(self) -> Quorum:
        """Who may approve alone what needs more."""
        return Quorum.parse(self.tenant.break_glass)

    def approvers(self, quorum: Quorum) -> list[Person]:
        """The people who may vote, in the charter's order."""
        return [person for person in self.people if quorum.admits(person.roles)]

    def effective_policy(self, environment: Mapping[str, str] | None = None) -> Policy:
        """The policy with this charter's overrides and those of the environment (`POLICY_…`) in it.

        What a service has of its own counts before both.
        """
        common = Policy().with_overrides({**self.policy, **(environment or {})})
        return common.with_services({service.id: service.overrides for service in self.services})

    def redacted(self) -> dict[str, Any]:
        """The charter with its contacts as commitments, as it is kept and exported."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        for person in plain["people"]:
            for channel in ("telegram", "whatsapp"):
                if person[channel] is not None:
                    person[channel] = commitment(self.tenant.id, f"{channel}:{person[channel]}")
        plain["policy"] = _as_text(plain["policy"])
        for service in plain["services"]:
            if "policy" in service:
                service["policy"] = _as_text(service["policy"])
        return plain

    def text(self) -> str:
        return canonical(self.redacted()).decode()

    def digest(self) -> str:
        """What an adoption names: SHA-256 of `text`."""
        return sha256(self.text().encode()).hexdigest()


def _as_text(overrides: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in overrides.items()}


def _ruled(service: Any, rules: Sequence[Any]) -> Any:
    """*service* as it was written, with what *rules* say of its actions. What is malformed stays as it is."""
    if not isinstance(service, dict) or not isinstance(service.get("actions"), list | tuple):
        return service
    name = service.get("id")
    return service | {"actions": [_ruled_action(name, action, rules) for action in service["actions"]]}


def _ruled_action(service: Any, action: Any, rules: Sequence[Any]) -> Any:
    if not isinstance(action, dict):
        return action
    filled = dict(action)
    for rule in rules:
        if isinstance(rule, dict) and _holds(rule, service, action.get("risk", "low")):
            filled = {key: rule[key] for key in RULED if rule.get(key) is not None} | filled
    return filled


def _holds(rule: dict[str, Any], service: Any, risk: Any) -> bool:
    return rule.get("risk") in {None, risk} and (not rule.get("services") or service in rule["services"])


def prefix_of(tenant: str) -> str:
    """What the names of this tenant's secrets begin with."""
    return tenant.upper().replace("-", "_") + "_"


def commitment(salt: str, value: str) -> str:
    """A commitment to *value*: who knows both can check it, nobody can read it off."""
    return sha256(b"countersign/commitment\x00" + salt.encode() + b"\x00" + value.encode()).hexdigest()
