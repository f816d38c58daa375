"""Which entries somebody means, and how they are read: all, an incident's, a person's, a period's, or one.

1. An incident's entries are found by what the view knows; a period's by the order of the log, which is nearly
   that of time: an hour on each side covers a clock that was set back.
2. Pages are read one after the other, never the whole log at once.
3. What is read is checked against what this process knows: a page that is not linked to it is BrokenChain.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from bot import periods
from bot.order import person_named
from bot.periods import BadPeriod, Period
from bot.room import Room
from ledger.chain import GENESIS, BrokenChain, Entry, Head, check_link
from ledger.store import Store
from ledger.view import epoch_ms

PAGE = 1_000
SLACK_MS = 3_600_000
FORMS = f"an incident such as checkout-3, a person, an entry such as #42, or a period: {periods.FORMS}"
ENTRY = re.compile(r"#([1-9][0-9]{0,14})")
KEYS_OF_PEOPLE = ("person", "recipient", "issued_by")


class NoScope(ValueError):
    """These words name nothing that can be audited. The message says which would."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What was asked for. At most one of these is set; with none it is everything."""

    incident: str = ""
    person: str = ""
    period: Period | None = None
    entry: int = 0

    @property
    def name(self) -> str:
        """How it is written, in answers and entries; it reads back as the same."""
        if self.entry:
            return f"#{self.entry}"
        return self.incident or self.person or (self.period.name if self.period else "all")

    def holds(self, entry: Entry) -> bool:
        if self.incident:
            return entry.incident_id == self.incident
        if self.person:
            return concerns(entry, self.person)
        if self.entry:
            return entry.seq == self.entry
        return self.period is None or self.period.holds(entry.at)


ALL = Scope()


def read_scope(room: Room, words: str, zone: ZoneInfo) -> Scope:
    """What *words* name, on the clock of *zone*. Raises NoScope."""
    text = words.strip()
    if text.lower() in {"", "all"}:
        return ALL
    if text in room.ledger.view.incidents:
        return Scope(incident=text)
    if person := person_named(room, text):
        return Scope(person=person.id)
    if (found := ENTRY.fullmatch(text)) and int(found[1]) <= room.ledger.view.head.seq:
        return Scope(entry=int(found[1]))
    try:
        return Scope(period=periods.parse(text, datetime.fromtimestamp(room.now_ms() / 1000, zone)))
    except BadPeriod:
        raise NoScope(f"I know no “{text[:40]}”. Name {FORMS}.") from None


def concerns(entry: Entry, person: str) -> bool:
    """Whether *person* acted in it, or it is about them."""
    return entry.actor["id"] == person or any(entry.data.get(key) == person for key in KEYS_OF_PEOPLE)


async def bounds(room: Room, scope: Scope) -> tuple[int, int]:
    """The (after, last) seqs between which all entries of *scope* stand."""
    size = room.ledger.view.head.seq
    if scope.incident:
        facts = room.ledger.view.incidents[scope.incident].facts
        return facts[0].seq - 1, facts[-1].seq
    if scope.entry:
        return scope.entry - 1, scope.entry
    if scope.period is None:
        return 0, size
    store, tenant = room.store, room.tenant
    after = await _count_before(store, tenant, size, scope.period.start_ms - SLACK_MS)
    return after, await _count_before(store, tenant, size, scope.period.end_ms + SLACK_MS)


async def leaving(room: Room, what: str, scope: Scope) -> tuple[int, int]:
    """The same, of what leaves the ledger as *what* of *scope*: an export is always of all."""
    return await bounds(room, ALL if what == "export" else scope)


async def pages(room: Room, after: int, last: int) -> AsyncIterator[list[Entry]]:
    """The entries after *after* up to *last*, linked to each other and to the head that is known.

    Raises BrokenChain at the first that is not.
    """
    known, head = room.ledger.view.head, GENESIS if after == 0 else None
    while after < last:
        page = await room.store.read(room.tenant, after, min(PAGE, last - after))
        if not page:
            raise BrokenChain(after + 1, f"it is gone; {known.seq} entries were written")
        for entry in page:
            head = _linked(head or Head(after, entry.prev), entry)
            if head.seq == known.seq and head != known:
                raise BrokenChain(head.seq, "it is not the one that was written")
        after = page[-1].seq
        yield page


async def newest(room: Room, scope: Scope, most: int, look: int, before: int = 0) -> tuple[list[Entry], int]:
    """At most *most* of the newest entries of *scope* with a seq under *before*, oldest first.

    At most *look* entries are looked at. The number is where to go on, as the next *before*; 0 at the end.
    """
    after, end = await bounds(room, scope)
    end = min(end, before - 1) if before else end
    stop, found = max(after, end - look), list[Entry]()
    while end > stop and len(found) < most:
        begin = max(stop, end - PAGE)
        part = [e async for page in pages(room, begin, end) for e in page if scope.holds(e)]
        found, end = part + found, begin
    rest = found[-most:]
    reached = rest[0].seq if len(found) > most else end + 1
    return rest, reached if reached > after + 1 else 0


def _linked(head: Head, entry: Entry) -> Head:
    check_link(head, entry)
    return entry.head


async def _count_before(store: Store, tenant: str, size: int, at_ms: int) -> int:
    """How many entries come before *at_ms*, as the order of the log tells it."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        page = await store.read(tenant, middle, 1)
        if page and epoch_ms(page[0].at) < at_ms:
            low = middle + 1
        else:
            high = middle
    return low
