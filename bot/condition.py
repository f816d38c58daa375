"""How Countersign itself is, in the few lines that /status begins with and that /readyz and /metrics read."""

from collections.abc import Sequence
from dataclasses import dataclass

from bot.adoption import Adoption
from bot.offbox import Lag, OffBox
from bot.outbox import Outbox
from bot.policy_page import in_shadow
from bot.room import Room
from bot.witnessed import Witnessed
from bot.words import at
from detectors.mode import Mode, mode
from handlers import maintenance
from handlers.budget import left_micros
from handlers.charter import Charter
from handlers.detect import Detect
from handlers.poll import Poller
from handlers.rota import turn
from ledger.events import PageFailed
from ledger.store import Durability


@dataclass(slots=True)
class Condition:
    """What is known of one tenant's work in this process. *asks_models* is false without a key."""

    room: Room
    detect: Detect
    poller: Poller
    adoption: Adoption
    asks_models: bool
    outbox: Outbox
    charter_mistake: str = ""
    offbox: OffBox | None = None
    witness: Witnessed | None = None

    @property
    def mode(self) -> Mode:
        """NORMAL, DEGRADED or EMERGENCY, from Redis, sending and polling."""
        ledger = self.room.ledger
        missed, of = self.detect.unanswered()
        polls_ok = of < 3 or 2 * missed < of
        return mode(redis_ok=not ledger.away_since_ms, sends_ok=not self.outbox.failing, polls_ok=polls_ok)

    @property
    def lag(self) -> Lag:
        """How far the copy off the box is behind; none where there is no copy."""
        return self.offbox.lag() if self.offbox else Lag(0)

    def lines(self) -> Sequence[str]:
        """One line each: mode and ledger, what is in force, models, services, a pause."""
        room = self.room
        found = [f"{self.mode}. {self._ledger()}", self._rules()]
        if not self.asks_models:
            found.append("No model is asked: policy names the action (ANTHROPIC_API_KEY is not set).")
        found += [f"⚠️ {caveat}" for caveat in room.ledger.caveats()]
        found += [self.offbox.lag().sentence] if self.offbox else []
        found += [self.witness.seen().sentence] if self.witness else []
        found += self._services()
        found += in_shadow(room.rulebook.policy(room.ledger.view))
        found += self._unreached()
        found += self._duty()
        if room.ledger.view.is_paused(room.now_ms()):
            found.append("⏸ Paused: nothing executes until /resume.")
        if self.charter_mistake:
            found.append(f"⚠️ The charter's file is wrong; the old one stays in force. {self.charter_mistake}")
        return found

    def _ledger(self) -> str:
        ledger = self.room.ledger
        if ledger.sealed:
            return f"⚠️ The ledger is sealed: {ledger.sealed} Nothing executes until a person looks."
        if ledger.away_since_ms:
            return "⚠️ The ledger cannot be reached. Nothing executes until it can."
        kept = ledger.durability
        if kept is Durability.DURABLE:
            return f"Ledger: {ledger.view.head.seq} entries, each on disk before it counts."
        return f"⚠️ Ledger: {ledger.view.head.seq} entries. {kept.sentence}"

    def _rules(self) -> str:
        rules = self.room.ledger.view.rules
        if not rules.charter:
            return "⚠️ No charter is in force: nothing is watched. An admin sends the console's code."
        if self.adoption.pending(self.room):
            return f"Policy {rules.label}. ⚠️ A changed charter waits for an admin's Adopt."
        return f"Policy {rules.label}, charter {rules.charter[:8]}."

    def _duty(self) -> list[str]:
        """Who is on call where a rota says so, what is in maintenance, and whether models are still asked."""
        room, charter = self.room, self.room.charter
        if charter is None:
            return []
        view, now_ms, zone = room.ledger.view, room.now_ms(), charter.tenant.timezone
        now, limit = turn(charter, view, now_ms), charter.limits.model_usd_per_day
        ends = {one.id: maintenance.until_ms(charter, view, one.id, now_ms) for one in charter.services}
        found = [f"On call: {_name(charter, now.person)}, until {_day(now.until_ms, zone)}."] if now else []
        found += [f"🔧 {name} is in maintenance until {_day(ms, zone)}." for name, ms in ends.items() if ms]
        if self.asks_models and left_micros(charter, view, now_ms) <= 0:
            found.append(f"⚠️ No model is asked any more today: ${limit} is spent.")
        return found

    def _unreached(self) -> list[str]:
        """Who was not told of what is open, and why."""
        failed = [e for i in self.room.ledger.view.open() for _, e in i.every(PageFailed)]
        return [f"⚠️ {one.channel} did not reach {one.recipient}: {one.why or 'refused'}." for one in failed]

    def _services(self) -> list[str]:
        charter = self.room.charter
        names = [service.id for service in charter.services] if charter else []
        return [self._service(name) for name in names] + [
            line for name in names for line in self._caveats(name)
        ]

    def _caveats(self, name: str) -> list[str]:
        """What makes the figures of *name* less sure than they look: silent workers, a clock that was set."""
        seen = self.detect.latest(name)
        known = seen is not None and seen.is_news(self.room.now_ms(), self.detect.fresh_ms)
        return [f"⚠️ {name}: {caveat}" for caveat in seen.verdict.caveats] if seen and known else []

    def _service(self, name: str) -> str:
        seen = self.detect.latest(name)
        if seen is None:
            return f"{name}: not seen yet"
        age_ms = self.room.now_ms() - seen.at_ms
        if not seen.is_news(self.room.now_ms(), self.detect.fresh_ms):
            return f"{name}: not known now, last looked at {max(0, age_ms) // 1000} s ago"
        if seen.missed:
            return f"{name}: does not answer, {seen.missed} polls missed"
        numbers, score = seen.verdict.numbers, seen.verdict.score
        rate = f"{numbers.rps_milli / 1000:.1f} req/s, {numbers.error_permille / 10:g} % errors"
        return f"{name}: {score}/100, {rate}, p95 {numbers.p95_ms} ms"


def _name(charter: Charter, person: str) -> str:
    found = charter.person(person)
    return found.name if found else person


def _day(ms: int, zone: str) -> str:
    return f"{at(ms, zone):%a %H:%M}"
