"""A worker's word as bytes, the same for every way in which workers tell: a file, a hash in Redis, a push.

The first line is the worker's present, as ``slots/1`` has it, and which seconds follow; each further line is
one of these seconds. A closed second never changes, so a reader decodes only those that it does not know.
What is malformed is as if it had not been said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import wire
from .cell import Closed
from .together import Word
from .totals import read as read_totals

Head = dict[str, Any]
MOST_NAME = 128


def head(word: Word, index: Iterable[int], **more: object) -> bytes:
    """Return the first line, which announces the seconds of *index*."""
    return json.dumps(
        {
            **wire.document(word.present),
            "through": word.through,
            "peak": word.peak,
            "streams": word.streams,
            "totals": word.totals.document(),
            "index": list(index),
            **more,
        },
        separators=(",", ":"),
    ).encode()


def encode(word: Word) -> bytes:
    """Return all lines of a word."""
    return b"\n".join([head(word, word.seconds), *(one.line.encode() for one in word.seconds.values())])


def decode(raw: bytes, known: Word | None = None) -> Word:
    """Return the word in *raw*, with the seconds that we *know* as they were; Malformed when it is none."""
    first, *lines = raw.split(b"\n")
    found = read_head(first)
    if len(lines) != len(found["index"]):
        raise wire.Malformed("a word has not the seconds that it announces")
    had = {} if known is None else known.seconds
    seconds = {
        t: had[t] if t in had else read_second(t, line)
        for t, line in zip(found["index"], lines)  # noqa: B905 - their lengths are equal
    }
    return word_of(found, seconds)


def read_head(line: bytes) -> Head:
    """Return the first line, with *through*, *peak*, *streams* and *index* checked; or Malformed."""
    found = _json(line)
    if not isinstance(found, dict):
        raise wire.Malformed("a word does not begin with an object")
    index = found.get("index")
    if not isinstance(index, list) or len(index) > wire.MAX_SLOTS + 1:
        raise wire.Malformed(f"index is not a list of at most {wire.MAX_SLOTS + 1} seconds")
    for n in (*index, found.get("through"), found.get("peak"), found.get("streams")):
        if type(n) is not int or not -1 <= n < 1 << 53:
            raise wire.Malformed("through, peak, streams and index are not whole numbers")
    return found


def read_second(t: int, line: bytes | str) -> Closed:
    """Return the second *t* that a line is; or Malformed."""
    slot = wire.read_slot(_json(line))
    if slot.t != t:
        raise wire.Malformed(f"the second {t} calls itself {slot.t}")
    return Closed.of(slot)


def word_of(found: Head, seconds: Mapping[int, Closed]) -> Word:
    """Return the word that begins with *found*; Malformed when its present is none."""
    present = wire.parse({**found, "slots": []})
    totals = read_totals(found.get("totals", {}))
    return Word(present, found["through"], seconds, found["peak"], found["streams"], totals)


def split(seconds: Mapping[int, Closed], most: int) -> Sequence[Mapping[int, Closed]]:
    """Return *seconds* in portions, oldest first, each of about *most* bytes; at least one portion."""
    portions: list[dict[int, Closed]] = [{}]
    size = 0
    for t, one in sorted(seconds.items()):
        if portions[-1] and size + len(one.line) > most:
            portions.append({})
            size = 0
        portions[-1][t] = one
        size += len(one.line)
    return portions


def _json(line: bytes | str) -> object:
    try:
        parsed: object = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise wire.Malformed(f"a line of a word is not JSON: {e}") from None
    return parsed
