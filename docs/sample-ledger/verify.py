"""Is this what the ledger said? Run it with any Python ≥ 3.10 and nothing else installed:

    python3 -I -S verify.py FOLDER [--key VKEY] [--receipt 42:7F3A-91C2-K0PM-XQ4T] [--witness VKEY] ...

1. Each entry is read from its bytes: its one form, numbered without a gap, with the hash of the one before.
2. Their hashes are a tree (RFC 6962), and its root is signed; where one key followed another, both signed.
3. The texts are those that were adopted. Receipts and cosignatures, which others keep, are of this log.

Whoever holds the key can sign another past: only receipts and witnesses show that. Nothing is written. Exit
code: 0 intact · 1 tampered with, first bad entry named · 2 incomplete or unsigned · 3 unreadable.
"""

import argparse
import json
import re
import sys
import zlib
from base64 import b32encode, b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256, sha512
from itertools import accumulate, count, takewhile, zip_longest
from pathlib import Path

FORMAT, UNLISTED = "countersign-export/2", {"manifest.json", "checkpoint", "receipts.txt"}
MAX_LINE, MAX_DEPTH, MAX_INT, MAX_FORMS, MAX_FILE = 16 * 1024, 32, 2**53 - 1, 4096, 256 * 2**20
TILE = 256 * 32  # bytes of a full one: https://c2sp.org/tlog-tiles

# An entry in the one way in which it is written: RFC 8785, without floats. A form is data without its values.
TEXT = r'"[^"\\\x00-\x1f]*(?:\\(?:["\\bfnrt]|u00(?:0[0-7be-f]|1[0-9a-f]))[^"\\\x00-\x1f]*)*"'
SEQ, HASH = "[1-9][0-9]{0,15}", "[0-9a-f]{64}"
ENTRY = re.compile(
    f'{{"actor":{{"id":{TEXT},"kind":{TEXT},"via":{TEXT}}},"confidence":(?:null|100|[1-9]?[0-9]),'
    f'"data":({{.*}}),"decision":{TEXT},"event":({TEXT}),"incident_id":(?:null|{TEXT}),'
    f'"policy_version":{TEXT},"prev":"({HASH})","reason":{TEXT},'
    f'"ref":(?:null|{{"hash":"{HASH}","seq":({SEQ})}}),"seq":({SEQ}),"stage":(?:null|{TEXT}),'
    f'"tenant_id":({TEXT}),"ts":"([0-9]{{4}}-[0-9-]{{5}}T[0-9:]{{8}}[.][0-9]{{6}})Z","v":1}}'
)
VALUE = re.compile(rf"(?<=[:\[,])(?:{TEXT}(?!:)|(?:0|-?[1-9][0-9]{{0,14}})(?![0-9.eE]))")
ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
WORD = re.compile(f"{TEXT}:?|[][{{}}]")
FORM = re.compile(r'(?:"\w*":|[][{},0]|true|false|null)*')
MANIFEST = re.compile(
    rf'{{\n "format": "{FORMAT}",\n .*,\n "size": ({SEQ}),\n.*\n.*\n "durability": "(.*)",\n'
)
TELLING = {'"CharterAdopted"', '"PolicyAdopted"', '"Started"', '"KeyRotated"'}  # of texts and keys
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"
KEY = re.compile(r"(?P<name>[^\s+]+)\+(?P<id>[0-9a-f]{8})\+(?P<key>(?:A[Q-Za-f]|B[A-P])[A-Za-z0-9+/]{42})")
NOTE = re.compile(  # https://c2sp.org/tlog-checkpoint as a https://c2sp.org/signed-note
    rf"(?P<text>(?P<origin>[^\s+]+)\n(?P<size>{SEQ})\n(?P<root>{BASE64})\n)\n"
    rf"(?P<below>(?:— [^\s+]+ {BASE64}\n){{1,64}})"
)
RECEIPT = re.compile(r"#?([0-9]{1,16})\W+" + "-?".join(["([0-9A-Z]{4})"] * 4))
SAFE = re.compile("[^\n -~]")  # nothing else moves a terminal
CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # of Ed25519: RFC 8032, 5.1
D, BASE = -121665 * pow(121666, -1, P) % P, (4 * pow(5, -1, P) % P).to_bytes(32, "little")


class Unreadable(Exception):
    """There is nothing here that can be judged."""


class Incomplete(Exception):
    """What is here fits together, and a part of it or a signature is missing."""


class Tampered(Exception):
    """What is here is not what was written. *seq* is the first bad entry, or None where no single one is."""

    def __init__(self, seq: int | None, reason: str) -> None:
        super().__init__(f"{'The export' if seq is None else f'Entry {seq}'}: {reason}.")
        self.seq = seq


class Verifier:
    """Takes one line after the other and knows what came before: size, head and leaves of the log."""

    def __init__(self, receipts: Iterable[tuple[int, str]] = (), keys: Iterable[str] = ()) -> None:
        self.tenant, self.size, self.head, self.leaves = "", 0, "0" * 64, bytearray()
        self.receipts, self.keys, self.notes = [*receipts], [*keys], list[re.Match[str]]()
        self.digests, self.rotations, self.named = dict[str, int](), dict[int, tuple[str, str]](), list[str]()
        self.open, self._tenant, self._forms = list[str](), "", set[str]()

    def take(self, line: bytes) -> None:
        """Raises Tampered unless *line* is the next entry."""
        seq, leaf = self.size + 1, sha256(b"\x00" + line).digest()
        try:
            data, event, prev, number, tenant = read_entry(line, self._forms)
            must(number == str(seq), "it says that it is another number")
            must(prev == self.head, "prev is not the hash of the entry before")
            if tenant != self._tenant:
                must(self.tenant in ("", json.loads(tenant)), "it belongs to another tenant")
                self.tenant, self._tenant = json.loads(tenant), tenant
        except ValueError as error:
            raise Tampered(seq, f"{error}") from None
        self.size, self.head = seq, leaf.hex()
        self.leaves += leaf
        if event in TELLING:
            self._hear(event, {name: str(value) for name, value in json.loads(data).items() if value})

    def _hear(self, event: str, told: Mapping[str, str]) -> None:
        """What the log says of its keys, and of the texts that it adopts."""
        for name in told.keys() & {"digest", "policy_digest"}:
            self.digests.setdefault(told[name], self.size)
        if event == '"Started"' and not self.named:
            self.named += filter(None, [told.get("signer")])
        elif event == '"KeyRotated"' and "new" in told:
            self.rotations[self.size] = old, new = told.get("old", ""), told["new"]
            self.named = [*(self.named or [old[-44:]]), new[-44:]]

    def finish(self, least: int = 1) -> None:
        """Raises Tampered and Incomplete where what was kept elsewhere says something else, or more."""
        for seq, code in sorted(one for one in self.receipts if one[0] <= self.size):
            here = receipt(self.leaves[32 * seq - 32 : 32 * seq].hex())
            must(code == here, Tampered(seq, f"its receipt is {here}, not {code}"))
        last = max([least, *(seq for seq, _ in self.receipts), *(int(note["size"]) for note in self.notes)])
        must(last <= self.size, Incomplete(f"It ends at entry {self.size}, and there was an entry {last}."))
        for note in self.notes:
            same = note["origin"] == self.origin()
            same = same and b64decode(note["root"]) == fold(self.leaves[: 32 * int(note["size"])])
            must(same, Tampered(None, f"its first {note['size']} entries are not those that were signed"))

    def origin(self) -> str:
        """What the log is called in its checkpoints."""
        return f"countersign/{self.tenant}/{self.leaves[:8].hex()}"

    def root(self) -> str:
        """The root of the RFC 6962 tree over all entries, in hex."""
        return fold(self.leaves).hex()

    def covered(self, *keys: str) -> int:
        """How many entries one of *keys* signed. Raises Tampered for a signature that is forged."""
        return max([0, *(int(note["size"]) for note in self.notes for key in keys if signed(note, key))])

    def verdict(self) -> str:
        """What holds, in sentences. Raises Incomplete where no trusted signature covers all of it."""
        trusted, fit = self.keys, f"{self.size} entries of {self.tenant} fit together"
        for seq, (old, new) in self.rotations.items():
            notes = [note for note in self.notes if int(note["size"]) == seq]
            both = any(signed(note, old) and signed(note, new) for note in notes)
            must(both, Incomplete(f"{fit}. Not both keys signed that {new} follows at entry {seq}."))
            trusted = [new if key == old else key for key in trusted]
        size = self.covered(*(key for key in trusted if not is_witness(key)))
        must(size == self.size, Incomplete(f"{fit}. No trusted key signed {size + 1} to {self.size}."))
        last = max([0, *(seq for seq, _ in self.receipts)])
        said = [f"INTACT. {fit}, and {len(self.receipts)} receipts, the last for entry {last}."]
        for key in trusted:
            must(self.covered(key), Incomplete(f"{fit}. There is no signature of {key}"))
            said.append(f"Signed up to entry {self.covered(key)} by {key}")
        said += [f"NOT CHECKED: {what}" for what in self.open]
        if not self.receipts and not any(map(is_witness, trusted)):
            said.append(
                "NOT CHECKED: that its holder signed no other past. Receipts and witnesses show that."
            )
        others = {*re.findall("— (.+) ", self.notes[-1]["below"])} - {key.split("+")[0] for key in trusted}
        said += [f"NOT CHECKED: the signature of {name}, whose key is not known." for name in sorted(others)]
        return "\n".join([*said, f"Its last receipt is {self.size}:{receipt(self.head)}"])


class Folder(dict[str, str]):
    """An export, with the digests of those of its files that were read: only such as there must be."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path.resolve()

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> bytes:
        path = self.path / name
        must(path.exists(), Incomplete(f"{name} is missing."))
        plain = path.resolve() == path and path.is_file() and path.stat().st_size <= MAX_FILE
        must(plain, Tampered(None, f"{name} is no plain file of a size that one has"))
        content = path.read_bytes()
        self[name] = sha256(content).hexdigest()
        return content

    def lines(self) -> Iterator[bytes]:
        """All lines, unpacked little by little, so that a bomb is no more than a line that is too long."""
        for name in takewhile(self.has, (f"entries-{at:05}.jsonl.gz" for at in count())):
            packed, unpack, rest = self.read(name), zlib.decompressobj(31), b""
            for block in (packed[at : at + 8192] for at in range(0, len(packed), 8192)):
                while block:
                    must(not unpack.eof, Tampered(None, f"{name} goes on after its end"))
                    *lines, rest = (rest + unpack.decompress(block, 4096)).split(b"\n")
                    yield from [*lines, rest] if len(rest) > MAX_LINE else lines
                    block = unpack.unconsumed_tail or unpack.unused_data
            must(unpack.eof and not rest, Incomplete(f"{name} is cut off."))

    def compare(self, leaves: bytes | bytearray, size: int) -> None:
        """Raises Tampered unless *leaves* are the first in the tree of *size*, and Incomplete."""
        level, hashes = 0, bytes(leaves)
        while hashes:
            parts = [hashes[at : at + TILE] for at in range(0, len(hashes), TILE)]
            for index, part in enumerate(parts):
                width = min(256, size - 256 * index)
                tile = self.read(tile_name(level, index, width))
                same = next(
                    (at for at in range(0, len(part), 32) if part[at : at + 32] != tile[at : at + 32]), None
                )
                seq = None if level or same is None else 256 * index + same // 32 + 1
                must(same is None and len(tile) == 32 * width, Tampered(seq, "the hash tree has another one"))
            level, hashes, size = (
                level + 1,
                b"".join(fold(part) for part in parts if len(part) == TILE),
                size // 256,
            )


def check_export(path: Path, log: Verifier) -> Iterator[bytes]:
    """Each line of the export at *path*, once *log* took it. Raises Tampered, Incomplete, Unreadable."""
    folder = Folder(path)
    manifest = folder.read("manifest.json").decode(errors="replace") if folder.has("manifest.json") else ""
    if not (said := MANIFEST.match(manifest)):
        raise Unreadable(f"It is no {FORMAT}: its manifest.json is missing, or another.")
    try:
        for name in filter(folder.has, ["checkpoint", *(f"rotations/{at:04}.note" for at in range(1000))]):
            log.notes.append(read_note(folder.read(name).decode()))
        for name in filter(folder.has, ["receipts.txt"]):
            log.receipts += map(read_receipt, folder.read(name).decode().splitlines())
        for line in folder.lines():
            log.take(line)
            yield line
        log.finish(int(said[1]))
        must(log.size == int(said[1]), Tampered(int(said[1]) + 1, "it stands behind the end that is named"))
        folder.compare(log.leaves, log.size)
        _check_rest(folder, log)
    except (Tampered, zlib.error) as error:
        with suppress(Incomplete):  # an entry before it may be bad already, which its hash alone shows
            folder.compare(log.leaves, int(said[1]))
            log.finish(log.size + 1)
        raise (
            error if isinstance(error, Tampered) else Tampered(log.size + 1, "its file is damaged")
        ) from None
    except ValueError as error:
        raise Tampered(None, f"it has a part that nobody exported ({error})") from None
    _check_manifest(folder, manifest, manifest_of(log, {**folder}, said[2]))


def _check_rest(folder: Folder, log: Verifier) -> None:
    """Keys, texts, and what only has a digest."""
    keys = folder.read("keys.txt").decode().splitlines() if log.named else []
    same = keys == [
        f"{log.origin()}+{read_key(key)['id']}+{one}" for key, one in zip(keys, log.named, strict=False)
    ]
    must(same and len(keys) == len(log.named), Tampered(None, "keys.txt has other keys than the log names"))
    if all(map(is_witness, log.keys)):
        log.keys += keys[:1]
        log.open.append("whose key that is. Compare it with one that you did not get from here.")
    for digest, seq in log.digests.items():
        same = sha256(folder.read(f"texts/{digest}.txt")).hexdigest() == digest
        must(same, Tampered(seq, "the text that it adopts is another one"))
    for name in ("README.txt", "verify.py"):
        folder.read(name)


def _check_manifest(folder: Folder, manifest: str, wanted: str) -> None:
    for here, there in zip_longest(wanted.split("\n"), manifest.split("\n"), fillvalue=""):
        must(here == there, Tampered(None, f"its manifest says {there.strip()}, and here is {here.strip()}"))
    for found in folder.path.rglob("*"):
        name = found.relative_to(folder.path).as_posix()
        known = name in folder or name[0] == "." or found.is_dir()
        must(known, Tampered(None, f"{name} does not belong to it. Take it out"))


def manifest_of(log: Verifier, files: Mapping[str, str], durability: str) -> str:
    """What the manifest of an export says: the log as a whole, and the SHA-256 of each file."""
    says = {"format": FORMAT, "tenant": log.tenant, "size": log.size, "head": log.head}
    files = {name: files[name] for name in sorted(files.keys() - UNLISTED)}
    says |= {"root": log.root(), "durability": durability, "files": files}
    return json.dumps(says, indent=1, ensure_ascii=False) + "\n"


def tile_name(level: int, index: int, width: int = 256) -> str:
    """Where a tile lies: tile/0/x001/x234/067, and with .p/5 behind it where only five hashes are in it."""
    path = f"{index % 1000:03}"
    while index := index // 1000:
        path = f"x{index % 1000:03}/{path}"
    return f"tile/{level}/{path}" + (f".p/{width}" if width < 256 else "")


def read_entry(line: bytes, forms: set[str]) -> tuple[str, ...]:
    """Data, event, prev, seq and tenant of the entry that *line* is, byte for byte. Raises ValueError.

    Data whose values are in canonical form is so by what is left without them: *forms*, met before.
    """
    must(len(line) <= MAX_LINE, f"it has more than {MAX_LINE} bytes")
    if not (found := ENTRY.fullmatch(line.decode())):
        raise ValueError("it is not in the one form that an entry has")
    data, event, prev, ref, seq, tenant, ts = found.groups()
    must(int(ref or 1) <= MAX_INT, "it refers to no entry")
    datetime.fromisoformat(ts)
    form = VALUE.sub("0", data)
    if form not in forms:
        _check_data(data)
        if len(forms) < MAX_FORMS and FORM.fullmatch(form):
            forms.add(form)
    return data, event, prev, seq, tenant


def _check_data(text: str) -> None:
    """Raises ValueError unless *text* is in canonical form, and its keys and depth are what they may be."""
    try:
        # What may not stand there is read as text, and so is not written as the same bytes again.
        data = json.loads(text, parse_int=_integer, parse_float=str, parse_constant=str)
        must(ENCODE(data) == text, "its data is not in the one form that it has")
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    words = WORD.findall(text)
    must("".join(word for word in words if word[-1] == ":").isascii(), "it has a key that is not ASCII")
    depths = accumulate((word in "{[") - (word in "}]") for word in words)
    must(max(depths) <= MAX_DEPTH, f"it is nested deeper than {MAX_DEPTH}")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 18 and abs(int(digits)) <= MAX_INT else digits


def fold(hashes: bytes | bytearray) -> bytes:
    """The root of the RFC 6962 tree over *hashes*, 32 bytes each."""
    while len(hashes) > 32:
        pairs = (hashes[at : at + 64] for at in range(0, len(hashes), 64))
        hashes = b"".join(sha256(b"\x01" + pair).digest() if len(pair) == 64 else pair for pair in pairs)
    return bytes(hashes)


def receipt(digest: str) -> str:
    """The first 80 bits of a hash, in hex, as people keep them: 7F3A-91C2-K0PM-XQ4T."""
    code = b32encode(bytes.fromhex(digest[:20])).decode().translate(CROCKFORD)
    return "-".join(code[at : at + 4] for at in range(0, 16, 4))


def read_receipt(text: str) -> tuple[int, str]:
    """Number and code of a receipt, as sent (`#42 · 7F3A-…`) or as typed (`42:7f3a…`). Raises ValueError."""
    found = RECEIPT.fullmatch(text.strip().upper().translate(str.maketrans("OIL", "011")))
    if not found:
        raise ValueError(f"{text[:99]!r} is no receipt: one looks like 42:7F3A-91C2-K0PM-XQ4T")
    return int(found[1]), "-".join(found.groups()[1:])


def read_note(text: str) -> re.Match[str]:
    """The checkpoint that *text* is, exactly as it is written. Raises ValueError."""
    if not (found := NOTE.fullmatch(text)):
        raise ValueError("it is no signed checkpoint")
    return found


def read_key(text: str) -> re.Match[str]:
    """The key that `name+id+base64` tells. Raises ValueError."""
    found = KEY.fullmatch(text)
    told = found["name"].encode() + b"\n" + b64decode(found["key"]) if found else b""
    if not found or sha256(told).hexdigest()[:8] != found["id"]:
        raise ValueError(f"{text[:99]!r} is no key: one looks like name+1a2b3c4d+AQ…")
    return found


def is_witness(key: str) -> bool:
    """Whether it signs the logs of others: https://c2sp.org/tlog-cosignature."""
    return read_key(key)["key"][0] == "B"


def signed(note: re.Match[str], vkey: str) -> bool:
    """Whether *vkey* signed *note*. Raises Tampered where that is said and not true."""
    name, key_id, key = read_key(vkey).groups()
    below = re.findall(f"— {re.escape(name)} (.+)\n", note["below"])
    ours = [raw[4:] for raw in map(b64decode, below) if raw[:4].hex() == key_id]
    for raw in ours:
        seen = f"cosignature/v1\ntime {int.from_bytes(raw[:8], 'big')}\n" if is_witness(vkey) else ""
        good = ed25519(b64decode(key)[1:], (seen + note["text"]).encode(), raw[8:] if seen else raw)
        must(good, Tampered(None, f"the signature of {name} under {note['size']} entries is forged"))
    return bool(ours)


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether *signature* under *message* is *public*'s: RFC 8032, 5.1.7, in affine coordinates."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER:
        return False
    h = int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER
    return _times(s, _point(BASE)) == _sum(_point(r), _times(h, _point(public)))


def _point(raw: bytes) -> tuple[int, int]:
    """The point that is told by *raw*, or (0, 0), which is not on the curve and no sum with it is."""
    y, odd = int.from_bytes(raw, "little") % 2**255, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (odd and not x):
        return 0, 0
    return x if x % 2 == odd else P - x, y


def _sum(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    (x, y), (u, v) = one, two
    k = D * x * y * u * v
    return (x * v + u * y) * pow(1 + k, -1, P) % P, (y * v + x * u) * pow(1 - k, -1, P) % P


def _times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    half = _times(factor >> 1, _sum(point, point)) if factor else (0, 1)
    return _sum(half, point) if factor & 1 else half


def must(holds: object, otherwise: str | Exception) -> None:
    """Raises *otherwise*, or a ValueError that says it, unless it *holds*."""
    if not holds:
        raise otherwise if isinstance(otherwise, Exception) else ValueError(otherwise)


def given(words: Iterable[str]) -> Iterator[str]:
    """Each of *words*, or the lines of the file that it names."""
    for word in words:
        yield from Path(word).read_text(encoding="utf-8").splitlines() if Path(word).is_file() else [word]


def judge(path: Path, receipts: Iterable[str], keys: Iterable[str]) -> int:
    """Say what holds of the export at *path*, and return the exit code."""
    try:
        log = Verifier(map(read_receipt, given(receipts)), [read_key(key)[0] for key in given(keys)])
        for _ in check_export(path, log):
            if log.size % 10_000 == 0 and sys.stderr.isatty():
                print(f"{log.size:,} entries", end="\r", file=sys.stderr, flush=True)
        print(SAFE.sub("?", log.verdict()))
    except (Tampered, Incomplete, Unreadable) as error:
        return say_bad(error)
    except (OSError, ValueError, RecursionError) as error:
        return say_bad(Unreadable(f"It cannot be read: {error}."))
    return 0


def say_bad(error: Exception) -> int:
    """Print *error* and return its exit code."""
    print(SAFE.sub("?", f"{type(error).__name__.upper()}. {error}"))
    return {Tampered: 1, Incomplete: 2}.get(type(error), 3)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Verify an exported ledger.")
    parser.add_argument("path", type=Path, nargs="?", default=Path())
    for names, kept in (("--key", "--witness"), "keys"), (("--receipt", "--receipts"), "receipts"):
        parser.add_argument(*names, action="append", default=[], metavar="IT|FILE", dest=kept)
    return judge(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
