"""Erases what people typed, and leaves every proof as it is.

An entry holds a salted commitment, SHA-256 of `salt:text`, and the vault holds the two. Without the salt the
commitment tells nothing; while the value is there, whoever is shown it can check that it is what was said.
"""

import hmac
from collections.abc import Collection, Iterable
from hashlib import sha256

from ledger.chain import Entry
from ledger.store import Store

PAGE = 1000


def commitments(entries: Iterable[Entry], subjects: Collection[str]) -> list[str]:
    """What stands for the words in *entries* that one of *subjects* typed, or that are about it.

    A subject is a person's charter id, or an incident's.
    """
    return [words for entry in entries if _about(entry, subjects) and (words := _words(entry))]


def discloses(commitment: str, salt: str, text: str) -> bool:
    """Whether *text* with *salt* is what *commitment* stands for."""
    return hmac.compare_digest(commitment, sha256(f"{salt}:{text}".encode()).hexdigest())


async def erase(store: Store, tenant: str, subjects: Collection[str]) -> int:
    """Erase from the vault what belongs to *subjects*, and return how many values there were.

    Safe to repeat. Who calls appends Erased afterwards. Until the server has written its file anew, the
    values are still in it; copies of that file are not ours to reach.
    """
    seen, erased = 0, 0
    while page := await store.read(tenant, seen, PAGE):
        erased += await store.erase_secret_values(tenant, commitments(page, subjects))
        seen = page[-1].seq
    return erased


def _about(entry: Entry, subjects: Collection[str]) -> bool:
    return entry.incident_id in subjects or (
        entry.actor["kind"] == "engineer" and entry.actor["id"] in subjects
    )


def _words(entry: Entry) -> str:
    words = entry.data.get("words", "")
    return words if isinstance(words, str) else ""
