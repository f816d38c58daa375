"""The form of an entry, and the chain that makes a change to any of them visible. Pure.

* An entry is one JSON object with exactly the fields of `FIELDS`, in canonical bytes: keys sorted and ASCII,
  no whitespace, no floats, integers within ±(2^53−1), UTF-8, at most 16 KiB. Under these rules orjson with
  sorted keys, `json.dumps(sort_keys=True, separators=(",", ":"), ensure_ascii=False)` and RFC 8785 give the
  same bytes.
* Its hash is SHA-256(0x00 || bytes): at once `prev` of the next entry and its leaf in the RFC 6962 tree.
* What is sealed would be read back the same: `seal` and `parse` look at the same things, once each.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypedDict

import orjson

type JSON = bool | int | str | list[JSON] | dict[str, JSON] | None
type Form = Mapping[str, Callable[[object], bool]]
"""What each field must be."""

VERSION = 1
MAX_BYTES = 16 * 1024
MAX_INT = 2**53 - 1
MAX_DEPTH = 32


class Malformed(ValueError):
    """These bytes are no entry."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BrokenChain(ValueError):
    """This entry does not follow the one before it."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"Entry {seq}: {reason}.")
        self.seq = seq
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: the number of its entries and the hash of the last."""

    seq: int
    hash: str


GENESIS = Head(0, "0" * 64)


class Who(TypedDict):
    kind: str
    id: str
    via: str


class Ref(TypedDict):
    seq: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One fact of a tenant, sealed. `line` is its canonical bytes, and the bytes are the entry.

    `seal` and `parse` alone make one.
    """

    v: int = field(compare=False)
    seq: int = field(compare=False)
    prev: str = field(compare=False)
    ts: str = field(compare=False)
    tenant_id: str = field(compare=False)
    incident_id: str | None = field(compare=False)
    event: str = field(compare=False)
    stage: str | None = field(compare=False)
    actor: Who = field(compare=False)
    decision: str = field(compare=False)
    reason: str = field(compare=False)
    confidence: int | None = field(compare=False)
    policy_version: str = field(compare=False)
    ref: Ref | None = field(compare=False)
    data: dict[str, JSON] = field(compare=False)
    line: bytes = field(repr=False)
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.ts)


def leaf_hash(line: bytes) -> bytes:
    """SHA-256(0x00 || line), the leaf of RFC 6962."""
    return sha256(b"\x00" + line).digest()


def canonical(value: object) -> bytes:
    """The one encoding of *value*. Raises Malformed for what has none: a float, a huge integer."""
    _check_plain(value, 0)
    return _encoded(value)


def _encoded(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise Malformed(f"not JSON: {error}") from None


def seal(
    head: Head,
    *,
    ts: datetime,
    tenant_id: str,
    incident_id: str | None,
    event: str,
    stage: str | None,
    actor: Who,
    decision: str,
    reason: str,
    confidence: int | None,
    policy_version: str,
    ref: Ref | None,
    data: Mapping[str, JSON],
) -> Entry:
    """The entry that follows *head*. Raises Malformed if these values have no place in a ledger."""
    fields: dict[str, Any] = {
        "v": VERSION,
        "seq": head.seq + 1,
        "prev": head.hash,
        "ts": stamp(ts),
        "tenant_id": tenant_id,
        "incident_id": incident_id,
        "event": event,
        "stage": stage,
        "actor": {**actor},
        "decision": decision,
        "reason": reason,
        "confidence": confidence,
        "policy_version": policy_version,
        "ref": None if ref is None else {**ref},
        "data": {**data},
    }
    _check_form(fields, GIVEN)
    line = _encoded(fields)
    _check_length(line)
    return _entry(fields, line)


def parse(line: bytes) -> Entry:
    """The entry that *line* is. Raises Malformed unless it is exactly that, byte for byte."""
    _check_length(line)
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or fields.keys() != FIELDS.keys():
        raise Malformed("not exactly the fields of an entry")
    if _encoded(fields) != line:
        raise Malformed("not in canonical form")
    _check_form(fields, FIELDS)
    return _entry(fields, line)


def _check_length(line: bytes) -> None:
    if len(line) > MAX_BYTES:
        raise Malformed(f"{len(line)} bytes, at most {MAX_BYTES} are allowed")


def _check_form(fields: Mapping[str, object], form: Form) -> None:
    for name, holds in form.items():
        if not holds(fields[name]):
            raise Malformed(f"{name} is not what it must be")
    _check_plain(fields["data"], 1)


def _entry(fields: dict[str, Any], line: bytes) -> Entry:
    """*fields* become its own: its `__init__` sets seventeen one by one, which takes 4 µs."""
    fields["line"] = line
    fields["hash"] = leaf_hash(line).hex()
    entry = object.__new__(Entry)
    object.__setattr__(entry, "__dict__", fields)
    return entry


def check_link(head: Head | Entry, entry: Entry) -> None:
    """Raises BrokenChain unless *entry* follows *head*, which may be the entry that it is of."""
    if entry.seq != head.seq + 1:
        raise BrokenChain(entry.seq, f"number {head.seq + 1} was expected here")
    if entry.prev != head.hash:
        raise BrokenChain(entry.seq, "prev is not the hash of the entry before")


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: 2026-06-03T09:57:54.123456Z."""
    if moment.tzinfo is None:
        raise Malformed("a time without its zone")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return _stamp(moment)


@lru_cache(maxsize=64)
def _stamp(moment: datetime) -> str:
    """All entries of a batch have one."""
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def receipt(entry: Entry) -> str:
    """The first 80 bits of the hash for people to keep, in Crockford base32: 7F3A-91C2-K0PM-XQ4T."""
    return receipt_of(entry.hash)


def receipt_of(digest: str) -> str:
    """The receipt of the entry whose hash, in hex, is *digest*."""
    bits = int(digest[:20], 16)
    code = "".join(_CROCKFORD[bits >> shift & 31] for shift in range(75, -1, -5))
    return "-".join(code[at : at + 4] for at in range(0, 16, 4))


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of an RFC 6962 tree: the roots of its full subtrees, largest first."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The tree with these leaves after its own."""
        size, roots = self.size, list(self.roots)
        for leaf in leaves:
            node, full = leaf, size
            while full & 1:
                node = _node(roots.pop(), node)
                full >>= 1
            roots.append(node)
            size += 1
        return Frontier(size, tuple(roots))

    def root(self) -> bytes:
        if not self.roots:
            return sha256().digest()
        *left, root = self.roots
        for subtree in reversed(left):
            root = _node(subtree, root)
        return root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _check_plain(value: object, depth: int) -> None:
    """Raises Malformed unless *value* is plain JSON: the types below exactly, or built on them."""
    kind = type(value)
    if kind in _LEAVES:
        return
    if kind is dict:
        _check_dict(value, depth)  # type: ignore[arg-type]  # kind says so
    elif kind is int:
        _check_int(value)  # type: ignore[arg-type]
    else:
        _check_kin(value, depth)


def _check_dict(value: Mapping[str, object], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    _check_keys(value)
    for member in value.values():
        if type(member) not in _LEAVES:  # most are, and need no look
            if type(member) is dict:
                _check_dict(member, depth + 1)
            else:
                _check_plain(member, depth + 1)


def _check_int(value: int) -> None:
    if not -MAX_INT <= value <= MAX_INT:
        raise Malformed("an integer beyond ±(2^53−1)")


def _check_kin(value: object, depth: int) -> None:
    match value:
        case str():
            pass
        case int():
            _check_int(value)
        case dict():
            _check_dict(value, depth)
        case list() | tuple():
            if depth > MAX_DEPTH:
                raise Malformed(f"nested deeper than {MAX_DEPTH}")
            for member in value:
                _check_plain(member, depth + 1)
        case _:
            raise Malformed(f"a value of type {type(value).__name__}")


def _check_keys(names: Iterable[str]) -> None:
    try:
        ascii_alone = "".join(names).isascii()
    except TypeError:
        ascii_alone = False
    if not ascii_alone:
        raise Malformed("a key that is not ASCII text")


_LEAVES = frozenset({str, bool, type(None)})
_HEX = re.compile(r"[0-9a-f]{64}")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_seq(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_stamp(value: object) -> bool:
    return isinstance(value, str) and _is_moment(value)


@lru_cache(maxsize=64)
def _is_moment(text: str) -> bool:
    """Whole batches have one."""
    try:
        return _STAMP.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _is_who(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) == 3
        and isinstance(value.get("kind"), str)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("via"), str)
    )


def _is_ref(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == {"seq", "hash"}
        and _is_seq(value["seq"])
        and _is_hash(value["hash"])
    )


def _is_percent(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= 100)


FIELDS: Form = {
    "v": lambda value: type(value) is int and value == VERSION,
    "seq": _is_seq,
    "prev": _is_hash,
    "ts": _is_stamp,
    "tenant_id": _is_text,
    "incident_id": _is_text_or_none,
    "event": _is_text,
    "stage": _is_text_or_none,
    "actor": _is_who,
    "decision": _is_text,
    "reason": _is_text,
    "confidence": _is_percent,
    "policy_version": _is_text,
    "ref": _is_ref,
    "data": lambda value: type(value) is dict,
}
GIVEN: Form = {name: holds for name, holds in FIELDS.items() if name not in {"v", "ts"}}
"""Those that `seal` does not make itself."""
