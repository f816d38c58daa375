"""Hangs a chart under every card: one quiet picture for each incident and chat, changed as things happen.

1. First the card, then the picture: it is due where a card has arrived, two seconds after the fact that it is
   to show, and goes only when nothing else is to be said in that chat. A slow upload holds up no card.
2. It is a reply to the card and never the card: the card's text, its buttons and its edits are the same with
   and without it (docs/adr says why).
3. What opened, was approved, ran or ended draws it anew, in place and without a sound.
4. What cannot be drawn, or is refused, is left alone until the next such fact. What may have been sent is not
   sent again.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bot.chart import newest
from bot.easel import Easel
from bot.lookback import Lookback, chart_of
from bot.ports import Address, Gallery, Picture, SendError
from bot.scene import Reader
from bot.shown import ShownCards
from bot.wall import Hung, Wall
from handlers.charter import Charter
from handlers.network import NETWORK
from handlers.ports import PortError, Rulebook
from handlers.reconciler import Work
from ledger.clock import Clock
from ledger.ledger import Ledger
from ledger.machine import Incident
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

log = logging.getLogger(__name__)

SETTLE_MS = 2_000
"""What comes so soon after each other is drawn once."""
AFTER_MS = 600_000
"""So long after it was closed an incident's picture is still brought up to date."""

type Find = Callable[[str, str], Address]
"""The address of (channel, vendor's id)."""


class Hanger(Protocol):
    """The outbox, as far as pictures go. Raises SendError."""

    async def peace(self, to: Address) -> None:
        """Return once nothing is to be said there."""

    async def show(
        self, gallery: Gallery, to: Address, picture: Picture, *, reply_to: str = "", message: str = ""
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Spot:
    """One incident in one chat, and the card there, to which the picture is a reply."""

    incident: Incident
    charter: Charter
    to: Address
    gallery: Gallery
    card: str


class Pictures:
    """The reconciler. *find* says whose a chat is, *lookback* what was measured, *easel* draws."""

    name = "pictures"

    def __init__(
        self,
        ledger: Ledger,
        rulebook: Rulebook,
        shown: ShownCards,
        wall: Wall,
        lookback: Lookback,
        easel: Easel,
        outbox: Hanger,
        galleries: Mapping[str, Gallery],
        find: Find,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._shown = shown
        self._wall = wall
        self._lookback = lookback
        self._easel = easel
        self._outbox = outbox
        self._galleries = galleries
        self._find = find
        self._clock = clock

    def due(self, view: View, now_ms: int) -> list[Work]:
        """One piece of work for each chat whose picture is not current, as far as is known here."""
        alive = [one for one in view.incidents.values() if _is_alive(one, now_ms)]
        if not alive or not self._galleries or self._rulebook.charter(view) is None:
            return []
        cards, hung = self._cards(), self._wall.peek(self._ledger.tenant)
        return [
            Work(field, fact.at_ms + SETTLE_MS, incident.id)
            for incident in alive
            for fact in [newest(incident)]
            for field in cards[incident.id]
            if hung.get(field, Hung()).seq < fact.seq
        ]

    async def do(self, work: Work) -> None:
        """Hang or change one picture. Raises PortError where it is to be tried again."""
        spot = self._spot(work)
        if spot is None:
            return
        try:
            hung = await self._wall.get(self._ledger.tenant, work.key)
            if hung.seq >= newest(spot.incident).seq:
                return
            await self._outbox.peace(spot.to)
            spot = self._spot(work) or spot
            hanging = await self._hang(spot, hung)
            await self._wall.put(self._ledger.tenant, work.key, hanging)
            if not hung.seq:
                await self._wall.keep(self._ledger.tenant, self._still_shown())
        except StoreDown as down:
            raise PortError(f"Which picture hangs where is not known: {down}") from down

    async def _hang(self, spot: Spot, hung: Hung) -> Hung:
        """What hangs now. Raises PortError for what may work a little later."""
        seq, picture = newest(spot.incident).seq, await self._picture(spot)
        if picture is None:
            return Hung(hung.message, seq)
        try:
            return Hung(await self._shown_there(spot, picture, hung.message), seq)
        except SendError as error:
            if not (error.permanent or error.gone or (error.unknown and not hung.message)):
                raise PortError(
                    f"{spot.to.channel} took no picture for {spot.to.recipient}: {error}"
                ) from error
            log.warning("%s has no picture of %s: %s", spot.to.recipient, spot.incident.id, error)
            return Hung(hung.message, seq)

    async def _shown_there(self, spot: Spot, picture: Picture, message: str) -> str:
        """In its message, or in a new one where that is gone."""
        try:
            return await self._outbox.show(
                spot.gallery, spot.to, picture, reply_to=spot.card, message=message
            )
        except SendError as error:
            if not (error.gone and message):
                raise
        return await self._outbox.show(spot.gallery, spot.to, picture, reply_to=spot.card)

    async def _picture(self, spot: Spot) -> Picture | None:
        service = spot.incident.service
        past = await self._lookback.of(service)
        if past is None:
            return None
        policy = self._rulebook.policy(self._ledger.view).of(service)
        zone = Reader.of(spot.charter, spot.to.person).timezone
        now_ms = epoch_ms(self._clock.now())
        return await self._easel.picture(chart_of(service, past, spot.incident, zone, policy, now_ms))

    def _spot(self, work: Work) -> Spot | None:
        """The present of what *work* is about; None where something of it is gone."""
        view, shown = self._ledger.view, self._shown.peek(self._ledger.tenant).get(work.key)
        charter, incident = self._rulebook.charter(view), view.incidents.get(work.incident)
        _, channel, chat = work.key.split("|", 2)
        gallery = self._galleries.get(channel)
        if not (charter and incident and gallery and shown and shown.message):
            return None
        return Spot(incident, charter, self._find(channel, chat), gallery, shown.first)

    def _cards(self) -> defaultdict[str, list[str]]:
        """Where cards stand under which a picture can hang, by incident."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for field, shown in self._shown.peek(self._ledger.tenant).items():
            incident, channel, _ = field.split("|", 2)
            if shown.message and channel in self._galleries:
                found[incident].append(field)
        return found

    def _still_shown(self) -> set[str]:
        return {field.partition("|")[0] for field in self._shown.peek(self._ledger.tenant)}


def _is_alive(incident: Incident, now_ms: int) -> bool:
    recent = incident.is_open or now_ms - incident.entered_ms < AFTER_MS
    return recent and incident.service != NETWORK
