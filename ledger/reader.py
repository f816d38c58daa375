"""Reads entries of every kind: by the forms that were met so far, and the first of each the long way. Pure.

What is plainly well is found so by its form (ledger/shapes.py). All else goes through `chain.parse` and
pydantic, which alone say what is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from ledger import chain
from ledger import events as ev
from ledger.chain import MAX_BYTES
from ledger.events import EVENTS, Event
from ledger.machine import MAY_WRITE, REFERS, TENANT_FACTS, TRANSITIONS
from ledger.shapes import Form, Line, NoForm, glance, whole
from ledger.view import event_of

MOST_FORMS = 8
UNKNOWN = 255
"""No event has this number."""
EVENT = b'"event":"'
PAST = len(EVENT)


@dataclass(frozen=True, slots=True)
class Rule:
    """What the tables say of one kind of event, by names."""

    kind: type[Event]
    number: int
    """Its place among all kinds, by name."""
    after: Mapping[str, str]
    """The stage to which it leads, by the stage that it may follow; an empty text is before the first."""
    writers: frozenset[str]
    refers: str
    """The kind that its `ref` must name the newest of; empty for none."""
    marks: bool
    """Whether others must refer to it."""
    plain: bool
    """Whether nothing is to be looked at but what may follow what, and who writes it."""
    stands_alone: bool
    """Whether it is a fact of the tenant."""
    glance: Callable[[bytes], Line]
    """Reads what rules and books ask of an entry that is well."""
    forms: list[Form] = field(default_factory=list)
    """Those met so far, the newest first."""


def _name(kind: type[Event] | None) -> str:
    return kind.__name__ if kind else ""


def rules() -> dict[bytes, Rule]:
    """The rules by the names of events, each ready to learn its forms."""
    return {
        name.encode(): Rule(
            kind := EVENTS[name],
            number,
            {stage or "": row[kind].value for stage, row in TRANSITIONS.items() if kind in row},
            frozenset(actor.value for actor in MAY_WRITE[kind]),
            _name(REFERS.get(kind)),
            kind in REFERS.values(),
            not ({kind} & {*REFERS, *REFERS.values(), ev.Reviewed}),
            kind in TENANT_FACTS,
            glance(kind),
        )
        for number, name in enumerate(sorted(EVENTS))
    }


class Reader:
    """Knows the rules, and the forms of what it read."""

    def __init__(self) -> None:
        self.rules = rules()
        self.numbered = [*self.rules.values()]

    def read(self, line: bytes) -> tuple[Rule, Line]:
        """Raises Malformed, UnknownEvent, ValidationError."""
        begins = line.find(EVENT) + PAST
        rule = self.rules.get(line[begins : line.find(b'"', begins)])
        if rule is not None and len(line) <= MAX_BYTES:
            for form in rule.forms:
                if (entry := form.read(line)) is not None:
                    return rule, entry
        return self._read_slowly(line)

    def read_again(self, line: bytes, number: int) -> tuple[Rule, Line]:
        """As `read`, of a line that was read well by another reader, as an event of that *number*."""
        if number == UNKNOWN:
            return self.read(line)
        rule = self.numbered[number]
        try:
            return rule, rule.glance(line)
        except ValueError:
            return self._read_slowly(line)

    def _read_slowly(self, line: bytes) -> tuple[Rule, Line]:
        entry = chain.parse(line)
        event = event_of(entry)
        rule = self.rules[entry.event.encode()]
        if len(rule.forms) < MOST_FORMS:
            _learn(rule, line, entry.data)
        return rule, whole(rule.kind).made({**orjson.loads(line), "data": event.data()})


def _learn(rule: Rule, line: bytes, data: Mapping[str, object]) -> None:
    try:
        found = Form(rule.kind, data)
    except NoForm:
        return
    if found.read(line) is not None:
        rule.forms.insert(0, found)
