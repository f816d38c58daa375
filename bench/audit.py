"""A log verified, folded and reconciled, beside the hashing that nobody can do without.

    python -m bench.audit [ENTRIES]

floor       leaf hash and Merkle tree over the same bytes, in the same run
audited     form, chain, rules and root (ledger/audit.py)
reconciled  the same, with the books kept (ledger/books.py)
in two      the same by two processes, on two cores (ledger/aide.py)
slowly      what `audited` does through pydantic and the view, entry by entry; a part of it only
"""

import gc
import sys
import time
from collections.abc import Callable

from ledger.aide import Aide
from ledger.audit import Tree, audit
from ledger.books import Books
from ledger.chain import leaf_hash, parse
from ledger.view import View
from tests.months import TEXTS, Month

ENTRIES = 1_000_000
BAR = 0.30
ROUNDS = 3
SLOW_SHARE = 20


def main(entries: int) -> None:
    lines = made(entries)
    size = sum(map(len, lines)) // len(lines)
    print(f"{len(lines):,} entries of {size} bytes, entries a second (best of {ROUNDS})")
    ways: dict[str, Callable[[], None]] = {
        "floor": lambda: floor(lines),
        "audited": lambda: void(audit(lines)),
        "reconciled": lambda: reconciled(lines),
    }
    gc.collect()
    gc.freeze()
    best = dict.fromkeys([*ways, "in two"], 0.0)
    with Aide() as aide:
        assert aide.has_begun(within_s=30)
        ways["in two"] = lambda: reconciled(lines, aide)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                best[name] = max(best[name], len(lines) / seconds(way))
    part = lines[: len(lines) // SLOW_SHARE]
    best["slowly"] = len(part) / seconds(lambda: slowly(part))
    for name, found in best.items():
        ratio = found / best["floor"]
        said = ("met" if ratio >= BAR else "MISSED") + f" (bar {BAR})" if name == "in two" else ""
        print(f"{name:>11}{found:12,.0f}{ratio:8.2f}  {said}")


def made(entries: int) -> list[bytes]:
    """A seeded log; only its lines are kept."""
    month, lines = Month(1), list[bytes]()
    while len(lines) < entries:
        month.incidents(200)
        lines += (bytes(memoryview(entry.line)) for entry in month.lines)  # a buffer holds more than its line
        month.lines.clear()
    return lines[:entries]


def seconds(way: Callable[[], None]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def floor(lines: list[bytes]) -> None:
    tree = Tree()
    for line in lines:
        tree.grow(leaf_hash(line))


def reconciled(lines: list[bytes], aide: Aide | None = None) -> None:
    books = Books(TEXTS)
    found = audit(lines, books=books, aide=aide)
    report = books.report(found.tenant, books.last_ms, 0, books.last_ms, found.hash)
    assert report.clean, report.text()


def slowly(lines: list[bytes]) -> None:
    view = View("acme")
    for line in lines:
        view.absorb(parse(line))


def void(_: object) -> None:
    pass


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES)
