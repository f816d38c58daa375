"""The present of a long log, folded fast: what a start reads.

* Nothing is believed: form, chain, rules and root are judged as an audit judges them (ledger/audit.py).
* Of what happened in an incident the lines are kept, and each is taken apart when somebody asks for it.
* What it makes is what `View.absorb` makes, entry by entry. Whoever changes one changes the other, and a test
  compares them.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from ledger import events as ev
from ledger.audit import Audit
from ledger.chain import Frontier
from ledger.events import EVENTS, Actor, Event
from ledger.machine import OPEN, Fact, Incident, Stage
from ledger.shapes import Line
from ledger.store import Sealed
from ledger.verify import Tampered
from ledger.view import ANCHOR, MOST_RUNS, REMEMBERED, Run, View, actor_of, epoch_ms, event_from, touched_by

HASH, SPACE = 64, ord(" ")
_OPEN = frozenset(stage.value for stage in OPEN)


class Recalled(Fact):
    """A fact whose element was judged, and is taken apart when somebody asks what it says."""

    __slots__ = ("_at", "_element", "_said", "_seq")
    __setattr__ = object.__setattr__  # that of a frozen dataclass takes longer than all else here

    def __init__(self, seq: int, at: datetime, element: bytes) -> None:
        self._seq, self._at, self._element = seq, at, element
        self._said: tuple[Actor, Event] | None = None

    @property
    def seq(self) -> int:
        return self._seq

    @property
    def hash(self) -> str:
        return self._element[:HASH].decode()

    @property
    def at_ms(self) -> int:
        return epoch_ms(self._at)

    @property
    def actor(self) -> Actor:
        return self._read()[0]

    @property
    def event(self) -> Event:
        return self._read()[1]

    def _read(self) -> tuple[Actor, Event]:
        if self._said is None:
            fields = orjson.loads(self._element[HASH + 1 :])
            self._said = actor_of(fields["actor"]), event_from(fields)
        return self._said


@dataclass(slots=True)
class _Told:
    """One incident so far."""

    service: str
    entered: datetime
    stage: str = ""
    action: str = ""
    """That of the newest authorization."""
    facts: list[tuple[int, datetime, bytes]] = field(default_factory=list)
    """Seq, time and element of each."""


class RecalledIncident(Incident):
    """An incident whose facts are made when somebody asks for them."""

    __slots__ = ("_facts", "_name", "_told")
    __setattr__ = object.__setattr__

    def __init__(self, name: str, told: _Told) -> None:
        self._name, self._told = name, told
        self._facts: tuple[Fact, ...] | None = None

    @property
    def id(self) -> str:
        return self._name

    @property
    def stage(self) -> Stage:
        return Stage(self._told.stage)

    @property
    def entered_ms(self) -> int:
        return epoch_ms(self._told.entered)

    @property
    def facts(self) -> tuple[Fact, ...]:
        if self._facts is None:
            self._facts = tuple([Recalled(*one) for one in self._told.facts])
        return self._facts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Incident) and _plain(self) == _plain(other)

    def __hash__(self) -> int:
        return hash(_plain(self))


def _plain(one: Incident) -> tuple[str, Stage, int, tuple[Fact, ...]]:
    return one.id, one.stage, one.entered_ms, one.facts


class Recall:
    """Takes the elements of a tenant's log one after the other, from the first on (`Store.elements`)."""

    def __init__(self, tenant: str) -> None:
        self._audit = Audit(tenant)
        self._view = View(tenant)
        self._told: dict[str, _Told] = {}
        self._runs: deque[Run] = deque(maxlen=MOST_RUNS)
        self._touched: deque[str] = deque(maxlen=REMEMBERED)

    @property
    def tree(self) -> Frontier:
        """That of all that was taken."""
        return self._audit.tree.frontier

    @property
    def first(self) -> str:
        """The hash of the first entry; an empty text before it."""
        return self._audit.first

    @property
    def signers(self) -> tuple[str, ...]:
        return self._view.signers

    def take(self, element: bytes) -> None:
        """Raises Sealed: then this recall is over."""
        audit = self._audit
        try:
            entry = audit.take(element[HASH + 1 :])
        except Tampered as broken:
            why = f"element {audit.size + 1} is not the entry that must stand there. {broken}"
            raise Sealed(why) from broken
        if not element.startswith(audit.hash.encode()) or element[HASH] != SPACE:
            raise Sealed(f"element {entry.seq} does not have the hash that it says.")
        fact = entry.seq, entry.ts, element
        if name := entry.incident_id:
            self._of_incident(name, entry, fact)
        else:
            self._view.absorb_tenant(Recalled(*fact).event, epoch_ms(entry.ts))
        if entry.event in _ACTED and (act := getattr(entry.data, "act", None)) is not None and act.update:
            self._view.acts.setdefault((act.channel, act.update), entry.seq)
        self._touched.append(touched_by(entry.event, name))

    def view(self) -> View:
        """The present after all that was taken."""
        view = self._view
        view.head = self._audit.head
        view.runs = tuple(self._runs)
        first = view.head.seq - len(self._touched) + 1
        view.touched = deque(enumerate(self._touched, first), maxlen=REMEMBERED)
        view.incidents = {name: RecalledIncident(name, told) for name, told in self._told.items()}
        return view

    def _of_incident(self, name: str, entry: Line, fact: tuple[int, datetime, bytes]) -> None:
        told = self._told.get(name)
        if told is None:
            told = self._told[name] = _Told(entry.data.reading.service, entry.ts)
        told.facts.append(fact)
        if entry.stage != told.stage:
            self._enter(name, told, entry)
        count = _COUNTED.get(entry.event)
        if count is not None:
            count(self, name, told, entry)

    def _enter(self, name: str, told: _Told, entry: Line) -> None:
        told.stage, told.entered = entry.stage or "", entry.ts
        self._view.anchors[self._audit.hash[:ANCHOR]] = name
        if entry.stage in _OPEN:
            self._view.open_ids[name] = None
        else:
            self._view.open_ids.pop(name, None)

    def detected(self, name: str, told: _Told, entry: Line) -> None:
        numbers = self._view.numbers
        numbers[told.service] = numbers.get(told.service, 0) + 1

    def diagnosed(self, name: str, told: _Told, entry: Line) -> None:
        if micros := getattr(entry.data, "cost_micros", 0):
            self._view.spend(epoch_ms(entry.ts), micros)

    def heard(self, name: str, told: _Told, entry: Line) -> None:
        if entry.data.kind == ev.NEW_NORMAL:
            self._view.normals[told.service] = entry.seq

    def authorized(self, name: str, told: _Told, entry: Line) -> None:
        told.action = entry.data.action
        self.look_at_glass(name, told, entry)

    def started(self, name: str, told: _Told, entry: Line) -> None:
        if entry.data.attempt == 1:
            self._runs.append(Run(name, told.service, told.action, epoch_ms(entry.ts)))

    def look_at_glass(self, name: str, told: _Told, entry: Line) -> None:
        if self._audit.broken(name):
            self._view.unreviewed[name] = None
        else:
            self._view.unreviewed.pop(name, None)


_COUNTED: Mapping[str, Callable[[Recall, str, _Told, Line], None]] = {
    ev.Detected.__name__: Recall.detected,
    ev.Diagnosed.__name__: Recall.diagnosed,
    ev.Feedback.__name__: Recall.heard,
    ev.Authorized.__name__: Recall.authorized,
    ev.Reviewed.__name__: Recall.look_at_glass,
    ev.ExecutionStarted.__name__: Recall.started,
}
_ACTED = frozenset(name for name, kind in EVENTS.items() if "act" in kind.model_fields) - {
    ev.Refused.__name__
}
