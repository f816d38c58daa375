"""The ledger's key: how it is made, and the seed that grows from it.

`LEDGER_KEY` is any text of 32 bytes or more that nobody can guess. It leaves this machine nowhere: what is
told is its public half, in notes and exports.
"""

import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from ledger.note import BadKey

LEAST_BYTES = 32
INFO = b"countersign ledger ed25519 v1"


def keygen() -> str:
    """A new text for LEDGER_KEY."""
    return secrets.token_urlsafe(LEAST_BYTES)


def seed_of(key: bytes) -> bytes:
    """The seed of the Ed25519 key that grows from LEDGER_KEY: HKDF-SHA256 (RFC 5869), without a salt."""
    extracted = hmac.digest(bytes(sha256().digest_size), key, "sha256")
    return hmac.digest(extracted, INFO + b"\x01", "sha256")


def seed_in(file: Path) -> bytes:
    """The seed of the LEDGER_KEY that stands in *file*. Raises BadKey."""
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise BadKey(f"The key in {file} cannot be read: {error.strerror}.") from None
    if len(key) < LEAST_BYTES:
        raise BadKey(
            f"The key in {file} has {len(key)} bytes and needs {LEAST_BYTES}. "
            f"Make one: python -m ledger keygen"
        )
    return seed_of(key)
