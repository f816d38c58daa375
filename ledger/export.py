"""An export: a folder that anybody can verify, without us and without a network.

    manifest.json             what is here: tenant, size, head, Merkle root, and the SHA-256 of each file
    entries-00000.jsonl.gz    the entries, one canonical line each, 65,536 a file
    texts/<digest>.txt        every charter and policy that was adopted
    verify.py                 python3 -I -S verify.py .

The same log gives the same bytes. It is written beside its place and moved there whole.
"""

import asyncio
import gzip
import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from ledger import verify
from ledger.chain import Entry, Head
from ledger.store import Store

PAGE = 1000
A_FILE = 65_536


class CannotExport(Exception):
    """Nothing was exported, and the message says why."""


async def export(store: Store, tenant: str, folder: Path) -> Head:
    """Write the log of *tenant* as it stands now to *folder*, and return its head.

    Raises CannotExport if the log is empty or *folder* holds something that is no export.
    """
    head = await store.head(tenant)
    if head.seq == 0:
        raise CannotExport(f"The tenant {tenant} has no entry.")
    packing = await asyncio.to_thread(_Packing, folder)
    while packing.seen.size < head.seq:
        page = await store.read(tenant, packing.seen.size, min(PAGE, head.seq - packing.seen.size))
        await asyncio.to_thread(packing.add, page)
    texts = {digest: await store.get_text(tenant, digest) for digest in packing.seen.digests}
    await asyncio.to_thread(packing.finish, texts, await store.durability())
    return head


class _Packing:
    """The folder while it grows."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").exists():
            raise CannotExport(f"{folder} holds something that is no export. Name another folder.")
        self.seen = verify.Verifier()
        self._folder = folder
        self._growing = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(self._growing, ignore_errors=True)
        (self._growing / "texts").mkdir(parents=True)

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.seen.take(entry.line)
        while entries:
            number, at = divmod(entries[0].seq - 1, A_FILE)
            part, entries = entries[: A_FILE - at], entries[A_FILE - at :]
            with (self._growing / f"entries-{number:05}.jsonl").open("ab") as file:
                file.writelines(entry.line + b"\n" for entry in part)

    def finish(self, texts: dict[str, str | None], durability: str) -> None:
        for lines in sorted(self._growing.glob("entries-*.jsonl")):
            _gzip(lines)
        for digest, text in texts.items():
            if text is not None:
                (self._growing / "texts" / f"{digest}.txt").write_bytes(text.encode())
        shutil.copyfile(verify.__file__, self._growing / "verify.py")
        self._write_manifest(durability)
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._growing.rename(self._folder)

    def _write_manifest(self, durability: str) -> None:
        files = sorted(path for path in self._growing.rglob("*") if path.is_file())
        says = {
            "format": verify.FORMAT,
            "tenant": self.seen.tenant,
            "size": self.seen.size,
            "head": self.seen.head,
            "root": self.seen.root(),
            "durability": durability,
            "files": {str(path.relative_to(self._growing)): _digest(path) for path in files},
        }
        text = json.dumps(says, indent=1, ensure_ascii=False)
        (self._growing / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _gzip(lines: Path) -> None:
    """Pack *lines* in place. Without a name and a time in it, so that the same lines give the same bytes."""
    with (
        lines.open("rb") as plain,
        lines.with_suffix(".jsonl.gz").open("wb") as packed,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file,
    ):
        shutil.copyfileobj(plain, file)
    lines.unlink()


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
