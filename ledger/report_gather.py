"""The entries that a page is about, kept from a log of any length in two passes.

The first pass, `look`, learns which incidents the page has; the second, `take`, keeps what it needs of them:
all their entries, and the tenant's facts that say who was linked, what was in force and who was watching.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Actor, Event
from ledger.machine import Fact, Incident, Stage
from ledger.view import epoch_ms, event_of

TENANT = (
    "Linked", "Unlinked", "CharterAdopted", "PolicyAdopted", "Started", "Stopped", "Watched",
    "LedgerChecked", "Refused",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """What a page is about: one incident, or a span of time, `from_ms` in it and `to_ms` no more."""

    incident: str = ""
    from_ms: int = 0
    to_ms: int = 0

    def holds(self, entry: Entry) -> bool:
        if self.incident:
            return entry.incident_id == self.incident
        return bool(entry.incident_id) and self.from_ms <= epoch_ms(entry.at) < self.to_ms


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was kept. `last` is the newest entry that was read; None: there was none."""

    incidents: tuple[Incident, ...]
    tenant: tuple[Fact, ...]
    trail: tuple[Entry, ...]
    last: Fact | None = None
    signs: tuple["Sign", ...] = ()

    @property
    def began_ms(self) -> int:
        """When the first process started; before that there was nobody to watch."""
        return self.signs[0].since_ms if self.signs else 0

    def every[E: Event](self, kind: type[E]) -> list[tuple[Fact, E]]:
        """The tenant's facts of *kind*, oldest first."""
        return [(fact, fact.event) for fact in self.tenant if isinstance(fact.event, kind)]


@dataclass(slots=True)
class Sign:
    """One process: when it started, and when it last wrote anything."""

    process: str
    since_ms: int
    until_ms: int
    stopped: bool = False


@dataclass
class Gathering:
    scope: Scope
    names: set[str] = field(default_factory=set)
    _facts: dict[str, list[Fact]] = field(default_factory=dict)
    _stages: dict[str, Stage] = field(default_factory=dict)
    _tenant: list[Fact] = field(default_factory=list)
    _trail: list[Entry] = field(default_factory=list)
    _signs: dict[str, Sign] = field(default_factory=dict)
    _last: Entry | None = None

    def look(self, entry: Entry) -> None:
        """First pass: note the incident of *entry* if the page is about it."""
        if entry.incident_id and self.scope.holds(entry):
            self.names.add(entry.incident_id)

    def take(self, entry: Entry) -> None:
        """Second pass: keep *entry* if the page needs it."""
        self._last = entry
        self._see(entry)
        if entry.incident_id in self.names and entry.incident_id and entry.stage:
            self._facts.setdefault(entry.incident_id, []).append(fact_of(entry))
            self._stages[entry.incident_id] = Stage(entry.stage)
            if self.scope.incident:
                self._trail.append(entry)
        elif not entry.incident_id and entry.event in TENANT:
            self._tenant.append(fact_of(entry))

    def _see(self, entry: Entry) -> None:
        at_ms, process = epoch_ms(entry.at), entry.actor["id"]
        if entry.event == "Started":
            self._signs[process] = Sign(process, at_ms, at_ms)
        elif sign := self._signs.get(process):
            sign.until_ms = at_ms
            sign.stopped = entry.event == "Stopped"

    def gathered(self) -> Gathered:
        incidents = tuple(
            Incident(name, self._stages[name], facts[-1].at_ms, tuple(facts))
            for name, facts in self._facts.items()
            if isinstance(facts[0].event, ev.Detected)
        )
        last = fact_of(self._last) if self._last else None
        return Gathered(incidents, tuple(self._tenant), tuple(self._trail), last, tuple(self._signs.values()))


def gather(read: Callable[[], Iterable[Entry]], scope: Scope) -> Gathered:
    """What a page about *scope* needs of the log that *read* reads, twice."""
    gathering = Gathering(scope)
    for entry in read():
        gathering.look(entry)
    for entry in read():
        gathering.take(entry)
    return gathering.gathered()


def fact_of(entry: Entry) -> Fact:
    """Raises UnknownEvent, and pydantic.ValidationError where its data is off."""
    actor = Actor.model_validate(entry.actor)
    return Fact(entry.seq, entry.hash, epoch_ms(entry.at), actor, event_of(entry))
