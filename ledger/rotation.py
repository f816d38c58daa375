"""The change of a log's key: an entry that names both keys, under a note that both have signed.

1. The entry goes with its note in one append; from there on the old key signs no more, and a process that
   still has it seals itself when it sees the entry.
2. That note is kept beside the log for good: it is what ties the new key to the old.
3. A crash between the two is mended by running the same again.
"""

import random
from collections.abc import Sequence
from datetime import datetime

from ledger.chain import Frontier
from ledger.clock import Clock
from ledger.events import Actor, KeyRotated
from ledger.ledger import Ledger, Refusal
from ledger.note import Checkpoint, Signer, origin_of, public_key, signed
from ledger.store import Store
from ledger.view import View

PAGE = 1000
CONSOLE = Actor.orchestrator("console")


class CannotRotate(Exception):
    """The key is what it was, and the message says why."""


async def rotate(store: Store, clock: Clock, tenant: str, old: bytes, new: bytes) -> Signer:
    """From here on *new* signs the log of *tenant*, and *old* no more: seeds. Returns the new key.

    Raises CannotRotate, and Sealed if *old* is not the key of this log.
    """
    if old == new:
        raise CannotRotate("The old key and the new one are the same. Make one: python -m ledger keygen")
    origin = await _origin(store, tenant)
    signers = (Signer(origin, old), Signer(origin, new))
    reader = Ledger(tenant, store, clock, random.Random())
    await reader.catch_up()
    if reader.view.signers[-1:] != (public_key(new),):
        await _append(store, clock, tenant, (old, new), signers)
    await _keep(store, tenant, signers)
    return signers[1]


async def _append(
    store: Store, clock: Clock, tenant: str, seeds: tuple[bytes, bytes], signers: Sequence[Signer]
) -> None:
    old, new = signers
    event = KeyRotated(
        decision="rotate",
        reason=f"The key {old.key_id} is followed by {new.key_id}",
        key_id=new.key_id,
        old=old.vkey,
        new=new.vkey,
    )

    def decide(view: View, now: datetime) -> KeyRotated:
        return event

    ledger = Ledger(tenant, store, clock, random.Random(), signer=seeds[0], successor=seeds[1])
    await ledger.catch_up()
    made = await ledger.record(CONSOLE, decide)
    await ledger.close()
    if isinstance(made, Refusal):
        raise CannotRotate(made.why)


async def _keep(store: Store, tenant: str, signers: Sequence[Signer]) -> None:
    """Keep the note of the rotation to the last of *signers*, unless it is kept already."""
    old, new = signers
    tree, rotated = Frontier(), None
    while page := await store.read(tenant, tree.size, PAGE):
        for entry in page:
            tree = tree.append(bytes.fromhex(entry.hash))
            if entry.event == "KeyRotated" and entry.data["new"] == new.vkey:
                rotated = tree
    if rotated is None:
        raise CannotRotate(f"The log of {tenant} is signed with the new key from its beginning.")
    note = signed(Checkpoint(old.name, rotated.size, rotated.root()), old, new)
    if note not in await store.kept_notes(tenant):
        await store.keep_note(tenant, note)


async def _origin(store: Store, tenant: str) -> str:
    first = await store.read(tenant, 0, 1)
    if not first:
        raise CannotRotate(f"The log of {tenant} is empty: nothing is signed. Just set the new LEDGER_KEY.")
    return origin_of(tenant, first[0].hash)
