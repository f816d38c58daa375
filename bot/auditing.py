"""What `/audit` and `/incident` say: the rows of the ledger with receipts, and whether its chain verifies."""

from datetime import datetime
from html import escape

from bot.ports import Answer
from bot.room import Room
from bot.words import cap, hms, plain
from ledger.chain import GENESIS, BrokenChain, Entry, check_link, receipt
from ledger.machine import Incident
from ledger.rows import row

MOST_ROWS = 25
PAGE = 1_000
HIDDEN = frozenset({"Paged", "Watched"})


async def today(room: Room, zone: str) -> Answer:
    """The entries of the reader's day, newest last."""
    start = room.local(room.now_ms(), None).replace(hour=0, minute=0, second=0, microsecond=0)
    entries, verdict = await _read(room)
    return _answer([e for e in entries if e.at >= start], verdict, "today", zone)


async def incident(room: Room, found: Incident, zone: str) -> Answer:
    entries, verdict = await _read(room)
    return _answer([e for e in entries if e.incident_id == found.id], verdict, found.id, zone)


async def _read(room: Room) -> tuple[list[Entry], str]:
    """All entries, read again, and whether they are one chain up to what this process knows."""
    known, head = room.ledger.view.head, GENESIS
    entries: list[Entry] = []
    while page := await room.store.read(room.tenant, head.seq, PAGE):
        for entry in page:
            try:
                check_link(head, entry)
            except BrokenChain as broken:
                return entries, f"⚠️ The chain is broken. {broken}"
            head = entry.head
            entries.append(entry)
            if head.seq == known.seq and head != known:
                return entries, f"⚠️ The chain is broken. Entry {head.seq} is not the one that was written."
    if head.seq < known.seq:
        return entries, f"⚠️ The chain is broken. It ends at {head.seq}; {known.seq} entries were written."
    return entries, f"Chain verifies: {head.seq} entries, head {head.hash[:12]}."


def _answer(entries: list[Entry], verdict: str, what: str, zone: str) -> Answer:
    shown = [e for e in entries if e.event not in HIDDEN]
    lines = [f"<b>Audit of {escape(what, quote=False)}</b>: {len(entries)} entries"]
    if len(shown) > MOST_ROWS:
        lines.append(f"<i>The newest {MOST_ROWS} of {len(shown)}; the export has all.</i>")
    lines += [_line(entry, zone) for entry in shown[-MOST_ROWS:]]
    versions = sorted({e.policy_version for e in shown})
    lines.append(f"<i>Policy {', '.join(versions) or 'none'}. {escape(verdict, quote=False)}</i>")
    html = "\n".join(lines)
    return Answer(plain(html), html=html)


def _line(entry: Entry, zone: str) -> str:
    found = row(entry)
    who = found["actor_id"] if found["actor"] == "engineer" else found["actor"]
    at = hms(int(datetime.fromisoformat(entry.ts).timestamp() * 1000), zone)
    what = cap(f"{entry.decision or entry.event}: {entry.reason}" if entry.reason else entry.event, 90)
    said = f"#{entry.seq} {at} <b>{entry.event}</b> {escape(who, quote=False)}"
    return f"{said} {escape(what, quote=False)} <code>{receipt(entry)}</code>"
