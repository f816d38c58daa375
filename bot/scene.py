"""What a card is told with: the incident, who reads, and the words for its names, times and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bot.words import cap, foreign, hm, hms, percent, span, tenths, units
from handlers.charter import Charter, Quorum
from ledger import events as ev
from ledger.chain import receipt_of
from ledger.events import ENGINEER
from ledger.machine import Fact, Incident

FIRST_LINE = 100
"""What a lock screen shows, in characters."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose card it is. *person* is a charter id, empty for a group."""

    person: str = ""
    timezone: str = "UTC"
    language: str = "en"

    @classmethod
    def of(cls, charter: Charter, person: str = "") -> "Reader":
        known = charter.person(person) if person else None
        return cls(
            person if known else "",
            (known and known.timezone) or charter.tenant.timezone,
            (known and known.language) or charter.tenant.language,
        )


@dataclass(frozen=True, slots=True)
class Notes:
    """What a card says that stands in no fact of its own incident.

    *now* is what policy measures at present. *record* is how often a theory was right here before (`A`, `B`,
    `AB` for both together) and how often an action helped (its id): right, of. *runs* is how often an action
    ran in the last hour. *next_call* is who is called next, and when. *warning* stands on every card.
    *models* is how many are asked. *said* is what a person wrote who declared it; foreign.
    """

    policy: str = ""
    now: ev.Reading | None = None
    record: Mapping[str, tuple[int, int]] = MappingProxyType({})
    runs: Mapping[str, int] = MappingProxyType({})
    next_call: tuple[str, int] | None = None
    warning: str = ""
    reopen_ms: int = 600_000
    warnings_ring: bool = False
    models: int = 2
    said: str = ""


NO_NOTES = Notes()


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of trouble, in words: *still* and *again* follow the service's name, *kind* follows "for"."""

    still: str
    again: str
    kind: str


SIGNALS: Mapping[str, Signal] = {
    "errors": Signal("still failing", "fails again", "failing requests"),
    "latency": Signal("still slow", "is slow again", "slow requests"),
    "hangs": Signal("still hangs", "hangs again", "hanging requests"),
    "traffic": Signal("still without its traffic", "lost its traffic again", "missing traffic"),
    "unreachable": Signal("still does not answer", "does not answer again", "an app that does not answer"),
    "saturation": Signal("still full", "is full again", "something that is full"),
}
_ANY = Signal("still in trouble", "is in trouble again", "this alarm")


@dataclass(frozen=True, slots=True)
class Scene:
    incident: Incident
    charter: Charter
    reader: Reader
    now_ms: int
    codes: Mapping[str, str] = field(default_factory=dict)
    notes: Notes = NO_NOTES

    @property
    def service(self) -> str:
        return foreign(self.incident.service, 32)

    @property
    def reading(self) -> ev.Reading:
        return self.incident.reading

    @property
    def light(self) -> str:
        return "🔴" if self.reading.severity == "critical" else "🟠"

    @property
    def signal(self) -> Signal:
        return SIGNALS.get(self.reading.signal, _ANY)

    def hm(self, ms: int) -> str:
        return hm(ms, self.reader.timezone)

    def hms(self, ms: int) -> str:
        return hms(ms, self.reader.timezone)

    def name(self, person: str) -> str:
        """A person in the middle of a sentence: you, or the charter's name."""
        if person and person == self.reader.person:
            return "you"
        known = self.charter.person(person)
        return foreign(known.name if known else person, 24) or "somebody"

    def subject(self, person: str) -> str:
        """The same where a sentence begins."""
        name = self.name(person)
        return "You" if name == "you" else name

    def names(self, people: Sequence[str], most: int = 4) -> str:
        shown = [self.name(person) for person in people[:most]]
        return ", ".join(shown) + (f" and {len(people) - most} more" if len(people) > most else "")

    def title(self, option: ev.Option, most: int = 64) -> str:
        """What an option is called; an action that the charter no longer has still has its name."""
        return foreign(option.title or option.action, most)

    def short(self, title: str, most: int = 32) -> str:
        """*title* without the name of the service: Restart workers."""
        words = [word for word in title.split() if word.lower() != self.incident.service.lower()]
        return cap(" ".join(words) or title, most)

    def first(self, light: str, what: str, ask: str = "", *, join: str = ". ") -> str:
        """The first line: the notification. *what* is raw, and gives way where it gets too long."""
        tail = f"{join}{ask}" if ask else ""
        room = FIRST_LINE - units(f"{light} {tail}")
        return f"<b>{light} {foreign(what, max(24, room))}{tail}</b>"

    @property
    def trouble(self) -> str:
        """What policy calls it: 19 % of requests fail. Raw."""
        head = self.reading.headline.removeprefix(f"{self.incident.service}:").strip().rstrip(".")
        return head or self.signal.still

    def alarm(self) -> str:
        """checkout: 19 % of requests fail; checkout does not answer its health check. Raw."""
        joint = " " if self.trouble.startswith("does not ") else ": "
        return f"{self.incident.service}{joint}{self.trouble}"

    def stamp(self, fact: Fact) -> str:
        """The receipt of one entry."""
        return f"#{fact.seq} · {receipt_of(fact.hash)}"

    def change(self, before: ev.Reading, after: ev.Reading, *, short: bool = False) -> str:
        """The figure that the alarm is about, before and after: errors 19 → 0.2 %."""
        share = percent if short else tenths
        if self.reading.rule == "network":
            return "the services answer again"
        match self.reading.signal:
            case "latency":
                return f"p95 {span(before.p95_ms)} → {span(after.p95_ms)}"
            case "hangs":
                return f"oldest request {span(before.oldest_ms)} → {span(after.oldest_ms)}"
            case "traffic":
                return f"traffic {before.rps_milli / 1000:.3g} → {after.rps_milli / 1000:.3g} a second"
            case "unreachable":
                return "it answers again" if after.severity == "none" and after.n else "it does not answer"
            case "saturation" | "":
                return f"score {before.score} → {after.score}"
            case _:
                return f"errors {share(before.error_permille)} → {share(after.error_permille)} %"

    def figures(self, before: ev.Reading, after: ev.Reading) -> str:
        """All figures, before and after; the alarm's own first."""
        errors = f"errors {tenths(before.error_permille)} → {tenths(after.error_permille)} %"
        p95 = f"p95 {span(before.p95_ms)} → {span(after.p95_ms)}"
        score = f"score {before.score} → {after.score}"
        if not before.n:
            errors, p95 = f"errors {tenths(after.error_permille)} %", f"p95 {span(after.p95_ms)}"
        return " · ".join(dict.fromkeys((self.change(before, after), errors, p95, score)))

    def able(self, option: ev.Option) -> list[str]:
        """Who may approve *option*: the charter's people, but not who declared or proposed it by hand."""
        by_hand = {f.actor.id for f in self.incident.facts if _asks_by_hand(f)}
        quorum = Quorum.parse(option.approve)
        return [p.id for p in self.charter.approvers(quorum) if p.id not in by_hand]


def _asks_by_hand(fact: Fact) -> bool:
    return isinstance(fact.event, ev.Detected | ev.Proposed) and fact.actor.kind is ENGINEER
