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
from datetime import datetime
from functools import lru_cache
from hashlib import sha256, sha512
from itertools import accumulate, count, takewhile, zip_longest
from pathlib import Path

FORMAT, UNLISTED = "countersign-export/2", {"manifest.json", "checkpoint", "receipts.txt"}
MAX_LINE, MAX_DEPTH, MAX_INT, MAX_FORMS, MAX_FILE = 16 * 1024, 32, 2**53 - 1, 512, 256 * 2**20
TILE = 256 * 32  # bytes of a full one: https://c2sp.org/tlog-tiles

# An entry in the one way in which it is written: RFC 8785, without floats. A form is data without its values.
TEXT = r'"[^"\\\x00-\x1f]*(?:\\(?:["\\bfnrt]|u00(?:0[0-7be-f]|1[0-9a-f]))[^"\\\x00-\x1f]*)*"'
SEQ, HASH, INTEGER = "[1-9][0-9]{0,15}", "[0-9a-f]{64}", "(?:0|-?[1-9][0-9]{0,14})"
ENTRY = re.compile(
    f'{{"actor":{{"id":{TEXT},"kind":{TEXT},"via":{TEXT}}},"confidence":(?:null|100|[1-9]?[0-9]),'
    f'"data":({{.*}}),"decision":{TEXT},"event":({TEXT}),"incident_id":(?:null|{TEXT}),'
    f'"policy_version":{TEXT},"prev":"({HASH})","reason":{TEXT},'
    f'"ref":(?:null|{{"hash":"{HASH}","seq":({SEQ})}}),"seq":({SEQ}),"stage":(?:null|{TEXT}),'
    f'"tenant_id":({TEXT}),"ts":"([0-9]{{4}}-[0-9-]{{5}}T[0-9:]{{8}}[.][0-9]{{6}})Z","v":1}}'
)
VALUE = re.compile(rf"(?<=[:\[,])(?:{TEXT}(?!:)|{INTEGER}(?![0-9.eE]))")
FORM = re.compile(r'(?:"\w*":|[][{},0]|true|false|null)*')
WORD = re.compile(f"{TEXT}:?|[][{{}}]")
ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
TELLING = {'"CharterAdopted"', '"PolicyAdopted"', '"Started"', '"KeyRotated"'}  # of texts and keys

BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"
KEY = re.compile(r"(?P<name>[^\s+]+)\+(?P<id>[0-9a-f]{8})\+(?P<key>(?:A[Q-Za-f]|B[A-P])[A-Za-z0-9+/]{42})")
# https://c2sp.org/tlog-checkpoint as a https://c2sp.org/signed-note
CHECKPOINT = rf"(?P<text>(?P<origin>[^\s+]+)\n(?P<size>{SEQ})\n(?P<root>{BASE64})\n)"
NOTE = re.compile(rf"{CHECKPOINT}\n(?P<below>(?:— [^\s+]+ {BASE64}\n){{1,64}})")
MANIFEST = re.compile(rf'{{\n "format": "{FORMAT}",\n.*\n "size": ({SEQ}),\n.*\n.*\n "durability": "(.*)",\n')
RECEIPT = re.compile(r"#?([0-9]{1,16})\W+" + "-?".join(["([0-9A-Z]{4})"] * 4))
CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
SAFE = re.compile("[^\n -~]")  # nothing else moves a terminal
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # of Ed25519: RFC 8032, 5.1
D, BASE = -121665 * pow(121666, -1, P) % P, (4 * pow(5, -1, P) % P).to_bytes(32, "little")


class Unreadable(Exception):
    """There is nothing here that can be judged."""


class Incomplete(Exception):
    """What is here fits together, and a part of it or a signature is missing."""


class Tampered(Exception):
    """What is here is not what was written. *seq* is the first bad entry, or None where no single one is."""

    def __init__(self, seq: int | None, reason: str) -> None:
        super().__init__(f"{f'Entry {seq}' if seq else 'The export'}: {reason}.")
        self.seq = seq


class Verifier:
    """Takes one line after the other and knows what came before: size, head and leaves of the log."""

    def __init__(self, receipts: Iterable[tuple[int, str]] = (), keys: Iterable[str] = ()) -> None:
        self.tenant, self.origin, self.size, self.head = "", "", 0, "0" * 64
        self.leaves, self.tiles = bytearray(), bytearray()  # their hashes; the roots of 256 at a time
        self.receipts, self.keys, self.notes = [*receipts], [*keys], list[re.Match[str]]()
        self.digests, self.rotations, self.named = dict[str, int](), dict[int, tuple[str, str]](), list[str]()
        self._tenant, self._forms = "", dict[str, list[re.Pattern[str]]]()

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
                self.origin = f"countersign/{self.tenant}/{leaf[:8].hex()}"
            if event in TELLING:
                self._hear(seq, {name: str(value) for name, value in json.loads(data).items() if value})
        except ValueError as error:
            raise Tampered(seq, f"{error}") from None
        self.size, self.head = seq, leaf.hex()
        self.leaves += leaf
        if seq % 256 == 0:
            self.tiles += fold(self.leaves[-TILE:])

    def _hear(self, seq: int, told: Mapping[str, str]) -> None:
        """What the log itself says of the texts that it adopts, and of its keys."""
        for name in told.keys() & {"digest", "policy_digest"}:
            self.digests.setdefault(told[name], seq)
        if "signer" in told and not self.named:
            self.named = [vkey(self.origin, told["signer"])]
        if "new" in told:
            self.rotations[seq] = old, new = read_key(told.get("old", ""))[0], read_key(told["new"])[0]
            self.named = [*(self.named or [old]), new]

    def finish(self, least: int = 1) -> None:
        """Raises Tampered and Incomplete where what was kept elsewhere says something else, or more."""
        for seq, code in sorted(one for one in self.receipts if one[0] <= self.size):
            here = receipt(self.leaves[32 * seq - 32 : 32 * seq].hex())
            must(code == here, Tampered(seq, f"its receipt is {here}, not {code}"))
        last = max([least, *(seq for seq, _ in self.receipts), *(int(note["size"]) for note in self.notes)])
        must(last <= self.size, Incomplete(f"It ends at entry {self.size}, and there was an entry {last}."))
        for note in self.notes:
            same = (note["origin"], b64decode(note["root"])) == (self.origin, self.root(int(note["size"])))
            must(same, Tampered(None, f"its first {note['size']} entries are not those that were signed"))

    def root(self, size: int) -> bytes:
        """The root of the RFC 6962 tree over the first *size* entries."""
        return fold(self.tiles[: size // 256 * 32] + fold(self.leaves[size // 256 * TILE : size * 32]))

    def verdict(self) -> str:
        """What holds, in sentences. Raises Incomplete where no trusted signature covers all of it."""
        fit, told = f"{self.size} entries of {self.tenant} fit together", all(map(is_witness, self.keys))
        trusted = [*self.keys, *self.named[:told]]
        for seq, (old, new) in self.rotations.items():
            notes = (note for note in self.notes if note["size"] == f"{seq}")
            both = [note for note in notes if signed(note, old) and signed(note, new)]
            must(both, Incomplete(f"{fit}. Not both keys signed that {new} follows at entry {seq}."))
            trusted = [new if key == old else key for key in trusted]
        sizes = {key: [0, *(int(one["size"]) for one in self.notes if signed(one, key))] for key in trusted}
        size = max([0, *(max(sizes[key]) for key in trusted if not is_witness(key))])
        must(size == self.size, Incomplete(f"{fit}. No trusted key signed {size + 1} to {self.size}."))
        for key in trusted:
            must(max(sizes[key]), Incomplete(f"{fit}. There is no signature of {key}"))
        said = [f"INTACT. {fit}, and so do {len(self.receipts)} receipts."]
        said += [f"Signed up to entry {max(sizes[key])} by {key}" for key in trusted]
        said += ["NOT CHECKED: whose key that is. Compare it with one that you got elsewhere."] * told
        alone = not self.receipts and not any(map(is_witness, trusted))
        said += ["NOT CHECKED: that its holder signed no other past, as receipts and witnesses show."] * alone
        others = {*re.findall("— (.+) ", self.notes[-1]["below"])} - {key.split("+")[0] for key in trusted}
        said += [f"NOT CHECKED: the signature of {name}, whose key is not known." for name in sorted(others)]
        return "\n".join([*said, f"Its last receipt is {self.size}:{receipt(self.head)}"])


class Folder(dict[str, str]):
    """An export: the digests of those of its files that were read. None is that must not be there."""

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
        self[name] = sha256(content := path.read_bytes()).hexdigest()
        return content

    def lines(self) -> Iterator[bytes]:
        """All lines, unpacked little by little: a bomb is no more than one line that is too long."""
        for name in takewhile(self.has, (f"entries-{at:05}.jsonl.gz" for at in count())):
            packed, unpack, rest = self.read(name), zlib.decompressobj(31), b""
            for block in (packed[at : at + 8192] for at in range(0, len(packed), 8192)):
                while block:
                    must(not unpack.eof, Tampered(None, f"{name} goes on after its end"))
                    *lines, rest = (rest + unpack.decompress(block, 4096)).split(b"\n")
                    yield from [*lines, rest] if len(rest) > MAX_LINE else lines
                    block = unpack.unconsumed_tail or unpack.unused_data
            must(unpack.eof and not rest, Incomplete(f"{name} is cut off."))

    def compare(self, log: Verifier, manifest: str, durability: str) -> None:
        """Raises Tampered and Incomplete unless all that lies beside the entries is what *log* asks for."""
        level, hashes = 0, bytes(log.leaves)
        while hashes:
            parts = [hashes[at : at + TILE] for at in range(0, len(hashes), TILE)]
            tiles = [self.read(tile_name(level, at, len(part) // 32)) for at, part in enumerate(parts)]
            must(tiles == parts, Tampered(None, f"its hash tree is another one at level {level}"))
            roots = (fold(part) for part in parts if len(part) == TILE)
            level, hashes = level + 1, b"".join(roots) if level else bytes(log.tiles)
        for digest, seq in log.digests.items():
            same = sha256(self.read(f"texts/{digest}.txt")).hexdigest() == digest
            must(same, Tampered(seq, "the text that it adopts is another one"))
        keys = self.read("keys.txt").decode().splitlines() if log.named else []
        must(keys == log.named, Tampered(None, "keys.txt has other keys than the log names"))
        must(self.read("README.txt") and self.read("verify.py"), Tampered(None, "it has an empty file"))
        must(durability in ("durable", "declared", "unverified", "not durable"), f"{durability} is nothing")
        wanted = manifest_of(log, self, durability)
        for here, there in zip_longest(wanted.split("\n"), manifest.split("\n")):
            must(here == there, Tampered(None, f"its manifest says {there}, and here is {here}"))
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            must(name in self or name[0] == "." or path.is_dir(), Tampered(None, f"{name} is no part of it"))


def check_export(path: Path, log: Verifier) -> Iterator[bytes]:
    """Each line of the export at *path*, once *log* took it. Raises Tampered, Incomplete, Unreadable."""
    folder = Folder(path)
    manifest = folder.read("manifest.json").decode(errors="replace") if folder.has("manifest.json") else ""
    if not (said := MANIFEST.match(manifest)):
        raise Unreadable(f"It is no {FORMAT}: its manifest.json is missing, or another.")
    try:
        rotations = takewhile(folder.has, (f"rotations/{at:04}.note" for at in count()))
        for name in (*rotations, *filter(folder.has, ["checkpoint"])):
            log.notes.append(read_note(folder.read(name).decode()))
        for name in filter(folder.has, ["receipts.txt"]):
            log.receipts += map(read_receipt, folder.read(name).decode().splitlines())
        size = int(said[1])
        tiles = (tile_name(0, at, min(256, size - 256 * at)) for at in range(-(-size // 256)))
        leaves = b"".join(map(folder.read, takewhile(folder.has, tiles)))
        for line in folder.lines():
            log.take(line)
            if leaves[32 * log.size - 32 : 32 * log.size] not in (b"", log.leaves[-32:]):
                raise Tampered(log.size, "its hash is not in the tree")
            yield line
        must(log.size <= size, Tampered(size + 1, "it stands behind the end that the manifest names"))
        log.finish(size)
        folder.compare(log, manifest, said[2])
    except zlib.error:
        raise Tampered(log.size + 1, "from here on, its file cannot be unpacked") from None
    except ValueError as error:
        raise Tampered(None, f"it has a part that nobody exported ({error})") from None


def manifest_of(log: Verifier, digests: Mapping[str, str], durability: str) -> str:
    """What the manifest of an export says: the log as a whole, and the SHA-256 of each file."""
    files = {name: digests[name] for name in sorted(digests.keys() - UNLISTED)}
    says = {"format": FORMAT, "tenant": log.tenant, "size": log.size, "head": log.head}
    says |= {"root": log.root(log.size).hex(), "durability": durability, "files": files}
    return json.dumps(says, indent=1, ensure_ascii=False) + "\n"


def tile_name(level: int, index: int, width: int) -> str:
    """Where a tile lies: tile/0/x001/x234/067, and with .p/5 behind it where only five hashes are in it."""
    path = f"{index % 1000:03}"
    while index := index // 1000:
        path = f"x{index % 1000:03}/{path}"
    return f"tile/{level}/{path}" + (f".p/{width}" if width < 256 else "")


def read_entry(line: bytes, forms: dict[str, list[re.Pattern[str]]]) -> tuple[str, ...]:
    """Data, event, prev, seq and tenant of the entry that *line* is, byte for byte. Raises ValueError.

    *forms* has what data was found well, by event: where it had a value, there may be any.
    """
    must(len(line) <= MAX_LINE, f"it has more than {MAX_LINE} bytes")
    if not (found := ENTRY.fullmatch(line.decode())):
        raise ValueError("it is not in the one form that an entry has")
    data, event, prev, ref, seq, tenant, ts = found.groups()
    must(int(ref or 1) <= MAX_INT, "it refers to no entry")
    datetime.fromisoformat(ts)
    if not any(form.fullmatch(data) for form in forms.get(event, [])):
        check_data(data)
        between = VALUE.split(data)
        few = sum(map(len, forms.values())) < MAX_FORMS and len(forms.get(event, [])) < 8
        if few and len(data) < 2048 and FORM.fullmatch("0".join(between)):
            form = re.compile(f"(?:{TEXT}|{INTEGER})".join(map(re.escape, between)))
            forms.setdefault(event, []).append(form)
    return data, event, prev, seq, tenant


def check_data(text: str) -> None:
    """Raises ValueError unless *text* is in canonical form, with keys in ASCII, and not too deep."""
    words = WORD.findall(text)
    depth = max(accumulate((word in "{[") - (word in "}]") for word in words))
    must(depth <= MAX_DEPTH, f"it is nested deeper than {MAX_DEPTH}")
    must("".join(word for word in words if word[-1] == ":").isascii(), "it has a key that is not ASCII")
    # What may not stand there is read as text, and so is not written as the same bytes again.
    data = json.loads(text, parse_int=integer, parse_float=str, parse_constant=str)
    must(ENCODE(data) == text, "its data is not in the one form that it has")


def integer(digits: str) -> int | str:
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
    if not (found := RECEIPT.fullmatch(text.strip().upper().translate(str.maketrans("OIL", "011")))):
        raise ValueError(f"{text[:99]!r} is no receipt: one looks like 42:7F3A-91C2-K0PM-XQ4T")
    return int(found[1]), "-".join(found.groups()[1:])


def read_note(text: str) -> re.Match[str]:
    """The checkpoint that *text* is, exactly as it is written. Raises ValueError."""
    if not (found := NOTE.fullmatch(text)):
        raise ValueError("it is no signed checkpoint")
    return found


def read_key(text: str) -> re.Match[str]:
    """The key of a log or a witness that `name+id+base64` tells. Raises ValueError."""
    if not (found := KEY.fullmatch(text)) or vkey(found["name"], found["key"]) != text:
        raise ValueError(f"{text[:99]!r} is no key: one looks like name+1a2b3c4d+AQ…")
    return found


def vkey(name: str, key: str) -> str:
    """How *key*, its kind and itself in base64, is told under *name*."""
    key_id = sha256(f"{name}\n".encode() + b64decode(key)).hexdigest()[:8]
    return f"{name}+{key_id}+{key}"


def is_witness(key: str) -> bool:
    """Whether it signs the logs of others: https://c2sp.org/tlog-cosignature."""
    return read_key(key)["key"][0] == "B"


@lru_cache(maxsize=256)
def signed(note: re.Match[str], key: str) -> bool:
    """Whether *key* signed *note*. Raises Tampered where that is said and not true."""
    name, key_id, coded = read_key(key).groups()
    below = map(b64decode, re.findall(f"— {re.escape(name)} (.+)\n", note["below"]))
    found = [raw[4:] for raw in below if raw[:4].hex() == key_id]
    for raw in found:
        seen = f"cosignature/v1\ntime {int.from_bytes(raw[:8], 'big')}\n" if is_witness(key) else ""
        good = ed25519(b64decode(coded)[1:], (seen + note["text"]).encode(), raw[8:] if seen else raw)
        must(good, Tampered(None, f"the signature of {name} under {note['size']} entries is forged"))
    return bool(found)


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether *signature* under *message* is *public*'s: RFC 8032, 5.1.7."""
    if len(signature) != 64 or (s := int.from_bytes(signature[32:], "little")) >= ORDER:
        return False
    h = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    return total((s, point(BASE))) == total((1, point(signature[:32])), (h, point(public)))


def point(raw: bytes) -> tuple[int, int]:
    """The point that *raw* tells, or (0, 0): that is none, and neither is what it is added to."""
    y, odd = int.from_bytes(raw, "little") % 2**255, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    good = y < P and x * x % P == square and (x or not odd)
    return (x if x % 2 == odd else P - x, y) if good else (0, 0)


def total(*terms: tuple[int, tuple[int, int]]) -> tuple[int, int]:
    """The sum of points, each taken as often as its number says, in extended coordinates."""
    x, y, z, t = 0, 1, 1, 0
    for bit in range(252, -1, -1):
        added = ((u, v, 1, u * v) for times, (u, v) in terms if times >> bit & 1)
        for u, v, w, q in [(x, y, z, t), *added]:
            a, b, c, d = (y - x) * (v - u), (y + x) * (v + u), 2 * D * t * q, 2 * z * w
            e, f, g, h = b - a, d - c, d + c, b + a
            x, y, z, t = e * f % P, g * h % P, f * g % P, e * h % P
    return x * pow(z, -1, P) % P, y * pow(z, -1, P) % P


def must(holds: object, otherwise: str | Exception) -> None:
    """Raises *otherwise*, or a ValueError that says it, unless it *holds*."""
    if not holds:
        raise otherwise if isinstance(otherwise, Exception) else ValueError(otherwise)


def given(words: Iterable[str]) -> Iterator[str]:
    """Each of *words*, or the lines of the file that it names."""
    for word in words:
        yield from Path(word).read_text(encoding="utf-8").splitlines() if Path(word).is_file() else [word]


def say_bad(error: Exception) -> int:
    """Print *error* and return its exit code."""
    print(SAFE.sub("?", f"{type(error).__name__.upper()}. {error}".replace("\n", " ")))
    return {Tampered: 1, Incomplete: 2}.get(type(error), 3)


def main(arguments: Sequence[str]) -> int:
    """Say what holds of an export, and return the exit code."""
    parser = argparse.ArgumentParser(description="Verify an exported ledger.")
    parser.add_argument("path", type=Path, nargs="?", default=Path())
    for names in ("--key", "--witness"), ("--receipt", "--receipts"):
        parser.add_argument(*names, action="append", default=[], metavar="TEXT|FILE")
    asked = parser.parse_args(arguments)
    try:
        keys = [read_key(key)[0] for key in given(asked.key)]
        log = Verifier(map(read_receipt, given(asked.receipt)), keys)
        for _ in check_export(asked.path, log):
            if log.size % 10_000 == 0 and sys.stderr.isatty():
                print(f"{log.size:,} entries", end="\r", file=sys.stderr, flush=True)
        print(SAFE.sub("?", log.verdict()))
    except (Tampered, Incomplete, Unreadable) as error:
        return say_bad(error)
    except (OSError, ValueError, RecursionError) as error:
        return say_bad(Unreadable(f"It cannot be read: {error}."))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
