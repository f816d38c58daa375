"""The approval page of a link: look first, then decide.

1. `GET /action/recover` shows exactly what would run and changes nothing: a messenger's link preview, a
   browser's prefetch or a second look costs nothing.
2. `POST /action/recover/confirm` decides, through the same desk as every tap. The page is the second look
   that a high-risk action asks for.
3. The link names the person and belongs to a private chat. It is good for five minutes; that it counts once
   is the ledger's doing.
4. A link that is not ours is told why, and what to do; nothing is looked up for it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qs, quote

from aiohttp import web

from bot import phrases
from bot.answer import Desk
from bot.app import Route
from bot.paper import HEADERS, Form, Paper
from bot.ports import Answer, Tap, Verb
from bot.room import Room
from bot.tokens import BadToken, Link, Tokens
from bot.words import about, cap, hms, one_line
from handlers.charter import Action, Person, Quorum
from handlers.charter_parameters import spoken
from ledger import events as ev
from ledger.chain import receipt_of
from ledger.events import Act
from ledger.machine import Fact, Incident
from ledger.store import StoreDown

CHANNEL = "link"
LOOK, DECIDE = "/action/recover", "/action/recover/confirm"
LONGEST_TOKEN = 2_048
MOST_FIELDS = 4
VOTES = frozenset({Verb.APPROVE, Verb.DENY})
ANEW = "Send /approve to the bot in private for a new link."
NOTHING = "Opening this page changed nothing. Nothing will run without your approval."


class Invitation(NamedTuple):
    """A link for the one who got it: what it says, and the address that is sent."""

    label: str
    url: str


class Invitations:
    """Makes the links of open requests. *base* is where people reach us from outside."""

    def __init__(self, tokens: Tokens, base: str) -> None:
        self._tokens = tokens
        self._base = base

    def of(self, room: Room, person: Person, incident: Incident) -> list[Invitation]:
        """One link an option that *person* may approve, and one to deny. Empty where nothing is asked."""
        found = _asked(incident)
        if found is None:
            return []
        request, validated = found
        if not any(_admits(option, person) for option in validated.options):
            return []
        mine = [o for o in validated.options if not o.action or _admits(o, person)]
        made = [self._made(room, person, request, Verb.APPROVE, o.key, _label(o)) for o in mine]
        return [*made, self._made(room, person, request, Verb.DENY, "", "Deny")]

    def _made(
        self, room: Room, person: Person, request: Fact, verb: Verb, option: str, label: str
    ) -> Invitation:
        token = self._tokens.mint_link(room.tenant, person.id, verb, option, request.hash)
        return Invitation(label, f"{self._base}{LOOK}?token={quote(token)}")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a link lets its person look at. *option* is None for a denial."""

    link: Link
    room: Room
    person: Person
    incident: Incident
    request: Fact
    validated: ev.Validated
    option: ev.Option | None

    @property
    def zone(self) -> str:
        return str(self.room.zone(self.person))

    @property
    def action(self) -> Action | None:
        """The charter's action behind the option, as long as that charter is in force."""
        same = self.room.ledger.view.rules.charter == self.validated.charter_digest
        charter = self.room.charter if same else None
        return charter.action(self.incident.service, self.option.action) if charter and self.option else None


class Pages:
    """The two pages. What they decide, *desk* decides."""

    def __init__(self, rooms: Mapping[str, Room], desk: Desk, tokens: Tokens) -> None:
        self._rooms = rooms
        self._desk = desk
        self._tokens = tokens

    def routes(self) -> list[Route]:
        return [
            Route("GET", LOOK, self.look),
            Route("HEAD", LOOK, self.look),
            Route("POST", DECIDE, self.decide),
        ]

    async def look(self, request: web.Request) -> web.Response:
        """Show what the link is for. Appends nothing."""
        token = request.query.get("token", "")
        try:
            seen = self._see(self._read(token))
        except BadToken as why:
            return _page(_no(why), 403)
        tap = _tap(seen.link, Act(channel=CHANNEL))
        hindered = self._desk.foresee(seen.room, seen.person, seen.incident, tap)
        return _page(_preview(seen, token, hindered))

    async def decide(self, request: web.Request) -> web.Response:
        """Decide what the link names, once."""
        raw = await request.read()
        seen = Act(channel=CHANNEL, digest=sha256(raw).hexdigest())
        try:
            fields = parse_qs(raw.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
            link = self._read(fields.get("token", [""])[0])
        except ValueError:
            return await self._turn_away(BadToken("This form is not one of ours."), seen, 400)
        except BadToken as why:
            return await self._turn_away(why, seen, 403)
        room = self._rooms[link.tenant]
        act = seen.model_copy(update={"update": link.jti, "at_ms": room.now_ms()})
        card = self._card(link, fields.get("seen", [""])[0])
        words, code = one_line(fields.get("reason", [""])[0])[:500], fields.get("code", [""])[0][:7]
        tap = replace(_tap(link, act), words=words, card=card, code=code.replace(" ", ""))
        try:
            answer = await self._desk.tapped(link.tenant, tap)
        except StoreDown:
            answer = Answer(phrases.ledger_away())
        return _page(_verdict(room, answer), 200 if answer.ref else 409)

    async def _turn_away(self, why: BadToken, act: Act, status: int) -> web.Response:
        """Who wants to decide with a link that is none is told why, and is on record."""
        kind = "late_link" if why.person else "forged_link"
        with suppress(StoreDown):
            await self._desk.turned_away(kind, act, why.tenant, why.person)
        return _page(_no(why), status)

    def _card(self, link: Link, seen: str) -> str:
        """The digest of the page that was looked at, if the page would read the same now."""
        try:
            page = _about(self._see(link))
        except BadToken:
            return ""
        return seen if seen == page.digest else ""

    def _read(self, token: str) -> Link:
        """What *token* says. Raises BadToken, also for a team that is not here and for what is no vote."""
        if not token:
            raise BadToken("This address has no token in it: it was cut off, or copied in part.")
        link = self._tokens.read_link(token[: LONGEST_TOKEN + 1])
        if link.tenant not in self._rooms or link.verb not in VOTES:
            raise BadToken("This link is for something that is not here.")
        return link

    def _see(self, link: Link) -> Sight:
        room = self._rooms[link.tenant]
        person = room.people.person(link.person)
        incident = room.ledger.view.anchored(link.anchor)
        if person is None:
            raise BadToken("The person whom this link was made for is not in the charter any more.")
        asked = incident.every(ev.Validated) if incident else []
        found = next(((f, v) for f, v in asked if f.hash == link.anchor), None)
        if incident is None or found is None:
            raise BadToken("The request that this link was made for is not here.")
        option = next((o for o in found[1].options if o.key == link.option), None)
        return Sight(link, room, person, incident, *found, option)


def _asked(incident: Incident) -> tuple[Fact, ev.Validated] | None:
    request = incident.request
    event = request.event if request else None
    return (request, event) if request and isinstance(event, ev.Validated) else None


def _admits(option: ev.Option, person: Person) -> bool:
    return Quorum.parse(option.approve).admits(person.roles)


def _label(option: ev.Option) -> str:
    trust = f"Trust theory {option.theory}: " if option.theory in {"A", "B"} else "Approve: "
    return trust + (one_line(option.title) or "run nothing")


def _tap(link: Link, act: Act) -> Tap:
    return Tap(
        CHANNEL,
        "",
        "",
        link.verb,
        link.anchor,
        act,
        link.option,
        private=True,
        confirmed=True,
        person=link.person,
    )


def _preview(seen: Sight, token: str, hindered: str) -> Paper:
    page = _about(seen)
    denies, asks = seen.link.verb is Verb.DENY, bool(seen.action and seen.action.totp)
    form = Form(token, cap(_what(seen), 60), denies, page.digest, code=asks and not denies)
    return replace(page, state=hindered or _until(seen), form=None if hindered else form)


def _what(seen: Sight) -> str:
    return _label(seen.option) if seen.option and seen.link.verb is not Verb.DENY else "Deny"


def _about(seen: Sight) -> Paper:
    """What the page says, but for the time that is left."""
    denies = seen.link.verb is Verb.DENY
    return Paper(
        title=f"{cap(_what(seen), 80)} ({seen.incident.service})",
        state="",
        rows=_what_stands(seen) + ([] if denies else _what_runs(seen)) + _who(seen),
        small=(NOTHING, f"{seen.incident.id} · #{seen.request.seq} · {receipt_of(seen.request.hash)}"),
    )


def _until(seen: Sight) -> str:
    left = seen.validated.deadline_ms - seen.room.now_ms()
    return f"Open until {hms(seen.validated.deadline_ms, seen.zone)} ({seen.zone}), {about(left)} from now."


def _what_stands(seen: Sight) -> list[tuple[str, str]]:
    reading = seen.incident.reading
    return [
        ("What is wrong", f"{seen.incident.service}: {reading.headline}. {cap(reading.explanation, 300)}")
    ]


def _what_runs(seen: Sight) -> list[tuple[str, str]]:
    """Method and address in full: what is approved is what is read."""
    option, action = seen.option, seen.action
    if option is None:
        return []
    because = f"Theory {option.theory}: {option.cause}" if option.theory in {"A", "B"} else str(option.cause)
    if not option.action:
        return [("Runs", "nothing: you look yourself"), ("Because", because)]
    runs = f"{action.exactly if action else option.request} {spoken(option.parameters)}".rstrip()
    return [
        ("Runs exactly this, once", f"{option.title}: {cap(runs, 500)}"),
        ("Because", because),
        ("Risk", f"{option.risk}. {(action.impact if action else option.impact) or 'No impact is named.'}"),
        *([("Touches", option.blast_radius)] if option.blast_radius else []),
        *([("Change", option.change_ref)] if option.change_ref else []),
        ("To undo it", _undo(seen) or "the charter names no way"),
    ]


def _undo(seen: Sight) -> str:
    named = seen.action.undo if seen.action else seen.option.undo if seen.option else ""
    service = seen.room.people.service(seen.incident.service)
    other = service.action(named) if service else None
    return other.title if other else named


def _who(seen: Sight) -> list[tuple[str, str]]:
    """Whose approval it is, and how many there are."""
    you = ("You are", seen.person.name)
    if seen.option is None or not seen.option.approve:
        return [you]
    quorum = Quorum.parse(seen.option.approve)
    have = len(seen.incident.votes().get(seen.option.key, ()))
    return [("Needs", f"{seen.option.approve}: {have} of {quorum.needs()} so far"), you]


def _verdict(room: Room, answer: Answer) -> Paper:
    told = answer.html or answer.text
    small = [f"On record as #{answer.ref.seq} · {receipt_of(answer.ref.hash)}"] if answer.ref else []
    title = "On record" if answer.ref else "Nothing changed"
    return Paper(title, told, small=(*small, "The chat shows how it goes on. You can close this page."))


def _no(why: BadToken) -> Paper:
    return Paper("This link decides nothing", f"{why}", small=("Nothing was run.", ANEW))


def _page(paper: Paper, status: int = 200) -> web.Response:
    return web.Response(text=paper.html(), status=status, content_type="text/html", headers=HEADERS)
