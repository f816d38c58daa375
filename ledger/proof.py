"""Does this show that one entry was signed? Run it with any Python ≥ 3.10, verify.py beside it:

    python3 -I -S proof.py entry-42.tlog-proof --key VKEY [--receipt 42:7F3A-91C2-K0PM-XQ4T]

The file is a https://c2sp.org/tlog-proof: under `extra` the entry's line in base64, its index, the hashes
beside its way to the root, and the signed checkpoint. By hand: SHA-256 of 0x00 and the line; with each hash
in turn SHA-256 of 0x01, left and right (RFC 9162, 2.1.3.2); the last is the root in the checkpoint.

Exit code: 0 it does · 1 tampered with · 2 signed by nobody who is known · 3 unreadable.
"""

import argparse
import json
import re
import sys
from base64 import b64decode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

verify: Any
try:
    from ledger import verify
except ImportError:  # it left the house, and so did the other
    verify = SimpleNamespace(**run_path(str(Path(__file__).with_name("verify.py"))))

HEAD = "c2sp.org/tlog-proof@v1"
FORM = re.compile(
    rf"{re.escape(HEAD)}\nextra ({verify.BASE64})\nindex (0|[1-9][0-9]{{0,15}})\n"
    r"((?:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\n){0,53})\n((?s:.+))"
)


def check(text: str, keys: Sequence[str], receipts: Iterable[tuple[int, str]] = ()) -> list[str]:
    """What the proof *text* shows, in sentences. Raises verify's Tampered, Incomplete, Unreadable."""
    try:
        line, seq, tenant, path, note = _read(text)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise verify.Unreadable(f"This is no proof of an entry: {error}.") from None
    leaf, size = sha256(b"\x00" + line).digest(), int(note["size"])
    same = note["origin"].startswith(f"countersign/{tenant}/")
    same = same and root(leaf, seq - 1, size, path) == b64decode(note["root"])
    verify.must(same, verify.Tampered(seq, "it is not in the log that was signed"))
    for number, kept in receipts:
        code = verify.receipt(leaf.hex())
        verify.must(
            number == seq, verify.Incomplete(f"The receipt is of entry {number}, the proof of {seq}.")
        )
        verify.must(kept == code, verify.Tampered(seq, f"its receipt is {code}, and {kept} was kept"))
    signers = [key for key in keys if verify.signed(note, key)]
    verify.must(
        signers, verify.Incomplete("It fits together, and none of the keys that were given signed it.")
    )
    said = [f"INTACT. Entry {seq} of {tenant} is one of {size}.", line.decode()]
    return [*said, *(f"Signed with {key}" for key in signers)]


def root(node: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes:
    """The root of the tree of *size* with *node* at *index*, along *path*; empty where that cannot be."""
    last = size - 1
    for beside in path:
        if not last:
            return b""
        if index & 1 or index == last:
            node = sha256(b"\x01" + beside + node).digest()
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + beside).digest()
        index, last = index >> 1, last >> 1
    return b"" if last or index else node


def _read(text: str) -> tuple[bytes, int, str, list[bytes], re.Match[str]]:
    found = FORM.fullmatch(text)
    note = verify.NOTE.fullmatch(found[4]) if found else None
    if found is None or note is None:
        raise ValueError("it has another form")
    line = b64decode(found[1], validate=True)
    entry = json.loads(line)  # its form was checked before it was signed, and its hash is compared
    seq, tenant = int(entry["seq"]), str(entry["tenant_id"])
    verify.must(seq == int(found[2]) + 1, "its index is that of another entry")
    return line, seq, tenant, [*map(b64decode, found[3].split())], note


def judge(path: Path, keys: Iterable[str], receipts: Iterable[str]) -> int:
    """Say what the proof in the file *path* shows, and return the exit code."""
    try:
        trusted = [verify.read_key(key)[0] for key in verify.given(keys)]
        kept = [verify.read_receipt(one) for one in verify.given(receipts)]
        said = "\n".join(check(path.read_text(encoding="utf-8"), trusted, kept))
        sys.stdout.write(re.sub("[^\n -~]", "?", said) + "\n")
    except (verify.Tampered, verify.Incomplete, verify.Unreadable) as error:
        return int(verify.say_bad(error))
    except (OSError, ValueError) as error:
        return int(verify.say_bad(verify.Unreadable(f"{error}.")))
    return 0


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Check the proof of one entry.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--key", "--witness", action="append", default=[], metavar="VKEY|FILE")
    parser.add_argument("--receipt", "--receipts", action="append", default=[], metavar="SEQ:CODE|FILE")
    asked = parser.parse_args(words)
    return judge(asked.path, asked.key, asked.receipt)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
