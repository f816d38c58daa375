"""A whole log read again, fast: form, chain, rules and Merkle root, from the bytes of each entry.

* Entries are read by their forms (ledger/reader.py); a second process may have done that (ledger/aide.py).
* The rules are those of `ledger.machine`: its tables by the names of events, its objections as they are.
* Of an incident only what the rules ask for is remembered: a log of any length fits.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from pydantic import ValidationError

from ledger import events as ev
from ledger.aide import Aide, Judged
from ledger.books import Books
from ledger.chain import GENESIS, Frontier, Head, Malformed
from ledger.machine import (
    BadReference,
    Illegal,
    IllegalTransition,
    Stage,
    WrongActor,
    objection_to_answer,
    objection_to_attempt,
    objection_to_review,
)
from ledger.reader import Reader, Rule
from ledger.shapes import Line
from ledger.verify import Tampered
from ledger.view import UnknownEvent, epoch_ms

REFUSED = (Malformed, Illegal, UnknownEvent, ValidationError)
VALIDATED = ev.Validated.__name__
RUNNING = frozenset({Stage.AUTHORIZED.value, Stage.EXECUTING.value})


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

    def take(self, rule: Rule, entry: Line, digest: str) -> str | None:
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
        if rule.plain:
            stands.stage = to
            return to
        if rule.refers:
            _check_reference(rule, stands, entry)
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


def _check_reference(rule: Rule, stands: Standing, entry: Line) -> None:
    stood, ref = stands.newest.get(rule.refers), entry.ref
    if ref is None or (ref.hash, ref.seq) != stood:
        raise BadReference(f"{entry.event} must refer to the newest {rule.refers} of {entry.incident_id}")
    why = ""
    if rule.refers == VALIDATED:
        option, at_ms = getattr(entry.data, "option", ""), epoch_ms(entry.ts)
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
        if getattr(entry.data, "break_glass", False):
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
        self.size = 0
        self.reader = Reader()
        self._fold = Fold()

    @property
    def head(self) -> Head:
        """Where what was taken ends."""
        return Head(self.size, self.hash)

    def take(self, line: bytes) -> Line:
        """What *line* says. Raises Tampered, which names the first bad entry: then this audit is over."""
        try:
            rule, entry = self.reader.read(line)
            leaf = sha256(b"\x00" + line).digest()
            self._follow(rule, entry, leaf.hex())
        except REFUSED as error:
            raise self._tampered(error) from error
        self.tree.grow(leaf)
        return entry

    def take_page(self, lines: Sequence[bytes], known: Judged) -> Iterator[Line]:
        """As `take`, of a page of which much is known already. The tree is whole again at its end."""
        leaves = [known.leaves[at : at + 32] for at in range(0, len(known.leaves), 32)]
        read, follow, grow = self.reader.read_again, self._follow, self.tree.grow
        try:
            for line, number, leaf in zip(lines, known.numbers, leaves, strict=True):
                rule, entry = read(line, number)
                follow(rule, entry, leaf.hex())
                grow(leaf)
                yield entry
        except REFUSED as error:
            raise self._tampered(error) from error

    def broken(self, incident: str) -> bool:
        """Whether somebody broke the glass in *incident*, and nobody signed it off yet."""
        return bool(self._fold.incidents[incident].broken)

    @property
    def unsettled(self) -> int:
        """How many authorizations have no outcome yet: the rules let their incidents go nowhere else."""
        return sum(one.stage in RUNNING for one in self._fold.incidents.values())

    def _tampered(self, error: Exception) -> Tampered:
        why = error.reason if isinstance(error, Malformed) else f"it breaks a rule: {error}"
        return Tampered(self.size + 1, why)

    def _follow(self, rule: Rule, entry: Line, digest: str) -> None:
        """Let *entry* be the next. Raises Malformed, Illegal."""
        seq = self.size + 1
        if entry.seq != seq or entry.prev != self.hash or entry.tenant_id != self.tenant:
            self._check_link(entry, seq)
        stage = self._fold.take(rule, entry, digest)
        if entry.stage != stage:
            raise Malformed(f"it says that the stage is {entry.stage}, and the rules say {stage}")
        if seq == 1:
            self.first = digest
        self.size, self.hash = seq, digest

    def _check_link(self, entry: Line, seq: int) -> None:
        if entry.seq != seq:
            raise Malformed(f"it says that it is number {entry.seq}")
        if entry.prev != self.hash:
            raise Malformed("prev is not the hash of the entry before")
        if entry.tenant_id != self.tenant:
            if self.tenant:
                raise Malformed(f"it belongs to tenant {entry.tenant_id}")
            self.tenant = entry.tenant_id


def audit(
    lines: Iterable[bytes], tenant: str = "", books: Books | None = None, aide: Aide | None = None
) -> Audit:
    """Read all of a log, and keep *books* of it. Raises Tampered at the first bad entry."""
    found = Audit(tenant)
    with unhurried():
        for entry in _entries(found, lines, aide):
            if books is not None:
                books.look_at(entry, found.hash)
    return found


def _entries(found: Audit, lines: Iterable[bytes], aide: Aide | None) -> Iterator[Line]:
    if aide is None:
        yield from map(found.take, lines)
        return
    for page, known in aide.pages(lines):
        yield from found.take_page(page, known) if known else map(found.take, page)


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
