"""The parameters of an action: what a person may choose, within what the charter allows.

* An enum names its choices, an integer its least and most, a text the pattern that all of it must match.
* One that is `fixed` has the charter's value, and nobody changes it.
* A value is visible text of at most 80 characters. Patterns that could keep the program busy are refused:
  no lookaround, no back reference, no repeated group, at most three open repetitions.
"""

import re
from collections.abc import Mapping
from html import escape
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from handlers.charter_kinds import NAME, Strict
from ledger.chain import MAX_INT
from ledger.events import Given

MOST = 80
SPOKEN = 90
"""So long are all values of a request at most, as a card shows them: whoever approves sees them whole."""
OPEN_REPEATS = 3
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_REFUSED = re.compile(r"\(\?(?!:)|\\[1-9]|\)[*+?{]")
_OPEN = re.compile(r"[*+]|\{\d*,\}")
_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")


class BadParameter(ValueError):
    """A value that the charter does not allow: which, and what it may be."""


class Parameter(Strict):
    """One parameter. Integers are kept and bound as their decimal digits."""

    KEYS: ClassVar[Mapping[str, frozenset[str]]] = {
        "enum": frozenset({"choices"}),
        "integer": frozenset({"least", "most"}),
        "text": frozenset({"pattern"}),
    }

    id: str = Field(pattern=NAME)
    kind: Literal["enum", "integer", "text"]
    choices: tuple[str, ...] = ()
    least: int | None = Field(default=None, ge=-MAX_INT, le=MAX_INT)
    most: int | None = Field(default=None, ge=-MAX_INT, le=MAX_INT)
    pattern: str = Field(default="", max_length=200)
    default: str | None = None
    fixed: bool = False

    @field_validator("default", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        return str(value) if type(value) is int else value

    @field_validator("pattern")
    @classmethod
    def _ends_soon(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as wrong:
            raise ValueError(f"is no pattern ({wrong}). Mend it, such as [a-z0-9-]{{1,20}}") from None
        bare = _ESCAPED.sub("x", pattern)
        if _REFUSED.search(pattern) or len(_OPEN.findall(bare)) > OPEN_REPEATS:
            raise ValueError(
                "could keep the program busy. Write it without lookaround, back references and repeated "
                "groups, and with few * and +"
            )
        return pattern

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Parameter":
        said = {"choices": bool(self.choices), "pattern": bool(self.pattern)}
        said |= {"least": self.least is not None, "most": self.most is not None}
        for key, there in said.items():
            if there and key not in self.KEYS[self.kind]:
                raise ValueError(f"{key} is not for kind = {self.kind!r}. Remove it")
            if not there and key in self.KEYS[self.kind]:
                raise ValueError(f"kind = {self.kind!r} needs {key}. Add it")
        self._check_bounds()
        if self.fixed and self.default is None:
            raise ValueError("is fixed and has no default. Add the value that it has")
        if self.default is not None:
            self.check(self.default)
        return self

    def _check_bounds(self) -> None:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}. Swap them")
        for choice in self.choices:
            if not _visible(choice) or self.choices.count(choice) > 1:
                raise ValueError(
                    f"the choice {choice!r} cannot be told apart. Name each once, in visible text"
                )

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        match self.kind:
            case "enum":
                return f"one of {', '.join(self.choices)}"
            case "integer":
                return f"a whole number from {self.least} to {self.most}"
            case _:
                return f"text that matches {self.pattern}"

    def check(self, value: str) -> str:
        """*value*, if it is allowed. Raises BadParameter."""
        if not _visible(value) or not self._admits(value):
            raise BadParameter(f"{self.id} is not {self.allowed}. Choose such a one")
        return value

    def _admits(self, value: str) -> bool:
        match self.kind:
            case "enum":
                return value in self.choices
            case "integer":
                least, most = self.least or 0, self.most or 0
                return bool(_NUMBER.fullmatch(value)) and least <= int(value) <= most and value != "-0"
            case _:
                return re.fullmatch(self.pattern, value) is not None


def fill(parameters: tuple[Parameter, ...], given: Mapping[str, str]) -> tuple[Given, ...]:
    """All *parameters* with their values, those in *given* and defaults for the rest. Raises BadParameter."""
    known = {one.id: one for one in parameters}
    for name in given:
        if name not in known:
            raise BadParameter(f"There is no parameter {name[:32]}. {_offered(known)}")
        if known[name].fixed and given[name] != known[name].default:
            raise BadParameter(f"{name} is fixed by the charter. Leave it out")
    filled = tuple(
        Given(name=one.id, value=_value(one, given.get(one.id, one.default))) for one in parameters
    )
    if len(escape(spoken(filled), quote=False).encode("utf-16-le")) > 2 * SPOKEN:
        raise BadParameter(f"All values together are longer than {SPOKEN} characters. Shorten them")
    return filled


def spoken(given: tuple[Given, ...]) -> str:
    """branch=main, count=3"""
    return ", ".join(f"{one.name}={one.value}" for one in given)


def _value(one: Parameter, value: str | None) -> str:
    if value is None:
        raise BadParameter(f"{one.id} is missing: {one.allowed}. Send it as {one.id}=…")
    return one.check(value)


def _offered(known: Mapping[str, Parameter]) -> str:
    return f"There are {', '.join(known)}" if known else "This action has none"


def _visible(value: str) -> bool:
    return 0 < len(value) <= MOST and value.isprintable()
