"""Standard Webhooks signatures (standardwebhooks.com): who may ask an app to recover, and who answered.

The signature is ``v1,<base64 of HMAC-SHA256>`` over ``{id}.{timestamp}.{raw body}``. A secret is
``whsec_<base64>``, or any other text or bytes, which are then the key themselves. A header may carry several
signatures separated by spaces, so that a secret can be rotated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

TOLERANCE_S = 300


def key_of(secret: str | bytes) -> bytes:
    """Return the HMAC key of a secret; ValueError when it is empty or its base64 is broken."""
    if isinstance(secret, str) and secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("the secret starts with whsec_ but what follows is not base64") from None
    else:
        key = secret.encode() if isinstance(secret, str) else secret
    if not key:
        raise ValueError("the secret is empty")
    return key


def sign(secret: str | bytes, id: str, timestamp: int | str, body: bytes) -> str:
    """Return the ``webhook-signature`` of a message sent at *timestamp* (epoch seconds)."""
    message = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), message, hashlib.sha256)).decode()


def verify(secret: str | bytes, id: str, timestamp: int | str, body: bytes, signatures: str) -> bool:
    """Return whether any of the space-separated *signatures* is ours, each compared in constant time."""
    expected = sign(secret, id, timestamp, body).encode()
    return any(hmac.compare_digest(expected, one.encode()) for one in signatures.split()[:8])


def is_fresh(timestamp: int | str, now: float, tolerance_s: int = TOLERANCE_S) -> bool:
    """Return whether *timestamp* is a whole epoch second within *tolerance_s* of *now*."""
    text = str(timestamp)
    return text.isascii() and text.isdigit() and len(text) <= 12 and abs(now - int(text)) <= tolerance_s
