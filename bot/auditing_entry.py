"""That somebody read or took out entries stands in the ledger itself.

1. What is read in a chat is one entry for each person, scope and hour in this process: a person who looks
   ten times in a crisis leaves one line, not ten.
2. Every file has an entry of its own, made before the file is: no entry, no file.
3. Reading goes on where the ledger takes no entry: a sealed ledger is when people must be able to look.
"""

from datetime import datetime

from bot.room import Room
from handlers.charter import Person
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Act, Event
from ledger.ledger import Decide, Refusal
from ledger.store import StoreDown
from ledger.view import View

HOUR_MS = 3_600_000
MOST_KNOWN = 4_096
SAYS = {"chat": "Read in chat", "web": "Opened for reading on the web"}


class Readings:
    """Who has read what in this hour."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, int], None] = {}

    async def note(self, room: Room, person: Person, act: Act, scope: str) -> None:
        """Put on record that *person* read *scope* in a chat, unless it is for this hour."""
        key = (room.tenant, person.id, scope, room.now_ms() // HOUR_MS)
        if key in self._known:
            return
        try:
            made = await room.record(person, act, exported("chat", scope, act))
        except StoreDown:
            return
        if isinstance(made, Entry):
            self._known[key] = None
            while len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]


def exported(what: str, scope: str, act: Act, first: int = 1, last: int = 0) -> Decide:
    """The entry that *what* of *scope* was read or taken out, the entries from *first* to *last*."""

    def decide(view: View, now: datetime) -> Event | Refusal:
        return ev.Exported(
            decision="read" if what in SAYS else "export",
            reason=f"{SAYS.get(what, f'Taken out as {what}')}: {scope}",
            first_seq=first,
            last_seq=last or view.head.seq,
            what=what,
            scope=scope,
            act=act,
        )

    return decide
