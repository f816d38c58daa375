"""Forms that canonical entries of a known event have, made from the events' own models, and read at once.

What a form reads is canonical, and pydantic would take its data as it stands: it was decoded strictly, and
written again it gives the same bytes. What it does not read says nothing: ask `chain.parse` and pydantic. A
form is for one set of names: entries of an older version, which lack fields, have forms of their own, made
from the first of them that was met.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from msgspec import NODEFAULT, Meta, Struct, convert, defstruct
from msgspec.json import Decoder, Encoder
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ledger.chain import MAX_INT, Malformed
from ledger.events import Event

Whole = Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)]
Number = Annotated[int, Meta(ge=1, le=MAX_INT)]
HASH = 64
END = b'Z","v":1}'


class Shape(Struct, gc=False):
    """Part of an entry, by the names that it has in the ledger: as attributes, and as if it were a dict."""

    __getitem__ = object.__getattribute__

    def get(self, name: str, otherwise: Any = None) -> Any:
        return getattr(self, name, otherwise)


class Who(Shape):
    id: str
    kind: Literal["policy", "model", "engineer", "orchestrator"]
    via: str


class Reference(Shape):
    hash: str
    """Only who reads it sees whether it is one: a pattern takes four times as long."""
    seq: Number


class Line(Shape):
    """A whole entry. Its names stand in the order of the bytes."""

    actor: Who
    confidence: Annotated[int, Meta(ge=0, le=100)] | None
    data: Any
    decision: str
    event: str
    incident_id: str | None
    policy_version: str
    prev: str
    reason: str
    ref: Reference | None
    seq: Number
    stage: str | None
    tenant_id: str
    ts: datetime
    v: Literal[1]


class Loose(dict[str, Any]):
    """JSON of any names, which are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def loose(entry: Mapping[str, Any]) -> Line:
    """*entry*, whatever it says: who verified it looked at its fields, and at no value."""
    parts = {name: _loosened(entry[name]) for name in ("actor", "data", "ref")}
    return Line(**{**entry, **parts, "ts": datetime.fromisoformat(entry["ts"])})


def _loosened(value: Any) -> Any:
    if isinstance(value, dict):
        return Loose({name: _loosened(one) for name, one in value.items()})
    return [_loosened(one) for one in value] if isinstance(value, list) else value


BRIEF = frozenset(Line.__struct_fields__) - {"confidence", "decision", "reason", "v"}
ASKED = frozenset(
    {
        "action", "attempt", "break_glass", "channel", "deadline_ms", "digest", "identity", "key", "label",
        "option", "options", "person", "policy_digest", "policy_label", "reading", "receipt", "receipt_at_ms",
        "receipt_counter", "receipt_key_id", "receipt_signature", "service", "stepped_up", "until_ms",
        "voters",
    }
)  # fmt: skip
"""The names in data that the rules and the books ask for: a test finds whoever asks for another."""


type Nested = Callable[[type[BaseModel], Any], type[Shape]]


class NoForm(Exception):
    """Entries with these names have no form."""


class Form:
    """Of entries of *kind* that have the names that *data* has; all names, without it. Raises NoForm."""

    __slots__ = ("_line", "read")

    def __init__(self, kind: type[Event], data: Mapping[str, Any] | None = None) -> None:
        shape = _shape(kind, data, without=Event.COMMON)
        fields = [("data", shape), ("event", Literal[kind.__name__])]
        self._line = _struct(Line, kind.__name__, fields)
        self.read = _reader(self._line)
        """The entry that a line is; None if it has another form, or none."""

    def made(self, entry: Mapping[str, Any]) -> Line:
        """*entry*, whose data pydantic has taken, in this form. Raises Malformed."""
        try:
            return convert(entry, self._line)
        except ValueError as error:
            raise Malformed(f"{error}") from None


def _reader(kind: type[Line]) -> Callable[[bytes], Line | None]:
    decode, write, buffer = Decoder(kind).decode, Encoder().encode_into, bytearray()

    def read(line: bytes) -> Line | None:
        try:
            found = decode(line)
            if found.ref is not None and not _is_hash(found.ref.hash):
                return None
        except ValueError:
            return None
        write(found, buffer)
        if not found.ts.microsecond:
            buffer[-len(END) :] = b".000000" + END  # which msgspec leaves out
        return found if buffer == line and found.ts.tzinfo is UTC else None

    return read


def _is_hash(text: str) -> bool:
    """Raises ValueError where it is not even hex."""
    return len(text) == HASH and bytes.fromhex(text).hex() == text


@cache
def whole(kind: type[Event]) -> Form:
    """The form of entries of *kind* with all names."""
    return Form(kind)


def glance(kind: type[Event]) -> Callable[[bytes], Line]:
    """Reads a part of an entry of *kind* that has a form: what rules and books ask. Raises ValueError."""
    own = {"data": _asked(kind), "event": Literal[kind.__name__]}
    fields = {name: one for name, one in {**Line.__annotations__, **own}.items() if name in BRIEF}
    made: Any = _struct(Shape, kind.__name__, fields.items())
    return Decoder[Line](made).decode


def _asked(model: type[BaseModel], _: Any = None) -> type[Shape]:
    asked = {name: one for name, one in model.model_fields.items() if name in ASKED - Event.COMMON}
    members = [(name, _value(one.annotation, None, _asked), _default(one)) for name, one in asked.items()]
    return _struct(Shape, model.__name__, sorted(members, key=lambda one: one[2] is not NODEFAULT))


def _default(one: FieldInfo) -> Any:
    return NODEFAULT if one.is_required() else one.default


def _shape(model: type[BaseModel], sample: Any, without: frozenset[str] = frozenset()) -> type[Shape]:
    fields = {name: one for name, one in model.model_fields.items() if name not in without}
    names = sorted(sample) if isinstance(sample, dict) else sorted(fields)
    if not {name for name, one in fields.items() if one.is_required()} <= set(names) <= fields.keys():
        raise NoForm(model.__name__)
    values = sample if isinstance(sample, dict) else {}
    members = [(name, _field(fields[name], values.get(name))) for name in names]
    return _struct(Shape, model.__name__, members)


def _struct[S: Shape](base: type[S], name: str, fields: Iterable[tuple[Any, ...]]) -> type[S]:
    made: Any = defstruct(name, fields, bases=(base,), gc=False)
    return made  # type: ignore[no-any-return]  # defstruct does not say of what it makes one


def _field(one: FieldInfo, sample: Any) -> Any:
    if not one.metadata:
        return _value(one.annotation, sample, _shape)
    bounds = {type(bound): bound for bound in one.metadata}
    if bounds.keys() != {annotated_types.Ge, annotated_types.Le}:
        raise NoForm(f"{one.metadata}")
    within = Meta(ge=bounds[annotated_types.Ge].ge, le=bounds[annotated_types.Le].le)
    return Annotated[one.annotation, within]


def _value(annotation: Any, sample: Any, nested: Nested) -> Any:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if get_origin(annotation) in {Union, types.UnionType}:
        inner, none = get_args(annotation)
        assert none is types.NoneType, annotation  # noqa: S101  no field is anything else
        return _value(inner, sample, nested) | None
    if get_origin(annotation) is tuple:
        item = _value(get_args(annotation)[0], sample[0] if sample else None, nested)
        return tuple.__class_getitem__((item, ...))
    if issubclass(annotation, StrEnum):
        return Literal[tuple(one.value for one in annotation)]
    return nested(annotation, sample)


_PLAIN: Mapping[Any, Any] = {str: str, int: Whole, bool: bool}
