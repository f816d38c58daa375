"""The promises, whatever a night brings. Each is a function of the world; `night.py` makes the nights.

A seed that ever broke one is kept in BROKE, with what it broke.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import orjson
import pytest

from bot import phrases
from handlers.charter import Charter, Quorum
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import ActorKind
from ledger.machine import OUTCOMES, Fact, Incident, apply, unsettled
from ledger.view import epoch_ms, event_of
from tests.sim.house import CHATS, ONLY, PEOPLE, Came, World, under_virtual_time
from tests.sim.night import night

SEEDS, CHUNK = 100, 5
AT_ONCE_MS = 1_000
BROKE: dict[int, str] = {}


def at_ms(entry: Entry) -> int:
    return epoch_ms(datetime.fromisoformat(entry.ts))


def facts(world: World, tenant: str) -> Iterator[tuple[Entry, Fact]]:
    for entry in world.log(tenant):
        actor = ev.Actor.model_validate(entry.actor)
        yield entry, Fact(entry.seq, entry.hash, at_ms(entry), actor, event_of(entry))


# --- 1: no tap, no run --------------------------------------------------------------------------------


def every_call_was_authorized_first(world: World) -> None:
    """By entitled people of the charter in force, for exactly that action, and started on record."""
    for came in world.receiver.calls:
        _was_authorized(world, came)


def every_authorization_was_earned(world: World) -> None:
    """Also one that never ran."""
    for tenant in CHATS:
        log = world.log(tenant)
        for entry in log:
            if entry.event == "Authorized":
                assert entry.actor["kind"] == ActorKind.ENGINEER
                _were_entitled(world, tenant, log[: entry.seq], entry)


def _was_authorized(world: World, came: Came) -> None:
    tenant = came.body["tenant"]
    stood = world.log(tenant)[: came.heads[tenant]]
    found = [e for e in stood if e.event == "Authorized" and e.hash == came.call.idempotency_key]
    assert len(found) == 1, came
    [authorized] = found
    event = event_of(authorized)
    assert isinstance(event, ev.Authorized)
    assert authorized.actor["kind"] == ActorKind.ENGINEER
    assert came.body["incident"] == authorized.incident_id
    assert came.body["action"] == event.action
    assert set(came.body["approved_by"]) == set(event.voters)
    charter = _in_force(world, tenant, stood)
    assert charter.action(came.body["service"], event.action).webhook == came.call.url
    assert came.body["service"] == authorized.incident_id.rpartition("-")[0]
    _was_started(came, stood, authorized)


def _were_entitled(world: World, tenant: str, before: list[Entry], authorized: Entry) -> None:
    """Each voter voted for this option of this very request, and together they are enough."""
    event = event_of(authorized)
    assert isinstance(event, ev.Authorized)
    asked = before[event.ref.seq - 1]
    request = event_of(asked)
    assert (asked.hash, asked.incident_id) == (event.ref.hash, authorized.incident_id)
    assert isinstance(request, ev.Validated)
    [option] = [one for one in request.options if one.key == event.option]
    assert (option.action, option.digest) == (event.action, event.digest)
    charter = _in_force(world, tenant, before)
    assert request.charter_digest == charter.digest()
    action = charter.action(authorized.incident_id.rpartition("-")[0], event.action)
    assert action.digest(authorized.incident_id.rpartition("-")[0]) == event.digest
    people = [charter.person(name) for name in event.voters]
    assert all(people)
    assert all(action.quorum.admits(person.roles) for person in people)
    assert action.quorum.met_by([person.roles for person in people])
    votes = {
        e.actor["id"]
        for e in before
        if e.event in {"Approved", "Authorized"}
        and e.ref == authorized.ref
        and e.data["option"] == event.option
    }
    assert set(event.voters) <= votes
    assert at_ms(authorized) < request.deadline_ms


def _in_force(world: World, tenant: str, before: list[Entry]) -> Charter:
    adopted = [entry for entry in before if entry.event == "CharterAdopted"][-1]
    return world.charters.known[tenant, adopted.data["digest"]]


def _was_started(came: Came, stood: list[Entry], authorized: Entry) -> None:
    started = [e for e in stood if e.event == "ExecutionStarted" and e.ref["hash"] == authorized.hash]
    mine = [e for e in started if str(e.data["attempt"]) == came.call.headers["countersign-attempt"]]
    assert len(mine) == 1, came
    assert mine[0].data["by"] == came.process
    assert at_ms(mine[0]) <= came.at_ms < mine[0].data["until_ms"]


def no_try_is_called_twice(world: World) -> None:
    tries = Counter(
        (c.call.idempotency_key, c.call.headers["countersign-attempt"]) for c in world.receiver.calls
    )
    assert all(times == 1 for times in tries.values()), tries


def whoever_decides_may(world: World) -> None:
    """Who denies or asks again may approve something; who changes the charter is an admin of the old one."""
    for tenant in CHATS:
        log = world.log(tenant)
        for entry, fact in facts(world, tenant):
            match fact.event:
                case ev.Denied():
                    options = event_of(log[fact.event.ref.seq - 1]).options
                    quorums = [Quorum.parse(option.approve) for option in options]
                case ev.AskedAgain():
                    service = _in_force(world, tenant, log[: entry.seq]).service(entry.incident_id[:-2])
                    quorums = [action.quorum for action in service.actions]
                case ev.CharterAdopted() if not fact.event.by_console:
                    quorums = [Quorum.parse("1 admin")]
                case _:
                    continue
            person = _in_force(world, tenant, log[: entry.seq - 1]).person(fact.actor.id)
            assert any(quorum.admits(person.roles) for quorum in quorums), entry


def a_button_that_nobody_made_moves_nothing(world: World) -> None:
    """Forged, altered, or carried from another chat."""
    forged = {
        asked.update
        for asked in world.asked
        if asked.tap and (asked.tenant, asked.chat, asked.what) not in world.minted
    }
    for tenant in CHATS:
        for entry, fact in facts(world, tenant):
            act = getattr(fact.event, "act", None)
            assert isinstance(fact.event, ev.Refused) or act is None or act.update not in forged, entry


def what_is_refused_is_on_record(world: World) -> None:
    """Whoever is told that their button is not ours finds that in the ledger too, of that minute."""
    for asked in world.asked:
        told = asked.tap and asked.answer and asked.answer.text == phrases.forged()
        shaky = any(began - 61_000 < asked.at_ms < ended + 61_000 for began, ended in world.failures)
        if told and not shaky:
            log = world.log(asked.tenant)
            refused = [at_ms(entry) for entry in log if entry.data.get("kind") == "forged"]
            assert any(abs(asked.at_ms - moment) < 61_000 for moment in refused), asked


def high_risk_is_approved_in_private(world: World) -> None:
    chats = {asked.update: asked.chat for asked in world.asked}
    for tenant in CHATS:
        log = world.log(tenant)
        for entry, fact in facts(world, tenant):
            if isinstance(fact.event, ev.Authorized | ev.Approved):
                options = event_of(log[fact.event.ref.seq - 1]).options
                risky = any(o.key == fact.event.option and o.risk == "high" for o in options)
                assert not risky or not chats[fact.event.act.update].startswith("-"), entry


# --- 2: a model moves nothing -------------------------------------------------------------------------


def without_the_models_every_stage_is_the_same(world: World) -> None:
    for tenant in CHATS:
        told: dict[str, Incident] = {}
        for entry, fact in facts(world, tenant):
            said_by_model = fact.actor.kind is ActorKind.MODEL
            assert said_by_model == isinstance(fact.event, ev.Diagnosed), entry
            if entry.incident_id and not said_by_model:
                told[entry.incident_id] = apply(told.get(entry.incident_id), entry.incident_id, fact)
        stages = {name: incident.stage for name, incident in world.view(tenant).incidents.items()}
        assert {name: incident.stage for name, incident in told.items()} == stages


def nobody_says_what_they_may_not(world: World) -> None:
    assert world.treason == []


# --- 3: policy always speaks --------------------------------------------------------------------------


def people_are_told_within_a_second(world: World) -> None:
    """Every chat that does not hang, while the process that detected lives and the store answers."""
    for tenant in CHATS:
        for entry, fact in facts(world, tenant):
            if isinstance(fact.event, ev.Detected) and not _in_trouble(world, fact.at_ms):
                tries = [
                    sent.at_ms - fact.at_ms
                    for sent in world.sent
                    if (sent.tenant, sent.incident) == (tenant, entry.incident_id)
                    and sent.at_ms >= fact.at_ms
                ]
                assert tries, entry
                assert min(tries) <= AT_ONCE_MS, entry


def _in_trouble(world: World, moment_ms: int) -> bool:
    """Whether the store failed or a process died, or the lease moved, within that second."""
    return any(
        began - 1 <= moment_ms + AT_ONCE_MS and moment_ms <= ended + 1 for began, ended in world.troubles
    )


# --- 4: no ledger, no act -----------------------------------------------------------------------------


def nothing_is_called_while_the_store_is_away(world: World) -> None:
    assert not [came for came in world.receiver.calls if came.away]


# --- 5 and 6: one outcome, nothing twice --------------------------------------------------------------


def the_books_balance(world: World) -> None:
    for tenant in CHATS:
        assert unsettled(world.view(tenant).incidents.values()) == []
        outcomes = Counter(f.event.ref.hash for _, f in facts(world, tenant) if type(f.event) in OUTCOMES)
        authorized = {entry.hash for entry in world.log(tenant) if entry.event == "Authorized"}
        assert outcomes == dict.fromkeys(authorized, 1)


def nothing_ran_twice(world: World) -> None:
    assert all(times <= 1 for times in world.receiver.ran.values()), world.receiver.ran
    keys = {entry.hash for tenant in CHATS for entry in world.log(tenant) if entry.event == "Authorized"}
    assert set(world.receiver.ran) <= keys


def what_ran_is_not_called_failed(world: World) -> None:
    """WebhookFailed and StoodDown are said of what did not run; Executed of what did."""
    for tenant in CHATS:
        for _, fact in facts(world, tenant):
            ref = fact.event.ref
            if isinstance(fact.event, ev.Executed):
                assert world.receiver.ran[ref.hash] == 1
            if isinstance(fact.event, ev.StoodDown):
                assert world.receiver.ran[ref.hash] == 0


def each_act_counts_once(world: World) -> None:
    """However often it came: at most one entry that is not a refusal."""
    for tenant in CHATS:
        made = Counter(
            (f.event.act.channel, f.event.act.update)
            for _, f in facts(world, tenant)
            if getattr(f.event, "act", None) and f.event.act.update and not isinstance(f.event, ev.Refused)
        )
        assert all(times == 1 for times in made.values()), made


# --- 7: tenants ---------------------------------------------------------------------------------------


def no_tenant_hears_of_another(world: World) -> None:
    for tenant, other in (("acme", "beta"), ("beta", "acme")):
        hashes = {entry.hash for entry in world.log(tenant)}
        foreign = [other, *ONLY[other], *(PEOPLE[name] for name in ONLY[other]), CHATS[other]]
        for entry, fact in facts(world, tenant):
            assert entry.tenant_id == tenant
            assert entry.ref is None or entry.ref["hash"] in hashes
            if not isinstance(fact.event, ev.Refused):
                text = orjson.dumps([entry.actor, entry.decision, entry.reason, entry.data]).decode()
                assert not [word for word in foreign if f'"{word}"' in text], entry
    for sent in world.sent:
        there = {CHATS[sent.tenant], *(PEOPLE[name] for name in PEOPLE if name not in _others(sent.tenant))}
        assert sent.to.to in there | {"+263770000002"}, sent


def _others(tenant: str) -> frozenset[str]:
    return ONLY["beta" if tenant == "acme" else "acme"] | {"stranger"}


def who_is_of_one_tenant_never_moves_another(world: World) -> None:
    for tenant in CHATS:
        strangers = {asked.update for asked in world.asked if asked.who in _others(tenant)}
        for entry, fact in facts(world, tenant):
            assert entry.actor["id"] not in _others(tenant), entry
            act = getattr(fact.event, "act", None)
            if act is not None and act.update in strangers:
                assert isinstance(fact.event, ev.Refused), entry


# --- 8: every tap gets an answer ----------------------------------------------------------------------


def every_tap_was_answered(world: World) -> None:
    for asked in world.asked:
        assert asked.answered, asked
        if asked.tap:
            assert asked.answer is not None, asked
            assert asked.answer.text.strip(), asked
            assert asked.answer.html or len(asked.answer.text) <= 200, asked


AT_ALL_TIMES = (
    nobody_says_what_they_may_not,
    nothing_is_called_while_the_store_is_away,
    no_try_is_called_twice,
    nothing_ran_twice,
)
AFTERWARDS = (
    every_authorization_was_earned,
    whoever_decides_may,
    a_button_that_nobody_made_moves_nothing,
    what_is_refused_is_on_record,
    high_risk_is_approved_in_private,
    every_call_was_authorized_first,
    without_the_models_every_stage_is_the_same,
    people_are_told_within_a_second,
    the_books_balance,
    what_ran_is_not_called_failed,
    each_act_counts_once,
    no_tenant_hears_of_another,
    who_is_of_one_tenant_never_moves_another,
    every_tap_was_answered,
)


def look(world: World) -> None:
    for promise in AT_ALL_TIMES:
        promise(world)


def keeps_every_promise(seed: int) -> World:
    world = under_virtual_time(lambda: night(seed, look))
    for promise in AFTERWARDS:
        promise(world)
    return world


@pytest.fixture(autouse=True)
def _salt_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The salt of what people type is the only chance that no seed reaches."""
    monkeypatch.setattr("bot.room.secrets.token_hex", lambda size: "5a" * size)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_whatever_a_night_brings_every_promise_is_kept(first: int):
    for seed in range(first, first + CHUNK):
        try:
            keeps_every_promise(seed)
        except BaseException as broken:
            broken.add_note(f"The seed is {seed}.")
            raise


def test_the_same_seed_is_the_same_night():
    one, other = keeps_every_promise(3), keeps_every_promise(3)
    assert [one.log(tenant) for tenant in CHATS] == [other.log(tenant) for tenant in CHATS]
    assert [asked.answer for asked in one.asked] == [asked.answer for asked in other.asked]
