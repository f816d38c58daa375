"""Segments that have left the server: a file each, in the form that an export has them.

    <folder>/<tenant>/entries-00000.jsonl.gz

Its digest, which the Archived entry says, is the SHA-256 of the lines. That they are the ledger's is proved
by the chain, as on the server: whoever reads them checks it.
"""

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

from ledger.chain import MAX_BYTES, leaf_hash
from ledger.durable import write_durably
from ledger.store import Sealed

LONGEST = MAX_BYTES + 1
"""A line that is an entry, and its end."""


class Archive:
    """The archive in *folder*. The segment that was read last stays in memory: readers go on in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[str, int, list[bytes]] = ("", -1, [])

    def path(self, tenant: str, segment: int) -> Path:
        return self._folder / tenant / f"entries-{segment:05}.jsonl.gz"

    def write(self, tenant: str, segment: int, lines: Sequence[bytes]) -> str:
        """Keep *lines* durably, read them back, and return their digest. Blocking.

        Raises Sealed if what is read is not what was written.
        """
        path = self.path(tenant, segment)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))
        if self.read(tenant, segment, len(lines)) != [*lines]:
            raise Sealed(f"what was written to {path} is not what is read there. Look at the disk.")
        return digest_of(lines)

    def read(self, tenant: str, segment: int, most: int) -> list[bytes]:
        """The lines of a segment; of more than *most* only one more, however long the file is. Blocking.

        Raises Sealed if they are not there.
        """
        path = self.path(tenant, segment)
        try:
            with gzip.open(path) as file:
                lines = islice(iter(lambda: file.readline(LONGEST), b""), most + 1)
                return [line[:-1] for line in lines if line.endswith(b"\n")]
        except FileNotFoundError:
            raise Sealed(
                f"its segment {segment} was archived, and {path} is not there. Bring the file back from a "
                "copy of the archive, then start again."
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise Sealed(
                f"{path} cannot be read: {error}. Bring it back from a copy of the archive."
            ) from None

    async def elements(self, tenant: str, segment: int, size: int) -> list[bytes]:
        """As the server's list had them. Raises Sealed unless there are *size*."""
        if self._last[:2] != (tenant, segment):
            self._last = (tenant, segment, await asyncio.to_thread(self._elements, tenant, segment, size))
        found = self._last[2]
        if len(found) != size:
            raise Sealed(f"{self.path(tenant, segment)} has {_many(len(found), size)} entries, not {size}.")
        return found

    def _elements(self, tenant: str, segment: int, size: int) -> list[bytes]:
        return [leaf_hash(line).hex().encode() + b" " + line for line in self.read(tenant, segment, size)]


def _many(found: int, size: int) -> str:
    return "more" if found > size else f"{found}"


def digest_of(lines: Sequence[bytes]) -> str:
    """The SHA-256 of *lines*, each with its newline."""
    return sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
