"""What the fields of a charter are made of: names, durations, quorums, addresses, and how a mistake reads.

A field that came after the first charters were adopted is named in its model's `LATER`: at its default it is
left out of the charter's text, so that a charter which does not use it keeps its digest.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)

from ledger.terms import Quorum

NAME = r"^[a-z][a-z0-9_]{0,31}$"
SERVICE = r"^[a-z][a-z0-9-]{0,31}$"
SECRET = r"^[A-Z][A-Z0-9_]*$"  # noqa: S105  the form of a secret's name
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


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


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_it_was_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, said = type(self).model_fields, plain(self)
        unsaid = {name for name in self.LATER if getattr(self, name) == fields[name].default}
        return {name: value for name, value in said.items() if name not in unsaid}


def _duration(value: object, info: ValidationInfo) -> object:
    """ "90s", "10m", "2h" or "7d" as milliseconds. The kept form of a charter has the milliseconds."""
    if info.mode == "json" and type(value) is int:
        return value
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,6})\s*(s|m|h|d)", value.strip(), re.ASCII)
        if not found:
            raise ValueError('is no duration. Write a number and s, m, h or d, such as "10m"')
        return int(found[1]) * _UNITS[found[2]]
    raise ValueError('is no duration. Write a number and s, m, h or d in quotes, such as "10m"')


def _quorum(text: str) -> str:
    Quorum.parse(text)
    return text


def _http_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise ValueError(f"{url!r} is no address. Write https://host/path without a user in it")
    return url


def _http_address_or_none(url: str) -> str:
    return _http_address(url) if url else ""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f'{name!r} is no time zone. Write one such as "Africa/Harare"') from None
    return name


Duration = Annotated[int, BeforeValidator(_duration)]
"""In ms."""
QuorumText = Annotated[str, AfterValidator(_quorum)]
Address = Annotated[str, AfterValidator(_http_address)]
MaybeAddress = Annotated[str, AfterValidator(_http_address_or_none)]
Zone = Annotated[str, AfterValidator(_zone)]
Secret = Annotated[str, Field(pattern=SECRET)]
"""The name of a secret in the environment, never the secret."""
