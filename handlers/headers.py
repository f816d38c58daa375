"""Whether a header proves what it should, asked in constant time."""

import hmac


def same(header: str, expected: bytes) -> bool:
    """Whether *header*, as it came over the wire, is exactly *expected*."""
    return hmac.compare_digest(header.encode("utf-8", "surrogateescape"), expected)


def bears(header: str, token: bytes) -> bool:
    """Whether *header*, an Authorization, bears *token*."""
    return same(header, b"Bearer " + token)
