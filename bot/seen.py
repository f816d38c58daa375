"""Which text somebody had before them when they tapped: its SHA-256, for the entry that the tap makes.

It is the text of the message that the tap came from, as this program last put it there. While it is being
edited nobody knows which of two texts the person saw, and none is named; nor for a typed code. A second tap
and a page know by themselves what they were made on (`Tap.card`).
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256

from bot.ports import Tap
from bot.room import Room
from bot.shown import ShownCards
from ledger.machine import Incident
from ledger.store import StoreDown

type CardOf = Callable[[Room, Incident, Tap], Awaitable[str]]


async def unknown(room: Room, incident: Incident, tap: Tap) -> str:
    return ""


def card_of(shown: ShownCards) -> CardOf:
    """What finds the digest among *shown*."""

    async def find(room: Room, incident: Incident, tap: Tap) -> str:
        try:
            stands = await shown.get(room.tenant, f"{incident.id}|{tap.channel}|{tap.chat}")
        except StoreDown:
            return ""
        if stands is None or not tap.act.message:
            return ""
        texts = dict(stands.stale) | ({} if stands.unsure else {stands.message: stands.html})
        text = texts.get(tap.act.message)
        return sha256(text.encode()).hexdigest() if text else ""

    return find
