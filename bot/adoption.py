"""How a charter comes into force, and how people are linked to their chat accounts.

1. The first charter is adopted with the console's one-time code, by an admin that it names.
2. After that, a file alone changes nothing: an admin of the charter in force taps Adopt.
3. The texts are kept by digest before the entry that names them.
4. A link code is for one person and one channel, works once and for ten minutes.
5. Whom a new charter does not name any more is unlinked with it.
"""

import hmac
from datetime import datetime
from typing import Protocol

from bot import phrases
from bot.answer import receipted
from bot.ports import Answer, Button, Tap, Verb
from bot.room import Room
from bot.roster import console_code
from bot.unlinking import unlink_gone
from bot.words import hms
from detectors.policy import Policy
from handlers.charter import Charter, Person
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Act, Actor, Event
from ledger.ledger import Refusal
from ledger.view import View, epoch_ms

MOST_CHANGES = 12


class LinkCodes(Protocol):
    """Codes that link a person to an account: kept hashed, for ten minutes, for one use."""

    async def issue(self, tenant: str, person: str, channel: str, by: str) -> str: ...

    async def redeem(self, tenant: str, code: str) -> tuple[str, str, str] | None:
        """The person, the channel and who issued it; None where no such code stands."""


class Adoption:
    def __init__(self, secret: bytes, codes: LinkCodes) -> None:
        self._secret = secret
        self._codes = codes
        self._digests: dict[str, tuple[Charter, Policy, tuple[str, str]]] = {}

    def console_code(self, room: Room) -> str:
        return console_code(self._secret, room.tenant)

    def pending(self, room: Room) -> bool:
        """Whether the file holds a charter or a policy that is not in force."""
        rules = room.ledger.view.rules
        return (rules.charter, rules.policy) != self._proposed(room)

    def _proposed(self, room: Room) -> tuple[str, str]:
        """The digests of what the file holds: asked every few seconds, and with a thousand people a tenth of
        a second's work."""
        charter, policy = room.proposed, room.proposed_policy
        kept = self._digests.get(room.tenant)
        if kept is None or kept[0] is not charter or kept[1] is not policy:
            kept = self._digests[room.tenant] = charter, policy, (charter.digest(), policy.digest())
        return kept[2]

    async def redeem(self, room: Room, channel: str, vendor_id: str, code: str, act: Act) -> Answer | None:
        """Use *code*, the console's or a link code. None where it is no code of this tenant."""
        code = code.strip().upper()
        if hmac.compare_digest(code.encode(), self.console_code(room).encode()):
            return await self._first(room, channel, vendor_id, act)
        found = await self._codes.redeem(room.tenant, code)
        if found is None or found[1] != channel:
            return None
        person = room.people.person(found[0])
        return await self._link(room, person, channel, vendor_id, found[2], act) if person else None

    async def issue(self, room: Room, person: Person, channel: str, by: str) -> str:
        return await self._codes.issue(room.tenant, person.id, channel, by)

    async def adopt(self, room: Room, person: Person, tap: Tap) -> Answer:
        """An admin of the charter in force puts the file's charter into force."""
        if "admin" not in person.roles:
            return Answer("Only an admin of the charter in force can adopt another. Nothing changed.")
        if not room.proposed.digest().startswith(tap.anchor):
            return Answer(
                "The file has changed since this was asked. Nothing changed; use the newest message."
            )
        made = await self._adopt(room, person, tap.channel, tap.act, by_console=False)
        return made if isinstance(made, Answer) else self._adopted(room, person, made)

    def question(self, room: Room) -> Answer:
        """What admins are asked while a charter waits for adoption."""
        changed = self._changes(room)
        listed = "\n".join(f"· {line}" for line in changed) or "· the policy's thresholds"
        text = f"A changed charter waits in the file. In force stays what was adopted.\n{listed}"
        anchor = room.proposed.digest()
        return Answer(text, rows=((Button(Verb.ADOPT, "✅ Adopt", anchor),),))

    async def _first(self, room: Room, channel: str, vendor_id: str, act: Act) -> Answer:
        if room.ledger.view.rules.charter:
            return Answer("This code was used already. Ask an admin for a /link code.")
        person = self._first_admin(room, channel, vendor_id)
        if person is None:
            return Answer("The charter names no admin for this account. Nothing was adopted.")
        if room.who(channel, vendor_id) is None:
            answer = await self._link(room, person, channel, vendor_id, "console", act)
            if answer.ref is None:
                return answer
        made = await self._adopt(room, person, channel, act, by_console=True)
        return made if isinstance(made, Answer) else self._adopted(room, person, made)

    @staticmethod
    def _first_admin(room: Room, channel: str, vendor_id: str) -> Person | None:
        known = room.who(channel, vendor_id)
        if known:
            return known if "admin" in known.roles else None
        admins = (p for p in room.proposed.people if "admin" in p.roles)
        return next((p for p in admins if not room.roster.written(p, channel)), None)

    async def _link(
        self, room: Room, person: Person, channel: str, vendor_id: str, issued_by: str, act: Act
    ) -> Answer:
        hidden = room.roster.commitment(channel, vendor_id)

        def decide(view: View, now: datetime) -> Event | Refusal:
            return ev.Linked(
                decision="link",
                reason=f"{person.name} on {channel}",
                person=person.id,
                channel=channel,
                identity=hidden,
                issued_by=issued_by,
                act=act,
            )

        made = await room.ledger.record(Actor.engineer(person.id, channel), decide)
        if isinstance(made, Refusal):
            return Answer(f"Not linked: {made.why}")
        await room.roster.link(person, channel, vendor_id)
        return receipted(Answer(f"You are {person.name} now. /help shows what you can do.", ref=_ref(made)))

    async def _adopt(
        self, room: Room, person: Person, channel: str, act: Act, *, by_console: bool
    ) -> Entry | Answer:
        charter, policy = room.proposed, room.proposed_policy
        changed = tuple(self._changes(room))
        await room.keep_rules()
        if room.proposed is not charter:
            return Answer("The file changed at this very moment. Nothing else did; try again.")
        before = room.ledger.view.rules

        def decide(view: View, now: datetime) -> Event | Refusal:
            if view.rules != before:
                return Refusal("moved", "somebody adopted another one a moment ago")
            return ev.CharterAdopted(
                decision="adopt",
                reason="First charter, by console code" if by_console else self._why(room),
                digest=charter.digest(),
                policy_digest=policy.digest(),
                policy_label=policy.label,
                changed=changed,
                by_console=by_console,
                act=act,
            )

        made = await room.ledger.record(Actor.engineer(person.id, channel), decide)
        if isinstance(made, Refusal):
            return Answer(f"Not adopted: {made.why}")
        await unlink_gone(room, person, act, charter)
        return made

    @staticmethod
    def _why(room: Room) -> str:
        admins = [p for p in room.people.people if "admin" in p.roles]
        return "Changed charter" if len(admins) > 1 else "Changed charter, by its only admin"

    @staticmethod
    def _adopted(room: Room, person: Person, made: Entry) -> Answer:
        at = hms(epoch_ms(made.at), str(room.zone(person)))
        services = ", ".join(s.id for s in room.proposed.services) or "no service"
        text = f"{phrases.adopted(at)} Watching {services}."
        return receipted(Answer(text, ref=_ref(made)))

    @staticmethod
    def _changes(room: Room) -> list[str]:
        before = room.charter
        return changes(before, room.proposed) if before else []


def changes(before: Charter, after: Charter) -> list[str]:
    """What differs, a line each, without contacts: `people: tendai added`."""
    lines: list[str] = []
    for group in ("people", "services"):
        old = {one.id: one for one in getattr(before, group)}
        new = {one.id: one for one in getattr(after, group)}
        lines += [f"{group}: {name} added" for name in new.keys() - old.keys()]
        lines += [f"{group}: {name} removed" for name in old.keys() - new.keys()]
        lines += [f"{group}: {name} changed" for name in old.keys() & new.keys() if old[name] != new[name]]
    for part in ("tenant", "limits", "chats", "policy", "rules", "rota", "escalation", "maintenance"):
        if getattr(before, part) != getattr(after, part):
            lines.append(f"{part} changed")
    return sorted(lines)[:MOST_CHANGES]


def _ref(made: Entry) -> ev.Ref:
    return ev.Ref(seq=made.seq, hash=made.hash)
