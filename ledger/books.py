"""The books, entry by entry: what was authorized, what became of it, and each control judged again. Pure.

Nothing here trusts the rules that the entries were written under. Each exception is found once.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ledger import events as ev
from ledger.balance import COLUMNS, Finding, Kind, Report, Row
from ledger.chain import canonical, leaf_hash
from ledger.events import ENGINEER
from ledger.receipts import Count, Secrets, wrong
from ledger.shapes import Line, loose
from ledger.terms import Term, Terms
from ledger.view import epoch_ms

SETTLED_MS = 330_000
"""So long an authorization may be open: a first try starts within a minute, a later one within five, and the
last ends 12 s after it began (handlers.preconditions, handlers.execute)."""
NO_SECRETS = Secrets()
PAGED_MS = 60_000
"""So long a request may be open before somebody must have been reached."""


@dataclass(slots=True)
class Request:
    """A Validated entry, as far as it binds an answer."""

    hash: str
    options: Mapping[str, tuple[str, str]]
    """Action and digest by the option's key."""
    votes: list[tuple[str, str]] = field(default_factory=list)
    """Who stands for which option, in order."""

    def voters(self, option: str) -> list[str]:
        """Who stands for *option*, in order."""
        return [who for who, chosen in self.votes if chosen == option]


@dataclass(slots=True)
class Authorization:
    """One credit, and what became of it."""

    seq: int
    at_ms: int
    incident: str
    service: str
    action: str
    digest: str
    outcomes: list[tuple[int, str]] = field(default_factory=list)
    until_ms: int = 0
    receipt: str = ""
    differs: bool = False
    floor: int | None = None
    """The app's highest count when its first try began: what it runs now counts higher."""


@dataclass(slots=True)
class Story:
    """What is remembered of one incident."""

    service: str
    proposers: tuple[str, ...] = ()
    request: Request | None = None
    """The newest."""
    asked: tuple[int, int] | None = None
    """Seq and time of the first request."""
    paged: bool = False


class Books:
    """Takes one entry after the other, in order, and can say at any time what the books say.

    *texts* are the charters' texts by digest, *secrets* those that apps sign their receipts with.
    """

    def __init__(self, texts: Mapping[str, str], secrets: Secrets = NO_SECRETS) -> None:
        self._texts, self._secrets = texts, secrets
        self._terms: dict[str, Terms | None] = {"": None}
        self._charter = ""
        self._admitted: dict[tuple[str, str, tuple[str, ...]], bool] = {}
        self._label = "none"
        self._links: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._stories: dict[str, Story] = {}
        self._credits: dict[str, Authorization] = {}
        self._strays: dict[tuple[str, str], tuple[int, int]] = {}
        self._debits: list[tuple[int, str, str]] = []
        self._counts: dict[tuple[str, str], Count] = {}
        self._found: list[tuple[int, Finding]] = []
        self._mislabelled: set[tuple[str, str]] = set()
        self._tenant = ""
        self._last: Line | None = None

    def take(self, entry: Mapping[str, Any], hash: str = "") -> None:
        """Book *entry*. *hash* is its own, where it is known already."""
        self.look_at(loose(entry), hash or hash_of(entry))

    def look_at(self, entry: Line, hash: str) -> None:
        """As `take`, of an entry that was read by its form."""
        self._last = entry
        if entry.policy_version != self._label:
            self._mislabel(entry)
        book = BOOKED.get(entry.event)
        if book is not None:
            book(self, entry, hash)

    def report(self, tenant: str, until_ms: int, from_ms: int, to_ms: int, head: str) -> Report:
        """The books for what began in [from_ms, to_ms), as of *until_ms*."""
        rows: dict[tuple[str, str], Row] = {}

        def row(service: str, action: str) -> Row:
            return rows.setdefault((service, action), Row(service, action))

        found = [one for at_ms, one in self._found if from_ms <= at_ms < to_ms]
        for one in self._credits.values():
            if from_ms <= one.at_ms < to_ms:
                found += _book(row(one.service, one.action), one, until_ms)
        for at_ms, service, column in self._debits:
            if from_ms <= at_ms < to_ms:
                _count(row(service, ""), column)
        found += self._unpaged(until_ms, from_ms, to_ms)
        found += self._unauthorized(from_ms, to_ms)
        return Report(
            tenant=tenant,
            from_ms=from_ms,
            to_ms=to_ms,
            until_ms=until_ms,
            last_seq=self._last.seq if self._last else 0,
            head=head,
            balance=tuple(rows[key] for key in sorted(rows)),
            exceptions=tuple(sorted(found, key=lambda one: (one.seq, tuple(Kind).index(one.kind)))),
        )

    @property
    def last_ms(self) -> int:
        """When the newest entry was written."""
        return epoch_ms(self._last.ts) if self._last else 0

    # --- what each entry does to the books --------------------------------------------------------------

    def detected(self, entry: Line, hash: str) -> None:
        story = self._story(entry)
        story.service = entry.data.reading.service
        self.proposed(entry, hash)

    def proposed(self, entry: Line, hash: str) -> None:
        if entry.actor.kind == ENGINEER:
            self._story(entry).proposers += (entry.actor.id,)

    def validated(self, entry: Line, hash: str) -> None:
        story = self._story(entry)
        options = {
            one.key: (getattr(one, "action", ""), getattr(one, "digest", "")) for one in entry.data.options
        }
        story.request = Request(hash, options)
        story.asked = story.asked or (entry.seq, epoch_ms(entry.ts))

    def approved(self, entry: Line, hash: str) -> None:
        if request := self._request(entry):
            request.votes.append((entry.actor.id, entry.data.option))

    def withdrawn(self, entry: Line, hash: str) -> None:
        vote = entry.actor.id, entry.data.option
        if (request := self._request(entry)) and vote in request.votes:
            request.votes.remove(vote)

    def paged(self, entry: Line, hash: str) -> None:
        self._story(entry).paged = True

    def authorized(self, entry: Line, hash: str) -> None:
        story, data = self._story(entry), entry.data
        made = Authorization(
            entry.seq,
            epoch_ms(entry.ts),
            entry.incident_id or "",
            story.service,
            data.action,
            getattr(data, "digest", ""),
        )
        self._credits[hash] = made
        self._judge(entry, made, story)

    def started(self, entry: Line, hash: str) -> None:
        made = self._authorization(entry)
        if made is None:
            self._stray(entry)
            return
        made.until_ms = entry.data.until_ms
        if entry.data.attempt == 1:
            made.floor = self._counts.get(self._app(made), Count()).highest
        if getattr(entry.data, "digest", "") != made.digest:
            self._differs(entry, made, "what was started is not what was authorized")

    def ended(self, entry: Line, hash: str) -> None:
        made, column = self._authorization(entry), COLUMNS[entry.event]
        if made is None:
            self._stray(entry)
            self._debits.append((epoch_ms(entry.ts), self._story(entry).service, column))
            return
        made.outcomes.append((entry.seq, column))
        if column == "executed" and not made.receipt:
            self._match(entry, made)

    def charter(self, entry: Line, hash: str) -> None:
        data = entry.data
        self._charter = data.digest
        self._label = data.policy_label
        self._check_label(entry, data.policy_label, data.policy_digest)

    def policy(self, entry: Line, hash: str) -> None:
        self._label = entry.data.label
        self._check_label(entry, self._label, entry.data.digest)

    def linked(self, entry: Line, hash: str) -> None:
        data = entry.data
        self._links[data.person][data.channel] = data.identity

    def unlinked(self, entry: Line, hash: str) -> None:
        self._links[entry.data.person].pop(entry.data.channel, None)

    # --- the controls -------------------------------------------------------------------------------------

    def _judge(self, entry: Line, made: Authorization, story: Story) -> None:
        """An authorization, as it stands: what it covers, and who made it."""
        request = self._request(entry)
        asked = request.options.get(entry.data.option) if request else None
        if asked is None:
            self._differs(entry, made, "it answers no option of the request that stood")
        elif asked != (made.action, made.digest):
            self._differs(entry, made, "what was authorized is not what was asked for")
        voters = [*getattr(entry.data, "voters", ())] or [entry.actor.id]
        voted = request.voters(entry.data.option) if request else []
        if twice := self._twice(entry, voters, voted):
            self._find(entry, Kind.TWICE, twice)
        if why := self._not_entitled(entry, made, voters, voted):
            self._find(entry, Kind.NOT_ENTITLED, why)
        if story.proposers and (own := sorted({*story.proposers} & {*voters, entry.actor.id})):
            self._find(entry, Kind.OWN_PROPOSAL, f"{own[0]} declared or proposed it, and approved it")

    def _not_entitled(self, entry: Line, made: Authorization, voters: list[str], voted: list[str]) -> str:
        """Why *voters* were not enough under the charter then in force, or an empty text."""
        terms = self._terms_now()
        if terms is None:
            return f"the charter then in force ({self._charter[:8] or 'none'}) is not here to judge it by"
        if unheard := sorted({*voters} - {*voted, entry.actor.id}):
            return f"{unheard[0]} is counted and did not vote"
        if entry.actor.id not in voters:
            return f"{entry.actor.id} authorized it and is not counted"
        term = terms.actions.get((made.service, made.action))
        if term is None:
            return f"the charter then in force names no action {made.action} of {made.service}"
        if term.totp and not getattr(entry.data, "stepped_up", False):
            return "it needs a one-time code, and none came with it"
        if getattr(entry.data, "break_glass", False):
            who = entry.actor.id
            return "" if terms.breaks(term, who) else _no_glass(who, terms)
        if not self._admits(terms, term, tuple(voters)):
            return f"it needs {term.approve or 'nobody'}, and {', '.join(voters)} is not that"
        return ""

    def _admits(self, terms: Terms, term: Term, voters: tuple[str, ...]) -> bool:
        """The same few answer again and again."""
        key = self._charter, term.approve, voters
        if key not in self._admitted:
            self._admitted[key] = terms.admits(term, voters)
        return self._admitted[key]

    def _twice(self, entry: Line, voters: list[str], voted: list[str]) -> str:
        """How one person counts as two, or an empty text: in the list, by votes, or by a shared account."""
        glass = getattr(entry.data, "break_glass", False)  # who voted may break it after that
        for names in (voters, voted if glass else [*voted, entry.actor.id]):
            if len(names) > len({*names}):
                return f"{next(name for name in names if names.count(name) > 1)} is counted twice"
        for n, who in enumerate(voters):
            theirs = self._links[who].items()
            if other := next((name for name in voters[:n] if self._links[name].items() & theirs), ""):
                return f"{other} and {who} are linked to one account"
        return ""

    def _match(self, entry: Line, made: Authorization) -> None:
        """The third leg: what the app signed for."""
        count = self._counts.setdefault(self._app(made), Count())
        made.receipt = self._secrets.judge(entry, made.action)
        counter = getattr(entry.data, "receipt_counter", 0)
        if why := wrong(made.receipt, counter, made.floor, count, made.service):
            self._find(entry, Kind.RECEIPT, why, made)
        else:
            count.take(made.receipt, counter, entry.seq)

    def _mislabel(self, entry: Line) -> None:
        """Said once for each incident and label."""
        said = entry.incident_id or "", entry.policy_version
        if said not in self._mislabelled:
            self._mislabelled.add(said)
            self._find(entry, Kind.POLICY, f"it cites {said[1]}, and {self._label} was in force")

    def _check_label(self, entry: Line, label: str, digest: str) -> None:
        if label.rpartition("+")[2] != digest[:8]:
            self._find(entry, Kind.POLICY, f"{label} is not the name of the policy {digest[:8]}")

    def _stray(self, entry: Line) -> None:
        """Said once for each incident and reference: a start and its end are one."""
        key = entry.incident_id or "", entry.ref.hash if entry.ref else ""
        self._strays.setdefault(key, (entry.seq, epoch_ms(entry.ts)))

    def _unauthorized(self, from_ms: int, to_ms: int) -> list[Finding]:
        why = "it refers to no authorization of this incident"
        return [
            Finding(Kind.UNAUTHORIZED, seq, incident, why)
            for (incident, _), (seq, at_ms) in self._strays.items()
            if from_ms <= at_ms < to_ms
        ]

    def _unpaged(self, until_ms: int, from_ms: int, to_ms: int) -> list[Finding]:
        why = "people were asked, and no card ever reached anybody"
        return [
            Finding(Kind.NEVER_PAGED, story.asked[0], name, why)
            for name, story in self._stories.items()
            if story.asked and not story.paged
            if from_ms <= story.asked[1] < to_ms and story.asked[1] + PAGED_MS <= until_ms
        ]

    def _differs(self, entry: Line, made: Authorization, why: str) -> None:
        """Said once for each authorization."""
        if not made.differs:
            made.differs = True
            self._find(entry, Kind.DIGEST, why, made)

    def _find(self, entry: Line, kind: Kind, why: str, made: Authorization | None = None) -> None:
        at_ms = made.at_ms if made else epoch_ms(entry.ts)
        self._found.append((at_ms, Finding(kind, entry.seq, entry.incident_id or "", why)))

    # --- looking things up --------------------------------------------------------------------------------

    def _story(self, entry: Line) -> Story:
        name = entry.incident_id or ""
        found = self._stories.get(name)
        if found is None:
            found = self._stories[name] = Story(name.rpartition("-")[0])
        return found

    def _request(self, entry: Line) -> Request | None:
        request = self._story(entry).request
        return request if request and entry.ref and request.hash == entry.ref.hash else None

    def _authorization(self, entry: Line) -> Authorization | None:
        made = self._credits.get(entry.ref.hash) if entry.ref else None
        return made if made and made.incident == entry.incident_id else None

    def _terms_now(self) -> Terms | None:
        """What the charter in force says; None where its text is not here, or is not of that digest."""
        if self._charter not in self._terms:
            text = self._texts.get(self._charter, "")
            fits = sha256(text.encode()).hexdigest() == self._charter
            self._terms[self._charter] = _read(text) if fits else None
        return self._terms[self._charter]

    def _app(self, made: Authorization) -> tuple[str, str]:
        """Who counts: the service, and where its action's webhook lies."""
        terms = self._terms_now()
        term = terms.actions.get((made.service, made.action)) if terms else None
        return made.service, term.origin if term else ""


BOOKED: Mapping[str, Callable[[Books, Line, str], None]] = {
    kind.__name__: book
    for kind, book in (
        (ev.Detected, Books.detected),
        (ev.Proposed, Books.proposed),
        (ev.Validated, Books.validated),
        (ev.Approved, Books.approved),
        (ev.Withdrawn, Books.withdrawn),
        (ev.Authorized, Books.authorized),
        (ev.ExecutionStarted, Books.started),
        (ev.Executed, Books.ended),
        (ev.WebhookFailed, Books.ended),
        (ev.StoodDown, Books.ended),
        (ev.OutcomeUnknown, Books.ended),
        (ev.Paged, Books.paged),
        (ev.CharterAdopted, Books.charter),
        (ev.PolicyAdopted, Books.policy),
        (ev.Linked, Books.linked),
        (ev.Unlinked, Books.unlinked),
    )
}
"""What changes the books; all else only has to cite the right policy."""


def hash_of(entry: Mapping[str, Any]) -> str:
    """The hash of an entry, in hex, from its fields."""
    return leaf_hash(canonical(entry)).hex()


def _read(text: str) -> Terms | None:
    try:
        return Terms.read(text)
    except ValueError:
        return None


def _no_glass(who: str, terms: Terms) -> str:
    return f"break-glass is for {terms.break_glass or 'nobody'}, and {who} is not that"


def _book(row: Row, one: Authorization, until_ms: int) -> list[Finding]:
    """Book one authorization with its outcomes. Returns what is wrong with their number."""
    row.authorized += 1
    row.receipts += one.receipt == "matches"
    for _, column in one.outcomes:
        _count(row, column)
    if len(one.outcomes) > 1:
        seq = one.outcomes[1][0]
        why = f"authorization #{one.seq} has {len(one.outcomes)} outcomes: {_named(one)}"
        return [Finding(Kind.TWO_OUTCOMES, seq, one.incident, why)]
    if one.outcomes:
        return []
    if until_ms < max(one.at_ms + SETTLED_MS, one.until_ms):
        row.open += 1
        return []
    return [
        Finding(Kind.NO_OUTCOME, one.seq, one.incident, f"{one.action} was authorized, and nothing followed")
    ]


def _named(one: Authorization) -> str:
    return ", ".join(f"#{seq} {column.replace('_', ' ')}" for seq, column in one.outcomes)


def _count(row: Row, column: str) -> None:
    setattr(row, column, getattr(row, column) + 1)
