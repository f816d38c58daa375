"""The receipt that an app signs for a run: what ran, for which key, how it ended, the app's own count.

It is the third leg of the ledger's three-way match. With a secret of its own, which the bot does not hold,
the app alone can sign: *key_id* says which secret it takes to check. The signature is that of ``signature``,
with the idempotency key as id, the second of *at_ms* as timestamp, and as body the receipt's canonical JSON
without its signature.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Literal, TypedDict

from .signature import key_of, sign, verify

Result = Literal["ok", "failed", "unknown"]


class Receipt(TypedDict):
    """``unknown`` is for a run that was cut off: the process ended while the action ran."""

    action: str
    idempotency_key: str
    result: Result
    counter: int
    at_ms: int
    key_id: str
    signature: str


def key_id(secret: str | bytes) -> str:
    """Return by which name a receipt calls the secret that signs it; it says nothing of the secret."""
    return hmac.digest(key_of(secret), b"countersign receipt key id", hashlib.sha256).hex()[:16]


def key(secret: str | bytes) -> bytes:
    """Return the receipt key that follows from a recovery secret, for apps that have only the one."""
    return hmac.digest(key_of(secret), b"countersign receipt 1", hashlib.sha256)


def issue(
    secret: str | bytes, action: str, idempotency_key: str, result: Result, counter: int, at_ms: int
) -> Receipt:
    """Return a signed receipt."""
    receipt: Receipt = {
        "action": action,
        "idempotency_key": idempotency_key,
        "result": result,
        "counter": counter,
        "at_ms": at_ms,
        "key_id": key_id(secret),
        "signature": "",
    }
    receipt["signature"] = sign(secret, idempotency_key, at_ms // 1000, _body(receipt))
    return receipt


def is_genuine(secret: str | bytes, receipt: Mapping[str, object]) -> bool:
    """Return whether *receipt*, as it came over the wire, was signed with *secret*."""
    match receipt:
        case {"idempotency_key": str(id), "at_ms": int(at_ms), "signature": str(signature)}:
            return verify(secret, id, at_ms // 1000, _body(receipt), signature)
    return False


def _body(receipt: Mapping[str, object]) -> bytes:
    unsigned = {k: v for k, v in receipt.items() if k != "signature"}
    return json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
