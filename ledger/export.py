"""An export: a folder that anybody can verify, without us and without a network. Format countersign-export/2.

    manifest.json             what is here: tenant, size, head, Merkle root, and the SHA-256 of each file
    entries-00000.jsonl.gz    the entries, one canonical line each, 65,536 a file
    tile/…                    the tree of their hashes (https://c2sp.org/tlog-tiles)
    checkpoint                the newest signed note; witnesses may add their lines to it
    rotations/0000.note       the notes with which one key handed over to the next, and what a witness signed
    keys.txt                  the keys that the log names, oldest first: compare them with what you were told
    receipts.txt              not ours: what people kept, SEQ:CODE a line; whoever verifies may put it here
    texts/<digest>.txt        every charter and policy that was adopted
    verify.py, README.txt     python3 -I -S verify.py .

The same log and notes give the same bytes. It is written beside its place and moved there whole.
"""

import asyncio
import gzip
import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path

from ledger import verify
from ledger.chain import Entry, Head
from ledger.note import read_note
from ledger.store import Durability, Store
from ledger.tiles import tiles

PAGE = 1000
A_FILE = 65_536
README = """The ledger of {tenant}, entries 1 to {size}, as it was exported. {durability}

    python3 -I -S verify.py .                  needs Python 3.10 or newer and nothing else
    python3 -I -S verify.py . --key VKEY       with a key that you did not get from here
    python3 -I -S verify.py . --receipt 42:7F3A-91C2-K0PM-XQ4T     with what the chat showed you

0 intact, 1 tampered with, 2 incomplete or unsigned, 3 unreadable.
"""

type Progress = Callable[[int, int], None]


class CannotExport(Exception):
    """Nothing was exported, and the message says why."""


async def export(
    store: Store, tenant: str, folder: Path, progress: Progress = lambda done, size: None
) -> Head:
    """Write the log of *tenant* as it stands now to *folder*, and return its head.

    *progress(done, size)* is told after each page. Raises CannotExport if the log is empty or *folder* holds
    something that is no export.
    """
    note, size = await end(store, tenant)
    if not size:
        raise CannotExport(f"The tenant {tenant} has no entry.")
    packing = await asyncio.to_thread(_Packing, folder)
    while packing.seen.size < size:
        page = await store.read(tenant, packing.seen.size, min(PAGE, size - packing.seen.size))
        await asyncio.to_thread(packing.add, page)
        progress(packing.seen.size, size)
    notes = [*await store.kept_notes(tenant), *await _cosigned(store, tenant, size)]
    beside = {f"rotations/{at:04}.note": kept for at, kept in enumerate(notes)}
    for digest in packing.seen.digests:
        if (text := await store.get_text(tenant, digest)) is not None:
            beside[f"texts/{digest}.txt"] = text
    await asyncio.to_thread(packing.finish, beside, note, await store.durability())
    return Head(packing.seen.size, packing.seen.head)


async def _cosigned(store: Store, tenant: str, size: int) -> list[str]:
    """The newest note that a witness signed too, if it is of no more than *size* entries."""
    note = await store.cosigned(tenant)
    return [note] if note and read_note(note)[0].size <= size else []


async def end(store: Store, tenant: str) -> tuple[str, int]:
    """The newest note of the log and how many entries belong with it: as many as it says, and those after it
    only if nobody signed them. Writers may go on meanwhile."""
    note = await store.note(tenant)
    head = await store.head(tenant)
    newer = await store.note(tenant)
    return (note, head.seq) if newer == note else (newer, read_note(newer)[0].size)


class _Packing:
    """The folder while it grows."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").exists():
            raise CannotExport(f"{folder} holds something that is no export. Name another folder.")
        self.seen = verify.Verifier()
        self._folder = folder
        self._growing = folder.with_name(f"{folder.name}.partial")
        self._file: _Lines
        shutil.rmtree(self._growing, ignore_errors=True)
        self._growing.mkdir(parents=True)

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self.seen.size % A_FILE == 0:
                self._next_file()
            self.seen.take(entry.line)
            self._file.write(entry.line + b"\n")

    def finish(self, beside: Mapping[str, str], note: str, durability: Durability) -> None:
        self._file.close()
        about = README.format(tenant=self.seen.tenant, size=self.seen.size, durability=durability.sentence)
        texts = {**beside, "README.txt": about, "keys.txt": "".join(f"{key}\n" for key in self.seen.named)}
        written = {name: text.encode() for name, text in texts.items() if text}
        for name, content in chain(written.items(), tiles(bytes(self.seen.leaves))):
            path = self._growing / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        shutil.copyfile(verify.__file__, self._growing / "verify.py")
        self._write_manifest(durability.value)
        if note:
            (self._growing / "checkpoint").write_text(note, encoding="utf-8")
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._growing.rename(self._folder)

    def _next_file(self) -> None:
        if self.seen.size:
            self._file.close()
        self._file = _Lines(self._growing / f"entries-{self.seen.size // A_FILE:05}.jsonl.gz")

    def _write_manifest(self, durability: str) -> None:
        files = sorted(path for path in self._growing.rglob("*") if path.is_file())
        digests = {path.relative_to(self._growing).as_posix(): _digest(path) for path in files}
        says = verify.manifest_of(self.seen, digests, durability)
        (self._growing / "manifest.json").write_text(says, encoding="utf-8")


class _Lines:
    """A gzip file of lines: without a name and a time in it, so that the same lines give the same bytes."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("wb")
        self._packed = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, mtime=0)

    def write(self, line: bytes) -> None:
        self._packed.write(line)

    def close(self) -> None:
        self._packed.close()
        self._raw.close()


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
