"""The exact request, shown before a second tap on what is risky, and before somebody breaks the glass."""

from html import escape

from bot.blocks import with_values
from bot.ports import Tap
from bot.room import Room
from bot.words import cap, foreign
from ledger import events as ev
from ledger.machine import Incident


def chosen_of(incident: Incident, option: str) -> ev.Option | None:
    """What the newest request of *incident* says under *option*."""
    validated = incident.latest(ev.Validated)
    return next((o for o in validated.options if o.key == option), None) if validated else None


def is_wanted(incident: Incident, tap: Tap) -> bool:
    """Whether *tap* is the first on something risky."""
    chosen = chosen_of(incident, tap.option) if incident.request else None
    return chosen is not None and chosen.risk == "high" and not tap.confirmed


def second_look(room: Room, incident: Incident, option: str) -> str:
    """The same text for the same request, so it is known what a second tap was made on. Empty where nothing
    is asked."""
    request, service = incident.request, room.people.service(incident.service)
    chosen = chosen_of(incident, option)
    action = service.action(chosen.action) if service and chosen else None
    if not request or not chosen or not action:
        return ""
    return (
        f"<b>Second tap: {foreign(chosen.title, 60)} on {incident.service}</b>\n"
        f"Runs once: <code>{escape(cap(action.exactly, 260), quote=False)}</code>{with_values(chosen)}\n"
        f"{chosen.risk.capitalize()} risk. {foreign(action.impact, 120)}\n"
        f"Touches: {foreign(chosen.blast_radius or 'not said', 120)}\n"
        f"Undo: {foreign(action.undo or 'none', 120)}\n"
        f"<b>Nothing runs without this tap.</b>\n<i>{incident.id} · #{request.seq}</i>"
    )
