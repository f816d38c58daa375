"""Signed notes: the checkpoint of a log as C2SP writes it, and the keys that stand for it. Pure.

* A checkpoint is three lines: the log's origin, its size, the root of its RFC 6962 tree in base64
  (https://c2sp.org/tlog-checkpoint). Extension lines are not ours and are refused.
* A note is a checkpoint, an empty line, and a line for each signature (https://c2sp.org/signed-note).
* A key is told as `<name>+<id>+<base64(type || public key)>`. Type 1 signs the text itself; type 4 is that
  of a witness, who signs the text with the time at which it was seen (https://c2sp.org/tlog-cosignature).

Every text here may come from an adversary: what is not exactly of this form is BadNote or BadKey.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.chain import MAX_INT

PLAIN, WITNESS = 1, 4
MOST_CHARACTERS = 64 * 1024
MOST_SIGNATURES = 64
DASH = "\N{EM DASH}"
_SIZE = re.compile("0|[1-9][0-9]{0,15}")
_NAME = re.compile(r"[^\s+]{1,255}")
_ID = re.compile("[0-9a-f]{8}")


class BadNote(ValueError):
    """This text is no signed checkpoint."""


class BadKey(ValueError):
    """This text is no key."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log was at one size."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note: who says to have signed it, by name and key id, and the signature's bytes."""

    name: str
    key_id: str
    raw: bytes

    def line(self) -> str:
        return f"{DASH} {self.name} {b64encode(bytes.fromhex(self.key_id) + self.raw).decode()}\n"


class Signer:
    """The key that grows from *seed* (32 bytes), under the name *name*."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes_raw()
        self.vkey = vkey(name, public_key(seed))
        self.key_id = _key_id(name, PLAIN, self._public)

    def sign(self, text: str) -> str:
        """The signature line for *text*, a checkpoint's."""
        return Signature(self.name, self.key_id, self._key.sign(text.encode())).line()


class Witness:
    """As Signer, for one who vouches for the logs of others: a cosignature says when it saw them."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes_raw()
        self.vkey = _vkey(name, WITNESS, public)
        self.key_id = _key_id(name, WITNESS, public)

    def sign(self, text: str, at_s: int) -> str:
        """The cosignature line for *text*, seen at *at_s*, seconds since the epoch."""
        signature = self._key.sign(_seen(text, at_s))
        return Signature(self.name, self.key_id, at_s.to_bytes(8) + signature).line()


class Verifier:
    """Knows the signatures of one key, a log's or a witness's."""

    def __init__(self, name: str, kind: int, public: bytes) -> None:
        self.name = name
        self.key_id = _key_id(name, kind, public)
        self.vkey = _vkey(name, kind, public)
        self._kind = kind
        self._public = Ed25519PublicKey.from_public_bytes(public)

    @classmethod
    def parse(cls, vkey: str) -> "Verifier":
        """Raises BadKey unless *vkey* is well formed and its id is that of its name and key."""
        name, key_id, key = (*vkey.strip().split("+", 2), "", "")[:3]
        if not (_is_name(name) and _ID.fullmatch(key_id)):
            raise BadKey(f"{vkey[:80]!r} is no key: one looks like name+1a2b3c4d+AQ… .")
        kind, public = _typed_key(key)
        if _key_id(name, kind, public) != key_id:
            raise BadKey(f"The id {key_id} is not that of the key of {name}.")
        return cls(name, kind, public)

    def verify(self, note: str) -> bool:
        """Whether *note* has a signature of this key, and it is good. Raises BadNote."""
        checkpoint, signatures = read_note(note)
        text = checkpoint.text()
        ours = [one.raw for one in signatures if (one.name, one.key_id) == (self.name, self.key_id)]
        return bool(ours) and all(self._holds(text, raw) for raw in ours)

    def _holds(self, text: str, raw: bytes) -> bool:
        message = text.encode()
        if self._kind == WITNESS:
            message, raw = _seen(text, int.from_bytes(raw[:8])), raw[8:]
        try:
            self._public.verify(raw, message)
        except InvalidSignature:
            return False
        return True


def origin_of(tenant: str, first_hash: str) -> str:
    """What the log of *tenant* is called whose first entry has that hash: the same under every key."""
    return f"countersign/{tenant}/{first_hash[:16]}"


def public_key(seed: bytes) -> str:
    """The public half of the key that grows from *seed*, as it stands at the end of a vkey."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return _typed(PLAIN, public)


def vkey(name: str, key: str) -> str:
    """How the public key *key*, from `public_key`, is told under the name *name*. Raises BadKey."""
    return _vkey(name, *_typed_key(key))


def signed(checkpoint: Checkpoint, *signers: Signer) -> str:
    """The whole note."""
    text = checkpoint.text()
    return f"{text}\n{''.join(signer.sign(text) for signer in signers)}"


def read_note(text: str) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """The checkpoint and the signatures, none of them verified. Raises BadNote."""
    _must(len(text) <= MOST_CHARACTERS, f"it has {len(text)} characters")
    body, gap, lines = text.rpartition("\n\n")
    _must(bool(gap and lines.endswith("\n")), "it has no signature")
    signatures = lines.removesuffix("\n").split("\n")
    _must(len(signatures) <= MOST_SIGNATURES, f"it has {len(signatures)} signatures")
    return read_checkpoint(body + "\n"), tuple(map(_signature, signatures))


def read_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that *text* is, without signatures. Raises BadNote."""
    lines = text.split("\n")
    _must(len(lines) == 4 and not lines[3], "a checkpoint is three lines: origin, size, root")
    origin, size, root, _ = lines
    _must(_is_name(origin), "its first line is no origin")
    _must(bool(_SIZE.fullmatch(size)) and int(size) <= MAX_INT, f"{size[:20]!r} is no size")
    digest = _bytes(root)
    _must(len(digest) == sha256().digest_size, "its root is no SHA-256")
    return Checkpoint(origin, int(size), digest)


def _signature(line: str) -> Signature:
    dash, name, coded = (*line.split(" ", 2), "", "")[:3]
    _must(dash == DASH and _is_name(name), "a line below the gap is no signature")
    raw = _bytes(coded)
    _must(len(raw) > 4, "a signature is cut off")
    return Signature(name, raw[:4].hex(), raw[4:])


def _seen(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _key_id(name: str, kind: int, public: bytes) -> str:
    return sha256(b"%s\n%c%s" % (name.encode(), kind, public)).hexdigest()[:8]


def _vkey(name: str, kind: int, public: bytes) -> str:
    if not _is_name(name):
        raise BadKey(f"{name!r} cannot be the name of a key: it has a space or a plus in it.")
    return f"{name}+{_key_id(name, kind, public)}+{_typed(kind, public)}"


def _typed(kind: int, public: bytes) -> str:
    return b64encode(bytes([kind]) + public).decode()


def _typed_key(coded: str) -> tuple[int, bytes]:
    try:
        raw = _bytes(coded)
    except BadNote as error:
        raise BadKey(str(error)) from None
    if len(raw) != 33 or raw[0] not in {PLAIN, WITNESS}:
        raise BadKey("It is no Ed25519 key of a log or a witness.")
    return raw[0], raw[1:]


def _bytes(coded: str) -> bytes:
    """Strict: one text for each value, so that nothing can be changed without changing it."""
    try:
        raw = b64decode(coded, validate=True)
    except (NotBase64, ValueError):
        raise BadNote(f"{coded[:80]!r} is not base64") from None
    _must(b64encode(raw).decode() == coded, f"{coded[:80]!r} is not canonical base64")
    return raw


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text.isprintable()


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadNote(otherwise)
