"""A witness: vouches that each log it knows only grows (https://c2sp.org/tlog-witness, `add-checkpoint`).

It cosigns a checkpoint only after one of the log's keys has signed it and it was proved to begin with the one
cosigned before; and what it cosigned is on disk before it says so. So it never cosigns two pasts of one log,
across restarts too, as long as its folder is its own and is not put back to an older state.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ledger.consistency import MOST_HASHES, Inconsistent, check
from ledger.durable import write_durably
from ledger.note import BadNote, Checkpoint, Verifier, Witness, read_note

TEXT, SIZE = "text/plain", "text/x.tlog.size"
_OLD = re.compile("old (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered over HTTP."""

    status: int
    text: str
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class Asked:
    """A checkpoint to cosign, and the proof that it begins with the one of *old* entries."""

    old: int
    proof: tuple[bytes, ...]
    note: str


def asked(checkpoint: str, old: int, proof: Iterable[bytes]) -> str:
    """The body of `add-checkpoint` for the note *checkpoint*."""
    return "".join([f"old {old}\n", *(b64encode(one).decode() + "\n" for one in proof), "\n", checkpoint])


def read_asked(body: str) -> Asked:
    """Raises BadNote unless *body* is a request of `add-checkpoint`."""
    head, gap, note = body.partition("\n\n")
    first, *lines = head.split("\n")
    old = _OLD.fullmatch(first)
    if not (old and gap) or len(lines) > MOST_HASHES:
        raise BadNote("A request is an old size, at most 63 hashes, an empty line and a note.")
    return Asked(int(old[1]), tuple(map(_hash, lines)), note)


def _hash(line: str) -> bytes:
    try:
        found = b64decode(line, validate=True)
    except (NotBase64, ValueError):
        found = b""
    if len(found) != sha256().digest_size or b64encode(found).decode() != line:
        raise BadNote(f"{line[:80]!r} is no hash.")
    return found


class Watchman:
    """Cosigns with *witness* for the logs whose keys are *keys*, and keeps what it cosigned in *folder*."""

    def __init__(self, folder: Path, witness: Witness, keys: Iterable[Verifier]) -> None:
        self._folder = folder
        self._witness = witness
        self._keys: dict[str, list[Verifier]] = {}
        for key in keys:
            self._keys.setdefault(key.name, []).append(key)
        folder.mkdir(parents=True, exist_ok=True)

    def answer(self, body: str, at_s: int) -> Reply:
        """To one request, at *at_s* in epoch seconds. Blocking, and for one at a time."""
        try:
            request = read_asked(body)
            checkpoint, _ = read_note(request.note)
        except BadNote as error:
            return Reply(400, f"{error}\n")
        keys = self._keys.get(checkpoint.origin)
        if keys is None:
            return Reply(404, f"The log {checkpoint.origin} is not known here.\n")
        if not any(key.verify(request.note) for key in keys):
            return Reply(403, "None of the log's keys that are known here has signed this.\n")
        return self._judge(request, checkpoint, at_s)

    def known(self, origin: str) -> Checkpoint:
        """The checkpoint that was cosigned last; of an empty log, if none was. Raises BadNote."""
        path = self._path(origin)
        if not path.exists():
            return Checkpoint(origin, 0, sha256().digest())
        return read_note(path.read_text(encoding="utf-8"))[0]

    def _judge(self, request: Asked, checkpoint: Checkpoint, at_s: int) -> Reply:
        known = self.known(checkpoint.origin)
        if request.old > checkpoint.size:
            return Reply(400, f"The old size {request.old} is above {checkpoint.size}.\n")
        forked = known.size == checkpoint.size and known.root != checkpoint.root
        if request.old != known.size or forked:
            return Reply(409, f"{known.size}\n", SIZE)
        try:
            check(known.size, known.root, checkpoint.size, checkpoint.root, request.proof)
        except Inconsistent as error:
            return Reply(422, f"{error}\n")
        line = self._witness.sign(checkpoint.text(), at_s)
        write_durably(self._path(checkpoint.origin), (request.note + line).encode())
        return Reply(200, line)

    def _path(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()}.note"
