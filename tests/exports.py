"""An export as an adversary has it: every file in memory, to be changed and made to fit as far as can be."""

import gzip
import io
import json
import random
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from pathlib import Path

from ledger import events as ev
from ledger import verify
from ledger.chain import GENESIS, Entry, Frontier, leaf_hash, parse, seal
from ledger.clock import ManualClock
from ledger.events import Actor
from ledger.ledger import Ledger
from ledger.note import Checkpoint, Signer, origin_of, signed
from ledger.rotation import rotate
from ledger.store import MemoryStore
from tests.chains import tell_story

OLD, NEW, EVE = b"o" * 32, b"n" * 32, b"e" * 32
ROTATED = 10
ENTRIES = "entries-00000.jsonl.gz"
UNLISTED = {"manifest.json", "checkpoint", "receipts.txt"}
FIELDS = (
    "tenant_id", "incident_id", "event", "stage", "actor", "decision", "reason", "confidence",
    "policy_version", "ref", "data",
)  # fmt: skip


async def long_story(store: MemoryStore, count: int = 60) -> list[Entry]:
    """An incident, a new key, and hours of watching: *count* entries, signed to the end."""
    told = await tell_story(store, signer=OLD)
    await rotate(store, ManualClock(told[-1].at), "acme", OLD, NEW)
    return await tell_more(store, count, NEW)


async def tell_more(store: MemoryStore, count: int, signer: bytes = OLD) -> list[Entry]:
    """The log of *store* with hours of watching after it, until it has *count* entries."""
    told = await store.read("acme", 0, count)
    clock = ManualClock(told[-1].at)
    ledger = Ledger("acme", store, clock, random.Random(1), signer=signer)
    await ledger.catch_up()
    while ledger.view.head.seq < count:
        clock.advance(3600)
        seen = ev.Watched(due=720, made=ledger.view.head.seq, reason='Zürich, \u2028 \\ and "quotes"')
        await ledger.record(Actor.orchestrator("bot.1"), lambda view, now, seen=seen: seen)
    await ledger.close()
    return await store.read("acme", 0, count)


def hashes_of(lines: list[bytes]) -> list[bytes]:
    return [leaf_hash(line) for line in lines]


def root_of(lines: list[bytes]) -> bytes:
    return reduce(Frontier.append, hashes_of(lines), Frontier()).root()


def packed(lines: list[bytes]) -> bytes:
    return gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)


def origin(lines: list[bytes]) -> str:
    return origin_of("acme", leaf_hash(lines[0]).hex())


def note(lines: list[bytes], *seeds: bytes) -> bytes:
    """A checkpoint over all of *lines*."""
    name = origin(lines)
    checkpoint = Checkpoint(name, len(lines), root_of(lines))
    return signed(checkpoint, *(Signer(name, seed) for seed in seeds)).encode()


def vkey(lines: list[bytes], seed: bytes) -> str:
    return Signer(origin(lines), seed).vkey


def resealed(lines: list[bytes], at: int, **changed: object) -> list[bytes]:
    """The log with entry *at* changed and all after it sealed anew: what whoever holds the store can make."""
    head, made = parse(lines[at - 2]).head if at > 1 else GENESIS, lines[: at - 1]
    for line in lines[at - 1 :]:
        entry = parse(line)
        fields = {name: getattr(entry, name) for name in FIELDS} | {"ts": entry.at}
        again = seal(head, **(fields | (changed if entry.seq == at else {})))
        head, made = again.head, [*made, again.line]
    return made


def tiles(lines: list[bytes]) -> dict[str, bytes]:
    """The hash tree of fewer than 256 entries."""
    assert len(lines) < 256
    return {f"tile/0/000.p/{len(lines)}": b"".join(hashes_of(lines))} if lines else {}


@dataclass(frozen=True)
class Files:
    """All files of an export, by name."""

    content: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> "Files":
        found = (path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in found})

    @property
    def lines(self) -> list[bytes]:
        return gzip.decompress(self.content[ENTRIES]).split(b"\n")[:-1]

    def having(self, **changed: bytes | None) -> "Files":
        return self.with_files(changed)

    def with_files(self, changed: dict[str, bytes | None]) -> "Files":
        """With these files instead; None takes one away."""
        kept = {name: content for name, content in (self.content | changed).items() if content is not None}
        return Files(kept)

    def with_lines(self, lines: list[bytes], *, tree: bool = True) -> "Files":
        """With other lines, and a tree that fits them."""
        old = dict.fromkeys(name for name in self.content if name.startswith("tile/")) if tree else {}
        return self.with_files({**old, **(tiles(lines) if tree else {}), ENTRIES: packed(lines)})

    def fitting(self, **says: object) -> "Files":
        """With a manifest that fits the rest, but for what it *says*."""
        lines = self.lines
        told = json.loads(self.content["manifest.json"]) | {
            "size": len(lines), "head": leaf_hash(lines[-1]).hex(), "root": root_of(lines).hex(),
        }  # fmt: skip
        listed = {
            name: sha256(self.content[name]).hexdigest() for name in sorted(self.content.keys() - UNLISTED)
        }
        text = json.dumps(told | {"files": listed} | says, indent=1, ensure_ascii=False) + "\n"
        return self.with_files({"manifest.json": text.encode()})

    def fitting_files(self) -> "Files":
        """With a manifest that has the digests of all other files, and else says what it said."""
        told = json.loads(self.content["manifest.json"])
        return self.fitting(**{name: told[name] for name in ("size", "head", "root")})

    def write(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


def judged(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and words of the verifier, run in this process."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = verify.main([str(folder), *words])
    return code, said.getvalue()
