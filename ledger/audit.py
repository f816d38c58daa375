"""A whole log read again, fast: form, chain, rules and Merkle root, from the bytes of each entry.

* What is plainly well is found so by its form (ledger/shapes.py). All else goes the long way, through
  `chain.parse` and pydantic, which alone say what is wrong.
* The rules are those of `ledger.machine`: its tables by the names of events, its objections as they are.
* Of an incident only what the rules ask for is remembered: a log of any length fits.
"""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

import orjson
from pydantic import ValidationError

from ledger import chain
from ledger import events as ev
from ledger.books import Books
from ledger.chain import GENESIS, MAX_BYTES, Frontier, Head, Malformed
from ledger.events import EVENTS, Event
from ledger.machine import (
    MAY_WRITE,
    REFERS,
    TENANT_FACTS,
    TRANSITIONS,
    BadReference,
    Illegal,
    IllegalTransition,
    WrongActor,
    objection_to_answer,
    objection_to_attempt,
    objection_to_review,
)
from ledger.shapes import Form, Line, NoForm, whole
from ledger.verify import Tampered
from ledger.view import DAY_MS, UnknownEvent, event_of

MOST_FORMS = 8
EVENT = b'"event":"'
PAST = len(EVENT)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """What the tables say of one kind of event, by names."""

    kind: type[Event]
    after: Mapping[str, str]
    """The stage to which it leads, by the stage that it may follow; an empty text is before the first."""
    writers: frozenset[str]
    refers: str
    """The kind that its `ref` must name the newest of; empty for none."""
    marks: bool
    """Whether others must refer to it."""
    stands_alone: bool
    """Whether it is a fact of the tenant."""
    forms: list[Form] = field(default_factory=list)
    """Those met so far, that of the newest entry first."""


def _name(kind: type[Event] | None) -> str:
    return kind.__name__ if kind else ""


def rules() -> dict[bytes, Rule]:
    """The rules by the names of events, each ready to learn its forms."""
    return {
        name.encode(): Rule(
            kind,
            {stage or "": row[kind].value for stage, row in TRANSITIONS.items() if kind in row},
            frozenset(actor.value for actor in MAY_WRITE[kind]),
            _name(REFERS.get(kind)),
            kind in REFERS.values(),
            kind in TENANT_FACTS,
        )
        for name, kind in EVENTS.items()
    }


VALIDATED = _name(ev.Validated)


@dataclass(slots=True)
class Standing:
    """One incident, as far as the rules look back."""

    stage: str
    newest: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Hash and seq of the newest of each kind that is referred to."""
    deadline_ms: int = 0
    options: frozenset[str] = frozenset()
    attempts: int = 0
    broken: dict[tuple[str, int], str] = field(default_factory=dict)
    """Who broke the glass, by hash and seq of the authorization, until another signs it off."""


class Fold:
    """The rules applied to entries of good form, in order."""

    def __init__(self) -> None:
        self.incidents: dict[str, Standing] = {}

    def take(self, rule: Rule, entry: Line, digest: str, at_ms: int) -> str | None:
        """The incident's stage afterwards, None outside of one. Raises Illegal; nothing changed then."""
        name = entry.incident_id
        if not name:
            _check_alone(rule, entry)
            return None
        stands = self.incidents.get(name)
        stage = stands.stage if stands else ""
        to = rule.after.get(stage)
        if to is None:
            raise IllegalTransition(f"{entry.event} cannot follow {stage or 'nothing'} in {name}")
        if entry.actor.kind not in rule.writers:
            raise _wrong_actor(entry)
        if stands is None:
            stands = self.incidents[name] = Standing(to)
        elif rule.refers:
            _check_reference(rule, stands, entry, at_ms)
        elif rule.kind is ev.Reviewed:
            _check_review(stands, entry)
        stands.stage = to
        if rule.marks:
            _mark(stands, entry, digest)
        elif rule.kind is ev.ExecutionStarted:
            stands.attempts += 1
        return to


def _check_alone(rule: Rule, entry: Line) -> None:
    if not rule.stands_alone:
        raise IllegalTransition(f"{entry.event} needs an incident")
    if entry.actor.kind not in rule.writers:
        raise _wrong_actor(entry)


def _wrong_actor(entry: Line) -> WrongActor:
    return WrongActor(f"{entry.actor.kind} may not write {entry.event}")


def _check_reference(rule: Rule, stands: Standing, entry: Line, at_ms: int) -> None:
    stood, ref = stands.newest.get(rule.refers), entry.ref
    if ref is None or (ref.hash, ref.seq) != stood:
        raise BadReference(f"{entry.event} must refer to the newest {rule.refers} of {entry.incident_id}")
    why = ""
    if rule.refers == VALIDATED:
        option = entry.data.get("option", "")
        why = objection_to_answer(rule.kind, option, stands.options, at_ms, stands.deadline_ms)
    elif rule.kind is ev.ExecutionStarted:
        why = objection_to_attempt(entry.data.attempt, stands.attempts)
    if why:
        raise BadReference(why)


def _check_review(stands: Standing, entry: Line) -> None:
    named = (entry.ref.hash, entry.ref.seq) if entry.ref else ("", 0)
    if why := objection_to_review(stands.broken.get(named, ""), entry.actor.id):
        raise BadReference(why)
    del stands.broken[named]


def _mark(stands: Standing, entry: Line, digest: str) -> None:
    stands.newest[entry.event] = digest, entry.seq
    if entry.event == VALIDATED:
        stands.deadline_ms = entry.data.deadline_ms
        stands.options = frozenset([one.key for one in entry.data.options])
    else:
        stands.attempts = 0
        if entry.data.get("break_glass", False):
            stands.broken[digest, entry.seq] = entry.actor.id


class Tree:
    """The RFC 6962 tree over all leaves so far: the roots of its full subtrees, largest first."""

    __slots__ = ("_roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def grow(self, node: bytes) -> None:
        """Append the leaf *node*."""
        full = self.size
        self.size = full + 1
        while full & 1:
            node = sha256(b"\x01" + self._roots.pop() + node).digest()
            full >>= 1
        self._roots.append(node)

    @property
    def frontier(self) -> Frontier:
        return Frontier(self.size, tuple(self._roots))

    def root(self) -> bytes:
        return self.frontier.root()


class Audit:
    """Takes one line after the other. What it took holds together, and obeys the rules.

    *tenant*: whose log it must be; left out, that of the first entry.
    """

    def __init__(self, tenant: str = "") -> None:
        self.tree = Tree()
        self.tenant = tenant
        self.first = ""
        """The hash of the first entry."""
        self.hash = GENESIS.hash
        """That of the newest entry."""
        self.at_ms = 0
        """When it was written."""
        self.rules = rules()
        self._fold = Fold()

    @property
    def head(self) -> Head:
        """Where what was taken ends."""
        return Head(self.tree.size, self.hash)

    def take(self, line: bytes) -> Line:
        """What *line* says. Raises Tampered, which names the first bad entry: then this audit is over."""
        seq = self.tree.size + 1
        try:
            rule, entry = self._read(line)
            if entry.seq != seq or entry.prev != self.hash or entry.tenant_id != self.tenant:
                self._check_link(entry, seq)
            since = entry.ts - EPOCH
            at_ms = since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
            leaf = sha256(b"\x00" + line).digest()
            digest = leaf.hex()
            stage = self._fold.take(rule, entry, digest, at_ms)
        except Malformed as error:
            raise Tampered(seq, error.reason) from error
        except (Illegal, UnknownEvent, ValidationError) as error:
            raise Tampered(seq, f"it breaks a rule: {error}") from error
        if entry.stage != stage:
            raise Tampered(seq, f"it says that the stage is {entry.stage}, and the rules say {stage}")
        if seq == 1:
            self.first = digest
        self.hash, self.at_ms = digest, at_ms
        self.tree.grow(leaf)
        return entry

    def broken(self, incident: str) -> bool:
        """Whether somebody broke the glass in *incident*, and nobody signed it off yet."""
        return bool(self._fold.incidents[incident].broken)

    def _read(self, line: bytes) -> tuple[Rule, Line]:
        """Raises Malformed, UnknownEvent, ValidationError."""
        begins = line.find(EVENT) + PAST
        rule = self.rules.get(line[begins : line.find(b'"', begins)])
        if rule is not None and len(line) <= MAX_BYTES:
            for form in rule.forms:
                if (entry := form.read(line)) is not None:
                    if form is not rule.forms[0]:
                        rule.forms.remove(form)
                        rule.forms.insert(0, form)
                    return rule, entry
        return self._read_slowly(line)

    def _read_slowly(self, line: bytes) -> tuple[Rule, Line]:
        entry = chain.parse(line)
        event = event_of(entry)
        rule = self.rules[entry.event.encode()]
        if len(rule.forms) < MOST_FORMS:
            _learn(rule, line, entry.data)
        return rule, whole(rule.kind).made({**orjson.loads(line), "data": event.data()})

    def _check_link(self, entry: Line, seq: int) -> None:
        if entry.seq != seq:
            raise Malformed(f"it says that it is number {entry.seq}")
        if entry.prev != self.hash:
            raise Malformed("prev is not the hash of the entry before")
        if entry.tenant_id != self.tenant:
            if self.tenant:
                raise Malformed(f"it belongs to tenant {entry.tenant_id}")
            self.tenant = entry.tenant_id


def _learn(rule: Rule, line: bytes, data: Mapping[str, object]) -> None:
    try:
        found = Form(rule.kind, data)
    except NoForm:
        return
    if found.read(line) is not None:
        rule.forms.insert(0, found)


def audit(lines: Iterable[bytes], tenant: str = "", books: Books | None = None) -> Audit:
    """Read all of a log, and keep *books* of it. Raises Tampered at the first bad entry."""
    found = Audit(tenant)
    with unhurried():
        for line in lines:
            entry = found.take(line)
            if books is not None:
                books.look_at(entry, found.hash)
    return found


@contextmanager
def unhurried() -> Iterator[None]:
    """Without the collector of cycles: reading makes millions of objects, and no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
