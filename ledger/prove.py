"""Makes the proof of one entry (ledger/proof.py): at a million entries, at most 20 hashes.

It is of the newest note that a witness signed too, if that covers the entry, else of the newest at all; and
it was checked before anybody gets it.
"""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from ledger import proof, verify
from ledger.chain import Entry
from ledger.note import BadNote, read_note, vkey
from ledger.store import Store

PAGE = 1000


class CannotProve(Exception):
    """There is no proof of this entry, and the message says why."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The file's text, and the key that the log says has signed it."""

    text: str
    key: str


async def prove(store: Store, tenant: str, seq: int) -> Proof:
    """The proof that entry *seq* stands in the log as it was signed.

    Raises CannotProve; Tampered where the log is not the one that was signed.
    """
    note = await _note(store, tenant, seq)
    origin, size = _told(note)
    if not 1 <= seq <= size:
        raise CannotProve(f"The log of {tenant} is signed up to entry {size}: there is no proof of {seq}.")
    key, hashes, line = "", bytearray(), b""
    while len(hashes) < 32 * size:
        page = await store.read(tenant, len(hashes) // 32, min(PAGE, size - len(hashes) // 32))
        if not page:
            raise verify.Tampered(len(hashes) // 32 + 1, f"it is gone, and {size} entries were signed")
        for entry in page:
            key = _key(entry, key)
            hashes += bytes.fromhex(entry.hash)
            line = entry.line if entry.seq == seq else line
    signer = vkey(origin, key) if key else ""
    text = _text(line, seq - 1, await asyncio.to_thread(audit_path, bytes(hashes), seq - 1), note)
    await asyncio.to_thread(proof.check, text, [signer] if signer else [])
    return Proof(text, signer)


def audit_path(hashes: bytes, index: int) -> list[bytes]:
    """The hashes beside the way from leaf *index* to the root of the tree over *hashes* (RFC 6962, 2.1.1)."""
    path = []
    while len(hashes) > 32:
        at = (index ^ 1) * 32
        path += [hashes[at : at + 32]] if at < len(hashes) else []
        pairs = (hashes[at : at + 64] for at in range(0, len(hashes), 64))
        hashes, index = b"".join(map(verify.fold, pairs)), index >> 1
    return path


async def _note(store: Store, tenant: str, seq: int) -> str:
    """The note that proves most of entry *seq*. Raises CannotProve where there is none at all."""
    newest, cosigned = await store.note(tenant), await store.cosigned(tenant)
    if not newest:
        raise CannotProve("Nobody signed this log, so there is nothing to prove an entry by: set LEDGER_KEY.")
    return cosigned if cosigned and seq <= _told(cosigned)[1] else newest


def _told(note: str) -> tuple[str, int]:
    try:
        checkpoint = read_note(note)[0]
    except BadNote as error:
        raise verify.Tampered(None, f"its note cannot be read ({error})") from None
    return checkpoint.origin, checkpoint.size


def _key(entry: Entry, before: str) -> str:
    """The public key that signs from *entry* on, as the log says; *before* signed until then."""
    if entry.event == "KeyRotated":
        return str(entry.data.get("new", "")).split("+", 2)[-1]
    return before or (str(entry.data.get("signer", "")) if entry.event == "Started" else "")


def _text(line: bytes, index: int, path: Sequence[bytes], note: str) -> str:
    hashes = "".join(f"{b64encode(one).decode()}\n" for one in path)
    return f"{proof.HEAD}\nextra {b64encode(line).decode()}\nindex {index}\n{hashes}\n{note}"
