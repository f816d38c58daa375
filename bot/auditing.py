"""What `/audit` answers: views for everybody of the tenant, files for its admins and auditors.

1. `VIEWS` is the table: a word and what it does. Any other words name a stretch of the ledger; none, today.
2. Reading in a chat is on record once an hour; each file has an entry before it is made (auditing_entry.py).
3. Files hold people's data and go to a private chat alone: to Telegram as a document, else as a link.
4. Words that name nothing are answered with those that would.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from bot import auditing_receipt, auditing_rows
from bot.auditing_entry import Readings, exported
from bot.auditing_files import FILES, CannotMake
from bot.auditing_scope import ALL, NoScope, Scope, leaving, read_scope
from bot.auditing_verify import Checked, Checks, check
from bot.auditing_ways import Ways
from bot.errands import Errands
from bot.order import Order
from bot.ports import Answer, Document
from bot.room import Room
from handlers.charter import Person
from ledger.chain import BrokenChain, Entry, receipt
from ledger.events import Act
from ledger.export import CannotExport
from ledger.ledger import Refusal
from ledger.machine import Incident
from ledger.prove import CannotProve
from ledger.report_source import NoSuchIncident
from ledger.verify import Incomplete, Tampered

AUDITORS = frozenset({"admin", "auditor"})
MOST_DOCUMENT = 49 * 10**6
"""Telegram takes 50 MB; what is around the file counts too."""
IN_PRIVATE = "Files hold people's data, so I send them in a private chat alone. Send me the same there."
NOT_YOURS = "Files go to people with the role admin or auditor. /audit shows the ledger here."
TOO_LONG = (
    "It is over Telegram's 50 MB. Ask for a shorter period, set PUBLIC_BASE_URL for a link, or on the "
    "server: python -m ledger export."
)
NO_LINK = "I cannot send files on WhatsApp. Ask me in Telegram, in private, or set PUBLIC_BASE_URL for links."
HOW = {
    "export": "\nThe whole log, for it is verified from its first entry{rows}. Unpack it, then in its "
    "folder: python3 -I -S verify.py .",
    "proof": "\nOne entry, and what shows that it is under the signature. Unpack it, compare keys.txt with a "
    "key from elsewhere, then: python3 -I -S proof.py entry-{entry}.tlog-proof --key keys.txt",
}
REMARK = (
    "It is what the server holds now. That nothing was cut off behind it, receipts in chats show: "
    "/audit receipt."
)


@dataclass(frozen=True, slots=True)
class View:
    """One word behind /audit: an example, and what runs."""

    example: str
    run: "Callable[[Auditing, Order], Awaitable[Answer]]"


class Auditing:
    """*ways* makes links, where this program has an address that people can open."""

    def __init__(self, errands: Errands, ways: Ways | None = None) -> None:
        self._errands = errands
        self._ways = ways
        self._readings = Readings()
        self.checks = Checks()

    async def audit(self, order: Order) -> Answer:
        """`/audit …`. Raises StoreDown."""
        view = VIEWS.get(order.first.lower())
        if view:
            return await view.run(self, order.with_words(order.rest))
        try:
            scope = read_scope(order.room, order.words or "today", ZoneInfo(order.zone))
        except NoScope as none:
            return Answer(f"{none}\nOr one of {', '.join(f'/audit {name}' for name in VIEWS)}.")
        await self._readings.note(order.room, order.person, order.said.act, scope.name)
        what = "" if order.words else "today"
        return await self._errands.do(order, auditing_rows.told(order.room, scope, order.zone, what))

    async def incident(self, room: Room, person: Person, incident: Incident, act: Act) -> Answer:
        """An incident's rows, for who asks by its button. Raises StoreDown."""
        await self._readings.note(room, person, act, incident.id)
        return await auditing_rows.told(room, Scope(incident=incident.id), str(room.zone(person)))

    async def verify(self, order: Order) -> Answer:
        await self._readings.note(order.room, order.person, order.said.act, "verify")
        return await self._errands.do(order, _verdict(order.room))

    async def receipt(self, order: Order) -> Answer:
        await self._readings.note(order.room, order.person, order.said.act, "receipts")
        asked = auditing_receipt.told(order.room, order.words, order.zone, self.checks)
        return await self._errands.do(order, asked)

    async def csv(self, order: Order) -> Answer:
        return await self._file(order, "csv")

    async def jsonl(self, order: Order) -> Answer:
        return await self._file(order, "jsonl")

    async def export(self, order: Order) -> Answer:
        return await self._file(order, "export")

    async def proof(self, order: Order) -> Answer:
        return await self._file(order.with_words(f"#{order.words.lstrip('#') or 0}"), "proof")

    async def pdf(self, order: Order) -> Answer:
        return await self._file(order if order.words else order.with_words("today"), "pdf")

    async def web(self, order: Order) -> Answer:
        """A link to the read-only page."""
        if hindered := _hindered(order):
            return Answer(hindered)
        if self._ways is None:
            return Answer("There is no web page: PUBLIC_BASE_URL is not set. /audit export sends all of it.")
        url = self._ways.page(order.room, order.person, "all")
        return Answer(f"Read-only, yours alone, for 30 minutes. Opening it is on record.\n{url}")

    async def _file(self, order: Order, what: str) -> Answer:
        if hindered := _hindered(order):
            return Answer(hindered)
        try:
            scope = read_scope(order.room, order.words, ZoneInfo(order.zone))
        except NoScope as none:
            return Answer(str(none))
        if order.said.channel != "telegram":
            return self._linked(order, what, scope)
        return await self._errands.do(order, self._made(order, what, scope))

    def _linked(self, order: Order, what: str, scope: Scope) -> Answer:
        if self._ways is None:
            return Answer(TOO_LONG if order.said.channel == "telegram" else NO_LINK)
        url = self._ways.file(order.room, order.person, what, scope.name)
        return Answer(f"{what} of {scope.name}: yours alone, for five minutes, one press there.\n{url}")

    async def _made(self, order: Order, what: str, scope: Scope) -> Answer:
        """The file as a document, or as a link where it is too long for one."""
        made = await taken_out(order.room, order.person, order.said.act, what, scope)
        if isinstance(made, Refusal):
            return Answer(not_taken(made))
        with TemporaryDirectory(prefix="cs-") as folder:
            path = await written(order.room, order.person, what, scope, Path(folder))
            if isinstance(path, str):
                return Answer(path)
            if path.stat().st_size > MOST_DOCUMENT:
                return self._linked(order, what, scope)
            content = await asyncio.to_thread(path.read_bytes)
        return Answer("", documents=(Document(path.name, content, _caption(what, scope, made)),))


async def taken_out(room: Room, person: Person, act: Act, what: str, scope: Scope) -> Entry | Refusal:
    """The entry that *what* of *scope* leaves the ledger. Raises StoreDown."""
    after, last = await leaving(room, what, scope)
    return await room.record(person, act, exported(what, scope.name, act, after + 1, last))


async def written(room: Room, person: Person, what: str, scope: Scope, folder: Path) -> Path | str:
    """The file, or why there is none. Raises StoreDown."""
    try:
        return await FILES[what](room, person, scope, folder)
    except (CannotMake, CannotProve, NoSuchIncident) as none:
        return str(none)
    except (BrokenChain, Tampered, Incomplete, CannotExport) as broken:
        return f"⚠️ Not made: {broken} /audit verify says more."


def not_taken(refusal: Refusal) -> str:
    return f"Not sent: {refusal.why} What leaves the ledger must stand in it first."


async def _verdict(room: Room) -> Answer:
    return Answer(verdict_text(await check(room)))


def verdict_text(checked: Checked) -> str:
    """What a check of the whole ledger found, for a person."""
    if not checked.intact:
        return f"⚠️ {checked.sentence()}\nDecide nothing on it. Leave the server as it is and tell an admin."
    open_ones = f"Approvals without an outcome yet: {checked.unsettled}."
    return f"✅ {checked.sentence()}\n{open_ones}\n{REMARK}"


def _hindered(order: Order) -> str:
    """Why this person gets no file here; empty where they do."""
    if not AUDITORS & set(order.person.roles):
        return NOT_YOURS
    return "" if order.said.private else IN_PRIVATE


def _caption(what: str, scope: Scope, made: Entry) -> str:
    rows = "" if scope == ALL else f", and beside it the rows of {scope.name} with their hashes"
    how = HOW.get(what, "").format(rows=rows, entry=scope.entry)
    return f"{what} of {scope.name}{how}\n#{made.seq} · {receipt(made)}"


VIEWS: Mapping[str, View] = {
    "verify": View("/audit verify", Auditing.verify),
    "receipt": View("/audit receipt #42 · 7F3A-91C2-K0PM-XQ4T", Auditing.receipt),
    "csv": View("/audit csv 2026-11", Auditing.csv),
    "jsonl": View("/audit jsonl checkout-3", Auditing.jsonl),
    "pdf": View("/audit pdf checkout-3", Auditing.pdf),
    "export": View("/audit export", Auditing.export),
    "proof": View("/audit proof #42", Auditing.proof),
    "web": View("/audit web", Auditing.web),
}
