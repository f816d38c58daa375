"""The copy off the box as its keeper has it: a file of lines a tenant, and the newest signed note beside it.

1. What it says it has is on disk, chained, and has the root that the note says. A line that a crash cut off
   was never acknowledged, and goes.
2. Where the log's key was rotated, the note that both keys signed is kept too. From there on the new key
   alone counts: who knows the first one follows all.
3. The file is an export's lines. `python -m ledger restore` makes a ledger of it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ledger.chain import GENESIS, BrokenChain, Entry, Frontier, Malformed, parse
from ledger.durable import sync_folder, write_durably
from ledger.note import BadKey, BadNote, Checkpoint, Verifier, read_note
from ledger.offbox import CHECKPOINT, BadBatch, Batch
from ledger.store import check_chain


class NotNext(Exception):
    """The batch does not follow what is kept here: *size* entries. Nothing was kept."""

    def __init__(self, size: int, why: str) -> None:
        super().__init__(why)
        self.size = size


class Damaged(Exception):
    """What stands in the file is not what was kept. Nothing is taken until a person has looked."""


class Copy:
    """The entries of *tenant* that are kept in *folder*. Opening reads all of them. Blocking.

    *keys* are those one of which must have signed each note, the newest or any before a rotation that was
    kept; none: a note's root alone is checked. Raises Damaged.
    """

    def __init__(self, folder: Path, tenant: str, keys: Sequence[Verifier] = ()) -> None:
        self.tenant = tenant
        self.head = GENESIS
        self._keys = keys
        self._hashes = bytearray()
        self._frontier = Frontier()
        self._lines = folder / f"{tenant}.jsonl"
        self._signed = folder / f"{tenant}.note"
        self._rotations = folder / f"{tenant}.rotations"
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    @property
    def size(self) -> int:
        return self.head.seq

    @property
    def note(self) -> str:
        """The newest note that was kept, or an empty text."""
        return self._signed.read_text(encoding="utf-8") if self._signed.exists() else ""

    def take(self, batch: Batch) -> int:
        """Keep what is new in *batch*, and return how many entries there are then, all on disk.

        Raises NotNext, BadBatch.
        """
        new = self._new(batch)
        grown = self._frontier
        for entry in new:
            grown = grown.append(bytes.fromhex(entry.hash))
        if batch.note and batch.last >= self.size:
            self._check_note(batch, grown)
        if new:
            self._append(new, grown)
        if batch.note and batch.last == self.size:
            self._keep_note(batch.entries[-1], batch.note)
        return self.size

    def _new(self, batch: Batch) -> Sequence[Entry]:
        if batch.tenant != self.tenant:
            raise BadBatch(f"It is of tenant {batch.tenant}, not of {self.tenant}.")
        if batch.first > self.size + 1:
            raise NotNext(self.size, f"Entry {self.size + 1} has not come yet.")
        for entry in batch.entries:
            if entry.seq <= self.size and bytes.fromhex(entry.hash) != self._hash(entry.seq):
                raise NotNext(self.size, f"Entry {entry.seq} is not the one that was kept here.")
        new = [entry for entry in batch.entries if entry.seq > self.size]
        if new and new[0].prev != self.head.hash:
            raise NotNext(self.size, f"Entry {new[0].seq} does not follow the one that was kept here.")
        return new

    def _check_note(self, batch: Batch, grown: Frontier) -> None:
        checkpoint = _checkpoint(batch.note)
        if (checkpoint.size, checkpoint.root) != (grown.size, grown.root()):
            raise BadBatch(f"The note is not of the {grown.size} entries that it came with.")
        first = self._hash(1).hex() if self.size else batch.entries[0].hash
        if checkpoint.origin != f"countersign/{self.tenant}/{first[:16]}":
            raise BadBatch(f"The note is of another log, {checkpoint.origin}.")
        if self._keys and not any(key.verify(batch.note) for key in self._keys):
            raise BadBatch(
                "None of the keys that count here has signed the note. If the log's key was rotated and the "
                "note of that is lost, start this with the new --key."
            )

    def _keep_note(self, last: Entry, note: str) -> None:
        write_durably(self._signed, note.encode())
        if _rotation(last, note):
            self._rotations.mkdir(exist_ok=True)
            write_durably(self._rotation_at(last.seq), note.encode())
            self._follow(last, note)

    def _rotation_at(self, seq: int) -> Path:
        return self._rotations / f"{seq:016}.note"

    def _follow(self, entry: Entry, note: str) -> None:
        """From *entry* on the key that it names counts alone, if one that counts signed *note*."""
        new = _rotation(entry, note)
        if new and any(key.verify(note) for key in self._keys):
            self._keys = [*(key for key in self._keys if key.name != new.name), new]

    def _append(self, entries: Sequence[Entry], grown: Frontier) -> None:
        before = self._lines.stat().st_size if self._lines.exists() else 0
        with self._lines.open("ab") as file:
            try:
                file.write(b"".join(entry.line + b"\n" for entry in entries))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._lines, before)
                raise
        if not before:
            sync_folder(self._lines.parent)
        self._count(entries, grown)

    def _count(self, entries: Sequence[Entry], grown: Frontier) -> None:
        for entry in entries:
            self._hashes += bytes.fromhex(entry.hash)
        self.head, self._frontier = entries[-1].head, grown

    def _hash(self, seq: int) -> bytes:
        return bytes(self._hashes[32 * (seq - 1) : 32 * seq])

    def _open(self) -> None:
        if not self._lines.exists():
            return
        good = 0
        with self._lines.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read(line[:-1])
                good += len(line)
        os.truncate(self._lines, good)

    def _read(self, line: bytes) -> None:
        try:
            entry = parse(line)
            check_chain(self.head, [entry])
        except (Malformed, BrokenChain) as error:
            raise Damaged(f"{self._lines}, line {self.size + 1}: {error}. Keep the file, begin an empty "
                          "folder, and find out who wrote it.") from None  # fmt: skip
        self._count([entry], self._frontier.append(bytes.fromhex(entry.hash)))
        if entry.event == "KeyRotated" and (file := self._rotation_at(entry.seq)).exists():
            self._follow(entry, file.read_text(encoding="utf-8"))


def _rotation(entry: Entry, note: str) -> Verifier | None:
    """The key that *entry* hands over to, if that key signed *note* too."""
    try:
        new = Verifier.parse(str(entry.data["new"])) if entry.event == "KeyRotated" else None
        return new if new and new.verify(note) else None
    except (KeyError, BadKey, BadNote):
        return None


def _checkpoint(note: str) -> Checkpoint:
    try:
        return read_note(note)[0]
    except BadNote as error:
        raise BadBatch(f"{CHECKPOINT}: {error}.") from None
