"""The read-only web page for auditors, and the page behind which a file waits. Both by signed link.

1. `GET` of a fresh link shows one button and appends nothing: what a messenger fetches by itself is that.
   Its press is the entry, once a link, and the rows come after it.
2. A link is its person's, for minutes, and only while the charter names them admin or auditor.
3. Rows come fifty at a time, by number, so that a log that grows does not shift them.
4. A file is an entry before it is made, and is made while its reader waits. Nothing is kept.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, quote
from zoneinfo import ZoneInfo

from aiohttp import web

from bot.app import Route
from bot.auditing import AUDITORS, not_taken, written
from bot.auditing_entry import exported
from bot.auditing_files import FILES
from bot.auditing_scope import ALL, NoScope, Scope, leaving, newest, read_scope
from bot.auditing_verify import Checks
from bot.auditing_ways import FILE, FILE_PATH, PAGE, PAGE_PATH
from bot.auditor_page import Sheet
from bot.paper import HEADERS, Form, Paper
from bot.room import Room
from bot.tokens import BadToken, Pass, Passes
from handlers.charter import Person
from ledger.chain import BrokenChain, Entry
from ledger.events import Act, Event
from ledger.ledger import Refusal
from ledger.store import StoreDown
from ledger.view import View

CHANNEL = "link"
ROWS, LOOK = 50, 20_000
VERDICT_S = 3.0
A_PART = 2**18
MOST_FIELDS, LONGEST_TOKEN = 6, 2_048
CHECKING = "Being checked from its bytes; load this page again in a minute for the verdict."
AWAY = Paper("The ledger is away", "It cannot be read now. Try again in a minute.")
ANEW = "Send /audit web to the bot in private for a new link."


@dataclass(frozen=True, slots=True)
class Visit:
    """Who came with a link that is good, and what the link is for."""

    token: str
    link: Pass
    room: Room
    person: Person

    @property
    def zone(self) -> ZoneInfo:
        return self.room.zone(self.person)

    @property
    def was_opened(self) -> bool:
        return (CHANNEL, self.link.jti) in self.room.ledger.view.acts


class Auditor:
    def __init__(self, rooms: Mapping[str, Room], passes: Passes, checks: Checks) -> None:
        self._rooms = rooms
        self._passes = passes
        self._checks = checks

    def routes(self) -> list[Route]:
        return [
            Route("GET", PAGE_PATH, self.look),
            Route("HEAD", PAGE_PATH, self.look),
            Route("POST", PAGE_PATH, self.open),
            Route("GET", FILE_PATH, self.offer),
            Route("HEAD", FILE_PATH, self.offer),
            Route("POST", FILE_PATH, self.take),
        ]

    async def look(self, request: web.Request) -> web.StreamResponse:
        """The rows, or before the first press the button. Appends nothing."""
        try:
            visit = self._visit(PAGE, request.query.get("token", ""))
        except BadToken as why:
            return _no(why)
        if not visit.was_opened:
            return _page(_door(visit, "Open the ledger, read-only", "audit", "Opening it is on record."))
        try:
            return _html((await self._sheet(visit, request.query)).html())
        except StoreDown:
            return _page(AWAY, 503)

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Put the opening on record, once, and show the rows."""
        try:
            fields = await _fields(request)
            visit = self._visit(PAGE, fields.get("token", ""))
        except BadToken as why:
            return _no(why)
        try:
            made = await _on_record(visit, "web", ALL, fields["raw"], visit.link.jti)
        except StoreDown:
            return _page(AWAY, 503)
        if isinstance(made, Refusal):
            return _page(Paper("Not opened", not_taken(made)), 503)
        raise web.HTTPSeeOther(f"audit?token={quote(visit.token)}", headers=HEADERS)

    async def offer(self, request: web.Request) -> web.StreamResponse:
        """The button behind which a file is. Appends nothing, makes nothing."""
        try:
            visit = self._visit(FILE, request.query.get("token", ""))
        except BadToken as why:
            return _no(why)
        label = f"Download {visit.link.what} of {visit.link.scope}"
        return _page(_door(visit, label, "file", "The download is on record."))

    async def take(self, request: web.Request) -> web.StreamResponse:
        """The file: that of a file's link, or one that the rows' page offers."""
        try:
            fields = await _fields(request)
            visit, what, of = self._wanted(fields)
            scope = read_scope(visit.room, of, visit.zone)
        except (BadToken, NoScope) as why:
            return _no(why)
        by_page = "what" in fields
        try:
            made = await _on_record(visit, what, scope, fields["raw"], "" if by_page else visit.link.jti)
            if isinstance(made, Refusal):
                return _page(Paper("Nothing was taken", not_taken(made)), 503)
            return await _sent(request, visit, what, scope)
        except StoreDown:
            return _page(AWAY, 503)

    def _wanted(self, fields: Mapping[str, str]) -> tuple[Visit, str, str]:
        """Raises BadToken."""
        if "what" not in fields:
            visit = self._visit(FILE, fields.get("token", ""))
            return visit, visit.link.what, visit.link.scope
        visit = self._visit(PAGE, fields.get("token", ""))
        if not visit.was_opened or fields["what"] not in FILES:
            raise BadToken("This form is not one of ours.")
        return visit, fields["what"], fields.get("of", "")

    def _visit(self, audience: str, token: str) -> Visit:
        """Raises BadToken, also for a team that is not here and a person who may not."""
        if not token:
            raise BadToken("This address has no token in it: it was cut off, or copied in part.")
        link = self._passes.read(audience, token[: LONGEST_TOKEN + 1])
        room = self._rooms.get(link.tenant)
        person = room.people.person(link.person) if room else None
        if room is None or person is None or not AUDITORS & set(person.roles):
            raise BadToken("This link is for something that is not here, or for somebody who may not see it.")
        return Visit(token, link, room, person)

    async def _sheet(self, visit: Visit, query: Mapping[str, str]) -> Sheet:
        room, wrong, scope = visit.room, "", ALL
        try:
            scope = read_scope(room, query.get("of", ""), visit.zone)
        except NoScope as none:
            wrong = str(none)
        checked = await self._checks.soon(room, VERDICT_S)
        intact, verdict = (checked.intact, checked.sentence()) if checked else (True, CHECKING)
        rows, older = list[Entry](), 0
        try:
            rows, older = await newest(room, scope, ROWS, LOOK, _number(query.get("before", "")))
        except BrokenChain as broken:
            intact, verdict = False, f"NOT intact. {broken}"
        return Sheet(
            room.tenant,
            str(visit.zone),
            visit.token,
            scope.name,
            verdict,
            intact,
            rows,
            older,
            wrong,
            tuple(name for name in FILES if name != "proof" or scope.entry),
        )


async def _on_record(visit: Visit, what: str, scope: Scope, raw: str, once: str) -> Entry | Refusal | None:
    """The entry; None where this link has it already. Raises StoreDown."""
    room = visit.room
    act = Act(channel=CHANNEL, update=once, digest=sha256(raw.encode()).hexdigest(), at_ms=room.now_ms())
    after, last = await leaving(room, what, scope)
    decide = exported(what, scope.name, act, after + 1, last)

    def unless_opened(view: View, now: datetime) -> Event | Refusal:
        opened = once and (CHANNEL, once) in view.acts
        return Refusal("opened") if opened else decide(view, now)

    made = await room.record(visit.person, act, unless_opened)
    return None if isinstance(made, Refusal) and made.kind == "opened" else made


async def _sent(request: web.Request, visit: Visit, what: str, scope: Scope) -> web.StreamResponse:
    with TemporaryDirectory(prefix="cs-") as folder:
        path = await written(visit.room, visit.person, what, scope, Path(folder))
        if isinstance(path, str):
            return _page(Paper("Nothing was taken", path), 409)
        named = {"Content-Disposition": f'attachment; filename="{path.name}"'}
        response = web.StreamResponse(headers={**HEADERS, **named})
        response.content_type, response.content_length = "application/octet-stream", path.stat().st_size
        await response.prepare(request)
        with path.open("rb") as file:
            while part := await asyncio.to_thread(file.read, A_PART):
                await response.write(part)
        await response.write_eof()
        return response


async def _fields(request: web.Request) -> dict[str, str]:
    """The fields of a form, and all of it as `raw`. Raises BadToken for what is no form of ours."""
    raw = (await request.read()).decode("utf-8", "replace")
    try:
        fields = parse_qs(raw, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadToken("This form is not one of ours.") from None
    return {name: values[0] for name, values in fields.items()} | {"raw": raw}


def _door(visit: Visit, label: str, action: str, small: str) -> Paper:
    return Paper(
        f"Ledger of {visit.room.tenant}",
        f"For {visit.person.name} alone.",
        form=Form(visit.token, label, action=action),
        small=(small, "Opening this page changed nothing."),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _no(why: Exception) -> web.Response:
    return _page(Paper("This link shows nothing", str(why), small=(ANEW,)), 403)


def _page(paper: Paper, status: int = 200) -> web.Response:
    return _html(paper.html(), status)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)
