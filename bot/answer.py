"""May this person? One place decides what a tap means, for every channel, and puts the verdict into words.

Every tap gets an answer, also a late, double, forged or unentitled one: what happened, or why nothing did.
What was refused is on record once per person, kind and minute.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import sha256

from bot import feedback, phrases, votes
from bot.ports import Answer, Button, Tap, Verb
from bot.reasons import LEDGER_SAYS, explain, late_ms, name_of, need
from bot.receipts import stamp
from bot.refusals import Refusals
from bot.room import Room, came_before
from bot.second_look import chosen_of, is_wanted, second_look
from bot.seen import CardOf, unknown
from bot.stepup import LOCKED, StepUp
from bot.words import cap, hm, hms, plain, units
from handlers.charter import Person, Quorum
from handlers.rota import following
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Act, Actor
from ledger.ledger import Decide, Refusal
from ledger.machine import Incident, Stage
from ledger.view import epoch_ms

S = Stage
Handle = Callable[["Desk", Room, Person, Incident, Tap], Awaitable[Answer]]
Post = Callable[[Room, Person, Answer], Awaitable[bool]]
Audit = Callable[[Room, Person, Incident, Act], Awaitable[Answer]]

LEAST_REASON = 10


class Desk:
    """Answers taps. *process* is this process's name, in whose voice refusals stand in the ledger.

    *post* sends something to a person in private and says whether it could; *audit* tells an incident's rows.
    """

    def __init__(
        self,
        rooms: Mapping[str, Room],
        process: str,
        post: Post,
        audit: Audit,
        card: CardOf = unknown,
        step_up: StepUp | None = None,
    ) -> None:
        self._rooms = rooms
        self._post = post
        self._audit = audit
        self._card = card
        self.step_up = step_up
        self._refusals = Refusals(process)

    async def tapped(self, tenant: str, tap: Tap) -> Answer:
        room = self._rooms[tenant]
        person = whose(room, tap)
        incident = room.ledger.view.anchored(tap.anchor)
        known = incident.id if incident else ""
        if person is None:
            return await self.refuse(room, "stranger", tap, phrases.unknown_person(), incident=known)
        if not tap.genuine:
            return await self.refuse(room, "forged", tap, phrases.forged(), person.id, known)
        if not tap.anchor:
            return await self.refuse(room, "bare_yes", tap, phrases.bare_yes(), person.id)
        if incident is None:
            return await self.refuse(room, "unknown", tap, phrases.nothing_known("incident"), person.id)
        return receipted(await VERBS[tap.verb](self, room, person, incident, tap))

    def foresee(self, room: Room, person: Person, incident: Incident, tap: Tap) -> str:
        """Why this vote would not count at this moment, in words, or an empty text. Nothing is appended."""
        made = self._vote(room, person, incident, tap)(room.ledger.view, room.clock.now())
        if not isinstance(made, Refusal):
            return ""
        if made.kind in LEDGER_SAYS:
            return LEDGER_SAYS[made.kind]()
        standing = room.ledger.view.incidents[incident.id]
        if made.kind == "late" or standing.stage is S.EXPIRED:
            return phrases.late_unasked(late_ms(room, incident.id, tap.anchor))
        return explain(room, person, standing, tap, made)

    @staticmethod
    def _vote(room: Room, person: Person, incident: Incident, tap: Tap) -> Decide:
        if tap.verb is Verb.DENY:
            return votes.deny(person, incident.id, tap.anchor, tap.act)
        vote = votes.break_glass if tap.verb is Verb.BREAK_GLASS else votes.approve
        return vote(room.rulebook, person, incident.id, tap.anchor, tap.option, tap.act, stepped_up=True)

    async def refuse(
        self, room: Room, kind: str, tap: Tap, text: str, person: str = "", incident: str = ""
    ) -> Answer:
        """Say *text*, and put the refusal on record: the first of its person, kind and minute."""
        await self._refusals.note(room, kind, tap, person, incident)
        return Answer(text)

    async def turned_away(self, kind: str, act: Act, tenant: str = "", person: str = "") -> None:
        """Somebody at a door was not who they said they were: on record, once a minute, where they meant.

        Who names no tenant in a way that can be believed is on record in each.
        """
        tap = Tap(act.channel, "", "", Verb.AUDIT, "", act, genuine=False)
        rooms = [self._rooms[tenant]] if tenant in self._rooms else self._rooms.values()
        for room in rooms:
            await self.refuse(room, kind, tap, "", person)

    async def approve(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        if _is_settled(room, incident, tap):
            return await self._why_not(room, person, incident, tap, Refusal("not_open"))
        if is_wanted(incident, tap):
            return await self._ask_in_private(room, person, incident, tap)
        stepped_up = await self._steps_up(room, person, incident, tap)
        if isinstance(stepped_up, Answer):
            return stepped_up
        card = tap.card or await self._card(room, incident, tap)
        decide = votes.approve(
            room.rulebook,
            person,
            incident.id,
            tap.anchor,
            tap.option,
            tap.act,
            card,
            stepped_up=stepped_up,
        )
        made = await self._record(room, person, tap, decide)
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return self._voted(room, person, incident.id, tap.option, made)

    async def _steps_up(self, room: Room, person: Person, incident: Incident, tap: Tap) -> bool | Answer:
        """Whether a one-time code came with a vote that needs one; or what to say while none did.

        A vote that would not count anyway costs no code.
        """
        chosen = chosen_of(incident, tap.option)
        action = room.people.action(incident.service, chosen.action) if chosen else None
        vote = self._vote(room, person, incident, tap)
        if not action or not action.totp or isinstance(vote(room.ledger.view, room.clock.now()), Refusal):
            return False
        if self.step_up is None or self.step_up.enrolled(room, person) is None:
            return await self.refuse(room, "no_totp", tap, phrases.NO_CODE["no_totp"], person.id, incident.id)
        if not tap.code:
            return Answer(phrases.code_wanted(), asks="code")
        by = f"{tap.act.channel}:{tap.act.update}"
        why = await self.step_up.judge(room, person, tap.code, by)
        if not why:
            return True
        answer = await self.refuse(room, why, tap, phrases.NO_CODE[why], person.id, incident.id)
        return answer if why == LOCKED else replace(answer, asks="code")

    async def break_glass(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        """One person alone, where more are needed: in private, with a reason, and looked at twice."""
        if not tap.private or len(tap.words.strip()) < LEAST_REASON:
            return Answer(phrases.GLASS["no_reason" if tap.private else "group"])
        look = second_look(room, incident, tap.option)
        if not tap.confirmed:
            would = self._vote(room, person, incident, tap)(room.ledger.view, room.clock.now())
            if isinstance(would, Refusal):
                return await self._why_not(room, person, incident, tap, would)
            return Answer(phrases.GLASS["second_look"], html=look, asks="glass")
        stepped_up = await self._steps_up(room, person, incident, tap)
        if isinstance(stepped_up, Answer):
            return stepped_up
        decide = votes.break_glass(
            room.rulebook,
            person,
            incident.id,
            tap.anchor,
            tap.option,
            tap.act,
            sha256(look.encode()).hexdigest() if look else "",
            await room.keep_words(tap.words),
            stepped_up=stepped_up,
        )
        made = await self._record(room, person, tap, decide)
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return self._voted(room, person, incident.id, tap.option, made)

    async def deny(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        if _is_settled(room, incident, tap):
            return await self._why_not(room, person, incident, tap, Refusal("not_open"))
        words = await room.keep_words(tap.words)
        made = await self._record(
            room, person, tap, votes.deny(person, incident.id, tap.anchor, tap.act, words)
        )
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return Answer(phrases.denied(self._clock(room, person, made), made.seq), alert=False, ref=_ref(made))

    async def ask_again(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        made = await self._record(
            room, person, tap, votes.ask_again(room.rulebook, person, incident.id, tap.act)
        )
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return Answer(phrases.renewed(self._clock(room, person, made)), alert=False, ref=_ref(made))

    async def withdraw(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        made = await self._record(room, person, tap, votes.withdraw(person, incident.id, tap.act))
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        if made.event == "StoodDown":
            return Answer(phrases.stood_down("withdrawn"), ref=_ref(made))
        standing, option = room.ledger.view.incidents[incident.id], str(made.data["option"])
        have = len(standing.votes().get(option, ()))
        return Answer(phrases.withdrawn(have, need(standing, option)), alert=False, ref=_ref(made))

    async def acknowledge(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        before = incident.acknowledged
        made = await self._record(room, person, tap, votes.acknowledge(incident.id, tap.act))
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        if before and before.actor.id != person.id:
            at = hm(before.at_ms, str(room.zone(person)))
            return Answer(phrases.already_acknowledged(name_of(room, before.actor.id), at), alert=False)
        until = hm(epoch_ms(made.at) + votes.ACK_MS, str(room.zone(person)))
        return Answer(phrases.acknowledged(until), alert=False, ref=_ref(made))

    async def not_incident(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        if not incident.is_open:
            return await self.opine(room, person, incident, tap)
        return await self._close(room, person, incident, tap, "not_an_incident", phrases.not_an_incident())

    async def resolve(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        text = f"Closed by you. {incident.service} opens again if it gets worse."
        return await self._close(room, person, incident, tap, "resolved", text)

    async def escalate(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        others = following(room.people, room.ledger.view, room.now_ms(), person.id)
        to = tuple(p.id for p in others)
        if not to:
            return Answer(phrases.escalated([]))
        made = await self._record(room, person, tap, votes.escalate(incident.id, to, tap.act))
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return Answer(phrases.escalated([p.name for p in others]), ref=_ref(made))

    async def opine(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        """What a person says of a verdict or theory: it decides nothing. A tap that closed may come again."""
        decide = feedback.say(room.rulebook, person, incident.id, tap.verb, tap.act)
        made = await self._record(room, person, tap, decide)
        if not isinstance(made, Refusal):
            if made.event == "Resolved":
                return Answer(phrases.not_an_incident(), ref=_ref(made))
            return Answer(feedback.noted(incident, tap.verb), alert=False, ref=_ref(made))
        if made.kind == "said":
            return Answer(phrases.said_already(), alert=False)
        if text := feedback.why_not(incident, made):
            return await self.refuse(room, made.kind, tap, text, person.id, incident.id)
        return await self._why_not(room, person, incident, tap, made)

    async def _close(
        self, room: Room, person: Person, incident: Incident, tap: Tap, kind: str, text: str
    ) -> Answer:
        words = await room.keep_words(tap.words)
        made = await self._record(
            room, person, tap, votes.resolve(room.rulebook, person, incident.id, kind, tap.act, words)
        )
        if isinstance(made, Refusal):
            return await self._why_not(room, person, incident, tap, made)
        return Answer(text, ref=_ref(made))

    async def _record(self, room: Room, person: Person, tap: Tap, decide: Decide) -> Entry | Refusal:
        return await room.record(person, tap.act, decide)

    def _voted(self, room: Room, person: Person, incident: str, option: str, made: Entry) -> Answer:
        standing = room.ledger.view.incidents[incident]
        at = self._clock(room, person, made)
        chosen = chosen_of(standing, option) or ev.Option(key=option)
        if made.event == "Authorized":
            return Answer(phrases.won(chosen.title, at, made.seq), alert=False, ref=_ref(made))
        if made.event == "AskedAgain":
            return Answer(phrases.renewed(at), ref=_ref(made))
        if made.event == "Denied":
            text = phrases.trusted_without_action(chosen.theory, at, made.seq)
            return Answer(text, alert=False, ref=_ref(made))
        have, need = len(standing.votes().get(option, ())), Quorum.parse(chosen.approve).needs()
        return Answer(phrases.counted(have, need, chosen.title, made.seq), alert=False, ref=_ref(made))

    async def _why_not(
        self, room: Room, person: Person, incident: Incident, tap: Tap, refusal: Refusal
    ) -> Answer:
        if refusal.kind in LEDGER_SAYS:
            return Answer(LEDGER_SAYS[refusal.kind]())
        if refusal.kind == "late":
            return await self._renew(room, person, incident, tap)
        standing = room.ledger.view.incidents[incident.id]
        expired = standing.stage is S.EXPIRED and tap.verb is Verb.APPROVE
        if refusal.kind == "not_open" and expired:
            return await self._renew(room, person, incident, tap)
        text = explain(room, person, standing, tap, refusal)
        return await self.refuse(room, refusal.kind, tap, text, person.id, incident.id)

    async def _renew(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        """An entitled tap on an expired request of an open incident asks again; it approves nothing."""
        await room.ledger.record(Actor.policy(), votes.expire(incident.id))
        late = late_ms(room, incident.id, tap.anchor)
        if tap.verb is not Verb.APPROVE:
            text = phrases.nothing_asked(incident.service)
            return await self.refuse(room, "late", tap, text, person.id, incident.id)
        made = await self._record(
            room, person, tap, votes.ask_again(room.rulebook, person, incident.id, tap.act)
        )
        if isinstance(made, Refusal):
            standing = room.ledger.view.incidents[incident.id]
            text = explain(room, person, standing, tap, made)
            return await self.refuse(room, made.kind, tap, text, person.id, incident.id)
        return Answer(phrases.late_open(late), ref=_ref(made))

    async def _ask_in_private(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        """High risk: show the exact request in private, where a second tap approves it."""
        request, chosen = incident.request, chosen_of(incident, tap.option)
        html = second_look(room, incident, tap.option)
        if not request or not chosen or not html:
            return await self._why_not(room, person, incident, tap, Refusal("not_open"))
        button = Button(Verb.CONFIRM, f"✅ Approve: {chosen.title}"[:60], request.hash, tap.option, "danger")
        sent = await self._post(room, person, Answer(plain(html), html=html, rows=((button,),)))
        return Answer(phrases.second_tap() if sent else phrases.open_the_bot())

    async def confirm(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        html = second_look(room, incident, tap.option)
        card = sha256(html.encode()).hexdigest() if html and tap.private else ""
        sure = replace(tap, verb=Verb.APPROVE, confirmed=tap.private, card=card)
        return await self.approve(room, person, incident, sure)

    async def audit(self, room: Room, person: Person, incident: Incident, tap: Tap) -> Answer:
        return await self._audit(room, person, incident, tap.act)

    @staticmethod
    def _clock(room: Room, person: Person, made: Entry) -> str:
        return hms(epoch_ms(made.at), str(room.zone(person)))


def receipted(answer: Answer) -> Answer:
    """*answer* with the receipt of the entry that it tells of, for which its words give way."""
    if answer.ref is None:
        return answer
    receipt = stamp(answer.ref.seq, answer.ref.hash)
    text = answer.text.removesuffix(f"#{answer.ref.seq}").rstrip()
    html = f"{answer.html}\n<i>{receipt}</i>" if answer.html else ""
    return replace(answer, text=f"{cap(text, phrases.MOST - units(receipt) - 1)} {receipt}", html=html)


def whose(room: Room, tap: Tap) -> Person | None:
    """Who taps: by the vendor's id, or the person that a verified link was made for."""
    return room.people.person(tap.person) if tap.person else room.who(tap.channel, tap.vendor_id)


def _is_settled(room: Room, incident: Incident, tap: Tap) -> bool:
    """Whether *tap* comes to a request that is over: it stays over, so nothing need be asked of the ledger.

    Not where the tap itself was what settled it, and has come again.
    """
    ledger = room.ledger
    known = not ledger.sealed and not ledger.away_since_ms
    return known and votes.is_over(incident, tap.anchor) and not came_before(tap.act, ledger.view)


def _ref(made: Entry) -> ev.Ref:
    return ev.Ref(seq=made.seq, hash=made.hash)


VERBS: Mapping[Verb, Handle] = {
    Verb.APPROVE: Desk.approve,
    Verb.DENY: Desk.deny,
    Verb.ACK: Desk.acknowledge,
    Verb.NOT_INCIDENT: Desk.not_incident,
    Verb.RESOLVE: Desk.resolve,
    Verb.ASK_AGAIN: Desk.ask_again,
    Verb.ESCALATE: Desk.escalate,
    Verb.CAUSE_RIGHT: Desk.opine,
    Verb.CAUSE_WRONG: Desk.opine,
    Verb.NEW_NORMAL: Desk.opine,
    Verb.CONFIRM: Desk.confirm,
    Verb.WITHDRAW: Desk.withdraw,
    Verb.BREAK_GLASS: Desk.break_glass,
    Verb.AUDIT: Desk.audit,
}
