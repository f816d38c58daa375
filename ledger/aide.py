"""A second process that judges forms and hashes, so that the first has its time for rules and books.

* It is given pages of lines, in memory that both share. Of each line it says of which event it is an entry,
  if it is one of good form, and its hash. Of what it says nothing, and until it has begun, the first process
  reads all itself.
* It knows nothing of what stands before a line: order, links and rules are judged by who asks.
* Who has one core needs none: everything is read as well without it, one thing after the other.
"""

import gc
import select
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import batched
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple, Self

from pydantic import ValidationError

from ledger.chain import Malformed
from ledger.reader import UNKNOWN, Reader
from ledger.view import UnknownEvent

LINES = 1024
"""Of a page."""
AHEAD = 2
"""Pages that are asked for before the first is needed, and places for them."""
PLACE = 4 * 2**20
"""Bytes. What does not fit is read by the first process."""
SIZE, HASH = 8, 32
READY = b"\1"

type Page = Sequence[bytes]


class Judged(NamedTuple):
    """What is known of the lines of a page."""

    numbers: bytes
    """Of the event of each (`Rule.number`), and UNKNOWN where nothing is known."""
    leaves: bytes
    """The hash of each."""


class Aide:
    """The side of who asks. As a context: the second process ends with it."""

    def __init__(self) -> None:
        with TemporaryFile() as shared:
            shared.write(bytes(AHEAD * PLACE))  # so that there is room for all of it from the beginning
            shared.flush()
            self._places = mmap(shared.fileno(), AHEAD * PLACE)
            self._process = subprocess.Popen(  # noqa: S603  this program itself
                [sys.executable, "-m", __name__, str(shared.fileno())],
                cwd=Path(__file__).resolve().parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(shared.fileno(),),
            )
        self._asked = 0
        self._has_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._to.close()
        self._from.close()
        self._places.close()

    def end(self) -> None:
        """End the second process."""
        self._process.kill()
        self._process.wait()

    @property
    def _to(self) -> IO[bytes]:
        assert self._process.stdin  # noqa: S101  it was made with it
        return self._process.stdin

    @property
    def _from(self) -> IO[bytes]:
        assert self._process.stdout  # noqa: S101
        return self._process.stdout

    def has_begun(self, within_s: float = 0) -> bool:
        """Whether it is ready, after so many seconds at most."""
        if not self._has_begun and select.select([self._from], [], [], within_s)[0]:
            self._has_begun = self._from.read(len(READY)) == READY
        return self._has_begun

    def pages(self, lines: Iterable[bytes]) -> Iterator[tuple[Page, Judged | None]]:
        """*lines*, page by page, each with what is known of it: of none where the process has ended."""
        asked: deque[tuple[Page, bool]] = deque()
        for page in batched(lines, LINES):
            done = [self._answered(*asked.popleft())] if len(asked) == AHEAD else []
            asked.append((page, self._ask(page)))
            yield from done
        for one in asked:
            yield self._answered(*one)

    def _ask(self, page: Page) -> bool:
        told = b"\n".join(page)
        if len(told) > PLACE or not self.has_begun():
            return False
        place = self._asked % AHEAD * PLACE
        self._asked += 1
        self._places[place : place + len(told)] = told
        try:
            self._to.write(place.to_bytes(SIZE) + len(told).to_bytes(SIZE))
        except OSError:
            self._has_begun = False
        return self._has_begun

    def _answered(self, page: Page, was_asked: bool) -> tuple[Page, Judged | None]:
        known = self._answer() if was_asked else None
        return page, known if known and len(known.numbers) == len(page) else None  # one had an end of line

    def _answer(self) -> Judged | None:
        try:
            count = int.from_bytes(_read(self._from, SIZE))
            return Judged(_read(self._from, count), _read(self._from, count * HASH))
        except EOFError:
            return None


def judge(reader: Reader, lines: Iterable[bytes]) -> Judged:
    """What can be said of each line alone."""
    numbers, leaves = bytearray(), list[bytes]()
    for line in lines:
        try:
            numbers.append(reader.read(line)[0].number)
        except (Malformed, UnknownEvent, ValidationError):
            numbers.append(UNKNOWN)
        leaves.append(sha256(b"\x00" + line).digest())
    return Judged(bytes(numbers), b"".join(leaves))


def serve(given: IO[bytes], said: IO[bytes], places: mmap) -> None:
    """Answer page after page, until there is none."""
    reader = Reader()
    said.write(READY)
    said.flush()
    with suppress(EOFError):
        while True:
            place, size = (int.from_bytes(_read(given, SIZE)) for _ in range(2))
            known = judge(reader, places[place : place + size].split(b"\n"))
            said.write(len(known.numbers).to_bytes(SIZE) + b"".join(known))
            said.flush()


def _read(file: IO[bytes], size: int) -> bytes:
    """Raises EOFError where there is less."""
    parts = list[bytes]()
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    if size:
        raise EOFError("the other process has ended")
    return b"".join(parts)


if __name__ == "__main__":
    gc.disable()
    with (
        open(0, "rb", buffering=0) as given,
        open(1, "wb") as said,
        mmap(int(sys.argv[1]), AHEAD * PLACE, access=ACCESS_READ) as places,
    ):
        serve(given, said, places)
