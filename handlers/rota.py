"""Who is on call: the charter's rota on the tenant's own clock, and whoever took the call over in chat. Pure.

1. Whoever took it over last is on call until their time is up, whatever the rota says.
2. Else the rota names the person. Without a rota, everybody with the role oncall is on call.
3. Being on call means being woken. Who may approve is said by roles alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from handlers.charter import Charter, Person
from handlers.charter_duty import NEXT, ONCALL
from ledger.view import View


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is until then, and whose it is next, by charter id. *instead*: whom the rota names."""

    person: str
    until_ms: int
    next: str
    instead: str = ""


def turn(charter: Charter, view: View, now_ms: int) -> Turn | None:
    """Whose turn it is, or None where everybody's is."""
    planned = _planned(charter, now_ms)
    taken = view.overridden
    if taken is None or taken.until_ms <= now_ms or charter.person(taken.person) is None:
        return planned
    after = _planned(charter, taken.until_ms)
    return Turn(
        taken.person, taken.until_ms, after.person if after else "", planned.person if planned else ""
    )


def _planned(charter: Charter, now_ms: int) -> Turn | None:
    if charter.rota is None:
        return None
    zone = ZoneInfo(charter.tenant.timezone)
    local = datetime.fromtimestamp(now_ms / 1000, zone).replace(tzinfo=None)
    person, following, ends = charter.rota.shift(local)
    return Turn(person, round(ends.replace(tzinfo=zone).timestamp() * 1000), following)


def woken(charter: Charter, view: View, now_ms: int) -> list[Person]:
    """Those whom an incident wakes at once, in the charter's order."""
    now = turn(charter, view, now_ms)
    if now is None:
        return [person for person in charter.people if ONCALL in person.roles]
    return [person for person in charter.people if person.id == now.person]


def following(charter: Charter, view: View, now_ms: int, person: str) -> list[Person]:
    """Whom *person* wakes: who is on call, else who comes next; without a rota all others with the role."""
    now = turn(charter, view, now_ms)
    for name in (now.person, now.next) if now else ():
        found = charter.person(name)
        if found and name != person:
            return [found]
    return [one for one in charter.people if ONCALL in one.roles and one.id != person]


def named(to: Iterable[str], charter: Charter, view: View, now_ms: int) -> tuple[str, ...]:
    """The people whom a step of escalation names, by charter id, each once.

    `oncall` is who is on call now, `next` who comes after; any other word is a person or a role.
    """
    found: dict[str, None] = {}
    for one in to:
        found |= dict.fromkeys(_named(one, charter, view, now_ms))
    return tuple(found)


def _named(one: str, charter: Charter, view: View, now_ms: int) -> list[str]:
    now = turn(charter, view, now_ms)
    if one == ONCALL:
        return [person.id for person in woken(charter, view, now_ms)]
    if one == NEXT and now:
        return [now.next] if now.next else []
    if charter.person(one):
        return [one]
    role = ONCALL if one == NEXT else one
    return [person.id for person in charter.people if role in person.roles]
