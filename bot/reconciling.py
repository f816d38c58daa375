"""`/reconcile`: the books of a period, told in a chat; the report itself becomes an entry.

1. The log is read in pages and booked in a thread (ledger/books.py): the whole of it, since what was
   authorized in a period may end after it.
2. The report stands in the ledger by its digest; who asked for it is on record as a reader.
3. With exceptions, whoever asks in private gets the full text as a file.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import orjson

from bot import periods
from bot.auditing_entry import Readings
from bot.auditing_scope import pages
from bot.errands import Errands
from bot.order import Order
from bot.periods import BadPeriod, Period
from bot.ports import Answer, Document
from bot.room import Room
from ledger.balance import LAST_MS, Report
from ledger.books import Books
from ledger.chain import BrokenChain, Entry, receipt
from ledger.events import Actor
from ledger.ledger import Refusal

MOST_LINES = 9
TEXTS = ("digest", "policy_digest")


class Reconciling:
    """*process* is this process's name, in whose voice the report stands in the ledger."""

    def __init__(self, errands: Errands, process: str) -> None:
        self._errands = errands
        self._actor = Actor.orchestrator(process)
        self._readings = Readings()

    async def reconcile(self, order: Order) -> Answer:
        """`/reconcile [period]`. Raises StoreDown."""
        try:
            period = _period(order)
        except BadPeriod as bad:
            return Answer(f"{bad} /reconcile alone takes everything.")
        scope = f"books of {period.name}" if period else "books"
        await self._readings.note(order.room, order.person, order.said.act, scope)
        return await self._errands.do(order, self._told(order, period))

    async def _told(self, order: Order, period: Period | None) -> Answer:
        try:
            report = await booked(order.room, period)
        except BrokenChain as broken:
            return Answer(f"⚠️ Not reconciled: the chain is broken. {broken} /audit verify says more.")
        made = await order.room.ledger.record(self._actor, lambda view, now: report.fact())
        kept = f"Not on record: {made.why}" if isinstance(made, Refusal) else f"#{made.seq} · {receipt(made)}"
        mark = "✅" if report.clean else "⚠️"
        text = "\n".join([f"{mark} {'\n'.join(report.lines(MOST_LINES))}", kept])
        if report.clean:
            return Answer(text)
        if not order.said.private or order.said.channel != "telegram":
            return Answer(f"{text}\nThe full text: /reconcile in a private chat on Telegram.")
        name = f"countersign-{order.room.tenant}-reconciliation.txt"
        return Answer(text, documents=(Document(name, report.text().encode(), kept),))


async def booked(room: Room, period: Period | None) -> Report:
    """The report of the whole log, for *period*. Raises BrokenChain, StoreDown."""
    texts: dict[str, str] = {}
    books, head = Books(texts), room.ledger.view.head
    async for page in pages(room, 0, head.seq):
        await _find_texts(room, page, texts)
        await asyncio.to_thread(_book, books, page)
    bounds = (period.start_ms, period.end_ms) if period else (0, LAST_MS)
    return await asyncio.to_thread(books.report, room.tenant, room.now_ms(), *bounds, head.hash)


def _book(books: Books, page: Sequence[Entry]) -> None:
    for entry in page:
        books.take(orjson.loads(entry.line), entry.hash)


async def _find_texts(room: Room, page: Sequence[Entry], texts: dict[str, str]) -> None:
    for entry in page:
        for digest in (entry.data.get(name) for name in TEXTS):
            if entry.event in {"CharterAdopted", "PolicyAdopted"} and isinstance(digest, str):
                texts[digest] = await room.store.get_text(room.tenant, digest) or ""


def _period(order: Order) -> Period | None:
    if order.words.lower() in {"", "all"}:
        return None
    zone = order.room.zone(order.person)
    return periods.parse(order.words, datetime.fromtimestamp(order.room.now_ms() / 1000, zone))
