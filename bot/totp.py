"""One-time codes by the clock: TOTP of RFC 6238 over HOTP of RFC 4226, as every authenticator app knows them.

SHA-1, 30 s, six digits, and one step of drift either way. Pure.
"""

import base64
import hmac
from urllib.parse import quote

STEP_MS = 30_000
DRIFT = 1
DIGITS = 6


def code(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of one step (RFC 4226, 5.3)."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: bytes, digits: str, now_ms: int) -> int | None:
    """The step that *digits* are the code of, near now; None for a wrong one. Compared in equal time."""
    now = now_ms // STEP_MS
    near = range(max(0, now - DRIFT), now + DRIFT + 1)
    right = [step for step in near if hmac.compare_digest(code(secret, step).encode(), digits.encode())]
    return right[0] if right else None


def address(secret: bytes, issuer: str, account: str) -> str:
    """What an authenticator app takes: the key URI that Google Authenticator's wiki describes."""
    key = base64.b32encode(secret).decode().rstrip("=")
    label, by = quote(f"{issuer}:{account}", safe=":"), quote(issuer, safe="")
    return f"otpauth://totp/{label}?secret={key}&issuer={by}&algorithm=SHA1&digits={DIGITS}&period=30"
