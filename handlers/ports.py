"""What the handlers need of the outside world, one small port each.

A port raises one error, `PortError`; its adapter translates the vendor's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from detectors.policy import Policy
from detectors.verdict import Verdict
from detectors.window import Tick
from handlers.charter import Charter, Service
from ledger.events import Cause
from ledger.view import View


class PortError(Exception):
    """The other side did not do it. `permanent`: trying again is no use. `unknown`: it may have done it."""

    def __init__(
        self, message: str, *, permanent: bool = False, status: int = 0, unknown: bool = False
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.status = status
        self.unknown = unknown


class Outcome(StrEnum):
    """What became of a question to a model."""

    ANSWERED = "answered"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    UNAVAILABLE = "unavailable"
    NO_KEY = "no key"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model read and wrote, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0


class NoOpinion(PortError):
    """The model gave no usable answer, and why. *usage* is what it used, where that is known."""

    def __init__(self, outcome: Outcome, message: str = "", usage: Usage | None = None) -> None:
        super().__init__(message or str(outcome))
        self.outcome = outcome
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought, and the *cursor* from which the next one goes on; 0 is a first poll."""

    tick: Tick
    cursor: int


class Health(Protocol):
    async def poll(self, charter: Charter, service: Service, cursor: int, now_ms: int) -> Polled:
        """The requests that ended since *cursor*. Raises PortError."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What one lens is shown. Texts are foreign: normalised, capped, untrusted."""

    lens: str
    incident: str
    service: str
    headline: str
    evidence: tuple[Mapping[str, str], ...]
    components: tuple[str, ...]
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opinion:
    """A model's closed answer, checked."""

    cause: Cause
    component: str
    percent: int
    evidence: tuple[str, ...]
    check: str
    why: str
    model: str
    took_ms: int
    usage: Usage | None = None


class Model(Protocol):
    name: str

    def prompt_digest(self, brief: Brief) -> str:
        """SHA-256 of all that is sent to ask about *brief*: known whether or not an answer comes."""

    async def ask(self, brief: Brief) -> Opinion:
        """What this model thinks. Raises NoOpinion; it may hang, the caller has the deadline."""


@dataclass(frozen=True, slots=True)
class Call:
    """One webhook call, complete: what is sent is decided before anything is sent."""

    url: str
    body: bytes
    secret: bytes = field(repr=False)
    message_id: str
    timestamp: int
    idempotency_key: str
    allow_networks: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    method: str = "POST"
    bearer: bool = False
    """Whether the secret is a token that is sent, rather than a key that signs."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a webhook answered: any status, the body capped."""

    status: int
    body: bytes
    took_ms: int


class Webhook(Protocol):
    async def post(self, call: Call) -> Reply:
        """What was answered within 10 s. Raises PortError where nothing was: permanent where nothing may be
        sent there, unknown where it may have arrived."""


class Secrets(Protocol):
    def get(self, name: str) -> bytes | None:
        """The value of a tenant's secret by its name in the environment."""


class Watch(Protocol):
    """What policy saw last, in memory: refilled by the next poll after a restart."""

    def verdict(self, tenant: str, service: str) -> Verdict | None: ...

    def reachable(self, tenant: str, service: str) -> bool: ...

    def deploy(self, tenant: str, service: str) -> str:
        """The commit that is live, or an empty text where nobody knows."""


class Rulebook:
    """The charters and policies known to this process, by digest; the ledger says which is in force."""

    def __init__(self) -> None:
        self._charters: dict[str, Charter] = {}
        self._policies: dict[str, Policy] = {}

    def add(self, charter: Charter, policy: Policy) -> None:
        self._charters[charter.digest()] = charter
        self._policies[policy.digest()] = policy

    def knows(self, charter: str, policy: str) -> bool:
        return charter in self._charters and policy in self._policies

    def charter(self, view: View) -> Charter | None:
        """The charter in force, or None while none was adopted or its text is not known here."""
        return self._charters.get(view.rules.charter)

    def policy(self, view: View) -> Policy:
        return self._policies.get(view.rules.policy) or Policy()
