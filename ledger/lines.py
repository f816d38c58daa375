"""The lines of a log wherever they lie: an export's folder, or a .jsonl or .jsonl.gz file of lines alone.

Beside a file may lie what the copy off the box keeps (ledger/keep.py): its newest note, those of rotations.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ledger.verify import MAX_LINE, Incomplete, Tampered, Unreadable, Verifier, check_export, read_note


def check(path: Path, log: Verifier) -> Iterator[bytes]:
    """Each line at *path*, once *log* took it, and at the end all that can be checked of it. Blocking.

    Raises Tampered, Incomplete, Unreadable.
    """
    if path.is_dir():
        yield from check_export(path, log)
        return
    try:
        for note in (*sorted(path.with_suffix(".rotations").glob("*.note")), path.with_suffix(".note")):
            log.notes += [_note(note)] if note.is_file() else []
        yield from _taken(path, log)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{path} cannot be read: {error}.") from None
    log.finish()


def _taken(path: Path, log: Verifier) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while line := file.readline(MAX_LINE + 2):
            if not line.endswith(b"\n") and len(line) <= MAX_LINE:
                raise Incomplete(f"The last line of {path.name} is cut off.")
            log.take(line.removesuffix(b"\n"))
            yield line.removesuffix(b"\n")


def _note(path: Path) -> re.Match[str]:
    try:
        return read_note(path.read_bytes().decode())
    except ValueError as error:
        raise Tampered(None, f"{path.name} beside it cannot be read ({error})") from None
