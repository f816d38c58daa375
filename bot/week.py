"""`/status week`: who was woken, in which night, and by what, counted from the ledger alone.

* A night is 22:00 to 07:00 on the person's own clock, named by the day on which it begins; the last seven.
* A page is an incident whose first card reached a person with sound (Paged), on however many channels. What
  rings again for the same incident is not told apart in the ledger, and does not count.
* What reached a group is told beside: nobody knows whom that woke.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from bot.lately import DAY_MS, Past
from bot.order import Order
from bot.ports import Answer
from bot.words import many
from handlers.charter import Charter
from ledger import events as ev

NIGHTS = 7
FROM, TO = time(22), time(7)
MOST_CAUSES = 3
CHAT = re.compile(r"chat\d+")
"""What the ledger calls the charter's chats."""
READ_MS = 30 * DAY_MS
"""Older incidents are read only while they are open."""


@dataclass(slots=True)
class Nights:
    """One reader's pages: by night, and by the rule and service that caused them."""

    by_night: Counter[date] = field(default_factory=Counter)
    by_cause: Counter[str] = field(default_factory=Counter)

    def add(self, night: date, cause: str) -> None:
        self.by_night[night] += 1
        self.by_cause[cause] += 1

    @property
    def total(self) -> int:
        return self.by_night.total()


@dataclass(frozen=True, slots=True)
class Page:
    """One incident that reached *recipient* with sound, first at *at_ms*; *cause* is its service and rule."""

    incident: str
    recipient: str
    at_ms: int
    cause: str


async def week(order: Order) -> Answer:
    room = order.room
    told, groups = await asyncio.to_thread(count, room.people, Past.of(room.ledger.view), room.now_ms())
    names = {person.id: person.name for person in room.people.people}
    lines = [_of(names.get(who, who), nights) for who, nights in told.items()]
    causes = sum((nights.by_cause for nights in told.values()), Counter[str]())
    total = causes.total()
    return Answer(
        "\n".join(
            [
                f"Pages at night (22:00–07:00, each on their own clock), last {NIGHTS} nights: {total}.",
                *(lines or ["Nobody is on call and nobody was paged."]),
                *([f"Most from {_causes(causes)}."] if total else []),
                *([f"Group chats were rung for {many(groups, 'incident')} besides."] if groups else []),
                "A page is an incident whose first card reached somebody with sound. From the ledger.",
            ]
        )
    )


def count(charter: Charter, past: Past, now_ms: int) -> tuple[dict[str, Nights], int]:
    """The pages of who is or was on call, by charter id; and how many incidents rang in group chats."""
    found = {person.id: Nights() for person in charter.people if "oncall" in person.roles}
    groups = set()
    for page in pages(past, now_ms):
        zone = _zone(charter, page.recipient)
        night = night_of(page.at_ms, zone)
        if night is None or night not in nights(now_ms, zone):
            continue
        if CHAT.fullmatch(page.recipient):
            groups.add(page.incident)
        else:
            found.setdefault(page.recipient, Nights()).add(night, page.cause)
    return found, len(groups)


def _zone(charter: Charter, person: str) -> ZoneInfo:
    """The person's own; the tenant's for a group, and for who left the charter."""
    found = charter.person(person)
    return ZoneInfo((found.timezone if found else None) or charter.tenant.timezone)


def pages(past: Past, now_ms: int) -> Iterator[Page]:
    """Each incident and recipient once, at its first card that rang."""
    oldest_ms = now_ms - (NIGHTS + 2) * DAY_MS
    for incident in past.since(now_ms - READ_MS):
        rung: set[str] = set()
        if incident.facts[-1].at_ms < oldest_ms:
            continue
        reading = incident.opened.reading
        cause = f"{reading.service} {reading.rule or 'declared'}"
        for fact, paged in incident.every(ev.Paged):
            if not paged.silent and paged.recipient not in rung:
                rung.add(paged.recipient)
                yield Page(incident.id, paged.recipient, fact.at_ms, cause)


def night_of(at_ms: int, zone: ZoneInfo) -> date | None:
    """The day on which the night began in which *at_ms* is; None by day."""
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    if local.time() >= FROM:
        return local.date()
    return local.date() - timedelta(days=1) if local.time() < TO else None


def nights(now_ms: int, zone: ZoneInfo) -> set[date]:
    """The last seven nights, the one that goes on among them."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    newest = local.date() if local.time() >= FROM else local.date() - timedelta(days=1)
    return {newest - timedelta(days=n) for n in range(NIGHTS)}


def _of(name: str, nights: Nights) -> str:
    """Rudo: 5, worst Tue 17 Nov with 3. checkout err_crit 3, search lat_warn 2."""
    if not nights.total:
        return f"{name}: none"
    worst, most = max(nights.by_night.items(), key=lambda one: (one[1], one[0]))
    return f"{name}: {nights.total}, worst {worst:%a %d %b} with {most}. {_causes(nights.by_cause)}"


def _causes(causes: Counter[str]) -> str:
    named = [f"{cause} {n}" for cause, n in sorted(causes.items(), key=lambda one: (-one[1], one[0]))]
    more = f" and {len(named) - MOST_CAUSES} more" if len(named) > MOST_CAUSES else ""
    return f"{', '.join(named[:MOST_CAUSES])}{more}"
