"""A push as it travels: who says it, the how-manieth of theirs it is, and their word, compressed.

The seconds carried are those that are not known to have arrived, so a parcel may come twice, late, or after
its successor: a second is counted once by its worker and its t, and the newest number tells the present.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from . import wire
from .cell import Closed
from .together import KEEP_S, Word
from .word import head, read_head, read_second, word_of

MOST_BYTES = 4 * 1024 * 1024
"""How long a parcel may be once it is unpacked."""
WORKER = re.compile(r"[A-Za-z0-9._-]{1,128}")
GZIP = 31
MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Parcel:
    """What arrived: *head* and *lines* as they were said, and checked."""

    worker: str
    number: int
    head: bytes
    lines: Mapping[int, bytes]
    word: Word

    oldest: int
    """The first second that the worker still stands by: what it said of those before is past, or another
    time, since its clock was set back."""


def pack(worker: str, number: int, word: Word, seconds: Mapping[int, Closed]) -> bytes:
    """Return the parcel number *number* of *worker*, which carries *seconds* of its *word*."""
    oldest = min(word.seconds, default=word.through + 1)
    first = head(word, seconds, worker=worker, number=number, oldest=oldest)
    deflate = zlib.compressobj(1, wbits=GZIP)
    lines = b"\n".join([first, *(one.line.encode() for one in seconds.values())])
    return deflate.compress(lines) + deflate.flush()


def unpack(raw: bytes) -> Parcel:
    """Return the parcel that *raw* is, compressed or plain; Malformed, saying why, when it is none."""
    first, *rest = _plain(raw).split(b"\n")
    found = read_head(first)
    index = found["index"]
    worker, number, oldest = found.get("worker"), found.get("number"), found.get("oldest")
    if not isinstance(worker, str) or not WORKER.fullmatch(worker):
        raise wire.Malformed("worker is not a name of at most 128 letters, digits, dots and dashes")
    if type(number) is not int or not 0 < number < 1 << 53:
        raise wire.Malformed("number is not a whole number above 0")
    if type(oldest) is not int or not 0 <= oldest < 1 << 53:
        raise wire.Malformed("oldest is not a second")
    if len(set(index)) != len(index) or len(rest) != len(index):
        raise wire.Malformed("the lines are not the seconds that index announces, each once")
    if any(not found["through"] - 2 * KEEP_S < t <= found["through"] for t in index):
        raise wire.Malformed("a second is not closed yet, or older than two minutes")
    lines = dict(zip(index, rest))  # noqa: B905 - their lengths are equal
    seconds = {t: read_second(t, line) for t, line in lines.items()}
    word = word_of(found, seconds)
    return Parcel(worker, number, first, lines, word, max(oldest, word.through - KEEP_S + 1))


def _plain(raw: bytes) -> bytes:
    if not raw.startswith(MAGIC):
        return raw
    inflate = zlib.decompressobj(wbits=GZIP)
    try:
        plain = inflate.decompress(raw, MOST_BYTES)
    except zlib.error as e:
        raise wire.Malformed(f"it is no gzip: {e}") from None
    if inflate.unconsumed_tail:
        raise wire.Malformed(f"it is longer than {MOST_BYTES} bytes once it is unpacked")
    if not inflate.eof or inflate.unused_data:
        raise wire.Malformed("it is cut off, or has something behind its end")
    return plain
