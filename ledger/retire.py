"""Takes old, full segments off the server, each only once it is safe elsewhere and the log says so.

For each segment, in order; whatever is interrupted is done again from the start, and nothing of it twice:

1. Its entries are read and verified, and written to the archive's folder; what was written is read back.
2. Archived, with the digest of its lines, is appended.
3. `led:{tenant}:archived` says that it is read from the archive now.
4. Its key goes. Done by the archiver, the one user who may.

The last full segment always stays: the server compares what is appended with it.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from ledger.archive import Archive
from ledger.chain import Entry, Head
from ledger.events import Actor, Archived, Event
from ledger.ledger import Ledger
from ledger.redis_store import RedisStore
from ledger.store import Sealed, StoreDown, check_chain
from ledger.view import View

PAGE = 1000
ARCHIVER = Actor.orchestrator("archiver")


async def retire(store: RedisStore, ledger: Ledger, archive: Archive, keep: timedelta) -> int:
    """Archive every full segment but the last whose entries are all older than *keep*; how many there were.

    Raises StoreDown; Sealed where the log or what was written is not what it must be.
    """
    await ledger.catch_up()
    tenant, gone = ledger.tenant, await store.archived(ledger.tenant)
    for segment in range(gone):
        await store.drop_segment(tenant, segment)
    full = ledger.view.head.seq // store.segment
    for segment in range(gone, full - 1):
        entries = await _entries(store, tenant, segment)
        if max(entries, key=lambda entry: entry.ts).at > ledger.now() - keep:
            return segment - gone
        await _retire(store, ledger, archive, segment, entries)
    return max(0, full - 1 - gone)


async def _retire(
    store: RedisStore, ledger: Ledger, archive: Archive, segment: int, entries: list[Entry]
) -> None:
    tenant = ledger.tenant
    digest = await asyncio.to_thread(archive.write, tenant, segment, [entry.line for entry in entries])
    if not await _said(store, tenant, segment, digest):
        made = await ledger.record(ARCHIVER, _archived(segment, digest))
        if not isinstance(made, Entry):
            raise StoreDown(f"The log does not take that segment {segment} is archived: {made.why}")
    await store.set_archived(tenant, segment + 1)
    await store.drop_segment(tenant, segment)


def _archived(segment: int, digest: str) -> Callable[[View, datetime], Event]:
    return lambda view, now: Archived(decision="archive", segment=segment, digest=digest)


async def _entries(store: RedisStore, tenant: str, segment: int) -> list[Entry]:
    """All entries of a full segment, their chain checked to the one before."""
    start = segment * store.segment
    before = await store.read(tenant, start - 1, 1) if start else []
    head, found = before[0].head if before else Head(0, "0" * 64), list[Entry]()
    while len(found) < store.segment:
        page = await store.read(tenant, start + len(found), min(PAGE, store.segment - len(found)))
        if not page:
            raise Sealed(f"segment {segment} ends after {len(found)} entries.")
        head = check_chain(head, page)
        found += page
    return found


async def _said(store: RedisStore, tenant: str, segment: int, digest: str) -> bool:
    """Whether the log says already that this segment is archived."""
    seen = (segment + 2) * store.segment
    while page := await store.read(tenant, seen, PAGE):
        told = ((one.data["segment"], one.data["digest"]) for one in page if one.event == "Archived")
        if (segment, digest) in told:
            return True
        seen = page[-1].seq
    return False
