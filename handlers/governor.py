"""What keeps actions from following one another too fast: cooldown, caps per hour, the rate of all. Pure.

A service that is sick asks again and again, and each restart can be what makes it sick. So an action rests
after each run, runs at most so often in any hour, and all actions of a tenant together do, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from handlers.charter import Action, Charter
from ledger.view import Run, View

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Closed:
    """Why not now, and until when in epoch ms; 0 where nobody can say."""

    why: str
    until_ms: int = 0


def too_fast(action: Action, service: str, charter: Charter, view: View, now_ms: int) -> Closed | None:
    """Why *action* may not run on *service* yet, or None. The reason that holds longest."""
    ours = [run for run in view.runs if (run.service, run.action) == (service, action.id)]
    last_ms = max((run.at_ms for run in ours), default=0)
    cooled_ms = last_ms + action.cooldown if last_ms else 0
    capped_ms = _free_ms(ours, action.per_hour, now_ms)
    full_ms = _free_ms(view.runs, charter.limits.runs_per_hour, now_ms)
    found = (
        Closed(f"it ran less than {_spoken(action.cooldown)} ago", cooled_ms),
        Closed(f"it ran {_times(action.per_hour)} within an hour, and the charter allows no more", capped_ms),
        Closed(
            f"{charter.limits.runs_per_hour} actions ran within an hour, and the charter allows no more",
            full_ms,
        ),
    )
    return max((one for one in found if one.until_ms > now_ms), key=lambda one: one.until_ms, default=None)


def ran(view: View, service: str, now_ms: int) -> dict[str, int]:
    """How often each action of *service* ran in the last hour."""
    found: dict[str, int] = {}
    for run in view.runs:
        if run.service == service and run.at_ms > now_ms - HOUR_MS:
            found[run.action] = found.get(run.action, 0) + 1
    return found


def _free_ms(runs: Iterable[Run], most: int | None, now_ms: int) -> int:
    """When one more may follow *runs*, of which at most *most* may lie in an hour; 0: at any time."""
    recent = sorted(run.at_ms for run in runs if run.at_ms > now_ms - HOUR_MS)
    return recent[-most] + HOUR_MS if most and len(recent) >= most else 0


def _times(most: int | None) -> str:
    return {1: "once", 2: "twice"}.get(most or 0, f"{most} times")


def _spoken(duration_ms: int) -> str:
    seconds = duration_ms // 1000
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
