"""Patterns that canonical entries of a known event match as bytes, made from the events' own models.

A match says that the line is canonical and that pydantic would take its data as it stands. No match says
nothing: ask `chain.parse` and pydantic. A pattern is for one set of names: entries of an older version, which
lack fields, have patterns of their own, made from the first of them that was met.
"""

import re
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ledger.events import ActorKind, Event

CHARS = rb'[^"\\\x00-\x1f]*+(?:\\["\\nrt][^"\\\x00-\x1f]*+)*+'
"""What stands in a string. Rarer escapes are left to the slow way."""
TEXT = rb'"' + CHARS + rb'"'
NUMBER = rb"(?:0|-?[1-9][0-9]{0,14}+)"
HASH = rb'"([0-9a-f]{64})"'
TIME = rb'"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:)([0-5][0-9])\.([0-9]{3})[0-9]{3}Z"'
FIELDS: Mapping[str, bytes] = {
    "actor": rb'\{"id":%s,"kind":"(%s)","via":%s\}' % (TEXT, "|".join(ActorKind).encode(), TEXT),
    "confidence": rb"(?:null|100|[1-9]?[0-9])",
    "decision": TEXT,
    "incident_id": rb'(?:null|"(' + CHARS + rb')")',
    "policy_version": rb'"(' + CHARS + rb')"',
    "prev": HASH,
    "reason": TEXT,
    "ref": rb'(?:null|\{"hash":%s,"seq":([1-9][0-9]{0,14})\})' % HASH,
    "seq": rb"([1-9][0-9]{0,14})",
    "stage": rb'(?:null|"([A-Z_]*)")',
    "tenant_id": rb'"(' + CHARS + rb')"',
    "ts": TIME,
    "v": rb"1",
}
"""The fields that all entries share. What the rules ask for is captured, in the order of `Captured`."""
NAMES = tuple(sorted([*FIELDS, "data", "event"]))


class NoPattern(Exception):
    """Entries with these names have no pattern."""


def pattern(kind: type[Event], data: Mapping[str, Any]) -> re.Pattern[bytes]:
    """The pattern of entries of *kind* that have the names that *data* has. Raises NoPattern."""
    own = {
        "data": _object(kind, data, without=Event.COMMON),
        "event": rb'"%s"' % kind.__name__.encode(),
    }
    members = (rb'"%s":%s' % (name.encode(), {**FIELDS, **own}[name]) for name in NAMES)
    return re.compile(rb"\{" + b",".join(members) + rb"\}")


def _object(model: type[BaseModel], sample: Any, without: frozenset[str] = frozenset()) -> bytes:
    fields = {name: one for name, one in model.model_fields.items() if name not in without}
    names = sorted(sample) if isinstance(sample, dict) else sorted(fields)
    if not {name for name, one in fields.items() if one.is_required()} <= set(names) <= fields.keys():
        raise NoPattern(model.__name__)
    values = sample if isinstance(sample, dict) else {}
    members = (rb'"%s":%s' % (name.encode(), _field(fields[name], values.get(name))) for name in names)
    return rb"\{" + b",".join(members) + rb"\}"


def _field(one: FieldInfo, sample: Any) -> bytes:
    if one.metadata:
        return _bounded(one)
    return _value(one.annotation, sample)


def _value(annotation: Any, sample: Any) -> bytes:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if get_origin(annotation) in {Union, types.UnionType}:
        inner, none = get_args(annotation)
        assert none is types.NoneType, annotation  # noqa: S101  no field is anything else
        return rb"(?:null|" + _value(inner, sample) + rb")"
    if get_origin(annotation) is tuple:
        item = _value(get_args(annotation)[0], sample[0] if sample else None)
        return rb"\[(?:" + item + rb"(?:," + item + rb")*+)?\]"
    if issubclass(annotation, StrEnum):
        return rb'"(?:' + "|".join(annotation).encode() + rb')"'
    return _object(annotation, sample)


def _bounded(one: FieldInfo) -> bytes:
    """A small range of integers, all of them named."""
    found: dict[type, Any] = {type(bound): bound for bound in one.metadata}
    least, most = int(found[annotated_types.Ge].ge), int(found[annotated_types.Le].le)
    return b"(?:%s)" % b"|".join(b"%d" % number for number in range(least, most + 1))


_PLAIN: Mapping[Any, bytes] = {str: TEXT, int: NUMBER, bool: rb"(?:true|false)"}
