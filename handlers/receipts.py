"""The receipt in an app's answer: whose it is, and what of it goes on record. Pure.

* *matches*: for this action and key, and signed with the key that follows from the webhook's secret.
* *unchecked*: for them too, and signed with a secret of the app's own, as its `key_id` says. We cannot tell
  whether that is so; it is recorded whole, and `python -m ledger reconcile --receipt-secret-file` can.
* *differs*: for something else, of another form, not genuine, or it says that the run failed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ledger.chain import MAX_INT
from sdk import receipt

KEY_ID = re.compile(r"[0-9a-f]{16}")
SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/=]{44}")
NUMBERS = ("counter", "at_ms")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a receipt must be for: this action, this key, signed with this key of the app."""

    action: str
    idempotency_key: str
    receipt_key: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a receipt: its *kind*, and all that is needed to check it again."""

    kind: str = "none"
    result: str = ""
    counter: int = 0
    at_ms: int = 0
    key_id: str = ""
    signature: str = ""


NOTHING = Heard()


def heard(asked: Asked, body: bytes) -> Heard:
    """What *body* has of a receipt."""
    try:
        answer = json.loads(body)
        found = answer.get("receipt") if isinstance(answer, dict) else None
        return NOTHING if found is None else _read(asked, found)
    except (ValueError, RecursionError):  # no JSON, or text that no signature can be over
        return NOTHING


def _read(asked: Asked, found: object) -> Heard:
    if not isinstance(found, dict) or not _is_ours(asked, found):
        return Heard("differs")
    told = Heard(
        "matches",
        str(found.get("result")),
        found["counter"],
        found["at_ms"],
        _text(found, "key_id", KEY_ID),
        _text(found, "signature", SIGNATURE),
    )
    if receipt.is_genuine(asked.receipt_key, found):
        return told
    is_other = told.key_id not in {"", receipt.key_id(asked.receipt_key)} and told.signature
    return replace(told, kind="unchecked") if is_other and told.result == "ok" else Heard("differs")


def _is_ours(asked: Asked, found: Mapping[str, object]) -> bool:
    numbers = [found.get(name) for name in NUMBERS]
    return (
        found.get("action") == asked.action
        and found.get("idempotency_key") == asked.idempotency_key
        and all(type(n) is int and 0 <= n <= MAX_INT for n in numbers)
    )


def _text(found: Mapping[str, object], name: str, form: re.Pattern[str]) -> str:
    """The text *name* of *found*, where it has its *form*; else it goes nowhere."""
    value = found.get(name)
    return value if isinstance(value, str) and form.fullmatch(value) else ""
