"""Is this export what the ledger said? Run it with any Python ≥ 3.10 and nothing else installed:

    python3 -I -S verify.py FOLDER [--receipt 42:7F3A-91C2-K0PM-XQ4T ...]

It reads each entry again from its bytes: exact fields, canonical form, numbered without a gap, each with the
hash of the one before; then the whole against the manifest, the texts, and the receipts that people kept.
Whoever can rewrite all of it can rewrite the manifest too: only receipts, which lie with others, show that.

Exit code: 0 intact · 1 tampered with, and the first bad entry is named · 2 incomplete · 3 unreadable.
"""

import argparse
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

FORMAT = "countersign-export/1"
MAX_BYTES = 16 * 1024
MAX_INT = 2**53 - 1
MAX_DEPTH = 32
TEXT_DIGESTS = {"CharterAdopted": ("digest", "policy_digest"), "PolicyAdopted": ("digest",)}
HASH = re.compile("[0-9a-f]{64}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
FILE = re.compile(r"entries-[0-9]{5}\.jsonl\.gz|texts/[0-9a-f]{64}\.txt|verify\.py")
RECEIPT = re.compile(r"#?([0-9]{1,16})\W+((?:[0-9A-Z]{4}-?){4})")
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Unreadable(Exception):
    """There is nothing here that can be judged."""


class Incomplete(Exception):
    """What is here fits together, and something is missing."""


class Tampered(Exception):
    """What is here is not what was written. *seq* is the first bad entry, or None where no single one is."""

    def __init__(self, seq: int | None, reason: str) -> None:
        super().__init__(f"{'The export' if seq is None else f'Entry {seq}'}: {reason}.")
        self.seq = seq


class Verifier:
    """Takes one line after the other and knows what came before: size, head and Merkle root of the log."""

    def __init__(self, receipts: Mapping[int, str] | None = None) -> None:
        self.tenant = ""
        self.size = 0
        self.head = "0" * 64
        self.digests: dict[str, int] = {}
        self.receipts = receipts or {}
        self._roots: list[bytes] = []

    def take(self, line: bytes) -> dict[str, Any]:
        """The entry that *line* is. Raises Tampered."""
        seq = self.size + 1
        try:
            entry = read_entry(line)
            _must(entry["seq"] == seq, f"it says that it is number {entry['seq']}")
            _must(entry["prev"] == self.head, "prev is not the hash of the entry before")
            _must(self.tenant in {"", entry["tenant_id"]}, f"it belongs to tenant {entry['tenant_id']}")
        except ValueError as error:
            raise Tampered(seq, str(error)) from None
        leaf = sha256(b"\x00" + line).digest()
        self.tenant, self.size, self.head = entry["tenant_id"], seq, leaf.hex()
        if self.receipts.get(seq, receipt(self.head)) != receipt(self.head):
            raise Tampered(seq, f"its receipt is {receipt(self.head)}, and was {self.receipts[seq]}")
        self._grow(leaf)
        for name in TEXT_DIGESTS.get(entry["event"], ()):
            self.digests.setdefault(str(entry["data"].get(name)), seq)
        return entry

    def finish(self) -> None:
        """Raises Incomplete if nothing came, or not all for which there are receipts."""
        if self.size == 0:
            raise Incomplete("It has no entry.")
        if self.receipts and max(self.receipts) > self.size:
            raise Incomplete(
                f"It ends at entry {self.size}, and there is a receipt for {max(self.receipts)}."
            )

    def root(self) -> str:
        """The root of the RFC 6962 tree over all entries, in hex."""
        root = self._roots[-1] if self._roots else sha256().digest()
        for subtree in reversed(self._roots[:-1]):
            root = sha256(b"\x01" + subtree + root).digest()
        return root.hex()

    def _grow(self, node: bytes) -> None:
        full = self.size - 1
        while full & 1:
            node = sha256(b"\x01" + self._roots.pop() + node).digest()
            full >>= 1
        self._roots.append(node)


def read_entry(line: bytes) -> dict[str, Any]:
    """The entry that *line* is by itself. Raises ValueError unless it is exactly that, byte for byte."""
    _must(len(line) <= MAX_BYTES, f"it has {len(line)} bytes, at most {MAX_BYTES} are allowed")
    try:
        entry = json.loads(
            line.decode(), object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float
        )
        again = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON of this form ({error})") from None
    if not isinstance(entry, dict) or entry.keys() != FORM.keys():
        raise ValueError("it has not exactly the fields of an entry")
    _must(again == line, "it is not in canonical form")
    for name, holds in FORM.items():
        _must(holds(entry[name]), f"its {name} is not what it must be")
    _check_plain(entry["data"], 1)
    return entry


def receipt(digest: str) -> str:
    """The first 80 bits of a hash as people keep them: 7F3A-91C2-K0PM-XQ4T."""
    bits = int(digest[:20], 16)
    code = "".join(CROCKFORD[bits >> shift & 31] for shift in range(75, -1, -5))
    return "-".join(code[at : at + 4] for at in range(0, 16, 4))


def read_receipt(text: str) -> tuple[int, str]:
    """Number and code of a receipt, as sent (`#42 · 7F3A-…`) or as typed (`42:7f3a…`). Raises ValueError."""
    found = RECEIPT.fullmatch(text.strip().upper())
    if not found:
        raise ValueError(f"{text!r} is no receipt: one looks like 42:7F3A-91C2-K0PM-XQ4T")
    code = found[2].replace("-", "").translate(str.maketrans("OIL", "011"))
    return int(found[1]), "-".join(code[at : at + 4] for at in range(0, 16, 4))


def check_export(path: Path, verifier: Verifier) -> Iterator[dict[str, Any]]:
    """The entries of the export at *path*, a folder or a file of lines, each checked as it comes."""
    if path.is_dir():
        yield from _check_folder(path, verifier)
    else:
        yield from map(verifier.take, _lines(path))
    verifier.finish()


def _check_folder(folder: Path, verifier: Verifier) -> Iterator[dict[str, Any]]:
    says = _manifest(folder)
    files = says["files"]
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise Incomplete(f"{min(missing)} is missing.")
    for name in sorted(name for name in files if name.startswith("entries-")):
        yield from map(verifier.take, _lines(folder / name))
    _check_end(verifier, says)
    _check_texts(folder, verifier)
    if unlisted := {found.name for found in folder.glob("entries-*")} - files.keys():
        raise Tampered(None, f"{min(unlisted)} is not in the manifest")
    for name, digest in files.items():
        if sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Tampered(None, f"{name} is not the file that was exported")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        says = dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
        _must(says["format"] == FORMAT and type(says["size"]) is int, "it is of an unknown kind")
        _must(all(map(FILE.fullmatch, dict(says["files"]))), "it names a file that no export has")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{folder / 'manifest.json'} cannot be read: {error}.") from None
    return says


def _check_end(verifier: Verifier, says: Mapping[str, Any]) -> None:
    if verifier.size < says["size"]:
        raise Incomplete(f"It ends at entry {verifier.size}, and the manifest says {says['size']}.")
    if verifier.size > says["size"]:
        raise Tampered(says["size"] + 1, "it stands beyond the end that the manifest names")
    for name, found in {"tenant": verifier.tenant, "head": verifier.head, "root": verifier.root()}.items():
        if says.get(name) != found:
            raise Tampered(None, f"its {name} is {found}, and the manifest says {says.get(name)}")


def _check_texts(folder: Path, verifier: Verifier) -> None:
    for digest, seq in verifier.digests.items():
        text = folder / "texts" / f"{digest}.txt"
        if not (HASH.fullmatch(digest) and text.is_file()):
            raise Incomplete(f"The text {digest} that entry {seq} adopts is missing.")
        if sha256(text.read_bytes()).hexdigest() != digest:
            raise Tampered(seq, f"the text that it adopts does not have the digest {digest}")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of *path*, a .gz or not. Raises Unreadable, and Incomplete where the last is cut off."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            while line := lines.readline(MAX_BYTES + 2):
                if not line.endswith(b"\n") and len(line) <= MAX_BYTES:
                    raise Incomplete(f"The last line of {path.name} is cut off.")
                yield line.removesuffix(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{path} cannot be read: {error}.") from None


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _must(len(found) == len(pairs), "a key stands twice")
    return found


def _no_float(text: str) -> None:
    raise ValueError(f"{text} is not an integer")


def _check_plain(value: Any, depth: int) -> None:
    _must(depth <= MAX_DEPTH, f"it is nested deeper than {MAX_DEPTH}")
    _must(not isinstance(value, int) or abs(value) <= MAX_INT, "it has an integer beyond ±(2^53−1)")
    if isinstance(value, dict):
        _must(all(map(str.isascii, value)), "it has a key that is not ASCII")
        value = list(value.values())
    for member in value if isinstance(value, list) else ():
        _check_plain(member, depth + 1)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _hash(value: Any) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def _who(value: Any) -> bool:
    return type(value) is dict and value.keys() == {"kind", "id", "via"} and all(map(_text, value.values()))


def _ref(value: Any) -> bool:
    if type(value) is not dict:
        return value is None
    return value.keys() == {"seq", "hash"} and _number(value["seq"], 1, MAX_INT) and _hash(value["hash"])


FORM: dict[str, Callable[[Any], bool]] = {
    "v": lambda value: _number(value, 1, 1),
    "seq": lambda value: _number(value, 1, MAX_INT),
    "prev": _hash,
    "ts": lambda value: bool(_text(value) and TIME.fullmatch(value) and datetime.fromisoformat(value[:-1])),
    "tenant_id": _text,
    "incident_id": lambda value: value is None or _text(value),
    "event": _text,
    "stage": lambda value: value is None or _text(value),
    "actor": _who,
    "decision": _text,
    "reason": _text,
    "confidence": lambda value: value is None or _number(value, 0, 100),
    "policy_version": _text,
    "ref": _ref,
    "data": lambda value: type(value) is dict,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Verify an exported ledger.")
    parser.add_argument("path", type=Path, nargs="?", default=Path())
    parser.add_argument("--receipt", type=read_receipt, action="append", default=[], metavar="SEQ:CODE")
    given = parser.parse_args(arguments)
    verifier = Verifier(dict(given.receipt))
    try:
        for _ in check_export(given.path, verifier):
            pass
    except (Tampered, Incomplete, Unreadable) as error:
        return say_bad(error)
    return say_intact(verifier)


def say_bad(error: Exception) -> int:
    print(f"{type(error).__name__.upper()}. {error}")
    return {Tampered: 1, Incomplete: 2}.get(type(error), 3)


def say_intact(verifier: Verifier) -> int:
    print(f"INTACT. {verifier.tenant} has {verifier.size} entries; {len(verifier.receipts)} receipts fit.")
    print(f"Its last receipt is {verifier.size}:{receipt(verifier.head)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
