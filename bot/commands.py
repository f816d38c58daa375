"""What a person can type, in every channel: one table of commands, one function each.

`/cmd@bot`, `/cmd` and, in WhatsApp, the bare word mean the same. A stranger learns nothing of a tenant.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape

from bot import by_hand, duty, phrases, votes
from bot.adoption import Adoption
from bot.answer import Desk, receipted
from bot.channels.whatsapp_words import decides_nothing
from bot.conversation import Conversations, Key, Step
from bot.evidence import Evidence
from bot.feedback import feedback
from bot.glass import Wish, review
from bot.order import Order, person_named
from bot.pages import Invitations
from bot.policy_page import policy
from bot.ports import Answer, Said, Tap, Verb
from bot.receipts import stamp
from bot.room import House, Room
from bot.tokens import Codes
from bot.totp_enrol import totp
from bot.unlinking import unlink
from bot.week import week
from bot.words import hm
from handlers.shadow import MemoryShelf, Shelf
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Event, Ref
from ledger.ledger import Decide, Refusal
from ledger.machine import Incident, Stage
from ledger.view import View

STRANGER = "I do not know you. Ask an admin of your team for a /link code, then send /link CODE."
STAGE_WORDS: Mapping[Stage, str] = {
    Stage.DETECTED: "looking",
    Stage.PROPOSED: "preparing a request",
    Stage.WITHHELD: "nothing can be offered now",
    Stage.VALIDATED: "waiting for your approval",
    Stage.AUTHORIZED: "approved, starting",
    Stage.DENIED: "denied, still open",
    Stage.EXPIRED: "nobody answered, nothing was run",
    Stage.STOOD_DOWN: "approved, then not run",
    Stage.EXECUTING: "running",
    Stage.EXECUTED: "ran, checking whether it helped",
    Stage.WEBHOOK_FAILED: "the webhook failed",
    Stage.UNKNOWN: "ran or not: unknown, report it with /outcome",
    Stage.NOT_RECOVERED: "ran and did not help",
    Stage.INCONCLUSIVE: "ran, no traffic to tell",
    Stage.RECOVERED: "recovered",
    Stage.RESOLVED: "closed",
}
MOST_LISTED = 8
ASKED = frozenset({"code", "glass"})
"""The conversations in which a wish goes on."""
NAMED = re.compile(r"\w-\d+\W*$|[./\\<>]")
"""What is meant as an incident's name, though there is no such incident."""

type OfService = Callable[[Order], Awaitable[Answer]]


class Commands:
    """The desk for typed words. *condition* tells how the program itself is, in lines for /status.

    *invitations* makes approval links where this program has an address that people can open. *shadows* is
    where what rules in shadow would have said is kept. *of_service* tells of one service.
    """

    def __init__(
        self,
        house: House,
        desk: Desk,
        adoption: Adoption,
        codes: Codes,
        conversations: Conversations,
        condition: Callable[[Room], Sequence[str]],
        evidence: Evidence,
        invitations: Invitations | None = None,
        shadows: Shelf | None = None,
        of_service: OfService | None = None,
    ) -> None:
        self._house = house
        self._desk = desk
        self._adoption = adoption
        self._codes = codes
        self._conversations = conversations
        self._condition = condition
        self._invitations = invitations
        self._evidence = evidence
        self._shadows = shadows or MemoryShelf()
        self._of_service = of_service

    async def tapped(self, tenant: str, tap: Tap) -> Answer:
        """Answer a tap. *tenant* is empty where nobody knows whose it is."""
        room = self._house.rooms.get(tenant)
        if room is None:
            return Answer(phrases.unknown_person())
        if tap.verb is not Verb.ADOPT:
            answer = await self._go_on(room, tap, await self._desk.tapped(tenant, tap))
            return await self._ask_why(room, tap, answer)
        person = room.who(tap.channel, tap.vendor_id)
        if person is None or not tap.genuine:
            return await self._desk.refuse(room, "stranger", tap, "Only an admin can adopt a charter.")
        return await self._adoption.adopt(room, person, tap)

    async def said(self, tenant: str, said: Said) -> Answer | None:
        """Answer a command or a word that somebody waits for. None where words are not for us."""
        room = self._house.rooms.get(tenant)
        name, words = _parse(said)
        person = room.who(said.channel, said.vendor_id) if room else None
        if name in {"start", "link"} and words and not (person and room and person_named(room, words)):
            return await self._redeem(
                [room] if person and room else [*self._house.rooms.values()], said, words
            )
        if person is None or room is None:
            return await self._unknown(room, said, name)
        if name in COMMANDS:
            return await COMMANDS[name].run(self, Order(room, person, said, words))
        if name and name != "cancel":
            return Answer(f"There is no /{name}. /help lists what there is.")
        return await self._free(Order(room, person, said, said.text.strip()))

    async def _unknown(self, room: Room | None, said: Said, name: str) -> Answer | None:
        """A stranger learns nothing. A command in a tenant's chat is on record, as a tap there is."""
        if room is None or name not in COMMANDS:
            return Answer(STRANGER) if name or said.private else None
        tap = Tap(said.channel, said.vendor_id, said.chat, Verb.AUDIT, "", said.act)
        return await self._desk.refuse(room, "stranger", tap, STRANGER)

    async def _redeem(self, rooms: Sequence[Room], said: Said, code: str) -> Answer:
        """Use a code of whichever tenant it is of. It counts in a private chat alone."""
        if not said.private or not said.vendor_id:
            return Answer("Send me this code in a private chat.")
        for room in rooms:
            redeemed = await self._adoption.redeem(room, said.channel, said.vendor_id, code, said.act)
            if redeemed:
                return redeemed
        return Answer("That code is not valid here, or was used. Ask for a new one.")

    async def _free(self, order: Order) -> Answer | None:
        """Words without a command: a reason that was asked for, or RUN 4812 and NO 4812."""
        head = order.first.upper()
        if head in {"RUN", "A", "APPROVE"} and order.rest:
            return await self.approve(order.with_words(order.rest))
        if head in {"NO", "D", "DENY"} and order.rest:
            return await self.deny(order.with_words(order.rest))
        if answer := await self._talk(order):
            return answer
        return await self._idle_words(order) if order.said.private else None

    async def _talk(self, order: Order) -> Answer | None:
        """What the words mean in the conversation that this person is in; None where they are in none."""
        key = Key(order.room.tenant, order.said.channel, order.said.vendor_id)
        step = await self._conversations.feed(key, order.words)
        if step is None:
            return None
        if not step.done:
            return Answer(step.say)
        if step.flow in ASKED:
            return await self._wished(order, step)
        return await self._note(order.with_words(step.data["reason"]), step.data["incident"])

    async def _wished(self, order: Order, step: Step) -> Answer:
        """The person has said what their wish, which was kept in the conversation, still wanted."""
        if not order.said.private:
            return Answer("Nothing was run: that belongs into our private chat. Tap there again.")
        kept = step.data
        tap = order.tap(Verb(kept["verb"]), kept["anchor"], kept["option"], kept["words"])
        tap = replace(tap, code=kept.get("digits", "").replace(" ", ""), confirmed=True)
        return await self._go_on(order.room, tap, await self._desk.tapped(order.room.tenant, tap))

    async def _go_on(self, room: Room, tap: Tap, answer: Answer) -> Answer:
        """*answer*, and where it asks for more, the conversation in which that is said."""
        if not answer.asks:
            return answer
        kept = {"verb": tap.verb, "anchor": tap.anchor, "option": tap.option, "words": tap.words}
        key = Key(room.tenant, tap.channel, tap.vendor_id)
        step = await self._conversations.begin(answer.asks, key, kept)
        said = answer.html or escape(answer.text, quote=False)
        return replace(answer, html=f"{said}\n{escape(step.say, quote=False)}")

    async def _idle_words(self, order: Order) -> Answer:
        """Nobody waits for these words. A bare yes approves nothing, and that it was said is on record."""
        asked = any(incident.request for incident in order.room.ledger.view.open())
        if not asked or not decides_nothing(order.words):
            return Answer("Send status, audit or help.")
        return await self._desk.tapped(order.room.tenant, order.tap(Verb.AUDIT, ""))

    async def _ask_why(self, room: Room, tap: Tap, answer: Answer) -> Answer:
        """After Deny, the next words of that person are the reason."""
        incident = room.ledger.view.anchored(tap.anchor)
        if tap.verb is not Verb.DENY or answer.ref is None or incident is None or tap.words:
            return answer
        key = Key(room.tenant, tap.channel, tap.vendor_id)
        step = await self._conversations.begin("deny", key, {"incident": incident.id})
        receipt = stamp(answer.ref.seq, answer.ref.hash)
        return replace(answer, html=f"{escape(step.say, quote=False)}\n<i>{receipt}</i>")

    async def _note(self, order: Order, incident: str) -> Answer:
        words = await order.room.keep_words(order.words)
        made = await self._record(
            order,
            lambda v, n: ev.Noted(incident_id=incident, decision="note", words=words, act=order.said.act),
        )
        if isinstance(made, Refusal):
            return Answer(f"Not noted: {made.why}")
        return _done("Noted, with your name.", made)

    async def start(self, order: Order) -> Answer:
        return Answer(
            f"Hello {order.person.name}. I tell you here when something breaks. /help shows the rest."
        )

    async def help(self, order: Order) -> Answer:
        lines = [f"/{name} {command.says}" for name, command in COMMANDS.items()]
        return Answer("\n".join(lines))

    async def totp(self, order: Order) -> Answer:
        return await totp(order, self._desk.step_up)

    async def breakglass(self, order: Order) -> Answer:
        """`/breakglass INCIDENT ACTION reason`: the second look; then BREAK GLASS, in words."""
        wish = Wish(order)
        if not wish.option:
            return Answer(wish.unknown)
        tap = order.tap(Verb.BREAK_GLASS, wish.anchor, wish.option, wish.why)
        return await self._go_on(order.room, tap, await self._desk.tapped(order.room.tenant, tap))

    async def review(self, order: Order) -> Answer:
        return await review(order)

    async def code(self, order: Order) -> Answer:
        """`/code 123456`: the same as the digits alone, where they were asked for."""
        answer = await self._talk(order) if order.words else None
        return answer or Answer("Nobody asked you for a code. Tap Approve first; then send the six digits.")

    async def whoami(self, order: Order) -> Answer:
        roles = ", ".join(order.person.roles) or "no role"
        return Answer(f"You are {order.person.name} ({order.person.id}): {roles}. Times are in {order.zone}.")

    async def link(self, order: Order) -> Answer:
        """`/link PERSON CHANNEL`, by an admin: a code that this person sends from that account."""
        person = person_named(order.room, order.first)
        if person is None:
            return Answer("Send /link CODE with the code you were given; an admin sends /link PERSON.")
        if "admin" not in order.person.roles:
            return Answer("Only an admin can issue a link code.")
        channel = order.rest.lower() or "telegram"
        code = await self._adoption.issue(order.room, person, channel, order.person.id)
        return Answer(f"{person.name} sends me, from {channel}, within ten minutes:\n/link {code}")

    async def unlink(self, order: Order) -> Answer:
        return await unlink(order)

    async def status(self, order: Order) -> Answer:
        if order.first.lower() == "week":
            return await week(order)
        if order.first and self._of_service:
            return await self._of_service(order)
        room = order.room
        lines = [*self._condition(room)]
        opened = room.ledger.view.open()
        lines += [_incident_line(i, order.zone) for i in opened[:MOST_LISTED]]
        if not opened:
            lines.append("No open incident.")
        return Answer("\n".join(lines))

    async def incidents(self, order: Order) -> Answer:
        view = order.room.ledger.view
        found = sorted(view.incidents.values(), key=lambda i: (i.is_open, i.facts[-1].seq), reverse=True)
        lines = [_incident_line(i, order.zone) for i in found[:MOST_LISTED]]
        return Answer("\n".join(lines) or "There was no incident yet.")

    async def incident(self, order: Order) -> Answer:
        found = self._pick(order)
        if found is None:
            return Answer("I know no such incident. /incidents lists them.")
        return await self._evidence.auditing.incident(order.room, order.person, found, order.said.act)

    async def audit(self, order: Order) -> Answer:
        return await self._evidence.auditing.audit(order)

    async def reconcile(self, order: Order) -> Answer:
        return await self._evidence.reconciling.reconcile(order)

    async def access(self, order: Order) -> Answer:
        return await self._evidence.access.access(order)

    async def erase(self, order: Order) -> Answer:
        return await self._evidence.erasing.erase(order)

    async def approve(self, order: Order) -> Answer:
        """`/approve 4812`; in private, without a code: what is asked, as links."""
        if not order.words and order.said.private and self._invitations:
            return self._links(order, self._invitations)
        return await self._by_code(order, Verb.APPROVE, "/approve 4812")

    async def deny(self, order: Order) -> Answer:
        return await self._by_code(order, Verb.DENY, "/deny 4812 reason")

    async def ask(self, order: Order) -> Answer:
        return await self._about(order, Verb.ASK_AGAIN)

    async def withdraw(self, order: Order) -> Answer:
        return await self._about(order, Verb.WITHDRAW)

    async def ack(self, order: Order) -> Answer:
        return await self._about(order, Verb.ACK)

    async def resolve(self, order: Order) -> Answer:
        return await self._about(order, Verb.RESOLVE)

    async def feedback(self, order: Order) -> Answer:
        return await feedback(order, self._desk.tapped)

    async def outcome(self, order: Order) -> Answer:
        """`/outcome checkout-3 ran|did_not_run words`: what a person found out."""
        found = order.room.ledger.view.incidents.get(order.first)
        report, _, words = order.rest.partition(" ")
        if found is None or report not in {"ran", "did_not_run"}:
            return Answer("Send /outcome INCIDENT ran, or /outcome INCIDENT did_not_run, and what you saw.")
        kept = await order.room.keep_words(words)
        made = await self._record(
            order,
            lambda v, n: ev.OutcomeReported(
                incident_id=found.id,
                decision=report,
                reason=f"A person reports: {report.replace('_', ' ')}",
                outcome=report,
                words=kept,
                act=order.said.act,
            ),
        )
        return Answer(f"Not recorded: {made.why}") if isinstance(made, Refusal) else _done("On record.", made)

    async def run(self, order: Order) -> Answer:
        return await by_hand.run(order)

    async def declare(self, order: Order) -> Answer:
        return await by_hand.declare(order)

    async def policy(self, order: Order) -> Answer:
        return await policy(order, self._shadows)

    async def dlq(self, order: Order) -> Answer:
        return await by_hand.dlq(order)

    async def oncall(self, order: Order) -> Answer:
        return await duty.oncall(order)

    async def maintenance(self, order: Order) -> Answer:
        return await duty.declare(order)

    async def pause(self, order: Order) -> Answer:
        return await duty.pause(order)

    async def resume(self, order: Order) -> Answer:
        """Who may approve nothing does not open the way for what others approve either."""
        if not votes.in_charge(order.room.people, order.person):
            tap, why = order.tap(Verb.RESOLVE, ""), "Only an approver or an admin ends a pause."
            return await self._desk.refuse(order.room, "not_entitled", tap, why, order.person.id)

        def decide(view: View, now: datetime) -> Event | Refusal:
            if view.paused is None:
                return Refusal("running", "it is not paused")
            return ev.Resumed(decision="resume", reason="Resumed by a person", act=order.said.act)

        made = await self._record(order, decide)
        return Answer(f"Not changed: {made.why}.") if isinstance(made, Refusal) else _done("Resumed.", made)

    @staticmethod
    def _links(order: Order, invitations: Invitations) -> Answer:
        lines: list[str] = []
        for incident in order.room.ledger.view.open():
            invited = invitations.of(order.room, order.person, incident)
            lines += [_incident_line(incident, order.zone)] if invited else []
            lines += [f"{one.label}\n{one.url}" for one in invited]
        if not lines:
            return Answer("Nothing is asked that you could approve. /status shows how everything is.")
        lines.append("Each opens a page that shows what would run. It is yours alone, for five minutes.")
        return Answer("\n\n".join(lines))

    async def _by_code(self, order: Order, verb: Verb, example: str) -> Answer:
        if not order.first.isdigit():
            return Answer(f"Send the code that stands on the card: {example}")
        room, said = order.room, order.said
        mine = {order.person.id} | ({_chat_recipient(room, said.chat)} - {""})
        by = f"{said.channel}:{said.vendor_id}"
        grant = await self._codes.redeem(room.tenant, by, order.first, mine)
        if grant is None:
            tap = order.tap(verb, "")
            text = "No open request has that code for you. Nothing was run. The newest card shows the code."
            return await self._desk.refuse(room, "wrong_code", tap, text, order.person.id)
        return await self._desk.tapped(room.tenant, order.tap(verb, grant.anchor, grant.option, order.rest))

    async def _about(self, order: Order, verb: Verb) -> Answer:
        found = self._pick(order)
        if found is None:
            return Answer("Which incident? /incidents lists them; with one open its name is not needed.")
        words = order.rest if order.first == found.id else order.words
        tap = order.tap(verb, found.facts[0].hash, words=words)
        return await self._desk.tapped(order.room.tenant, tap)

    def _pick(self, order: Order) -> Incident | None:
        """The incident that was named, or the only open one where none was: never another than was named."""
        view = order.room.ledger.view
        opened = view.open()
        if named := view.incidents.get(order.first):
            return named
        return opened[0] if len(opened) == 1 and not NAMED.search(order.first) else None

    @staticmethod
    async def _record(order: Order, decide: Decide) -> Entry | Refusal:
        return await order.room.record(order.person, order.said.act, decide)


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the menu: what it does in a few words, and what runs."""

    says: str
    run: Callable[[Commands, Order], Awaitable[Answer]]


COMMANDS: Mapping[str, Command] = {
    "status": Command("how everything is; /status checkout, /status week: who was woken", Commands.status),
    "incidents": Command("what is open, and the newest closed", Commands.incidents),
    "incident": Command("one incident: /incident checkout-3", Commands.incident),
    "audit": Command("the ledger: today, checkout-3, verify, receipt, export", Commands.audit),
    "reconcile": Command("whether the books balance, with a period or without", Commands.reconcile),
    "approve": Command("approve by the card's code: /approve 4812", Commands.approve),
    "deny": Command("deny by the card's code: /deny 4812 reason", Commands.deny),
    "withdraw": Command("take your approval back, before it ran", Commands.withdraw),
    "ask": Command("ask again, with fresh numbers", Commands.ask),
    "ack": Command("I am on it: no more calls for ten minutes", Commands.ack),
    "resolve": Command("close an incident", Commands.resolve),
    "feedback": Command("say what it was: /feedback checkout-3 not", Commands.feedback),
    "outcome": Command("report what happened: /outcome checkout-3 ran", Commands.outcome),
    "run": Command("propose an action: /run checkout restart_workers", Commands.run),
    "declare": Command("open an incident: /declare checkout what you see", Commands.declare),
    "breakglass": Command(
        "approve alone, in private: /breakglass checkout-3 ACTION why", Commands.breakglass
    ),
    "review": Command("sign off a broken glass: /review checkout-3", Commands.review),
    "dlq": Command("what failed for good: /dlq replay 51", Commands.dlq),
    "policy": Command("every threshold, its source and its record: /policy err_crit", Commands.policy),
    "oncall": Command("who is on call: /oncall override rudo until 18:00", Commands.oncall),
    "maintenance": Command("leave alone: /maintenance checkout until 2h why", Commands.maintenance),
    "pause": Command("nothing executes until /resume; or /pause until 2h why", Commands.pause),
    "resume": Command("ends /pause", Commands.resume),
    "totp": Command("a second factor for what is risky; in private", Commands.totp),
    "code": Command("the six digits that were asked for: /code 123456", Commands.code),
    "whoami": Command("who I think you are", Commands.whoami),
    "access": Command("who may do what: /access review", Commands.access),
    "erase": Command("what a person typed leaves the vault; takes two admins", Commands.erase),
    "link": Command("link an account with a code", Commands.link),
    "unlink": Command("unlink this account; by an admin: /unlink rudo", Commands.unlink),
    "help": Command("this list", Commands.help),
    "start": Command("say hello", Commands.start),
}


def _done(text: str, made: Entry) -> Answer:
    return receipted(Answer(text, ref=Ref(seq=made.seq, hash=made.hash)))


DECIDING = frozenset({"approve", "deny", "run", "breakglass", "review", "code"})
"""Commands that need their stroke. A bare RUN 4812 is an approval, `/run checkout restart_workers` is not; a
reason that somebody is asked for may begin with review or code."""


def _parse(said: Said) -> tuple[str, str]:
    """The command and its words; an empty command for free words. WhatsApp knows bare words too."""
    head, _, words = said.text.strip().partition(" ")
    if head.startswith("/"):
        return head[1:].partition("@")[0].lower(), words.strip()
    bare = head.lower()
    if said.channel == "whatsapp" and bare in COMMANDS and bare not in DECIDING:
        return bare, words.strip()
    return "", said.text.strip()


def _chat_recipient(room: Room, chat: str) -> str:
    return next((a.recipient for a in room.addresses() if a.to == chat and not a.person), "")


def _incident_line(incident: Incident, zone: str) -> str:
    mark = "🔴" if incident.is_open else "✅"
    since = hm(incident.opened_ms, zone)
    return f"{mark} {incident.id} since {since}: {incident.reading.headline}. {STAGE_WORDS[incident.stage]}."
