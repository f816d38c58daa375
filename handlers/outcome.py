"""What the answer to one try means: did it run, and may it be tried again. Pure.

* 2xx: it ran. Nothing else is a success.
* A genuine receipt (sdk/receipt.py) is the app's own word, and the same key would get it again: final. One
  that is signed with a secret which we do not hold proves nothing here: it is kept for who holds the secret.
* 408, 425, 429 and 5xx may be tried again. 502 and 504 are a gateway's: nobody knows whether it ran.
* 409 to a later try means that an earlier one is still running there: nobody knows yet.
* Every other status is final, redirects included.
* A timeout or a cut connection leaves it open whether it ran; an address that cannot be reached does not.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from handlers.ports import PortError, Reply
from handlers.receipts import NOTHING, Asked, Heard, heard
from ledger import events as ev
from ledger.events import Event, Ref
from ledger.machine import MOST_ATTEMPTS

AGAIN = frozenset({408, 425, 429})
GATEWAY = frozenset({502, 504})
RUNNING = 409


class Ran(StrEnum):
    YES = "yes"
    NO = "no"
    PERHAPS = "perhaps"


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try came to. `final`: another would come to the same."""

    attempt: int
    ran: Ran
    why: str
    final: bool = False
    status: int = 0
    took_ms: int = 0
    body_digest: str = ""
    heard: Heard = NOTHING

    @property
    def receipt(self) -> str:
        """What is to be said of the receipt: that of a run is one of success, or it differs."""
        heard = self.heard
        return "differs" if self.ran is Ran.YES and heard.result not in {"", "ok"} else heard.kind


def tried(attempt: int, asked: Asked, answer: Reply | PortError) -> Tried:
    """What *answer* to try number *attempt* means."""
    if isinstance(answer, PortError):
        ran = Ran.PERHAPS if answer.unknown else Ran.NO
        return Tried(attempt, ran, str(answer), final=answer.permanent)
    told = heard(asked, answer.body)
    ran, final = _told(attempt, answer.status)
    if ran is not Ran.YES and told.kind == "matches":
        ran, final = (Ran.PERHAPS if told.result == "unknown" else Ran.NO), True
    return Tried(
        attempt,
        ran,
        f"It answered {answer.status}.",
        final,
        answer.status,
        answer.took_ms,
        sha256(answer.body).hexdigest(),
        told,
    )


def cut_off(attempt: int) -> Tried:
    """A try whose process is gone: nobody heard the answer."""
    return Tried(attempt, Ran.PERHAPS, "Nobody heard the answer: the process that asked is gone.")


def not_sent(attempt: int, why: str) -> Tried:
    return Tried(attempt, Ran.NO, why)


def outcome(last: Tried, incident: str, ref: Ref, *, idempotent: bool, stop: str = "") -> Event | None:
    """What is to be appended after *last*, or None where another try is due. *stop*: why there is none."""
    over = last.final or last.attempt >= MOST_ATTEMPTS or bool(stop)
    reason = f"{last.why} {stop}".strip()
    if last.ran is Ran.YES:
        return ev.Executed(
            incident_id=incident,
            decision="executed",
            reason=reason,
            ref=ref,
            attempt=last.attempt,
            status=last.status,
            took_ms=last.took_ms,
            body_digest=last.body_digest,
            receipt=last.receipt,
            receipt_counter=last.heard.counter,
            receipt_at_ms=last.heard.at_ms,
            receipt_key_id=last.heard.key_id,
            receipt_signature=last.heard.signature,
        )
    if last.ran is Ran.PERHAPS and (over or not idempotent):
        return ev.OutcomeUnknown(
            incident_id=incident,
            decision="unknown",
            reason=f"{reason} Whether it ran is not known.",
            ref=ref,
            attempt=last.attempt,
            why=last.why,
        )
    if last.ran is Ran.NO and over:
        return ev.WebhookFailed(
            incident_id=incident,
            decision="failed",
            reason=reason,
            ref=ref,
            attempt=last.attempt,
            status=last.status,
            why=last.why,
        )
    return None


def _told(attempt: int, status: int) -> tuple[Ran, bool]:
    """Whether it ran, going by *status* alone, and whether that is final."""
    if 200 <= status < 300:
        return Ran.YES, True
    if status in GATEWAY or (status == RUNNING and attempt > 1):
        return Ran.PERHAPS, False
    return Ran.NO, status not in AGAIN and status < 500
