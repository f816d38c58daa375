"""What leaves the ledger as a file: rows, the auditor's page, the whole as an export, one entry as a proof.

1. Rows have the names and types of the accounting ledger (ledger/rows.py), a line an entry.
2. A cell that a spreadsheet would take for a formula begins with an apostrophe
   (https://owasp.org/www-community/attacks/CSV_Injection); JSONL has it as it is.
3. Pages are read on the loop and written in threads; nothing is held whole in memory.
"""

import asyncio
import csv
import json
import shutil
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from bot.auditing_scope import ALL, Scope, bounds, pages
from bot.periods import FORMS
from bot.room import Room
from bot.version import version
from handlers.charter import Person
from ledger import proof, verify
from ledger.chain import Entry
from ledger.export import export
from ledger.prove import Proof, prove
from ledger.report_gather import Scope as PageScope
from ledger.report_source import Outside, page_of
from ledger.report_verdict import Made
from ledger.rows import Row, row

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")
COLUMNS = tuple(Row.__annotations__)
_THE_DAY_ZERO = (1980, 1, 1, 0, 0, 0)

type Write = Callable[[Room, Person, Scope, Path], Awaitable[Path]]
"""Writes what a person asked for into a folder. Raises StoreDown, and CannotMake with a reason."""


class CannotMake(Exception):
    """There is no such file of this, and the message says of what there is one."""


async def as_csv(room: Room, person: Person, scope: Scope, folder: Path) -> Path:
    return await _rows(room, scope, folder / f"{_name(room, scope)}.csv", _csv, _csv_head())


async def as_jsonl(room: Room, person: Person, scope: Scope, folder: Path) -> Path:
    return await _rows(room, scope, folder / f"{_name(room, scope)}.jsonl", _jsonl, "")


async def as_export(room: Room, person: Person, scope: Scope, folder: Path) -> Path:
    """The export folder (ledger/export.py) in one zip, the same bytes for the same log.

    It is always the whole log, for that is what is signed and verified. The rows of *scope* lie beside it,
    each with the number and the hash of its entry.
    """
    whole = folder / f"countersign-{room.tenant}-export"
    await export(room.store, room.tenant, whole)
    rows = () if scope == ALL else (await as_csv(room, person, scope, folder),)
    return await asyncio.to_thread(_zipped, whole, *rows)


async def as_pdf(room: Room, person: Person, scope: Scope, folder: Path) -> Path:
    """The auditor's one page (ledger/report.py), about an incident or a period."""
    about = _about(scope)
    made = Made(room.now_ms(), person.name, str(room.zone(person)), version())
    path = folder / f"{_name(room, scope)}.pdf"
    outside = Outside(off_box=room.off_box())
    await asyncio.to_thread(path.write_bytes, await page_of(room.store, room.tenant, about, made, outside))
    return path


async def as_proof(room: Room, person: Person, scope: Scope, folder: Path) -> Path:
    """The proof of one entry (ledger/prove.py), the key, and what checks it, in one zip."""
    if not scope.entry:
        raise CannotMake("A proof is of one entry: /audit proof #42.")
    made = await prove(room.store, room.tenant, scope.entry)
    place = folder / f"countersign-{room.tenant}-proof-{scope.entry}"
    return await asyncio.to_thread(_proof, place, scope.entry, made)


def _proof(folder: Path, seq: int, made: Proof) -> Path:
    folder.mkdir()
    (folder / f"entry-{seq}.tlog-proof").write_text(made.text, encoding="utf-8")
    (folder / "keys.txt").write_text(f"{made.key}\n", encoding="utf-8")
    for module in (proof, verify):
        shutil.copy(str(module.__file__), folder)
    return _zipped(folder)


FILES: Mapping[str, Write] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "export": as_export,
    "pdf": as_pdf,
    "proof": as_proof,
}


def _about(scope: Scope) -> PageScope:
    if scope.incident:
        return PageScope(scope.incident)
    if scope.period is None:
        raise CannotMake(f"The page is about an incident or a period: /audit pdf checkout-3, or {FORMS}.")
    return PageScope(from_ms=scope.period.start_ms, to_ms=scope.period.end_ms)


async def _rows(
    room: Room, scope: Scope, path: Path, form: Callable[[Sequence[Row]], str], head: str
) -> Path:
    await asyncio.to_thread(path.write_text, head, encoding="utf-8")
    after, last = await bounds(room, scope)
    async for page in pages(room, after, last):
        await asyncio.to_thread(_add, path, [e for e in page if scope.holds(e)], form)
    return path


def _add(path: Path, entries: Sequence[Entry], form: Callable[[Sequence[Row]], str]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(form([row(entry) for entry in entries]))


def _csv_head() -> str:
    return ",".join(COLUMNS) + "\r\n"


def _csv(rows: Sequence[Row]) -> str:
    text = StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in found.values()] for found in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    formula = isinstance(value, str) and value.lstrip(" ").startswith(FORMULA)
    return f"'{value}" if formula else value


def _jsonl(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(found, ensure_ascii=False) + "\n" for found in rows)


def _name(room: Room, scope: Scope) -> str:
    return f"countersign-{room.tenant}-{scope.name.replace('..', '_').replace('#', 'entry-')}"


def _zipped(folder: Path, *beside: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [*sorted(one for one in folder.rglob("*") if one.is_file()), *beside]:
            about = zipfile.ZipInfo(str(file.relative_to(folder.parent)), _THE_DAY_ZERO)
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(about, file.read_bytes())
    return path
