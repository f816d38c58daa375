"""`python -m ledger report`: the auditor's page, about an incident or a span of days, as PDF.

    python -m ledger report EXPORT --incident checkout-3 --to page.pdf --zone Africa/Harare --by "Rudo M."
    python -m ledger report --data-dir var --tenant acme --from 2026-06-01 --until 2026-06-30 --to page.pdf

Exit code: 0 the page is written · 1 it could not be made. Whether the log is intact stands on the page.
"""

import argparse
import asyncio
from datetime import date, datetime, time, timedelta
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo

from ledger import verify
from ledger.clock import WallClock
from ledger.commands.place import add_place, add_tenant, opened
from ledger.report_gather import Scope
from ledger.report_source import NoSuchIncident, Outside, page_from, page_of
from ledger.report_verdict import Made
from ledger.report_words import BadZone, Times
from ledger.view import epoch_ms

NAME = "report"
HELP = "the auditor's page, as PDF"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", help="an export's folder")
    add_place(parser, required=False)
    add_tenant(parser, required=False)
    about = parser.add_mutually_exclusive_group(required=True)
    about.add_argument("--incident", default="", metavar="ID")
    about.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DAY", help="2026-06-01")
    parser.add_argument(
        "--until", type=date.fromisoformat, metavar="DAY", help="the last day; left out: one day"
    )
    parser.add_argument("--to", type=Path, required=True, help="the file to write")
    parser.add_argument("--zone", default="UTC", help="the reader's time zone, such as Africa/Harare")
    parser.add_argument("--by", default="", metavar="NAME", help="who makes the page")
    parser.add_argument(
        "--receipt", type=verify.read_receipt, action="append", default=[], metavar="SEQ:CODE"
    )


async def run(given: argparse.Namespace) -> int:
    try:
        made = Made(epoch_ms(WallClock().now()), given.by, Times(given.zone).zone, _version())
        data = await _made(given, _scope(given), made, Outside(dict(given.receipt)))
    except (BadZone, NoSuchIncident) as wrong:
        print(wrong)
        return 1
    await asyncio.to_thread(given.to.write_bytes, data)
    print(f"The page is {given.to}. Its verdict on the log stands at its top.")
    return 0


async def _made(given: argparse.Namespace, scope: Scope, made: Made, outside: Outside) -> bytes:
    if given.path:
        return await asyncio.to_thread(page_from, given.path, scope, made, outside)
    if not given.tenant:
        raise verify.Unreadable("Name an export, or say with --tenant whose ledger is meant.")
    async with opened(given) as store:
        return await page_of(store, given.tenant, scope, made, outside)


def _scope(given: argparse.Namespace) -> Scope:
    return (
        Scope(given.incident) if given.incident else days(given.first, given.until or given.first, given.zone)
    )


def days(first: date, last: date, zone: str) -> Scope:
    """From the beginning of *first* to the end of *last*, as clocks in *zone* show them."""
    ends = [datetime.combine(day, time(), ZoneInfo(zone)) for day in (first, last + timedelta(days=1))]
    return Scope(from_ms=epoch_ms(ends[0]), to_ms=epoch_ms(ends[1]))


def _version() -> str:
    try:
        return metadata.version("countersign")
    except metadata.PackageNotFoundError:
        return ""
