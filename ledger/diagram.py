"""Draws the rules of `ledger.machine` as a Mermaid state diagram. Pure; the README holds its output.

* An edge is a move, labelled with its fact and with who may write it.
* A fact that leads from many stages to one, or from one to itself, is a note there: as edges, they would hide
  all others.
* A fact that is possible in every open stage and changes none of them is not drawn.
"""

from collections import defaultdict

from ledger.events import Event
from ledger.machine import CLOSED, MAY_WRITE, OPEN, TRANSITIONS, Stage

MANY = 3
START = "[*]"

Moves = dict[tuple[type[Event], Stage], list[Stage | None]]


def diagram() -> str:
    """The text of a `stateDiagram-v2`, the same for the same rules."""
    lines, notes = ["stateDiagram-v2"], defaultdict[Stage, list[str]](list)
    for (event, to), sources in moves().items():
        others = [stage for stage in sources if stage is not to]
        if len(others) < len(sources):
            notes[to].append(f"{_label(event)} stays here")
        if len(others) > MANY:
            notes[to].append(f"{_label(event)} from {_sources(others)}")
        else:
            lines += [f"    {stage or START} --> {to} : {_label(event)}" for stage in others]
    lines += [f"    {stage} --> {START}" for stage in Stage if stage in CLOSED]
    for stage, said in notes.items():
        lines += [f"    note right of {stage}", *(f"        {line}" for line in said), "    end note"]
    return "\n".join(lines)


def moves() -> Moves:
    """Where each fact leads, and from which stages; without what only annotates."""
    found: Moves = defaultdict(list)
    for stage, row in TRANSITIONS.items():
        for event, to in row.items():
            found[event, to].append(stage)
    lonely = {event for event, to in found if sum(event is other for other, _ in found) == 1}
    return {
        (event, to): sources for (event, to), sources in found.items() if sources != [to] or event in lonely
    }


def _label(event: type[Event]) -> str:
    return f"{event.__name__} ({', '.join(sorted(MAY_WRITE[event]))})"


def _sources(sources: list[Stage | None]) -> str:
    """The stages by name, or as all open ones but a few."""
    missing = [stage for stage in Stage if stage in OPEN and stage not in sources]
    if 2 * len(missing) < len(sources):
        return "any open stage but " + ", ".join(missing)
    return ", ".join(str(stage) for stage in sources)
