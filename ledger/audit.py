"""A whole log read again, fast: form, chain, rules and Merkle root, from the bytes of each entry.

* What is plainly well is found so by one pattern (ledger/shapes.py). All else goes the long way, through
  `chain.parse` and pydantic, which alone say what is wrong.
* The rules are those of `ledger.machine`: its tables by the names of events, its objections as they are.
* Of an incident only what the rules ask for is remembered: a log of any length fits.
"""

import gc
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from pydantic import ValidationError

from ledger import chain
from ledger import events as ev
from ledger.books import BOOKED, Books
from ledger.chain import GENESIS, MAX_BYTES, Entry, Frontier, Head, Malformed
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
)
from ledger.shapes import NoPattern, pattern
from ledger.verify import Tampered
from ledger.view import UnknownEvent, epoch_ms, event_of

MOST_PATTERNS = 8
EVENT = b'"event":"'

type Raw = dict[str, Any]
type Captured = tuple[bytes | None, ...]
"""Actor's kind, incident, policy, prev, hash and seq of `ref`, seq, stage, tenant; minute, second and ms."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the tables say of one kind of event, by names."""

    kind: type[Event]
    name: bytes
    writers: frozenset[bytes]
    refers: bytes
    """The kind that its `ref` must name the newest of; empty for none."""
    marks: bool
    """Whether others must refer to it."""
    stands_alone: bool
    """Whether it is a fact of the tenant."""
    books: bool
    """Whether it changes the books."""
    patterns: list[re.Pattern[bytes]] = field(default_factory=list)


def _name(kind: type[Event] | None) -> bytes:
    return kind.__name__.encode() if kind else b""


def rules() -> dict[bytes, Rule]:
    """The rules by the names of events, each ready to learn its patterns."""
    return {
        _name(kind): Rule(
            kind,
            _name(kind),
            frozenset(actor.encode() for actor in MAY_WRITE[kind]),
            _name(REFERS.get(kind)),
            kind in REFERS.values(),
            kind in TENANT_FACTS,
            name in BOOKED,
        )
        for name, kind in EVENTS.items()
    }


NEXT: Mapping[bytes | None, Mapping[bytes, bytes]] = {
    stage.encode() if stage else None: {_name(kind): to.encode() for kind, to in row.items()}
    for stage, row in TRANSITIONS.items()
}
VALIDATED = _name(ev.Validated)


@dataclass(slots=True)
class Standing:
    """One incident, as far as the rules look back."""

    stage: bytes
    newest: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """Hash and seq of the newest of each kind that is referred to."""
    deadline_ms: int = 0
    options: frozenset[str] = frozenset()
    attempts: int = 0


class Seen:
    """One line of good form. `entry` is all of it, read when it is first asked for."""

    __slots__ = ("_entry", "found", "line", "rule")

    def __init__(self, rule: Rule, line: bytes, found: Captured, entry: Raw | None = None) -> None:
        self.rule = rule
        self.line = line
        self.found = found
        self._entry = entry

    @property
    def entry(self) -> Raw:
        if self._entry is None:
            self._entry = orjson.loads(self.line)
        return self._entry


class Fold:
    """The rules applied to lines of good form, in order."""

    def __init__(self) -> None:
        self.incidents: dict[bytes, Standing] = {}

    def take(self, seen: Seen, digest: bytes, minute_ms: int) -> bytes | None:
        """The incident's stage afterwards, None outside of one. *minute_ms* is when its minute began.

        Raises Illegal; nothing changed then.
        """
        rule, name = seen.rule, seen.found[1]
        if name:
            return self._of_incident(name, seen, digest, minute_ms)
        if not rule.stands_alone:
            raise IllegalTransition(f"{rule.kind.__name__} needs an incident")
        _check_writer(rule, seen.found[0])
        return None

    def _of_incident(self, name: bytes, seen: Seen, digest: bytes, minute_ms: int) -> bytes:
        rule, stands = seen.rule, self.incidents.get(name)
        stage = stands.stage if stands else None
        to = NEXT[stage].get(rule.name)
        if to is None:
            before = stage.decode() if stage else "nothing"
            raise IllegalTransition(f"{rule.kind.__name__} cannot follow {before} in {name.decode()}")
        _check_writer(rule, seen.found[0])
        if stands is None:
            stands = self.incidents[name] = Standing(to)
        elif rule.refers:
            _check_reference(name, stands, seen, minute_ms)
        stands.stage = to
        if rule.marks:
            _mark(stands, seen, digest)
        elif rule.kind is ev.ExecutionStarted:
            stands.attempts += 1
        return to


def _check_writer(rule: Rule, writer: bytes | None) -> None:
    if writer not in rule.writers:
        raise WrongActor(f"{(writer or b'nobody').decode()} may not write {rule.kind.__name__}")


def _check_reference(name: bytes, stands: Standing, seen: Seen, minute_ms: int) -> None:
    rule, ref = seen.rule, stands.newest.get(seen.rule.refers)
    if ref is None or seen.found[4:6] != ref:
        target = rule.refers.decode()
        raise BadReference(f"{rule.kind.__name__} must refer to the newest {target} of {name.decode()}")
    why = ""
    if rule.refers == VALIDATED:
        option = seen.entry["data"].get("option", "")
        at_ms = minute_ms + int(seen.found[10] or 0) * 1000 + int(seen.found[11] or 0)
        why = objection_to_answer(rule.kind, option, stands.options, at_ms, stands.deadline_ms)
    elif rule.kind is ev.ExecutionStarted:
        why = objection_to_attempt(seen.entry["data"]["attempt"], stands.attempts)
    if why:
        raise BadReference(why)


def _mark(stands: Standing, seen: Seen, digest: bytes) -> None:
    stands.newest[seen.rule.name] = digest, seen.found[6] or b""
    if seen.rule.name == VALIDATED:
        data = seen.entry["data"]
        stands.deadline_ms = data["deadline_ms"]
        stands.options = frozenset(one["key"] for one in data["options"])
    else:
        stands.attempts = 0


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

    def root(self) -> bytes:
        return Frontier(self.size, tuple(self._roots)).root()


class Audit:
    """Takes one line after the other. What it took holds together, and obeys the rules.

    *tenant*: whose log it must be; left out, that of the first entry.
    """

    def __init__(self, tenant: str = "") -> None:
        self.tree = Tree()
        self.policy = b""
        self.ts = b""
        self._tenant = orjson.dumps(tenant)[1:-1]
        self._hash = GENESIS.hash.encode()
        self.rules = rules()
        self._fold = Fold()
        self._minute = b""
        self._minute_ms = 0

    @property
    def hash(self) -> str:
        """That of the newest entry."""
        return self._hash.decode()

    @property
    def head(self) -> Head:
        """Where what was taken ends."""
        return Head(self.tree.size, self.hash)

    @property
    def tenant(self) -> str:
        return str(orjson.loads(b'"%s"' % self._tenant))

    def take(self, line: bytes) -> Seen:
        """What *line* says. Raises Tampered, which names the first bad entry: then this audit is over."""
        seq = self.tree.size + 1
        try:
            seen = self._read(line)
            self._check_link(seen.found, seq)
            leaf = sha256(b"\x00" + line).digest()
            digest = leaf.hex().encode()
            if seen.found[9] != self._minute:
                self._turn(seen.found[9] or b"")
            stage = self._fold.take(seen, digest, self._minute_ms)
        except Malformed as error:
            raise Tampered(seq, error.reason) from error
        except (Illegal, UnknownEvent, ValidationError) as error:
            raise Tampered(seq, f"it breaks a rule: {error}") from error
        if seen.found[7] != stage:
            said, ruled = ((one or b"None").decode() for one in (seen.found[7], stage))
            raise Tampered(seq, f"it says that the stage is {said}, and the rules say {ruled}")
        self._hash = digest
        self.tree.grow(leaf)
        return seen

    def _read(self, line: bytes) -> Seen:
        """Raises Malformed, UnknownEvent, ValidationError."""
        begins = line.rfind(EVENT) + len(EVENT)
        rule = self.rules.get(line[begins : line.find(b'"', begins)])
        if rule is not None and len(line) <= MAX_BYTES:
            for one in rule.patterns:
                if (match := one.fullmatch(line)) and (line.isascii() or _is_utf8(line)):
                    return Seen(rule, line, match.groups())
        return self._read_slowly(line)

    def _read_slowly(self, line: bytes) -> Seen:
        entry = chain.parse(line)
        event = event_of(entry)
        rule = self.rules[entry.event.encode()]
        if len(rule.patterns) < MOST_PATTERNS:
            self._learn(rule, entry)
        return Seen(rule, line, _captured(entry), {**orjson.loads(line), "data": event.data()})

    @staticmethod
    def _learn(rule: Rule, entry: Entry) -> None:
        try:
            found = pattern(rule.kind, entry.data)
        except NoPattern:
            return
        if found not in rule.patterns:
            rule.patterns.append(found)

    def _check_link(self, found: Captured, seq: int) -> None:
        if found[6] != b"%d" % seq:
            raise Malformed(f"it says that it is number {(found[6] or b'').decode()}")
        if found[3] != self._hash:
            raise Malformed("prev is not the hash of the entry before")
        if found[8] != self._tenant:
            if self._tenant:
                raise Malformed(f"it belongs to tenant {(found[8] or b'').decode()}")
            self._tenant = found[8] or b""

    def _turn(self, minute: bytes) -> None:
        """Remember another minute. Raises Malformed for one that no calendar has."""
        try:
            begins = datetime.fromisoformat(f"{minute.decode()}00Z")
        except ValueError:
            raise Malformed("ts is not what it must be") from None
        self._minute, self._minute_ms = minute, epoch_ms(begins)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _captured(entry: Entry) -> Captured:
    """What a pattern would have captured."""
    ref = (entry.ref["hash"].encode(), b"%d" % entry.ref["seq"]) if entry.ref else (None, None)
    return (
        entry.actor["kind"].encode(),
        _chars(entry.incident_id),
        _chars(entry.policy_version),
        entry.prev.encode(),
        *ref,
        b"%d" % entry.seq,
        _chars(entry.stage),
        _chars(entry.tenant_id),
        entry.ts[:17].encode(),
        entry.ts[17:19].encode(),
        entry.ts[20:23].encode(),
    )


def _chars(text: str | None) -> bytes | None:
    """What stands between the quotes of *text* in canonical form."""
    return None if text is None else orjson.dumps(text)[1:-1]


def audit(lines: Iterable[bytes], tenant: str = "", books: Books | None = None) -> Audit:
    """Read all of a log, and keep *books* of it. Raises Tampered at the first bad entry."""
    found, seen = Audit(tenant), None
    with unhurried():
        for line in lines:
            seen = found.take(line)
            if books is not None and (seen.rule.books or not books.cites(seen.found[2])):
                books.take(seen.entry, found.hash)
        if books is not None and seen:
            books.close(seen.entry)
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
