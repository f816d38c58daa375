"""Reads the whole ledger again, every night, and says whether it is what it was.

1. Due at three in the morning, on the tenant's clock, if no check stands since; after a restart, too.
2. Form, chain, rules and root are judged anew (ledger/audit.py), in a thread, page by page, up to the head
   that this process knows. That head must come out.
3. Not intact: that is on record with the first bad entry, the ledger is sealed, and people are told.
4. The texts of all charters and policies that were ever in force are read again by their digests. One that is
   missing or another changes no entry: that is on record, and people are told, and nothing is sealed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

from handlers.ports import PortError, Rulebook
from handlers.reconciler import MOVED, Work, insist
from ledger import events as ev
from ledger.audit import Audit
from ledger.chain import Entry, Head
from ledger.events import Actor, Event
from ledger.ledger import Ledger, Refusal
from ledger.store import Sealed, Store, StoreDown
from ledger.verify import Tampered
from ledger.view import View, epoch_ms

log = logging.getLogger(__name__)

HOUR = 3
PAGE = 500
REMEDY = "Put it back from an export or a backup: what was approved under it cannot be judged without it."
ADOPTIONS = frozenset({ev.CharterAdopted.__name__, ev.PolicyAdopted.__name__})

type Alarm = Callable[[str], Awaitable[None]]
"""Tells people, at once, what no card is about."""


class Checking:
    """Reconciler."""

    name = "checked"

    def __init__(self, ledger: Ledger, rulebook: Rulebook, store: Store, process: str, alarm: Alarm) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._store = store
        self._actor = Actor.orchestrator(process)
        self._alarm = alarm

    def due(self, view: View, now_ms: int) -> Sequence[Work]:
        at_ms = self._at(view)
        return [] if at_ms is None or self._ledger.sealed else [Work(str(at_ms), at_ms)]

    async def do(self, work: Work) -> None:
        """Read all of it. Raises PortError where it cannot be read now."""
        head, digests = self._ledger.view.head, set[str]()
        try:
            found = await self._read(head, digests)
            lost = await self._lost(digests)
        except StoreDown as down:
            raise PortError(f"The ledger could not be read again: {down}") from down
        except Sealed as broken:
            await self._not_intact(0, 0, broken.reason)
        except Tampered as broken:
            await self._not_intact(head.seq, broken.seq or 0, str(broken))
        else:
            intact = ev.LedgerChecked(
                decision="texts_lost" if lost else "intact",
                reason=f"All {head.seq} entries were read again{_told(lost)}",
                checked_seq=head.seq,
                root=found.tree.root().hex(),
            )
            await self._say(intact)
            if lost:
                await self._alarm(f"🟠 The ledger of {self._ledger.tenant} is intact{_told(lost)}. {REMEDY}")

    async def _lost(self, digests: Iterable[str]) -> list[str]:
        """Those of *digests* under which there is no text, or another. Raises StoreDown."""
        texts = {one: await self._store.get_text(self._ledger.tenant, one) for one in sorted(digests)}
        return [one for one, text in texts.items() if sha256((text or "").encode()).hexdigest() != one]

    async def _read(self, head: Head, digests: set[str]) -> Audit:
        """All entries up to *head*, judged; adds to *digests*. Raises Tampered, Sealed, StoreDown."""
        found = Audit(self._ledger.tenant)
        while found.head.seq < head.seq:
            left = min(PAGE, head.seq - found.head.seq)
            page = await self._store.read(self._ledger.tenant, found.head.seq, left)
            if not page:
                raise Tampered(found.head.seq + 1, "it is not there any more")
            digests |= await asyncio.to_thread(_take, found, page)
        if found.head != head:
            raise Tampered(head.seq, "it is not the one that was there")
        return found

    async def _not_intact(self, checked_seq: int, bad_seq: int, why: str) -> None:
        log.error("The ledger of %s is not intact: %s", self._ledger.tenant, why)
        fact = ev.LedgerChecked(
            decision="not_intact", reason=why, checked_seq=checked_seq, intact=False, bad_seq=bad_seq
        )
        try:
            await self._say(fact)
        except PortError as unsaid:
            log.warning("That the ledger is not intact is not on record: %s", unsaid)
        self._ledger.distrust(f"the nightly check found that {why}")
        await self._alarm(f"🔴 The ledger of {self._ledger.tenant} is not intact. {why} Nothing runs.")

    async def _say(self, fact: ev.LedgerChecked) -> None:
        def decide(view: View, now: datetime) -> Event | Refusal:
            at_ms = self._at(view)
            return MOVED if at_ms is None or epoch_ms(now) < at_ms else fact

        insist(await self._ledger.record(self._actor, decide))

    def _at(self, view: View) -> int | None:
        """When the next check is due; None before a charter is in force."""
        charter = self._rulebook.charter(view)
        since_ms = view.noted.get(ev.LedgerChecked.__name__) or view.noted.get(ev.CharterAdopted.__name__)
        if charter is None or since_ms is None:
            return None
        return next_night(since_ms, ZoneInfo(charter.tenant.timezone))


def next_night(since_ms: int, zone: ZoneInfo) -> int:
    """The first three o'clock in *zone* after *since_ms*, in epoch ms."""
    since = datetime.fromtimestamp(since_ms / 1000, zone)
    night = since.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if night <= since:
        night += timedelta(days=1)
    return epoch_ms(night.astimezone(UTC))


def _take(found: Audit, page: Iterable[Entry]) -> set[str]:
    """The digests of the texts that *page* puts in force."""
    digests: set[str] = set()
    for entry in page:
        line = found.take(entry.line)
        if line.event in ADOPTIONS:
            digests |= {line.data.digest, line.data.get("policy_digest", "")} - {""}
    return digests


def _told(lost: Sequence[str]) -> str:
    if not lost:
        return ""
    names = ", ".join(one[:8] for one in lost)
    return f", and under {names} there is no text of a charter or policy, or another"
