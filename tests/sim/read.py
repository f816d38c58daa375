"""The promises as somebody reads them in a log who does not know the program: its own fold, and small."""

from collections import Counter
from dataclasses import dataclass, field

from handlers.charter import Charter, Quorum
from ledger import events as ev
from ledger.chain import Entry
from ledger.machine import OUTCOMES
from ledger.view import epoch_ms, event_of


@dataclass
class Read:
    """A log so far. Each entry that is taken must be one that the promises allow where it stands."""

    charters: dict[str, Charter]
    rules: tuple[str, str] = ("", "")
    asked: dict[str, tuple[Entry, ev.Validated]] = field(default_factory=dict)
    stand: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    authorized: dict[str, ev.Authorized] = field(default_factory=dict)
    ended: Counter = field(default_factory=Counter)

    def take(self, entry: Entry) -> None:
        event, who = event_of(entry), entry.actor["id"]
        assert (entry.actor["kind"] == "model") == isinstance(event, ev.Diagnosed), entry
        match event:
            case ev.CharterAdopted():
                self.rules = event.digest, event.policy_digest
            case ev.Validated():
                self.asked[entry.hash] = entry, event
            case ev.Approved() | ev.Authorized():
                self._vote(entry, event, who)
            case ev.Withdrawn():
                self.stand[event.ref.hash, event.option].remove(who)
            case ev.Denied():
                [asked] = [one for _, one in [self.asked[event.ref.hash]]]
                assert any(self._admits(option, who) for option in asked.options)
            case ev.ExecutionStarted():
                assert event.ref.hash in self.authorized
                assert not self.ended[event.ref.hash]
            case _ if type(event) in OUTCOMES:
                self.ended[event.ref.hash] += 1
                assert self.ended[event.ref.hash] == 1, entry
            case _:
                pass

    def _vote(self, entry: Entry, event: ev.Approved | ev.Authorized, who: str) -> None:
        asked, request = self.asked[event.ref.hash]
        assert entry.actor["kind"] == "engineer"
        assert asked.incident_id == entry.incident_id
        assert epoch_ms(entry.at) < request.deadline_ms
        assert (request.charter_digest, request.policy_digest) == self.rules
        [option] = [one for one in request.options if one.key == event.option]
        assert self._admits(option, who)
        stand = self.stand.setdefault((event.ref.hash, event.option), set())
        assert who not in stand
        stand.add(who)
        roles = [self.charters[self.rules[0]].person(name).roles for name in stand]
        assert Quorum.parse(option.approve).met_by(roles) == isinstance(event, ev.Authorized)
        if isinstance(event, ev.Authorized):
            assert set(event.voters) == stand
            assert (event.action, event.digest) == (option.action, option.digest)
            self.authorized[entry.hash] = event

    def _admits(self, option: ev.Option, who: str) -> bool:
        person = self.charters[self.rules[0]].person(who)
        return person is not None and Quorum.parse(option.approve).admits(person.roles)
