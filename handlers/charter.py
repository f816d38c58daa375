"""The charter: who the people are, which services there are, what may run and who may approve it.

It is read from one TOML file a tenant. A mistake names file, key, reason and remedy, and the charter that was
in force stays in force. An empty approver list means nobody.
"""

import ipaddress
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from detectors.policy import BadOverride, Policy
from ledger.chain import canonical
from ledger.events import Cause
from ledger.terms import Quorum as Quorum
from ledger.terms import request_digest

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_NAME = r"^[a-z][a-z0-9_]{0,31}$"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a charter, and what to do about it."""

    file: str
    key: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.reason}. {self.remedy}"


class CharterError(Exception):
    """The file is not a charter. Nothing was adopted; what was in force stays in force."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def _duration(value: object) -> object:
    """ "90s", "10m" or "2h" as milliseconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,6})\s*(s|m|h)", value.strip())
        if not found:
            raise ValueError('is no duration. Write a number and s, m or h, such as "10m"')
        return int(found[1]) * _UNITS[found[2]]
    raise ValueError('is no duration. Write a number and s, m or h in quotes, such as "10m"')


Duration = Annotated[int, BeforeValidator(_duration)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tenant(Strict):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    timezone: str = "UTC"
    language: Literal["en"] = "en"
    allow_networks: tuple[str, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f'{name!r} is no time zone. Write one such as "Africa/Harare"') from None
        return name

    @field_validator("allow_networks")
    @classmethod
    def _known_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks


class Limits(Strict):
    services: int = Field(default=20, ge=1)
    model_usd_per_day: str = Field(default="2.00", pattern=r"^\d{1,5}(\.\d{1,2})?$")


class Person(Strict):
    id: str = Field(pattern=_NAME)
    name: str = Field(min_length=1, max_length=40)
    roles: tuple[str, ...] = ()
    telegram: int | None = None
    whatsapp: str | None = Field(default=None, pattern=r"^\+[1-9]\d{6,14}$")
    language: Literal["en"] | None = None
    timezone: str | None = None


class Chat(Strict):
    telegram: int
    topic: int | None = None


class Check(Strict):
    id: str = Field(pattern=_NAME)
    title: str = Field(min_length=1, max_length=60)
    url: str = ""
    causes: tuple[Cause, ...] = ()


class Action(Strict):
    id: str = Field(pattern=_NAME)
    title: str = Field(min_length=1, max_length=60)
    webhook: str
    secret_env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    approve: str
    risk: Literal["low", "high"] = "low"
    impact: str = Field(default="", max_length=120)
    undo: str = Field(default="", max_length=120)
    causes: tuple[Cause, ...] = ()
    default: bool = False
    idempotent: bool = False
    outside: bool = False
    cooldown: Duration = 600_000
    expires: Duration = 300_000

    @field_validator("approve")
    @classmethod
    def _is_a_quorum(cls, text: str) -> str:
        Quorum.parse(text)
        return text

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return _http_address(url)

    @property
    def quorum(self) -> Quorum:
        return Quorum.parse(self.approve)

    @property
    def request(self) -> str:
        """What runs, as a person reads it: method, host and path."""
        parts = urlsplit(self.webhook)
        return f"POST {parts.netloc}{parts.path}"

    def digest(self, service: str) -> str:
        """What exactly an approval of this action covers."""
        return request_digest(service, self.id, self.webhook)


class Service(Strict):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    health_url: str
    token_env: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    repository: str = ""
    checks: tuple[Check, ...] = ()
    actions: tuple[Action, ...] = ()

    @field_validator("health_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return _http_address(url)

    def action(self, name: str) -> Action | None:
        return next((action for action in self.actions if action.id == name), None)

    def action_for(self, cause: Cause) -> Action | None:
        """What the charter names for a cause, if anything."""
        return next((action for action in self.actions if cause in action.causes), None)

    @property
    def default_action(self) -> Action | None:
        return next((action for action in self.actions if action.default), None)


class Charter(Strict):
    tenant: Tenant
    limits: Limits = Limits()
    people: tuple[Person, ...] = ()
    chats: tuple[Chat, ...] = ()
    services: tuple[Service, ...] = ()
    policy: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Charter":
        groups: dict[str, list[object]] = {
            "people": [p.id for p in self.people],
            "people.telegram": [p.telegram for p in self.people if p.telegram],
            "people.whatsapp": [p.whatsapp for p in self.people if p.whatsapp],
            "services": [s.id for s in self.services],
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
        prefix = _prefix(self.tenant.id)
        for service in self.services:
            for name in _secrets(service):
                if not name.startswith(prefix):
                    reason = f"services.{service.id}: the secret {name} is not this tenant's"
                    raise ValueError(f"{reason}. Let its name start with {prefix}")
        return self

    def person(self, name: str) -> Person | None:
        return next((person for person in self.people if person.id == name), None)

    def service(self, name: str) -> Service | None:
        return next((service for service in self.services if service.id == name), None)

    def action(self, service: str, name: str) -> Action | None:
        found = self.service(service)
        return found.action(name) if found else None

    def approvers(self, quorum: Quorum) -> list[Person]:
        """The people who may vote, in the charter's order."""
        return [person for person in self.people if quorum.admits(person.roles)]

    def effective_policy(self, environment: Mapping[str, str] | None = None) -> Policy:
        """The policy with this charter's overrides and those of the environment (`POLICY_…`) in it."""
        return Policy().with_overrides({**self.policy, **(environment or {})})

    def redacted(self) -> dict[str, Any]:
        """The charter with its contacts as commitments, as it is kept and exported."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        for person in plain["people"]:
            for channel in ("telegram", "whatsapp"):
                if person[channel] is not None:
                    person[channel] = commitment(self.tenant.id, f"{channel}:{person[channel]}")
        plain["policy"] = {key: str(value) for key, value in plain["policy"].items()}
        return plain

    def text(self) -> str:
        return canonical(self.redacted()).decode()

    def digest(self) -> str:
        """What an adoption names: SHA-256 of `text`."""
        return sha256(self.text().encode()).hexdigest()


def _prefix(tenant: str) -> str:
    """What the names of this tenant's secrets begin with."""
    return tenant.upper().replace("-", "_") + "_"


def _secrets(service: Service) -> list[str]:
    """The names of all secrets that *service* needs."""
    named = [service.token_env, *(action.secret_env for action in service.actions)]
    return [name for name in named if name]


def commitment(salt: str, value: str) -> str:
    """A commitment to *value*: who knows both can check it, nobody can read it off."""
    return sha256(b"countersign/commitment\x00" + salt.encode() + b"\x00" + value.encode()).hexdigest()


def load(path: Path, forbidden_secrets: Collection[str] = ()) -> Charter:
    """The charter in the file *path*. Raises CharterError with every mistake found.

    *forbidden_secrets* are the names that the program's own settings read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CharterError(
            [
                Mistake(
                    str(path),
                    "file",
                    f"cannot be read ({error})",
                    "Set CHARTER to a file or folder that exists.",
                )
            ]
        ) from None
    return parse(text, str(path), forbidden_secrets)


def parse(text: str, file: str = "charter.toml", forbidden_secrets: Collection[str] = ()) -> Charter:
    """The charter that *text* is. Raises CharterError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CharterError(
            [Mistake(file, "file", f"is not TOML ({error})", "Mend the line that it names.")]
        ) from None
    try:
        charter = Charter.model_validate(raw)
    except ValidationError as error:
        raise CharterError(_mistakes(file, error)) from None
    wrong = [*_bad_secrets(file, charter, forbidden_secrets), *_bad_policy(file, charter)]
    if wrong:
        raise CharterError(wrong)
    return charter


def files(path: Path) -> list[Path]:
    """The charters' files: *path* itself, or those in the folder that it is."""
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def load_all(path: Path, forbidden_secrets: Collection[str] = ()) -> dict[str, Charter]:
    """The charters by tenant: *path* is one file, or a folder with one file a tenant. Raises CharterError."""
    found_in = files(path)
    if not found_in:
        raise CharterError(
            [Mistake(str(path), "folder", "holds no charter", "Put one NAME.toml a tenant into it.")]
        )
    found: dict[str, Charter] = {}
    chats: dict[int, str] = {}
    for file in found_in:
        charter = load(file, forbidden_secrets)
        name = charter.tenant.id
        if name in found:
            raise CharterError(
                [Mistake(str(file), "tenant.id", f"{name!r} stands in two files", "Rename one.")]
            )
        for chat in charter.chats:
            if chats.setdefault(chat.telegram, name) != name:
                reason = f"the chat {chat.telegram} is already {chats[chat.telegram]}'s"
                raise CharterError([Mistake(str(file), "chats", reason, "A chat belongs to one tenant.")])
        found[name] = charter
    foreign = [mistake for charter in found.values() for mistake in foreign_secrets(charter, found)]
    if foreign:
        raise CharterError(foreign)
    return found


def foreign_secrets(charter: Charter, tenants: Collection[str]) -> list[Mistake]:
    """The secrets that begin with `ACME_EU_`, in acme's charter, where there is a tenant acme-eu."""
    ours = charter.tenant.id
    return [
        Mistake(ours, f"services.{service.id}", f"the secret {name} is {other}'s", "Name it otherwise.")
        for other in tenants
        if len(other) > len(ours)
        for service in charter.services
        for name in _secrets(service)
        if name.startswith(_prefix(other))
    ]


def _http_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise ValueError(f"{url!r} is no address. Write https://host/path without a user in it")
    return url


def _mistakes(file: str, error: ValidationError) -> list[Mistake]:
    found = []
    for one in error.errors(include_url=False):
        key = ".".join(str(part + 1) if isinstance(part, int) else part for part in one["loc"]) or "charter"
        reason, _, remedy = one["msg"].removeprefix("Value error, ").partition(". ")
        reason, known = _IN_WORDS.get(one["type"], (reason, ""))
        found.append(Mistake(file, key, reason, _sentence(known or remedy or "See the README's charter")))
    return found


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


_IN_WORDS = {
    "extra_forbidden": (
        "there is no such key",
        "Remove it, or check its spelling against the README's charter",
    ),
    "missing": ("is missing", "Add it"),
    "string_pattern_mismatch": ("has a form that it may not have", "Write it as in the README's charter"),
}


def _bad_secrets(file: str, charter: Charter, forbidden: Collection[str]) -> list[Mistake]:
    remedy = "Give the webhook a secret of its own."
    return [
        Mistake(file, f"services.{s.id}", f"{name} is a secret of Countersign itself", remedy)
        for s in charter.services
        for name in _secrets(s)
        if name in forbidden
    ]


def _bad_policy(file: str, charter: Charter) -> list[Mistake]:
    try:
        charter.effective_policy()
    except BadOverride as wrong:
        return [Mistake(file, f"policy.{wrong.key}", wrong.reason.rstrip("."), wrong.remedy)]
    return []
