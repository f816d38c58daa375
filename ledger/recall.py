"""The present of a long log, folded fast: what a start reads.

* Nothing is believed: form, chain, rules and root are judged as an audit judges them (ledger/audit.py).
* Of what happened in an incident the lines are kept, and each is taken apart when somebody asks for it.
* What it makes is what `View.absorb` makes, entry by entry. Whoever changes one changes the other, and a test
  compares them.
"""

from collections import deque
from dataclasses import dataclass, field

import orjson

from ledger import events as ev
from ledger.audit import Audit
from ledger.chain import Frontier, Head
from ledger.events import Actor, Event
from ledger.machine import OPEN, Fact, Incident, Stage
from ledger.shapes import Line
from ledger.store import Sealed
from ledger.verify import Tampered
from ledger.view import ANCHOR, MOST_RUNS, Run, View, actor_of, event_from

HASH, SPACE = 64, ord(b" ")
_OPEN = frozenset(stage.value for stage in OPEN)
DETECTED, DIAGNOSED, AUTHORIZED, STARTED, REFUSED = (
    kind.__name__ for kind in (ev.Detected, ev.Diagnosed, ev.Authorized, ev.ExecutionStarted, ev.Refused)
)


class Recalled(Fact):
    """A fact whose line was judged, and is taken apart when somebody asks what it says."""

    __slots__ = ("_line", "_said")
    _line: bytes
    _said: tuple[Actor, Event] | None

    def __init__(self, seq: int, hash: str, at_ms: int, line: bytes) -> None:
        keep = object.__setattr__
        keep(self, "seq", seq)
        keep(self, "hash", hash)
        keep(self, "at_ms", at_ms)
        keep(self, "_line", line)
        keep(self, "_said", None)

    @property
    def actor(self) -> Actor:
        return self._read()[0]

    @property
    def event(self) -> Event:
        return self._read()[1]

    def _read(self) -> tuple[Actor, Event]:
        said = self._said
        if said is None:
            fields = orjson.loads(self._line)
            said = actor_of(fields["actor"]), event_from(fields)
            object.__setattr__(self, "_said", said)
        return said


@dataclass(slots=True)
class _Told:
    """One incident so far."""

    service: str
    stage: str = ""
    entered_ms: int = 0
    action: str = ""
    """That of the newest authorization."""
    facts: list[Fact] = field(default_factory=list)


class Recall:
    """Takes the elements of a tenant's log one after the other, from the first on (`Store.elements`)."""

    def __init__(self, tenant: str) -> None:
        self._audit = Audit(tenant)
        self._view = View(tenant)
        self._told: dict[str, _Told] = {}
        self._runs: deque[Run] = deque(maxlen=MOST_RUNS)
        self.first = ""
        """The hash of the first entry."""

    @property
    def tree(self) -> Frontier:
        """That of all that was taken."""
        return self._audit.tree.frontier

    @property
    def signers(self) -> tuple[str, ...]:
        return self._view.signers

    def take(self, element: bytes) -> None:
        """Raises Sealed: then this recall is over."""
        line, seq = element[HASH + 1 :], self._audit.tree.size + 1
        try:
            entry = self._audit.take(line)
        except Tampered as broken:
            raise Sealed(f"element {seq} is not the entry that must stand there. {broken}") from broken
        digest = self._audit.hash
        if not element.startswith(digest.encode()) or element[HASH] != SPACE:
            raise Sealed(f"element {seq} does not have the hash that it says.")
        self.first = self.first or digest
        fact = Recalled(seq, digest, self._audit.at_ms, line)
        if entry.incident_id:
            self._of_incident(entry.incident_id, entry, fact)
        else:
            self._view.absorb_tenant(fact.event, fact.at_ms)
        act = entry.data.get("act")
        if act is not None and act.update and entry.event != REFUSED:
            self._view.acts.setdefault((act.channel, act.update), seq)
        self._view.touched.append((seq, entry.incident_id or ""))

    def view(self) -> View:
        """The present after all that was taken."""
        view = self._view
        view.head = Head(self._audit.tree.size, self._audit.hash)
        view.runs = tuple(self._runs)
        view.incidents = {
            name: Incident(name, Stage(told.stage), told.entered_ms, tuple(told.facts))
            for name, told in self._told.items()
        }
        return view

    def _of_incident(self, name: str, entry: Line, fact: Fact) -> None:
        told = self._told.get(name)
        if told is None:
            told = self._told[name] = _Told(entry.data.reading.service)
        told.facts.append(fact)
        if entry.stage != told.stage:
            self._enter(name, told, entry.stage or "", fact)
        if entry.event in _COUNTED:
            self._count(name, told, entry, fact.at_ms)

    def _enter(self, name: str, told: _Told, stage: str, fact: Fact) -> None:
        told.stage, told.entered_ms = stage, fact.at_ms
        self._view.anchors[fact.hash[:ANCHOR]] = name
        if stage in _OPEN:
            self._view.open_ids[name] = None
        else:
            self._view.open_ids.pop(name, None)

    def _count(self, name: str, told: _Told, entry: Line, at_ms: int) -> None:
        view, data = self._view, entry.data
        if entry.event == DETECTED:
            view.numbers[told.service] = view.numbers.get(told.service, 0) + 1
        elif entry.event == DIAGNOSED:
            view.spend(at_ms, data.get("cost_micros", 0))
        elif entry.event == AUTHORIZED:
            told.action = data.action
        elif data.attempt == 1:
            self._runs.append(Run(name, told.service, told.action, at_ms))


_COUNTED = frozenset({DETECTED, DIAGNOSED, AUTHORIZED, STARTED})
