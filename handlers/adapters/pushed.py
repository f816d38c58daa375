"""Reads what apps pushed that nobody can reach, as if they had been asked.

1. The words of a service's workers are added up by the same rules as workers add up each other's
   (sdk/together.py): a push that comes twice, late or out of order changes nothing.
2. Who has not pushed for ten seconds does not answer. Time in which we could not have kept a push, because
   this process or the store was away, is not counted as silence.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from handlers.adapters.health import tick_of
from handlers.charter import Charter, Service
from handlers.ports import Health, Polled, PortError
from ledger.store import StoreDown
from sdk import wire
from sdk.parcel import Parcel
from sdk.together import Together, Word

SILENCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a service: its workers' words, and when the newest arrived; 0: never."""

    words: Mapping[str, Word]
    last_ms: int


class Shelf(Protocol):
    """Where parcels are kept until they are a minute old. Both raise StoreDown."""

    async def put(self, tenant: str, service: str, parcel: Parcel, now_ms: int) -> bool:
        """Keep what is new in it; False where the service has too many workers."""

    async def read(self, tenant: str, service: str, known: Mapping[str, Word], now_ms: int) -> Kept:
        """What is kept; seconds that are *known* are not read again."""


@dataclass(slots=True)
class _Heard:
    """What this process knows of one service."""

    words: Mapping[str, Word] = field(default_factory=dict)
    together: Together = field(default_factory=Together)
    well_ms: int = 0
    """Since when the store has answered; 0 while it does not."""


class Pushed:
    """`handlers.ports.Health` of services that push; *asked* is the one of all others."""

    def __init__(self, shelf: Shelf, asked: Health) -> None:
        self._shelf = shelf
        self._asked = asked
        self._heard: dict[tuple[str, str], _Heard] = {}

    async def poll(self, charter: Charter, service: Service, cursor: int, now_ms: int) -> Polled:
        """What ended since *cursor*. Raises PortError with the reason in a few words, and StoreDown."""
        if service.push is None:
            return await self._asked.poll(charter, service, cursor, now_ms)
        heard = self._heard.setdefault((charter.tenant.id, service.id), _Heard())
        try:
            kept = await self._shelf.read(charter.tenant.id, service.id, heard.words, now_ms)
        except StoreDown:
            heard.well_ms = 0
            raise
        heard.words, heard.well_ms = kept.words, heard.well_ms or now_ms
        if now_ms - max(kept.last_ms, heard.well_ms) > SILENCE_MS:
            raise PortError(_silence(now_ms - kept.last_ms) if kept.last_ms else "no push has come yet")
        snapshot = await asyncio.to_thread(_added, heard, cursor, now_ms)
        return tick_of(snapshot, cursor, now_ms)


def _added(heard: _Heard, cursor: int, now_ms: int) -> wire.Snapshot:
    """The words as one app's answer."""
    heard.together.hear(heard.words, now_ms // 1000)
    return heard.together.snapshot(cursor)


def _silence(ms: int) -> str:
    seconds = ms // 1000
    if seconds < 120:
        return f"no push for {seconds} s"
    return f"no push for {seconds // 60} min" if seconds < 7200 else f"no push for {seconds // 3600} h"
