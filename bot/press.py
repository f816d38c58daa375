"""Prints the card of an incident for one address: on whose clock, with which codes, after which past."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from bot.cards import render
from bot.ports import Address, Card
from bot.scene import Notes, Reader
from handlers import governor
from handlers.charter import Charter
from handlers.escalate import next_call
from ledger import events as ev
from ledger.events import Reading
from ledger.machine import Incident
from ledger.store import StoreDown
from ledger.view import View

REMEMBERED = 50


class Codes(Protocol):
    async def issue(self, tenant: str, recipient: str, anchor: str, option: str, until_ms: int) -> str:
        """The code by which *recipient* names this option. Raises StoreDown."""


type Words = Callable[[str], Awaitable[str]]


async def unsaid(commitment: str) -> str:
    """Nobody wrote anything."""
    return ""


class Press:
    """*now* is what policy measures of a service at present; *warning*, if any, stands on every card;
    *models* is how many are asked; *words* finds what a person wrote, by its commitment.
    """

    def __init__(
        self,
        codes: Codes | None = None,
        *,
        reopen_ms: int = 600_000,
        warnings_ring: bool = False,
        now: Callable[[str], Reading | None] = lambda _: None,
        warning: Callable[[], str] = lambda: "",
        models: int = 2,
        words: Words = unsaid,
    ) -> None:
        self._codes = codes
        self._reopen_ms = reopen_ms
        self._warnings_ring = warnings_ring
        self._now = now
        self._warning = warning
        self._models = models
        self._words = words

    async def card(self, view: View, incident: Incident, charter: Charter, to: Address, now_ms: int) -> Card:
        return render(
            incident,
            charter,
            Reader.of(charter, to.person),
            now_ms,
            approval_code=await self._issued(view.tenant, incident, to),
            notes=replace(
                self.notes(view, incident, now_ms),
                said=await self._words(incident.opened.words),
                next_call=next_call(incident, charter, view, now_ms),
            ),
        )

    def notes(self, view: View, incident: Incident, now_ms: int) -> Notes:
        return Notes(
            policy=view.rules.label,
            now=self._now(incident.service),
            record=record(view, incident),
            runs=governor.ran(view, incident.service, now_ms),
            warning=self._warning(),
            reopen_ms=self._reopen_ms,
            warnings_ring=self._warnings_ring,
            models=self._models,
        )

    async def _issued(self, tenant: str, incident: Incident, to: Address) -> Mapping[str, str]:
        """A code for each option of the open request. Without a store the buttons still stand."""
        request = incident.request
        if request is None or self._codes is None or not isinstance(request.event, ev.Validated):
            return {}
        until_ms = request.event.deadline_ms
        try:
            return {
                one.key: await self._codes.issue(tenant, to.recipient, request.hash, one.key, until_ms)
                for one in request.event.options
                if one.action
            }
        except StoreDown:
            return {}


def record(view: View, incident: Incident) -> dict[str, tuple[int, int]]:
    """How often lens A, lens B and both together were right at this service before, and each action helped.

    What was approved and then verified was the cause; what did not help was not. Only the newest count.
    """
    tally: dict[str, tuple[int, int]] = {}
    newest = view.numbers.get(incident.service, 0)
    for number in range(newest, max(0, newest - REMEMBERED), -1):
        other = view.incidents.get(f"{incident.service}-{number}")
        for who, right in _settled(other) if other and other.id != incident.id else ():
            rights, of = tally.get(who, (0, 0))
            tally[who] = (rights + right, of + 1)
    return tally


def _settled(incident: Incident) -> list[tuple[str, bool]]:
    """Who was right or wrong in *incident*: action ids, A, B, and AB where they named the same cause."""
    return [*_helped(incident), *_right(incident)]


def _helped(incident: Incident) -> list[tuple[str, bool]]:
    """Each run whose effect policy has measured, and whether it helped."""
    proofs = (ev.Verified, ev.NotRecovered)
    found = []
    for given, chosen in incident.every(ev.Authorized):
        after = (fact for fact in incident.facts if fact.seq > given.seq)
        then = next((f for f in after if isinstance(f.event, (*proofs, ev.Authorized))), None)
        if then and isinstance(then.event, proofs):
            found.append((chosen.action, isinstance(then.event, ev.Verified)))
    return found


def _right(incident: Incident) -> list[tuple[str, bool]]:
    """Whose theory was right, by what the last run came to."""
    found = incident.authorization
    proof = incident.last(ev.Verified, ev.NotRecovered)
    if found is None or proof is None or proof.seq < found[0].seq:
        return []
    helped, chosen = isinstance(proof.event, ev.Verified), found[1]
    said = {lens: d.cause for lens, d in incident.diagnoses().items() if d.outcome == "answered"}
    if len(said) > 1 and len(set(said.values())) == 1:
        said["AB"] = next(iter(said.values()))
    judged = [(lens, helped) for lens, cause in said.items() if cause is chosen.cause]
    wrong = [(lens, False) for lens, cause in said.items() if helped and cause is not chosen.cause]
    return [*judged, *wrong]
