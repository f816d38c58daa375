"""An export checked by the one file that goes with it, beside the hashing that nobody can do without.

    python -m bench.verify [ENTRIES]

floor     leaf hash and Merkle tree over the same lines, in the same run (bench/audit.py)
verified  `verify.py` on the folder of an export: unpacked, read, linked, signed; one core, standard library
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.audit import floor, made, seconds
from ledger import verify
from ledger.chain import Frontier, leaf_hash, parse
from ledger.export import export
from ledger.note import Checkpoint, Signer, origin_of, signed
from ledger.store import MemoryStore
from tests.months import TEXTS

ENTRIES = 200_000
BAR = 0.10
ROUNDS = 3
SEED = b"b" * 32
PAGE = 50_000
MEASURED = """
import runpy, sys
try:
    runpy.run_path("verify.py", run_name="__main__")
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main(entries: int) -> None:
    lines = made(entries)
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        place = Path(folder) / "acme"
        key = asyncio.run(written(lines, place))
        packed = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"{len(lines):,} entries, {sum(map(len, lines)) >> 20} MiB, {packed >> 20} MiB as an export")
        best = {"floor": 0.0, "verified": 0.0}
        for _ in range(ROUNDS):
            best["floor"] = max(best["floor"], entries / seconds(lambda: floor(lines)))
            best["verified"] = max(best["verified"], entries / seconds(lambda: checked(place, key)))
        ratio = best["verified"] / best["floor"]
        for name, found in best.items():
            print(f"{name:>9}{found:12,.0f} entries a second")
        print(f"{ratio:21.3f}  {'met' if ratio >= BAR else 'MISSED'} (bar {BAR})")
        alone(place, key)


async def written(lines: list[bytes], place: Path) -> str:
    """The export of a log of *lines*, signed; its key."""
    store, tree, head = MemoryStore(), Frontier(), verify.Verifier().head
    entries = [parse(line) for line in lines]
    tree = tree.extend(map(leaf_hash, lines))
    signer = Signer(origin_of("acme", entries[0].hash), SEED)
    note = signed(Checkpoint(signer.name, tree.size, tree.root()), signer)
    for digest, text in TEXTS.items():
        await store.put_text("acme", digest, text)
    expected = await store.head("acme")
    assert expected.hash == head
    for at in range(0, len(entries), PAGE):
        page = entries[at : at + PAGE]
        await store.append("acme", page, expected, note if at + PAGE >= len(entries) else "")
        expected = page[-1].head
    await export(store, "acme", place)
    return signer.vkey


def checked(place: Path, key: str) -> None:
    log = verify.Verifier(keys=[key])
    for _ in verify.check_export(place, log):
        pass
    assert log.verdict().startswith("INTACT")


def alone(place: Path, key: str) -> None:
    """Print how long it takes as whoever has the export runs it, and how much memory."""
    began = time.perf_counter()
    words = [sys.executable, "-I", "-S", "-c", MEASURED, ".", "--key", key]
    ran = subprocess.run(words, cwd=place, check=True, capture_output=True, text=True)
    took, peak = time.perf_counter() - began, int(ran.stdout.split()[-1]) >> 10
    print(f"python3 -I -S verify.py .   {took:.1f} s, {peak} MiB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES)
