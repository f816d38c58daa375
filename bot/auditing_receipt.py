"""Whether a receipt is genuine: what its entry says, who, when, and whether a signature covers it.

A receipt that is not ours is told apart, and the genuine one of that number is not shown: who has a wrong
one learns nothing to forge the right one with.
"""

from html import escape

from bot import receipts
from bot.auditing_verify import Checked, Checks
from bot.ports import Answer
from bot.receipts import Receipt
from bot.room import Room
from bot.words import at, cap, plain
from ledger.chain import Entry
from ledger.events import ENGINEER
from ledger.view import epoch_ms

HOW = "Send /audit receipt and the receipt as it stands on the card, such as #42 · 7F3A-91C2-K0PM-XQ4T."


async def told(room: Room, words: str, zone: str, checks: Checks) -> Answer:
    """The verdict on each receipt in *words*. Raises StoreDown."""
    found = receipts.read(words)
    if not found:
        return Answer(f"I see no receipt in that. {HOW}")
    entries = [await _entry(room, one) for one in found]
    checked = await checks.recent(room) if any(entries) else None
    parts = [
        _genuine(room, entry, one, zone, checked) if entry and checked else _not_ours(room, one)
        for one, entry in zip(found, entries, strict=True)
    ]
    html = "\n\n".join(parts)
    return Answer(plain(html), html=html)


async def _entry(room: Room, receipt: Receipt) -> Entry | None:
    """The entry that *receipt* is of."""
    page = await room.store.read(room.tenant, receipt.seq - 1, 1)
    return page[0] if page and page[0].seq == receipt.seq and page[0].hash.startswith(receipt.start) else None


def _genuine(room: Room, entry: Entry, receipt: Receipt, zone: str, checked: Checked) -> str:
    what = cap(": ".join(filter(None, (entry.decision, entry.reason))), 160) or entry.event
    where = f"{entry.incident_id}: " if entry.incident_id else ""
    when = f"{at(epoch_ms(entry.at), zone):%Y-%m-%d %H:%M:%S} ({zone})"
    return "\n".join(
        [
            f"<b>✅ Genuine</b>: <code>{receipt.text}</code>",
            f"<b>{entry.event}</b> by {_quoted(_who(room, entry))}, {when}",
            _quoted(f"{where}{what}"),
            f"<i>{_quoted(_covered(entry, checked))}</i>",
        ]
    )


def _who(room: Room, entry: Entry) -> str:
    person = room.people.person(entry.actor["id"]) if entry.actor["kind"] == ENGINEER else None
    via = f" on {entry.actor['via']}" if entry.actor["via"] else ""
    return f"{person.name if person else entry.actor['id']}{via}"


def _covered(entry: Entry, checked: Checked) -> str:
    if not checked.intact:
        return f"⚠️ The ledger around it is not intact. {checked.sentence()}"
    if checked.signed >= entry.seq:
        return f"It is among the {checked.signed} entries under the signed checkpoint. {checked.signature}"
    return f"The chain of {checked.size} entries holds it. {checked.signature}"


def _not_ours(room: Room, receipt: Receipt) -> str:
    head = f"<b>❌ Not in this ledger</b>: <code>{receipt.text}</code>"
    last = room.ledger.view.head.seq
    if receipt.seq > last:
        lost = "If I sent you this receipt, entries were lost: tell an admin now."
        return f"{head}\nIt has {last} entries, so no #{receipt.seq} yet. {lost}"
    return (
        f"{head}\n#{receipt.seq} here has another code. Compare each letter with the card. If it is right, "
        "it is another team's, or the message was not mine."
    )


def _quoted(text: str) -> str:
    return escape(text, quote=False)
