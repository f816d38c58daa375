"""What is known of the log that a page is made from: how far it was verified, and what vouches for it.

Pure. Whoever makes the page fills it in; the page prints it and judges nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Standing(StrEnum):
    INTACT = "intact"
    NOT_INTACT = "not intact"
    NOT_CHECKABLE = "not checkable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`last_seq` is where verified entries end. `why` is empty for what is intact. `signer` is the name and
    `fingerprint` the short form of the key that signed the root; empty: nobody did. `receipts` were held
    by others, the newest for entry `receipts_to`; so were `cosignatures`. `off_box` is a sentence."""

    standing: Standing
    tenant: str
    last_seq: int
    root: str
    head: str = ""
    why: str = ""
    first_bad: int | None = None
    signer: str = ""
    fingerprint: str = ""
    receipts: int = 0
    receipts_to: int = 0
    cosignatures: int = 0
    cosigned_to: int = 0
    durability: str = ""
    off_box: str = ""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the books say: exceptions by kind, zeros too, of what the page is about and of the whole log."""

    here: Mapping[str, int] = field(default_factory=dict)
    everywhere: Mapping[str, int] = field(default_factory=dict)
    balance: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """Both of a log. `books` None: nobody reconciled it."""

    verdict: Verdict
    books: Reconciliation | None


@dataclass(frozen=True, slots=True)
class Made:
    """Who made the page, when, for which zone, with which version."""

    at_ms: int
    by: str
    zone: str = "UTC"
    version: str = ""
