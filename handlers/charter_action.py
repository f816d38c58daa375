"""An action that a charter names: what it does, to whom, who may approve it, and how often it may run.

It is carried out by one of three: a webhook of yours, GitHub (`workflow_dispatch`), or Heroku (a restart of
dynos). The last two need no endpoint; `secret_env` then names the token.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from handlers.charter_kinds import NAME, Duration, MaybeAddress, QuorumText, Secret, Strict
from handlers.charter_parameters import BadParameter, Parameter, fill
from ledger.events import Cause, Given
from ledger.terms import Quorum, request_digest

GITHUB = "https://api.github.com"
HEROKU = "https://api.heroku.com"


class GitHub(Strict):
    """A workflow that is dispatched on a branch or tag. The action's parameters are its inputs."""

    repository: str = Field(pattern=r"^[A-Za-z0-9-]{1,39}/[A-Za-z0-9_.-]{1,100}$")
    workflow: str = Field(pattern=r"^(?:[A-Za-z0-9_.-]{1,100}\.ya?ml|[0-9]{1,15})$")
    branch: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$")

    @field_validator("repository")
    @classmethod
    def _leads_nowhere_else(cls, name: str) -> str:
        if name.partition("/")[2] in {".", ".."}:
            raise ValueError('is no repository. Write "owner/name"')
        return name

    @property
    def path(self) -> str:
        return f"/repos/{self.repository}/actions/workflows/{self.workflow}/dispatches"


class Heroku(Strict):
    """The dynos of an app, or one of them, such as web.1, that are restarted."""

    app: str = Field(pattern=r"^[a-z][a-z0-9-]{1,28}[a-z0-9]$")
    dyno: str = Field(default="", pattern=r"^(?:[a-z][a-z0-9_-]{0,29}\.[0-9]{1,4})?$")

    @property
    def path(self) -> str:
        return f"/apps/{self.app}/dynos" + (f"/{self.dyno}" if self.dyno else "")


class Action(Strict):
    """*settle* is how long after it ran nothing is judged, *within* how long after that it has to help."""

    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            "github", "heroku", "parameters", "blast_radius", "change_ref", "per_hour", "totp", "settle",
            "within",
        }
    )  # fmt: skip

    id: str = Field(pattern=NAME)
    title: str = Field(min_length=1, max_length=60)
    webhook: MaybeAddress = ""
    secret_env: Secret
    approve: QuorumText
    risk: Literal["low", "high"] = "low"
    impact: str = Field(default="", max_length=120)
    undo: str = Field(default="", max_length=120)
    causes: tuple[Cause, ...] = ()
    default: bool = False
    idempotent: bool = False
    outside: bool = False
    cooldown: Duration = 600_000
    expires: Duration = 300_000
    settle: Duration = Field(default=10_000, le=3_600_000)
    within: Duration | None = Field(default=None, le=86_400_000)
    github: GitHub | None = None
    heroku: Heroku | None = None
    parameters: tuple[Parameter, ...] = Field(default=(), max_length=10)
    blast_radius: str = Field(default="", max_length=120)
    change_ref: str = Field(default="", max_length=60)
    per_hour: int | None = Field(default=None, ge=1, le=1000)
    totp: bool = False

    @model_validator(mode="after")
    def _is_carried_out_by_one(self) -> "Action":
        named = [name for name in ("webhook", "github", "heroku") if getattr(self, name)]
        if len(named) != 1:
            said = " and ".join(named) or "nothing"
            raise ValueError(f"names {said} to carry it out. Name webhook, github or heroku, and one alone")
        if self.heroku and self.parameters:
            raise ValueError("a restart at Heroku takes no parameters. Remove them")
        return self

    @model_validator(mode="after")
    def _steps_up_where_it_is_looked_at_twice(self) -> "Action":
        if self.totp and self.risk != "high":
            raise ValueError(
                'asks for a one-time code and is of low risk. Write risk = "high" with it; in a rule, too'
            )
        return self

    @model_validator(mode="after")
    def _can_be_offered(self) -> "Action":
        names = [one.id for one in self.parameters]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"the parameter {twice} stands twice. Each may stand once")
        open_ = next((one.id for one in self.parameters if one.default is None), "")
        if open_ and (self.causes or self.default):
            raise ValueError(
                f"is offered by itself, and its parameter {open_} has no default. "
                "Add one, or remove causes and default: then /run alone offers it"
            )
        return self

    @property
    def offers_itself(self) -> bool:
        """Whether it can be asked for without a person who fills in its parameters."""
        return all(one.default is not None for one in self.parameters)

    @property
    def quorum(self) -> Quorum:
        return Quorum.parse(self.approve)

    @property
    def method(self) -> str:
        return "DELETE" if self.heroku else "POST"

    @property
    def url(self) -> str:
        """Where the request goes, at the vendor's own address for what needs no endpoint."""
        if self.github:
            return GITHUB + self.github.path
        return HEROKU + self.heroku.path if self.heroku else self.webhook

    @property
    def request(self) -> str:
        """What runs, as a person reads it: method, host and path."""
        parts = urlsplit(self.url)
        return f"{self.method} {parts.netloc}{parts.path}{self._on_branch}"

    @property
    def exactly(self) -> str:
        """The same with the whole address, for a page or a second tap."""
        return f"{self.method} {self.url}{self._on_branch}"

    @property
    def _on_branch(self) -> str:
        return f" on {self.github.branch}" if self.github else ""

    def fill(self, given: Mapping[str, str] | None = None) -> tuple[Given, ...]:
        """The parameters of a request, by what a person gave and the defaults. Raises BadParameter."""
        return fill(self.parameters, given or {})

    def digest(self, service: str, given: tuple[Given, ...] = ()) -> str:
        """What exactly an approval of this action with these parameters covers."""
        bound = {one.name: one.value for one in given}
        if self.github:
            bound["branch "] = self.github.branch  # no parameter has a blank in its name
        return request_digest(service, self.id, self.url, self.method, bound)

    def admits(self, given: tuple[Given, ...]) -> bool:
        """Whether these parameters are whole and allowed."""
        try:
            return self.fill({one.name: one.value for one in given}) == given
        except BadParameter:
            return False
