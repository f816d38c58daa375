"""How a batch of entries travels to the copy off the box. Pure.

A batch is one POST. Its body is the canonical lines of entries that follow each other, exactly as an export
has them, each with a newline. Headers say the rest:

    countersign-tenant: acme
    countersign-first: 43                the first entry's number
    countersign-checkpoint: <base64>     the signed note whose size is the last entry's number; may be absent
    webhook-id, webhook-timestamp, webhook-signature: Standard Webhooks, over the body

The answer is 2xx once all of it is kept, or 409 where it does not follow what is kept there: the first line
of the body is then how many entries that is, and the sender goes on from there. What comes twice is the same.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.chain import BrokenChain, Entry, Head, Malformed, parse
from ledger.store import check_chain

MOST_ENTRIES = 256
MOST_BYTES = 5 * 1024 * 1024
TYPE = "application/x-ndjson"
TENANT, FIRST, CHECKPOINT = "countersign-tenant", "countersign-first", "countersign-checkpoint"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class BadBatch(ValueError):
    """This is no batch, or its note does not belong to it. Nothing was kept."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that follow each other, and the note whose size is the last one's number, if there is one."""

    tenant: str
    entries: Sequence[Entry]
    note: str = ""

    @property
    def first(self) -> int:
        return self.entries[0].seq

    @property
    def last(self) -> int:
        return self.entries[-1].seq

    def body(self) -> bytes:
        return b"".join(entry.line + b"\n" for entry in self.entries)

    def headers(self) -> dict[str, str]:
        """Those that are the format's own."""
        found = {TENANT: self.tenant, FIRST: str(self.first)}
        if self.note:
            found[CHECKPOINT] = base64.b64encode(self.note.encode()).decode()
        return found


def read_batch(headers: Mapping[str, str], body: bytes) -> Batch:
    """The batch that was sent. Raises BadBatch unless each line is an entry of that tenant, in order."""
    tenant, lines = headers.get(TENANT, ""), body.split(b"\n")
    if not _TENANT.fullmatch(tenant):
        raise BadBatch(f"{TENANT} is missing, or no tenant's name.")
    if len(lines) < 2 or lines.pop():
        raise BadBatch("The body is not lines that end in a newline.")
    entries = _entries(tenant, lines)
    if headers.get(FIRST) != str(entries[0].seq):
        raise BadBatch(f"{FIRST} is not the number of the first entry.")
    return Batch(tenant, entries, _note(headers.get(CHECKPOINT, "")))


def _entries(tenant: str, lines: Sequence[bytes]) -> list[Entry]:
    try:
        entries = [parse(line) for line in lines]
        check_chain(Head(entries[0].seq - 1, entries[0].prev), entries)
    except (Malformed, BrokenChain) as error:
        raise BadBatch(str(error)) from None
    for entry in entries:
        if entry.tenant_id != tenant:
            raise BadBatch(f"Entry {entry.seq} belongs to tenant {entry.tenant_id}, not to {tenant}.")
    return entries


def _note(coded: str) -> str:
    try:
        return base64.b64decode(coded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadBatch(f"{CHECKPOINT} is not base64.") from None
