"""Makes a ledger of an export, or of the copy off the box: the same entries, notes and texts.

1. All of it is judged before anything is written: form, chain, rules, texts, and that a key which did not
   come with it signed it to its end (ledger/verify.py, ledger/replay.py).
2. It must not be older than the note that was kept outside the store (ledger/outside.py).
3. Nothing may stand where it goes, except the beginning of this very log that an interrupted restore left.
4. The signed note comes with the last entries: until then there is a log that no process takes up.

What people typed is in no export, and neither is what the bot keeps for itself.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ledger import lines, verify
from ledger.chain import Entry, Head, parse
from ledger.replay import Replay
from ledger.store import Store

PAGE = 500


class CannotRestore(Exception):
    """Nothing was written, and the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a log is, and what lies beside its entries. *size*: how many of them are meant; 0 is all."""

    path: Path
    note: str = ""
    older: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    size: int = 0

    def lines(self, log: verify.Verifier) -> Iterator[bytes]:
        """Each line, once *log* took it. Blocking. Raises as `lines.check` does."""
        if not self.path.is_dir():
            log.notes += [read_note(one) for one in (*self.older, self.note) if one]
        for line in lines.check(self.path, log):
            yield line
            if log.size == self.size:
                log.finish(self.size)
                return


def found(path: Path, texts: Iterable[Path] = ()) -> Source:
    """The export in the folder *path*, or the copy whose lines are in the file *path*. Blocking.

    *texts* are files of charters and policies, which a copy does not have. Raises Unreadable.
    """
    if not path.exists():
        raise verify.Unreadable(f"There is nothing at {path}.")
    if path.is_dir():
        kept = _by_digest([*sorted((path / "texts").glob("*.txt")), *texts])
        notes = [_text(file) for file in sorted((path / "rotations").glob("*.note"))]
        return Source(path, _text(path / "checkpoint"), notes, kept)
    rotations = [_text(file) for file in sorted(path.with_suffix(".rotations").glob("*.note"))]
    return Source(path, _text(path.with_suffix(".note")), rotations, _by_digest(texts))


def judged(source: Source, log: verify.Verifier, *, unsigned: bool = False) -> str:
    """What holds of *source*, in sentences; *log* knows all of it then. Blocking.

    Raises Tampered, Incomplete, Unreadable. *unsigned*: a log that nobody signed will do.
    """
    replay = Replay()
    for line in source.lines(log):
        replay.take(line)
    if unsigned and not source.note:
        return f"UNSIGNED. {log.size} entries of {log.tenant} fit. Who had them in hand could change any."
    return log.verdict()


def check_newest(log: verify.Verifier, outside: str, where: str) -> None:
    """Raises CannotRestore, or Tampered, unless *log* goes on from the note *outside*, kept in *where*."""
    if not outside:
        return
    note = read_note(outside)
    if note["origin"] != f"countersign/{log.tenant}/{log.leaves[:8].hex()}":
        raise CannotRestore(f"The note in {where} is of another log, {note['origin']}. Is that the folder?")
    if int(note["size"]) > log.size:
        raise CannotRestore(
            f"It ends at entry {log.size}, and the note in {where} says that there were {note['size']}. "
            f"Find a newer export or copy. Only if this loss is meant, move {where} away."
        )
    if verify.fold(log.leaves[: 32 * int(note["size"])]) != b64decode(note["root"]):
        raise verify.Tampered(None, f"its first {note['size']} entries are not those of the note in {where}")


async def restore(store: Store, source: Source, log: verify.Verifier) -> list[str]:
    """Write what *log* judged to *store*, and return the digests of the texts that are missing.

    Safe to run again where it was interrupted. Raises CannotRestore, Sealed, StoreDown.
    """
    head = await _begun(store, source, log)
    missing = [digest for digest in log.digests if digest not in source.texts]
    for digest in log.digests.keys() - set(missing):
        await _put_text(store, log.tenant, digest, source.texts[digest])
    kept = await store.kept_notes(log.tenant)
    for note in _rotations(source, log)[len(kept) :]:
        await store.keep_note(log.tenant, note)
    for note in [one for one in source.older if _size(one) not in log.rotations]:
        await store.keep_cosigned(log.tenant, note)
    for page in _pages(source, log, head.seq):
        note = source.note if page[-1].seq == log.size else ""
        if await store.append(log.tenant, page, head, note) is not None:
            raise CannotRestore(
                "Somebody else writes there. What was restored so far stands; end them first."
            )
        head = page[-1].head
    return missing


async def _begun(store: Store, source: Source, log: verify.Verifier) -> Head:
    """Where to go on: at the beginning, or where a restore of the same was interrupted."""
    head, kept = await store.head(log.tenant), await store.kept_notes(log.tenant)
    same = head.seq < log.size and (not head.seq or _leaf(log, head.seq) == bytes.fromhex(head.hash))
    if not same or await store.note(log.tenant) or kept != _rotations(source, log)[: len(kept)]:
        raise CannotRestore(
            f"{log.tenant} has a ledger there already, of {head.seq} entries. Nothing is ever written over "
            "one: restore to an empty server, or under --data-dir to a new folder."
        )
    return head


def _rotations(source: Source, log: verify.Verifier) -> list[str]:
    """The notes under which one key followed another. The one that is none of these, a witness signed."""
    return [note for note in source.older if _size(note) in log.rotations]


def _size(note: str) -> int:
    return int(read_note(note)["size"])


async def _put_text(store: Store, tenant: str, digest: str, text: str) -> None:
    await store.put_text(tenant, digest, text)
    if await store.get_text(tenant, digest) != text:
        raise CannotRestore(f"Another text stands there under {digest} already.")


def _pages(source: Source, log: verify.Verifier, after: int) -> Iterator[list[Entry]]:
    """The entries after *after*, read again. Raises Tampered for one that is not as it was judged."""
    page: list[Entry] = []
    for line in source.lines(verify.Verifier()):
        entry = parse(line)
        if bytes.fromhex(entry.hash) != _leaf(log, entry.seq):
            raise verify.Tampered(entry.seq, "it was changed while it was restored")
        page += [entry] if entry.seq > after else []
        if page and (len(page) == PAGE or entry.seq == log.size):
            yield page
            page = []


def _leaf(log: verify.Verifier, seq: int) -> bytes:
    return bytes(log.leaves[32 * seq - 32 : 32 * seq])


def read_note(text: str) -> re.Match[str]:
    """Raises Unreadable unless *text* is a signed note."""
    try:
        return verify.read_note(text)
    except ValueError as error:
        raise verify.Unreadable(f"A note beside it: {error}.") from None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _by_digest(files: Iterable[Path]) -> dict[str, str]:
    return {sha256(file.read_bytes()).hexdigest(): _text(file) for file in files}
