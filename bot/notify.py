"""Tells people: every incident's card, in every chat, as it should stand now.

1. What should stand is `render` of the ledger; what stands is `ShownCards`. The difference is work, one key
   for each incident and chat, so that a chat that hangs holds up no other.
2. A fact that rings is a new message, a reply to the first. It takes over the buttons, and the old message
   says that it moved down. All else edits. Nothing is sent where neither revision nor sound has moved.
3. Live buttons are never edited into others: they go with the old text, and come back a moment later.
4. What was sent is noted once it was sent: a crash between the two shows a card twice, never not at all.
5. The first card that arrives is in the ledger (Paged), and so is a chat that takes none (PageFailed).
6. A channel that cannot edit is told milestones alone.
7. In maintenance nothing new is sent of what policy opened; what is still open afterwards is told then.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol

from bot import rings
from bot.ports import Address, Card, Channel, Ring, SendError
from bot.shown import MemoryShown, RedisShown, Shown, ShownCards, name
from bot.words import plain
from handlers import maintenance
from handlers.charter import Charter
from handlers.ports import PortError, Rulebook
from handlers.reconciler import Work
from ledger import events as ev
from ledger.clock import Clock
from ledger.events import Actor, Event
from ledger.ledger import Decide, Ledger, Refusal
from ledger.machine import Incident
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

__all__ = ["MemoryShown", "Notify", "RedisShown", "Shown", "ShownCards"]

log = logging.getLogger(__name__)

BARE_MS = 700
"""So long a text stands without buttons before new ones come under it."""
AFTER_MS = 3_600_000
"""So long after its last fact a closed incident's cards are still brought up to date."""
LATE_MS = 600_000
"""So long after it was closed a chat that never heard of an incident is told of it."""
KEPT_MS = 86_400_000
HANG_S = 90.0
MOST_STALE = 4
MOST_STEPS = 8

MOVED_DOWN = "\n<i>↓ moved down: the newest card has the buttons</i>"


class Sender(Protocol):
    """The outbox, as far as cards go. Each call returns when the vendor has taken it, or raises SendError."""

    async def send(
        self,
        channel: Channel,
        tenant: str,
        to: Address,
        card: Card,
        *,
        reply_to: str = "",
        silent: bool = False,
    ) -> str: ...

    async def edit(self, channel: Channel, tenant: str, to: Address, message: str, card: Card) -> None: ...


class Printer(Protocol):
    """Who prints cards: `bot.press.Press`."""

    async def card(
        self, view: View, incident: Incident, charter: Charter, to: Address, now_ms: int
    ) -> Card: ...


Addresses = Callable[[Charter, View], Sequence[Address]]
Reach = Callable[[Charter, View, str], Sequence[Address]]
"""Every way to reach one person alone, by charter id."""


def nowhere(charter: Charter, view: View, person: str) -> Sequence[Address]:
    return ()


class Step(StrEnum):
    """What is to be done next for one incident in one chat."""

    NOTHING = "nothing"
    SEND = "send"
    EDIT = "edit"
    RETIRE = "retire"
    PAGED = "paged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Due:
    """A step, and when."""

    step: Step
    at_ms: int = 0


NOTHING = Due(Step.NOTHING)


def next_step(incident: Incident, to: Address, shown: Shown | None, edits: bool, now_ms: int) -> Due:
    """What is due for *incident* at *to*, where *shown* stands. Pure, and cheap: it renders nothing."""
    if shown is None:
        return Due(Step.SEND) if _is_news(incident, edits, now_ms) else NOTHING
    noted = _note(incident, to, shown)
    if noted:
        return Due(noted)
    stands = _mark(incident, to, edits)
    if stands.sounded > shown.sounded:
        return Due(Step.SEND)
    if not shown.message:
        return NOTHING
    if shown.stale:
        return Due(Step.RETIRE)
    if edits and stands.revision > shown.revision:
        return Due(Step.EDIT, shown.bared_ms + BARE_MS if shown.bared_ms else 0)
    return NOTHING


def _in_peace(due: Due, charter: Charter, view: View, incident: Incident, now_ms: int) -> Due:
    """*due*, but no new message while the service is in maintenance: it comes when that is over."""
    silent_ms = maintenance.silent_until_ms(charter, view, incident, now_ms) if due.step is Step.SEND else 0
    return replace(due, at_ms=silent_ms) if silent_ms else due


def _mark(incident: Incident, to: Address, edits: bool) -> rings.Mark:
    """Where the card stands; for a channel that cannot edit, its newest milestone."""
    if edits:
        return rings.mark(incident, to.person, to.channel)
    seq, _ = rings.milestone(incident)
    return rings.Mark(seq, seq, Ring.RING)


def _is_news(incident: Incident, edits: bool, now_ms: int) -> bool:
    fresh = incident.is_open or now_ms - incident.entered_ms < LATE_MS
    return fresh and (edits or rings.milestone(incident)[0] > 0)


def _note(incident: Incident, to: Address, shown: Shown) -> Step | None:
    """Whether the ledger does not say yet that the first card arrived, or that none can."""
    kind = ev.Paged if shown.message else ev.PageFailed
    if _stands_noted(incident, kind, to):
        return None
    if shown.message:
        return Step.PAGED
    return Step.FAILED if shown.failed and not _stands_noted(incident, ev.Paged, to) else None


def _stands_noted(incident: Incident, kind: type[ev.Paged] | type[ev.PageFailed], to: Address) -> bool:
    return any(
        (event.recipient, event.channel) == (to.recipient, to.channel) for _, event in incident.every(kind)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """One incident in one chat, at one moment."""

    incident: Incident
    charter: Charter
    to: Address
    channel: Channel
    now_ms: int


class Notify:
    """The reconciler that shows cards. *addresses* says where, *press* prints, *outbox* sends.

    *reach* finds those whom an escalation names and who would not be told otherwise.
    """

    name = "notify"

    def __init__(
        self,
        ledger: Ledger,
        outbox: Sender,
        shown: ShownCards,
        rulebook: Rulebook,
        addresses: Addresses,
        press: Printer,
        channels: Mapping[str, Channel],
        clock: Clock,
        process: str,
        reach: Reach = nowhere,
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._shown = shown
        self._rulebook = rulebook
        self._addresses = addresses
        self._press = press
        self._channels = channels
        self._clock = clock
        self._reach = reach
        self._actor = Actor.orchestrator(process)
        self._change = asyncio.Event()
        ledger.on_change(self._changed)

    def due(self, view: View, now_ms: int) -> list[Work]:
        """One piece of work for each incident and chat whose card is not current, as far as is known here."""
        charter = self._rulebook.charter(view)
        if charter is None:
            return []
        known, found = self._shown.peek(view.tenant), []
        for incident in _alive(view, now_ms):
            for to, channel in self._everywhere(charter, view, incident):
                field = name(incident.id, to)
                due = next_step(incident, to, known.get(field), channel.edits, now_ms)
                due = _in_peace(due, charter, view, incident, now_ms)
                if due.step is not Step.NOTHING:
                    found.append(Work(field, due.at_ms or now_ms, incident.id))
        return found

    async def do(self, work: Work) -> None:
        """Bring one card up to date, step by step. Raises PortError where the vendor or the store did not."""
        for _ in range(MOST_STEPS):
            if not await self._advance(work):
                return

    async def _advance(self, work: Work) -> bool:
        """Do the next step, if one is due now."""
        place = self._place(work)
        if place is None:
            return False
        try:
            shown = await self._shown.get(self._ledger.tenant, work.key)
            due = next_step(place.incident, place.to, shown, place.channel.edits, place.now_ms)
            due = _in_peace(due, place.charter, self._ledger.view, place.incident, place.now_ms)
            if due.step is Step.NOTHING or due.at_ms > place.now_ms:
                return False
            async with asyncio.timeout(HANG_S):
                await self._take(due.step, place, shown or Shown())
        except StoreDown as down:
            raise PortError(f"What {place.to.recipient} was shown is not known: {down}") from down
        except TimeoutError:
            raise PortError(f"{place.to.channel} took no card for {place.to.recipient}") from None
        return True

    async def _take(self, step: Step, place: _Place, shown: Shown) -> None:
        match step:
            case Step.SEND:
                await self._send(place, shown)
            case Step.EDIT:
                await self._edit(place, shown)
            case Step.RETIRE:
                await self._retire(place, shown)
            case _:
                await self._note(place, shown)

    async def _send(self, place: _Place, shown: Shown, *, silent: bool = False) -> None:
        """A new message, a reply to the first; the one before it becomes stale."""
        card = await self._print(place)
        unheard = not shown.message and place.incident.is_open
        quiet = silent or (card.ring is Ring.QUIET and not unheard)
        card = replace(card, ring=Ring.QUIET if quiet else Ring.RING)
        stands = _stands(place, card)
        try:
            message = await self._outbox.send(
                place.channel, self._ledger.tenant, place.to, card, reply_to=shown.first, silent=quiet
            )
        except SendError as error:
            await self._not_sent(place, replace(shown, **stands), error)
            return
        live = place.channel.edits and (shown.keys or shown.unsure)
        old = ((shown.message, shown.html),) if live else ()
        sent = replace(
            shown,
            **stands,
            message=message,
            first=shown.first or message,
            html=card.html,
            digest=shown.digest or sha256(card.html.encode()).hexdigest(),
            silent=shown.silent if shown.first else quiet,
            keys=_keys(card),
            unsure=False,
            bared_ms=0,
            stale=(*shown.stale, *old)[-MOST_STALE:],
            failed="",
        )
        await self._put(place, sent)
        if not shown.first:
            await self._shown.keep(self._ledger.tenant, _kept(self._ledger.view, place.now_ms))

    async def _not_sent(self, place: _Place, shown: Shown, error: SendError) -> None:
        if error.moved_to:
            await self._shown.move(self._ledger.tenant, place.to.to, error.moved_to)
        elif error.permanent:
            log.warning("%s takes no card for %s: %s", place.to.channel, place.to.recipient, error)
            await self._put(place, replace(shown, failed=str(error)[:200] or "refused"))
        else:
            raise PortError(
                f"{place.to.channel} did not take a card for {place.to.recipient}: {error}"
            ) from error

    async def _edit(self, place: _Place, shown: Shown) -> None:
        """The text first, without buttons, where it had others; then the text with its own."""
        card = await self._print(place)
        if _must_be_bared(card, shown):
            card = replace(card, rows=())
            after = replace(shown, html=card.html, keys="", unsure=False, bared_ms=place.now_ms)
        else:
            after = replace(shown, html=card.html, keys=_keys(card), revision=card.revision, bared_ms=0)
        if (after.html, after.keys, after.unsure) != (shown.html, shown.keys, shown.unsure):
            if card.rows:
                await self._put(place, replace(shown, unsure=True))
            try:
                if not await self._made(place, shown.message, card):
                    return
            except SendError as error:
                if error.gone:
                    await self._send(place, replace(shown, keys="", unsure=False), silent=True)
                    return
                if not error.permanent:
                    raise PortError(f"{place.to.channel} did not edit a card: {error}") from error
        await self._put(place, replace(after, unsure=False))

    async def _retire(self, place: _Place, shown: Shown) -> None:
        """The old message loses its buttons and says that it moved down. It keeps what it said."""
        message, html = shown.stale[0]
        text = html + MOVED_DOWN
        card = Card(place.incident.id, 0, 0, Ring.EDIT, text, plain(text))
        try:
            if not await self._made(place, message, card):
                return
        except SendError as error:
            if not (error.permanent or error.gone):
                raise PortError(f"{place.to.channel} did not take the buttons off: {error}") from error
        await self._put(place, replace(shown, stale=shown.stale[1:]))

    async def _made(self, place: _Place, message: str, card: Card) -> bool:
        """Whether *message* shows *card* now. False: something newer came up while it waited; look again."""
        edit = self._outbox.edit(place.channel, self._ledger.tenant, place.to, message, card)
        task = asyncio.ensure_future(edit)
        try:
            while not task.done():
                change = self._change
                if self._is_overtaken(place):
                    return False
                await _first(task, change.wait())
            task.result()
        finally:
            task.cancel()
        return True

    def _is_overtaken(self, place: _Place) -> bool:
        now, edits = self._ledger.view.incidents[place.incident.id], place.channel.edits
        return _mark(now, place.to, edits) != _mark(place.incident, place.to, edits)

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def _note(self, place: _Place, shown: Shown) -> None:
        """Paged or PageFailed, once for each incident, recipient and channel."""
        answer = await self._ledger.record(self._actor, _noted(place.incident.id, place.to, shown))
        if isinstance(answer, Refusal) and answer.kind != "noted":
            raise PortError(f"That {place.to.recipient} was paged is not in the ledger yet: {answer.why}")

    async def _print(self, place: _Place) -> Card:
        return await self._press.card(
            self._ledger.view, place.incident, place.charter, place.to, place.now_ms
        )

    async def _put(self, place: _Place, shown: Shown) -> None:
        await self._shown.put(self._ledger.tenant, name(place.incident.id, place.to), shown)

    def _place(self, work: Work) -> _Place | None:
        """The present of the incident and chat that *work* is about; None where either is gone."""
        view = self._ledger.view
        charter, incident = self._rulebook.charter(view), view.incidents.get(work.incident)
        if charter is None or incident is None:
            return None
        now_ms = epoch_ms(self._clock.now())
        return next(
            (
                _Place(incident, charter, to, channel, now_ms)
                for to, channel in self._everywhere(charter, view, incident)
                if name(incident.id, to) == work.key
            ),
            None,
        )

    def _everywhere(
        self, charter: Charter, view: View, incident: Incident
    ) -> Iterator[tuple[Address, Channel]]:
        """Every chat once, at its present id, with its channel; and whom an escalation names."""
        moved, seen = self._shown.moved(view.tenant), set()
        told = _told(incident)
        woken = [
            to
            for person in sorted(told)
            for to in self._reach(charter, view, person)
            if not told[person] or to.channel in told[person]
        ]
        for to in (*self._addresses(charter, view), *woken):
            channel = self._channels.get(to.channel)
            there = replace(to, to=moved.get(to.to, to.to))
            if channel is not None and (there.channel, there.to) not in seen:
                seen.add((there.channel, there.to))
                yield there, channel


def _told(incident: Incident) -> dict[str, set[str]]:
    """Whom an escalation named or who was paged already, each with their channels; none: all."""
    found: dict[str, set[str]] = {}
    for fact in incident.facts:
        match fact.event:
            case ev.Paged(recipient=person, channel=channel):
                if found.get(person, {channel}):
                    found.setdefault(person, set()).add(channel)
            case ev.Escalated(to=people, channels=channels):
                for person in people:
                    known = found.get(person, {*channels})
                    found[person] = known | {*channels} if channels and known else set()
            case _:
                pass
    return found


def _alive(view: View, now_ms: int) -> list[Incident]:
    """What is open, and what was closed a short while ago."""
    return [one for one in view.incidents.values() if one.is_open or now_ms - one.entered_ms < AFTER_MS]


def _kept(view: View, now_ms: int) -> set[str]:
    return {i.id for i in view.incidents.values() if i.is_open or now_ms - i.entered_ms < KEPT_MS}


def _stands(place: _Place, card: Card) -> dict[str, Any]:
    """Up to which fact the reader is told, once *card* arrived."""
    if place.channel.edits:
        return {"revision": card.revision, "sounded": card.sounded}
    seq, _ = rings.milestone(place.incident)
    return {"revision": seq, "sounded": seq}


def _must_be_bared(card: Card, shown: Shown) -> bool:
    """Whether live buttons stand where others are to come."""
    return bool(card.rows) and (shown.unsure or bool(shown.keys and shown.keys != _keys(card)))


async def _first(task: "asyncio.Future[None]", change: Coroutine[Any, Any, object]) -> None:
    """Return once *task* is done or *change* has come."""
    changed = asyncio.ensure_future(change)
    try:
        both: set[asyncio.Future[Any]] = {task, changed}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()


def _keys(card: Card) -> str:
    """What tells these buttons from others; empty for none."""
    pressed = [(b.verb, b.option, b.anchor, b.label) for row in card.rows for b in row]
    return sha256(repr(pressed).encode()).hexdigest()[:16] if pressed else ""


def _noted(incident: str, to: Address, shown: Shown) -> Decide:
    def decide(view: View, now: datetime) -> Event | Refusal:
        kind = ev.Paged if shown.message else ev.PageFailed
        if _stands_noted(view.incidents[incident], kind, to):
            return Refusal("noted")
        if shown.message:
            return ev.Paged(
                incident_id=incident,
                decision="page",
                reason=f"The first card reached {to.recipient} on {to.channel}",
                recipient=to.recipient,
                channel=to.channel,
                card_digest=shown.digest,
                silent=shown.silent,
            )
        return ev.PageFailed(
            incident_id=incident,
            decision="page_failed",
            reason=f"{to.channel} takes no card for {to.recipient}",
            recipient=to.recipient,
            channel=to.channel,
            why=shown.failed,
        )

    return decide
