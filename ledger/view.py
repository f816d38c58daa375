"""The present of one tenant, folded from its ledger: its incidents, and what is in force.

A view changes by `absorb` alone. `fork` gives a cheap copy on which decisions can be tried.
"""

from collections import ChainMap, deque
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any

from ledger import events as ev
from ledger.chain import GENESIS, BrokenChain, Entry, Head, Who, check_link
from ledger.events import EVENTS, Act, Actor, Event
from ledger.machine import TENANT_FACTS, Fact, IllegalTransition, Incident, apply, check_actor

ANCHOR = 16
REMEMBERED = 1024
REFUSED, NOTHING = ev.Refused.__name__, "-"
MOST_RUNS = 1000
DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def epoch_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


class UnknownEvent(Exception):
    """An entry of a kind that this program does not know. It must not act on such a ledger."""


def event_of(entry: Entry) -> Event:
    """The event that *entry* carries. Raises UnknownEvent; pydantic.ValidationError where its data is off."""
    if entry.event not in EVENTS:
        raise UnknownEvent(f"entry {entry.seq} is a {entry.event}, which this version does not know")
    return event_from(vars(entry))


def event_from(fields: Mapping[str, Any]) -> Event:
    """As `event_of`, from the fields of an entry of a known kind."""
    common = {
        "incident_id": fields["incident_id"] or "",
        "decision": fields["decision"],
        "reason": fields["reason"],
        "confidence": fields["confidence"],
        "ref": fields["ref"],
    }
    return EVENTS[fields["event"]].model_validate(fields["data"] | common)


def actor_of(who: Who) -> Actor:
    """Raises pydantic.ValidationError."""
    return _actor(who["kind"], who["id"], who["via"])


@dataclass(frozen=True, slots=True)
class Rules:
    """What was last adopted: digests of charter and policy, and the policy's label. Empty: nothing yet."""

    charter: str = ""
    policy: str = ""
    label: str = "none"


@dataclass(frozen=True, slots=True)
class Run:
    """One execution, for cooldowns and caps."""

    incident: str
    service: str
    action: str
    at_ms: int


@dataclass
class View:
    tenant: str
    head: Head = GENESIS
    incidents: MutableMapping[str, Incident] = field(default_factory=dict)
    rules: Rules = Rules()
    signers: tuple[str, ...] = ()
    """The public keys that this log says have signed it, the newest last: the first that a Started names,
    then each rotation's."""

    paused: ev.Paused | None = None
    maintenance: dict[str, int] = field(default_factory=dict)
    overridden: ev.OncallOverridden | None = None
    """Who took the call last, whatever the rota says."""
    spent: tuple[int, int] = (0, 0)
    """A day, counted from 1970 in UTC, and what models cost on it, in millionths of a dollar."""
    links: dict[tuple[str, str], str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    open_ids: dict[str, None] = field(default_factory=dict)
    unreviewed: dict[str, None] = field(default_factory=dict)
    """The incidents in which somebody broke the glass and nobody signed it off yet."""
    numbers: dict[str, int] = field(default_factory=dict)
    normals: dict[str, int] = field(default_factory=dict)
    """The seq of the newest Feedback that calls what is seen of a service its new normal, by service."""
    anchors: MutableMapping[str, str] = field(default_factory=dict)
    """The incident of each entry that a button can be about, by the first 16 hex of its hash."""
    acts: MutableMapping[tuple[str, str], int] = field(default_factory=dict)
    """The seq of the entry that a person's act made, by the channel and the vendor's id of what arrived."""

    noted: dict[str, int] = field(default_factory=dict)
    """When the newest fact of each kind outside any incident was written, in epoch ms, by its name."""

    touched: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """The newest entries' seq and incident, an empty text for facts of the tenant, NOTHING for refusals."""

    def fork(self) -> "View":
        """A draft of the future: it can be changed, and this one does not see it.

        What grows with the log is shared and not copied: the draft has its own entries before those.
        """
        draft = View.__new__(View)
        vars(draft).update(vars(self))
        draft.maintenance = dict(self.maintenance)
        draft.links = dict(self.links)
        draft.open_ids = dict(self.open_ids)
        draft.unreviewed = dict(self.unreviewed)
        draft.numbers = dict(self.numbers)
        draft.normals = dict(self.normals)
        draft.noted = dict(self.noted)
        draft.incidents = ChainMap({}, self.incidents)
        draft.anchors = ChainMap({}, self.anchors)
        draft.acts = ChainMap({}, self.acts)
        draft.touched = deque(maxlen=REMEMBERED)
        return draft

    def succeed(self, before: "View") -> None:
        """This draft, forked from *before*, has become the present: what they share is its own now."""
        self.incidents = _joined(self.incidents, before.incidents)
        self.anchors = _joined(self.anchors, before.anchors)
        self.acts = _joined(self.acts, before.acts)
        before.touched.extend(self.touched)
        self.touched = before.touched

    def touched_since(self, seq: int) -> set[str] | None:
        """The incidents that entries after *seq* are about; None where all may be: a fact of the tenant,
        or more entries than are remembered."""
        if seq == self.head.seq:
            return set()
        newer = list(takewhile(lambda one: one[0] > seq, reversed(self.touched)))
        found = {name for _, name in newer} - {NOTHING}
        return None if "" in found or not newer or newer[-1][0] != seq + 1 else found

    def narrowed(self, names: Collection[str]) -> "View":
        """The same present with these incidents alone."""
        incidents = {name: self.incidents[name] for name in names if name in self.incidents}
        return replace(self, incidents=incidents, open_ids={n: None for n in incidents if n in self.open_ids})

    def absorb(self, entry: Entry, event: Event | None = None) -> None:
        """Fold *entry*, the next one. Raises BrokenChain, UnknownEvent, Illegal and changes nothing."""
        check_link(self.head, entry)
        if entry.tenant_id != self.tenant:
            raise BrokenChain(entry.seq, f"it belongs to tenant {entry.tenant_id}")
        event = event or event_of(entry)
        actor = actor_of(entry.actor)
        at_ms = epoch_ms(datetime.fromisoformat(entry.ts))
        if entry.incident_id:
            self._absorb_incident(entry.incident_id, event, Fact(entry.seq, entry.hash, at_ms, actor, event))
        elif type(event) in TENANT_FACTS:
            check_actor(event, actor)
            self.absorb_tenant(event, at_ms)
        else:
            raise IllegalTransition(f"{entry.event} needs an incident")
        self._absorb_act(entry.seq, event)
        self.head = Head(entry.seq, entry.hash)
        self.touched.append((entry.seq, touched_by(entry.event, entry.incident_id)))

    def _absorb_incident(self, name: str, event: Event, fact: Fact) -> None:
        before = self.incidents.get(name)
        after = apply(before, name, fact)
        if before is None or after.stage is not before.stage:
            self.anchors[fact.hash[:ANCHOR]] = name
        self.incidents[after.id] = after
        if after.is_open:
            self.open_ids[after.id] = None
        else:
            self.open_ids.pop(after.id, None)
        if isinstance(event, ev.Authorized | ev.Reviewed):
            self.unreviewed |= {after.id: None}
            if not after.unreviewed:
                del self.unreviewed[after.id]
        if isinstance(event, ev.Detected):
            self.numbers[after.service] = self.numbers.get(after.service, 0) + 1
        if isinstance(event, ev.Feedback) and event.kind == ev.NEW_NORMAL:
            self.normals[after.service] = fact.seq
        if isinstance(event, ev.Diagnosed):
            self.spend(fact.at_ms, event.cost_micros)
        if isinstance(event, ev.ExecutionStarted) and event.attempt == 1 and after.authorization:
            _, authorized = after.authorization
            self.runs = (
                *self.runs[1 - MOST_RUNS :],
                Run(after.id, after.service, authorized.action, fact.at_ms),
            )

    def _absorb_act(self, seq: int, event: Event) -> None:
        act = getattr(event, "act", None)
        if isinstance(act, Act) and act.update and not isinstance(event, ev.Refused):
            self.acts.setdefault((act.channel, act.update), seq)

    def spend(self, at_ms: int, micros: int) -> None:
        """A model has cost that much, in millionths of a dollar."""
        if micros:
            day = at_ms // DAY_MS
            self.spent = (day, micros + (self.spent[1] if self.spent[0] == day else 0))

    def absorb_tenant(self, event: Event, at_ms: int) -> None:
        """Fold *event*, a fact of the tenant that may stand where it stands."""
        self.noted[type(event).__name__] = at_ms
        match event:
            case ev.CharterAdopted():
                self.rules = Rules(event.digest, event.policy_digest, event.policy_label)
            case ev.PolicyAdopted():
                self.rules = Rules(self.rules.charter, event.digest, event.label)
            case ev.Linked():
                self.links[event.person, event.channel] = event.identity
            case ev.Unlinked():
                self.links.pop((event.person, event.channel), None)
            case ev.Started() | ev.KeyRotated():
                self._absorb_signer(event)
            case ev.Paused():
                self.paused = event
            case ev.Resumed():
                self.paused = None
            case ev.OncallOverridden():
                self.overridden = event
            case ev.MaintenanceDeclared():
                self.maintenance[event.service] = event.until_ms

    def _absorb_signer(self, event: ev.Started | ev.KeyRotated) -> None:
        if isinstance(event, ev.KeyRotated):
            before = self.signers or (_key(event.old),)
            self.signers = (*before, _key(event.new)) if event.new else self.signers
        elif event.signer and not self.signers:
            self.signers = (event.signer,)

    def open(self) -> list[Incident]:
        """The incidents that are open, oldest first."""
        return [self.incidents[name] for name in self.open_ids]

    def open_for(self, service: str) -> Incident | None:
        return next((i for i in self.open() if i.service == service), None)

    def newest_for(self, service: str) -> Incident | None:
        number = self.numbers.get(service)
        return self.incidents.get(f"{service}-{number}") if number else None

    def anchored(self, anchor: str) -> Incident | None:
        """The incident that a button's *anchor* is about."""
        name = self.anchors.get(anchor[:ANCHOR]) if len(anchor) >= ANCHOR else None
        return self.incidents.get(name) if name else None

    def next_incident_id(self, service: str) -> str:
        return f"{service}-{self.numbers.get(service, 0) + 1}"

    def is_paused(self, now_ms: int) -> bool:
        return self.paused is not None and (not self.paused.until_ms or now_ms < self.paused.until_ms)

    def in_maintenance(self, service: str, now_ms: int) -> bool:
        return now_ms < self.maintenance.get(service, 0)


def touched_by(event: str, incident: str | None) -> str:
    """What an entry leaves in `View.touched`: nothing is due after a refusal that was not due before it."""
    return NOTHING if event == REFUSED else incident or ""


@lru_cache(maxsize=1024)
def _actor(kind: str, name: str, via: str) -> Actor:
    """The same few speak again and again."""
    return Actor.model_validate({"kind": kind, "id": name, "via": via})


def _joined[K, V](draft: MutableMapping[K, V], shared: MutableMapping[K, V]) -> MutableMapping[K, V]:
    """*shared* with what *draft* has before it."""
    if isinstance(draft, ChainMap):
        shared.update(draft.maps[0])
    return shared


def _key(vkey: str) -> str:
    """The public key at the end of *vkey*."""
    return vkey.split("+", 2)[-1]


def fold(tenant: str, entries: Iterable[Entry]) -> View:
    """The view after *entries*, from the first one on. Raises as View.absorb does."""
    view = View(tenant)
    for entry in entries:
        view.absorb(entry)
    return view
