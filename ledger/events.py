"""Every fact that can stand in a ledger: past tense, frozen, integers only.

A field is only ever added, and with a default, so that old entries stay readable. Durations are in
milliseconds, instants in milliseconds since the epoch, shares in per mille, probabilities in percent.
What a person typed is never here: `words` is its salted commitment, the text lies in the vault.
"""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class ActorKind(StrEnum):
    POLICY = "policy"
    MODEL = "model"
    ENGINEER = "engineer"
    ORCHESTRATOR = "orchestrator"


POLICY, MODEL, ENGINEER, ORCHESTRATOR = ActorKind


class Cause(StrEnum):
    """The closed list from which a model names one."""

    DATABASE = "database"
    DEPENDENCY = "dependency"
    DEPLOY = "deploy"
    CAPACITY = "capacity"
    MEMORY = "memory"
    NETWORK = "network"
    TRAFFIC = "traffic"
    CONFIG = "config"
    UNKNOWN = "unknown"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Actor(Frozen):
    """Who says it: a person by charter id, a model by its name, or one of our own two voices."""

    kind: ActorKind
    id: str
    via: str = ""

    @classmethod
    def policy(cls) -> "Actor":
        return cls(kind=POLICY, id="policy")

    @classmethod
    def orchestrator(cls, process: str) -> "Actor":
        return cls(kind=ORCHESTRATOR, id=process)

    @classmethod
    def model(cls, name: str) -> "Actor":
        return cls(kind=MODEL, id=name, via="anthropic")

    @classmethod
    def engineer(cls, person: str, via: str) -> "Actor":
        return cls(kind=ENGINEER, id=person, via=via)


class Ref(Frozen):
    """One exact entry."""

    seq: int
    hash: str


class Act(Frozen):
    """The evidence of a human act: where it came from and the digest of what really arrived."""

    channel: str
    update: str = ""
    message: str = ""
    digest: str = ""
    at_ms: int = 0


class Reading(Frozen):
    """What policy measured, recomputable from its own numbers."""

    service: str
    rule: str
    signal: str
    severity: str
    headline: str
    explanation: str
    score: int = 0
    trend: str = "steady"
    since_ms: int = 0
    n: int = 0
    failed: int = 0
    window_ms: int = 0
    p50_ms: int = 0
    p95_ms: int = 0
    rps_milli: int = 0
    error_permille: int = 0
    inflight: int = 0
    oldest_ms: int = 0
    evidence_cn: int = 0
    threshold_cn: int = 0
    deploy: str = ""


class Suspect(Frozen):
    """One ranked piece of evidence, E1 to E12. Its text is foreign: normalised and capped, never trusted."""

    id: str
    kind: str
    name: str
    text: str
    lens: str = "AB"
    since_ms: int = 0


class Given(Frozen):
    """One parameter of an action and its value; a whole number as its digits."""

    name: str
    value: str


class Option(Frozen):
    """One thing that a person may choose. `action` empty means: run nothing, the person looks."""

    key: str
    theory: str = ""
    cause: Cause = Cause.UNKNOWN
    component: str = ""
    confidence: int | None = None
    action: str = ""
    title: str = ""
    request: str = ""
    digest: str = ""
    risk: str = "low"
    impact: str = ""
    undo: str = ""
    approve: str = ""
    expires_ms: int = 300_000
    parameters: tuple[Given, ...] = ()
    blast_radius: str = ""
    change_ref: str = ""


class Held(Frozen):
    """An option that did not pass its gates, and why."""

    action: str
    title: str
    why: str
    until_ms: int = 0


class Event(Frozen):
    """The part that all facts share. The class's name is the discriminator `event` of its entry."""

    COMMON: ClassVar[frozenset[str]] = frozenset({"incident_id", "decision", "reason", "confidence", "ref"})

    incident_id: str = ""
    decision: str = ""
    reason: str = ""
    confidence: int | None = Field(default=None, ge=0, le=100)
    ref: Ref | None = None

    def data(self) -> dict[str, Any]:
        """The fields that this kind of fact alone has, as they stand in the entry's `data`."""
        return self.model_dump(mode="json", exclude=set(self.COMMON))


# --- an incident's life -------------------------------------------------------------------------------


class Detected(Event):
    reading: Reading
    suspects: tuple[Suspect, ...] = ()
    origin: str = "policy"
    words: str = ""
    act: Act | None = None


class Diagnosed(Event):
    """One lens's answer, or that it gave none: `outcome` is answered, or why not.

    `cost_micros` is what it cost in millionths of a dollar, by the charter's prices.
    """

    lens: str
    round: int
    outcome: str = "answered"
    cause: Cause = Cause.UNKNOWN
    component: str = ""
    evidence: tuple[str, ...] = ()
    check: str = ""
    why: str = ""
    model: str = ""
    took_ms: int = 0
    prompt_digest: str = ""
    evidence_digest: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0


class Worsened(Event):
    """It is more severe, or fails in a way that it did not: `kinds` are the exceptions and dependencies."""

    reading: Reading
    suspects: tuple[Suspect, ...] = ()
    kinds: tuple[str, ...] = ()


class Acknowledged(Event):
    until_ms: int = 0
    act: Act | None = None


class Snoozed(Event):
    until_ms: int
    act: Act | None = None


class Noted(Event):
    words: str
    act: Act | None = None


NEW_NORMAL = "new_normal"


class Feedback(Event):
    """What a person says of a verdict or a theory: `kind` is cause_right, cause_wrong, not_incident (of an
    incident that is over; one that is open is closed by it, see Resolved) or new_normal."""

    kind: str
    theory: str = ""
    act: Act | None = None


class Paged(Event):
    """The first card of an incident reached *recipient* on *channel*; *silent*: without sound."""

    recipient: str
    channel: str
    card_digest: str = ""
    silent: bool = False


class PageFailed(Event):
    recipient: str
    channel: str
    why: str = ""


class Escalated(Event):
    """`step` is the charter's, from 1; 0 for a person's own or where the charter names none."""

    to: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    step: int = 0
    act: Act | None = None


class Refused(Event):
    """An act that changed nothing, because of `kind`."""

    kind: str
    person: str = ""
    act: Act | None = None


class AskedAgain(Event):
    act: Act | None = None


class Proposed(Event):
    options: tuple[Option, ...]
    verdict: str = "NONE"
    words: str = ""
    act: Act | None = None


class Withheld(Event):
    held: tuple[Held, ...]
    until_ms: int = 0


class Validated(Event):
    """The request. It binds options, deadline, charter and policy; a changed request is a new one."""

    options: tuple[Option, ...]
    held: tuple[Held, ...] = ()
    verdict: str = "NONE"
    deadline_ms: int
    charter_digest: str = ""
    deploy: str = ""
    policy_digest: str = ""


class Approved(Event):
    option: str
    stepped_up: bool = False
    act: Act | None = None


class Withdrawn(Event):
    option: str
    act: Act | None = None


class Authorized(Event):
    """`card_digest` is the SHA-256 of the text that the last approver had before them; empty if not known.

    `stepped_up`: they also gave a one-time code of their second factor. `break_glass`: they alone, where more
    are needed; `words` is why, and a second person signs it off (Reviewed).
    """

    option: str
    theory: str = ""
    cause: Cause = Cause.UNKNOWN
    action: str
    digest: str = ""
    voters: tuple[str, ...] = ()
    card_digest: str = ""
    stepped_up: bool = False
    break_glass: bool = False
    words: str = ""
    act: Act | None = None


class Reviewed(Event):
    """A second person looked at an authorization by break-glass, which `ref` names, and signs it off."""

    words: str = ""
    act: Act | None = None


class Denied(Event):
    """Nothing runs. `theory` is named where a person trusted one that has no action."""

    theory: str = ""
    words: str = ""
    act: Act | None = None


class Expired(Event):
    pass


class StoodDown(Event):
    why: str
    act: Act | None = None


class ExecutionStarted(Event):
    attempt: int = Field(ge=1, le=3)
    by: str
    until_ms: int
    digest: str = ""


class Executed(Event):
    attempt: int
    status: int
    took_ms: int = 0
    body_digest: str = ""
    receipt: str = "none"
    """matches, differs, none, or unchecked: signed with a secret of the app that the bot does not hold."""
    receipt_counter: int = 0
    receipt_at_ms: int = 0
    receipt_key_id: str = ""
    receipt_signature: str = ""


class WebhookFailed(Event):
    attempt: int
    status: int = 0
    why: str = ""


class OutcomeUnknown(Event):
    attempt: int
    why: str = ""


class OutcomeReported(Event):
    outcome: str
    words: str = ""
    act: Act | None = None


class Verified(Event):
    before: Reading
    after: Reading
    quiet_ms: int = 0


class NotRecovered(Event):
    before: Reading
    after: Reading


class Inconclusive(Event):
    before: Reading
    after: Reading


class Recovered(Event):
    after: Reading


class Resolved(Event):
    """A person closed it: `kind` is resolved or not_an_incident."""

    kind: str = "resolved"
    words: str = ""
    act: Act | None = None


class Reopened(Event):
    """It came back. Where it does so often, it is not closed again before it was quiet for `quiet_ms`."""

    reading: Reading
    suspects: tuple[Suspect, ...] = ()
    quiet_ms: int = 0


# --- facts of the tenant, outside any incident ---------------------------------------------------------


class CharterAdopted(Event):
    digest: str
    policy_digest: str
    policy_label: str
    changed: tuple[str, ...] = ()
    by_console: bool = False
    act: Act | None = None


class PolicyAdopted(Event):
    digest: str
    label: str
    act: Act | None = None


class Linked(Event):
    """`identity` is a salted commitment to the vendor's id of that person on that channel."""

    person: str
    channel: str
    identity: str
    issued_by: str = "console"
    act: Act | None = None


class Unlinked(Event):
    person: str
    channel: str
    act: Act | None = None


class Paused(Event):
    until_ms: int = 0
    words: str = ""
    act: Act | None = None


class Resumed(Event):
    act: Act | None = None


class OncallOverridden(Event):
    """*person* is on call until then, whatever the rota says. The newest counts."""

    person: str
    until_ms: int
    words: str = ""
    act: Act | None = None


class MaintenanceDeclared(Event):
    service: str
    until_ms: int
    words: str = ""
    act: Act | None = None


class Started(Event):
    """`signer` is the public key with which this process signs, empty if it has none."""

    version: str = ""
    durability: str = ""
    signer: str = ""


class Stopped(Event):
    version: str = ""


class Watched(Event):
    """Polls of the hour up to now by this process, and how far its clock is ahead of `clock`, if of any."""

    due: int = 0
    made: int = 0
    missed: int = 0
    clock_offset_ms: int = 0
    since_ms: int = 0
    clock: str = ""


class LedgerChecked(Event):
    """All entries up to `checked_seq` were read again. Not intact: `bad_seq` is the first bad one."""

    checked_seq: int = 0
    intact: bool = True
    bad_seq: int = 0
    root: str = ""


class Reconciled(Event):
    """What the books said. The figures from `from_ms` on are what it takes to say it again."""

    digest: str = ""
    exceptions: int = 0
    balanced: bool = True
    from_ms: int = 0
    to_ms: int = 0
    until_ms: int = 0
    last_seq: int = 0


class KeyRotated(Event):
    """From here on *new* signs, and *old* no more: vkeys. `key_id` is the new one's."""

    key_id: str = ""
    old: str = ""
    new: str = ""


class Exported(Event):
    """Entries were read or taken out: `what` is chat, web, proof, csv, jsonl, pdf or export, of `scope`."""

    first_seq: int = 0
    last_seq: int = 0
    what: str = ""
    scope: str = ""
    act: Act | None = None


class Archived(Event):
    segment: int = 0
    digest: str = ""


class Erased(Event):
    """The words of `subject` left the vault. Who writes it confirmed what `asked_by` asked for."""

    subject: str = ""
    asked_by: str = ""
    act: Act | None = None


class AccessReviewed(Event):
    """An admin read who may do what, `digest` of it, and says that it is right."""

    digest: str = ""
    people: int = 0
    act: Act | None = None


EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
