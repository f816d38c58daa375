"""The place where the workers of many hosts meet: the app's own Redis or Valkey.

Each worker keeps one hash, ``countersign:{service}:w:<worker>``: its present, and its closed seconds, each
written once, and again only when the hash is gone. A set names the workers. Both end two minutes after the
last word, so the dead leave by themselves. A second is a field: a word that comes twice writes the same.

The server's clock says what second it is, so a host whose clock is wrong is told as stale and does not push
the others out of the window. The user needs no more than:
``~countersign:* +exists +hset +hdel +hget +hmget +expire +sadd +srem +smembers +time`` (and ``+select``).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from . import wire
from .cell import Closed
from .resp import DEADLINE_S, Client, Garbled, Reply
from .together import KEEP_S, Word
from .word import Head, head, read_head, read_second, word_of

FORGET_S = 120
SPARE_S = 10
MOST_WORKERS = 256
MOST_LINE = 2 * 1024 * 1024
HEAD = "head"


class Redis:
    """The hashes of one *service*, as *worker* writes and reads them, over one connection."""

    def __init__(self, client: Client, service: str, worker: str) -> None:
        self._client = client
        self._workers = f"countersign:{{{service}}}:workers"
        self._key = f"countersign:{{{service}}}:w:"
        self._worker = worker
        self._written: set[int] = set()
        self._read: dict[str, Word] = {}
        self._now_s = 0
        self._lock = threading.Lock()
        self._down: OSError | None = None

    def write(self, word: Word) -> None:
        """Replace what we said. Raises OSError."""
        with self._alone():
            if not self._store(word, self._written) and self._written:
                self._store(word, set())  # our hash was gone: it ended, or another server took over
            self._written = {t for t in {*self._written, *word.seconds} if not _is_past(t, word)}

    def others(self) -> dict[str, Word]:
        """Return the last word of every other worker; at once where writing fails. Raises OSError."""
        if self._down is not None:
            raise self._down
        with self._alone():
            time, members = self._client(("TIME",), ("SMEMBERS", self._workers))
            self._now_s = int(_text(_list(time)[0]))
            names = sorted({_text(one) for one in _list(members)} - {self._worker})[:MOST_WORKERS]
            self._read = self._hear(names)
        return {name: word for name, word in self._read.items() if word.through > self._now_s - KEEP_S - 1}

    def now_s(self) -> int:
        """Return the server's epoch second when it was last asked."""
        return self._now_s

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=DEADLINE_S):
            raise TimeoutError("Redis is still busy with what was asked before")
        try:
            yield
            self._down = None
        except OSError as e:
            self._down, self._written = e, set()
            raise
        finally:
            self._lock.release()

    def _store(self, word: Word, written: set[int]) -> bool:
        """Write what is not *written*; return whether our hash was there before."""
        key = self._key + self._worker
        fields: list[str | int | bytes] = [HEAD, head(word, word.seconds)]
        for t, one in word.seconds.items():
            if t not in written:
                fields += [t, zlib.compress(one.line.encode(), 1)]
        before = word.through - KEEP_S - SPARE_S
        past = [t for t in written or range(before - FORGET_S, before + 1) if _is_past(t, word)]
        was, *_ = self._client(
            ("EXISTS", key),
            ("HSET", key, *fields),
            *([("HDEL", key, *past)] if past else []),
            ("EXPIRE", key, FORGET_S),
            ("SADD", self._workers, self._worker),
            ("EXPIRE", self._workers, FORGET_S),
        )
        return bool(was)

    def _hear(self, names: list[str]) -> dict[str, Word]:
        asked = [("HGET", self._key + name, HEAD) for name in names]
        heads = self._client(*asked) if names else []
        gone = [name for name, line in zip(names, heads) if line is None]  # noqa: B905 - equal lengths
        if gone:
            self._client(("SREM", self._workers, *gone))
        found: dict[str, Word] = {}
        for name, line in zip(names, heads):  # noqa: B905 - equal lengths
            word = self._word(name, line, self._read.get(name))
            if word is not None:
                found[name] = word
        return found

    def _word(self, name: str, line: Reply, known: Word | None) -> Word | None:
        """Return what *name* says, or what it said before when this cannot be read."""
        if not isinstance(line, bytes):
            return None
        try:
            told = read_head(line)
            return word_of(told, self._seconds(name, told, {} if known is None else known.seconds))
        except wire.Malformed:
            return known

    def _seconds(self, name: str, told: Head, had: Mapping[int, Closed]) -> dict[int, Closed]:
        missing = [t for t in told["index"] if t not in had]
        lines = _list(self._client(("HMGET", self._key + name, *missing))[0]) if missing else []
        read = {t: read_second(t, _inflated(one)) for t, one in zip(missing, lines)}  # noqa: B905 - as above
        return {t: had[t] if t in had else read[t] for t in told["index"]}


def _is_past(t: int, word: Word) -> bool:
    """Return whether nobody asks for the second: who read the head a while ago may, within a few seconds.

    Nor for one that is yet to come: the clock was set back, and it will be another.
    """
    return not word.through - KEEP_S - SPARE_S < t <= word.through


def _list(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise Garbled(f"Redis said {str(reply)[:40]!r} where a list is due")
    return reply


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""


def _inflated(packed: Reply) -> bytes:
    """Return a line as it was before it was compressed; Malformed when it is none, or a bomb."""
    if not isinstance(packed, bytes):
        raise wire.Malformed("a second that was announced is not there")
    reader = zlib.decompressobj()
    try:
        line = reader.decompress(packed, MOST_LINE)
    except zlib.error as e:
        raise wire.Malformed(f"a second is not compressed as it should be: {e}") from None
    if reader.unconsumed_tail:
        raise wire.Malformed(f"a second is longer than {MOST_LINE} bytes")
    return line
