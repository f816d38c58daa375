"""The fast reading of a log, beside the machine, the view and pydantic: they agree on every line."""

import random
import re
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import Encoder
from pydantic import ValidationError

from ledger import events as ev
from ledger.audit import Audit, audit
from ledger.books import Books
from ledger.chain import MAX_INT, BrokenChain, Entry, Frontier, Malformed, canonical, leaf_hash, parse, seal
from ledger.events import EVENTS, Actor, ActorKind, Ref
from ledger.machine import MAY_WRITE, TENANT_FACTS, TRANSITIONS, Illegal
from ledger.reconcile import reconcile
from ledger.shapes import Form
from ledger.verify import Tampered, Verifier, fold
from ledger.view import UnknownEvent, View, epoch_ms, event_of
from tests.chains import sealed
from tests.months import TEXTS, Month, act, reading

LEGAL = Month(7).incidents(120)
LINES = [entry.line for entry in LEGAL.lines]
START = datetime(2026, 5, 1, tzinfo=UTC)
OPTION = ev.Option(key="1", action="restart", cause=ev.Cause.DEPLOY, confidence=70)
NAMES = sorted(EVENTS)


def test_a_legal_log_is_taken_whole_with_its_root_and_its_books():
    books, tree = Books(TEXTS), Frontier()
    found = audit(iter(LINES), books=books)
    for line in LINES:
        tree = tree.append(leaf_hash(line))
    assert (found.tree.root(), found.tenant) == (tree.root(), "acme")
    assert found.head == LEGAL.head
    slowly = reconcile(LEGAL.raw(), TEXTS)
    again = books.report("acme", books.last_ms, slowly.from_ms, slowly.to_ms, found.head.hash)
    assert again.text() == slowly.text()


def test_a_legal_log_goes_the_long_way_only_for_the_first_of_each_form():
    found = Audit()
    for line in LINES:
        found.take(line)
    met = {entry.event for entry in LEGAL.lines}
    forms = {name: len(rule.forms) for name, rule in found.reader.rules.items() if rule.forms}
    assert {name.decode() for name in forms} == met
    assert max(forms.values()) <= 2


def candidate(dice: random.Random, view: View, now_ms: int) -> tuple[Actor, ev.Event]:
    """Any fact, about one of two incidents, with a reference that is right, old, wrong or none."""
    kind = EVENTS[dice.choice(NAMES)]
    name = "" if kind in TENANT_FACTS and dice.random() < 0.9 else dice.choice(("checkout-1", "mail-1"))
    incident = view.incidents.get(name)
    if incident and dice.random() < 0.7:
        kind = dice.choice(sorted(TRANSITIONS[incident.stage], key=lambda one: one.__name__))
    facts = incident.facts if incident else ()
    targets = [fact.ref for fact in facts if isinstance(fact.event, ev.Validated | ev.Authorized)]
    ref = dice.choice([*targets[-2:], *targets[-1:] * 4, Ref(seq=1, hash="0" * 64), None])
    writer = ActorKind(dice.choice(sorted(MAY_WRITE[kind]) * 8 + sorted(ActorKind)))
    fields = {
        "reading": reading("checkout"), "lens": "A", "round": 1, "until_ms": now_ms, "words": "0" * 64,
        "kind": dice.choice(("x", ev.NEW_NORMAL)), "recipient": "rudo", "channel": "telegram",
        "options": (OPTION,), "held": (),
        "deadline_ms": now_ms + dice.choice((2_000, 60_000)), "option": dice.choice(("1", "1", "1", "2")),
        "action": "restart", "why": "w", "attempt": dice.choice((1, 1, 2, 3)), "by": "web.1", "status": 200,
        "outcome": "o", "before": reading("checkout"), "after": reading("checkout"), "digest": "d" * 64,
        "policy_digest": "e" * 64, "policy_label": "l", "label": "l", "person": "rudo", "identity": "i",
        "cost_micros": dice.choice((0, 700)), "signer": "AQz", "old": "log+12345678+AQz", "new": "log+1+AQy",
        "service": "checkout", "break_glass": dice.random() < 0.5,
        "act": act(now_ms) if dice.random() < 0.5 else None,
    }  # fmt: skip
    known = {key: value for key, value in fields.items() if key in kind.model_fields}
    return Actor(kind=writer, id=dice.choice("xy")), kind(incident_id=name, ref=ref, **known)


def write(view: View, actor: Actor, event: ev.Event, now_ms: int, stage: str | None) -> Entry:
    return seal(
        view.head,
        ts=START + timedelta(milliseconds=now_ms),
        tenant_id="acme",
        incident_id=event.incident_id or None,
        event=type(event).__name__,
        stage=stage,
        actor={"kind": actor.kind.value, "id": actor.id, "via": actor.via},
        decision="", reason="“said”", confidence=None, policy_version="none",
        ref=event.ref.model_dump() if event.ref else None,
        data=event.data(),
    )  # fmt: skip


def stage_after(view: View, event: ev.Event) -> str | None:
    incident = view.incidents.get(event.incident_id)
    to = TRANSITIONS[incident.stage if incident else None].get(type(event)) if event.incident_id else None
    return to.value if to else None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_the_fast_fold_and_the_machine_agree_on_every_fact_legal_or_not(seed: int):
    dice, view, found, now_ms = random.Random(seed), View("acme"), Audit(), 0
    for _ in range(120):
        now_ms += dice.choice((1, 500, 3_000))
        actor, event = candidate(dice, view, epoch_ms(START) + now_ms)
        entry = write(view, actor, event, now_ms, stage_after(view, event))
        before = found.head
        refused = refusal(view, entry)
        if refused is None:
            found.take(entry.line)
            assert found.head == view.head
            continue
        with pytest.raises(Tampered, match=re.escape(str(refused))) as told:
            found.take(entry.line)
        assert type(told.value.__cause__) is type(refused)
        assert found.head == before


def refusal(view: View, entry: Entry) -> Illegal | None:
    try:
        view.absorb(entry)
    except Illegal as refused:
        return refused
    return None


def judged_slowly(line: bytes, at: int) -> str:
    """What the chain, the view and the stage say of *line* after the first *at* legal ones: "" for well."""
    view = View("acme")
    for entry in LEGAL.lines[:at]:
        view.absorb(entry)
    try:
        entry = parse(line)
        view.absorb(entry)
    except (Malformed, BrokenChain, Illegal, UnknownEvent, ValidationError) as error:
        return type(error).__name__
    incident = view.incidents.get(entry.incident_id or "")
    right = entry.stage == (incident.stage.value if incident else None) and entry.tenant_id == "acme"
    return "" if right else "stage or tenant"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_line_is_refused_where_the_slow_way_refuses_it_and_nowhere_else(data: st.DataObject):
    at = data.draw(st.integers(1, 60))
    line = bytearray(LINES[at])
    place = data.draw(st.integers(0, len(line) - 1))
    match data.draw(st.sampled_from(["flip", "drop", "insert", "digit"])):
        case "flip":
            line[place] ^= 1 << data.draw(st.integers(0, 7))
        case "drop":
            del line[place]
        case "insert":
            line.insert(place, data.draw(st.sampled_from(b'0 "\\,.-eaz\x00\xff\xc3')))
        case _:
            line[place] = data.draw(st.sampled_from(b"0123456789"))
    found = audit(LINES[:at])
    if judged_slowly(bytes(line), at):
        with pytest.raises(Tampered, match=f"Entry {at + 1}:"):
            found.take(bytes(line))
    else:
        assert found.take(bytes(line)).seq == at + 1


def again(entry: Entry, **changed: object) -> bytes:
    """*entry* with its data changed, as canonical bytes."""
    fields = orjson.loads(entry.line)
    fields["data"] |= changed
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


STARTED = next(at for at, entry in enumerate(LEGAL.lines) if entry.event == "ExecutionStarted")
PAGE = [at for at, entry in enumerate(LEGAL.lines) if entry.event == "Paged"][5]
"""Not the first: its form is known by then."""
VERIFIED = next(at for at, entry in enumerate(LEGAL.lines) if entry.event == "Verified")


@pytest.mark.parametrize(
    ("changed", "well"),
    [
        ({"recipient": 'with "quotes", a \\ and a\nline'}, True),
        ({"recipient": "Tawanda — Mbare, ☎"}, True),
        ({"recipient": "\x01"}, True),
        ({"recipient": "\x7f"}, True),
        ({"something": "of a later version"}, True),
        ({"something": 1.5}, False),
        ({"something": 2**53}, False),
        ({"something": {"deep": [1e300]}}, False),
        ({"recipient": None}, False),
        ({"recipient": 7}, False),
        ({"recipient": ["rudo"]}, False),
    ],
)
def test_data_that_is_not_plain_goes_the_long_way_to_the_same_end(changed: dict, well: bool):
    line = again(LEGAL.lines[PAGE], **changed)
    for _ in range(2):  # the second time with what was learned the first time
        found = audit(LINES[:PAGE])
        if well:
            found.take(line)
        else:
            with pytest.raises(Tampered, match=f"Entry {PAGE + 1}"):
                found.take(line)


@pytest.mark.parametrize(
    ("well", "tricky"),
    [
        (b'"attempt":1', b'"attempt":1.0'),
        (b'"attempt":1', b'"attempt":1e0'),
        (b'"attempt":1', b'"attempt":01'),
        (b'"attempt":1', b'"attempt":true'),
        (b'"attempt":1', b'"attempt":"1"'),
        (b'"attempt":1', b'"attempt":0'),
        (b'"attempt":1', b'"attempt":4'),
        (b'"attempt":1', b'"attempt":2,"attempt":1'),
        (b'"attempt":1', b'"attempt": 1'),
        (b'"attempt":1,"by":"web.1"', b'"by":"web.1","attempt":1'),
        (b'"by":"web.1"', b'"by":"web\\u002e1"'),
        (b'"by":"web.1"', b'"by":"web\\/1"'),
        (b'"by":"web.1"', b'"by":"\\u001F"'),
        (b'"by":"web.1"', b'"by":"\\ud800"'),
        (b'"by":"web.1"', b'"by":"\xed\xa0\x80"'),
        (b'"by":"web.1"', b'"by":"\x01"'),
        (b'"by":"web.1"', b'"by":null'),
        (b'"v":1}', b'"v":1}\n'),
        (b'"v":1}', b'"v":1} '),
        (b'"v":1}', b'"v":1,"w":1}'),
        (b'"v":1}', b'"v":2}'),
        (b'"confidence":null', b'"confidence":-0'),
        (b'"confidence":null', b'"confidence":101'),
        (b'"confidence":null', b'"confidence":null,"confidence":null'),
        (b'"kind":"orchestrator"', b'"kind":"Orchestrator"'),
        (b'"ts":"2026-05-01T', b'"ts":"2026-W18-5T'),
        (b'"ts":"2026-05-01T', b'"ts":"2026-05-01t'),
        (b'8000Z"', b'8000z"'),
        (b'8000Z"', b'8000+00:00"'),
        (b'8000Z"', b'8000+02:00"'),
        (b'8000Z"', b'8000"'),
        (b'.328000Z"', b'Z"'),
        (b'.328000Z"', b'.0000000Z"'),
        (b'.328000Z"', b',328000Z"'),
        (b'8000Z"', b'8Z"'),
    ],
)
def test_one_way_of_writing_is_of_the_form_and_every_other_is_not(well: bytes, tricky: bytes):
    found = audit(LINES)
    assert LINES[STARTED].count(well) == 1
    [form] = found.reader.rules[b"ExecutionStarted"].forms
    assert form.read(LINES[STARTED])
    line = LINES[STARTED].replace(well, tricky)
    assert line != LINES[STARTED]
    assert form.read(line) is None


def test_a_whole_second_is_written_as_any_other_instant():
    [form] = audit(LINES).reader.rules[b"ExecutionStarted"].forms
    assert form.read(LINES[STARTED].replace(b".328000Z", b".000000Z"))


@pytest.mark.parametrize("wrong", ["", "0" * 63, "0" * 65, "A" + "0" * 63, " " + "0" * 63, "g" + "0" * 63])
def test_what_a_reference_names_is_a_hash_whoever_refers(wrong: str):
    [form] = audit(LINES).reader.rules[b"Paged"].forms
    for digest, well in (("0" * 64, True), (wrong, False)):
        line = LINES[PAGE].replace(b'"ref":null', b'"ref":{"hash":"%s","seq":1}' % digest.encode())
        assert (form.read(line) is not None) is well


def test_an_integer_that_not_every_reader_holds_is_of_no_form():
    [form] = audit(LINES).reader.rules[b"ExecutionStarted"].forms
    for number, well in (
        (MAX_INT, True),
        (MAX_INT + 1, False),
        (2**63, False),
        (2**70, False),
        (-MAX_INT - 1, False),
    ):
        line = LINES[STARTED].replace(b'"until_ms":', b'"until_ms":%d,"x":' % number)
        line = re.sub(rb',"x":\d+', b"", line)
        assert (form.read(line) is not None) is well


def test_a_form_writes_each_character_as_the_canonical_form_does():
    whole = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert Encoder().encode(whole) == canonical(whole)


def test_what_pydantic_would_mend_goes_the_long_way_and_is_not_learned():
    mended = again(
        LEGAL.lines[VERIFIED], before=orjson.loads(LINES[VERIFIED])["data"]["before"] | {"n": True}
    )
    assert event_of(parse(mended)).before.n == 1
    verdict = audit(LINES[:VERIFIED])
    before = {name: list(rule.forms) for name, rule in verdict.reader.rules.items()}
    assert verdict.take(mended).data.before.n == 1
    assert {name: rule.forms for name, rule in verdict.reader.rules.items()} == before


def test_an_entry_of_an_older_version_is_known_after_the_first():
    old = [orjson.loads(LINES[PAGE]) for _ in range(2)]
    for fields in old:
        del fields["data"]["card_digest"]
    form = Form(ev.Paged, old[0]["data"])
    assert form.read(orjson.dumps(old[1], option=orjson.OPT_SORT_KEYS))
    assert not form.read(LINES[PAGE])


@pytest.mark.parametrize(
    "ts", ["2026-02-30T12:00:00.000000Z", "2026-05-01T24:00:00.000000Z", "2026-05-01T12:00:60.000000Z"]
)
def test_a_day_that_no_calendar_has_is_no_time(ts: str):
    fields = orjson.loads(LINES[PAGE]) | {"ts": ts}
    with pytest.raises(Tampered, match="ts is not what it must be"):
        audit(LINES[:PAGE]).take(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


@pytest.mark.parametrize("stage", [None, "RESOLVED", ""])
def test_a_stage_that_the_rules_do_not_say_is_told(stage: str | None):
    fields = orjson.loads(LINES[PAGE]) | {"stage": stage}
    with pytest.raises(Tampered, match="and the rules say DETECTED"):
        audit(LINES[:PAGE]).take(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


def test_another_tenants_entry_is_told():
    with pytest.raises(Tampered, match="belongs to tenant acme"):
        audit(LINES[:1], "globex")
    fields = orjson.loads(LINES[PAGE]) | {"tenant_id": "globex"}
    with pytest.raises(Tampered, match="belongs to tenant globex"):
        audit(LINES[:PAGE]).take(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


def test_what_is_too_long_or_of_an_unknown_kind_is_told():
    long = again(LEGAL.lines[PAGE], recipient="x" * 16_384)
    with pytest.raises(Tampered, match="at most 16384"):
        audit(LINES[:PAGE]).take(long)
    unknown = sealed(LEGAL.lines[PAGE - 1].head, event="Rehearsed").line
    with pytest.raises(Tampered, match="does not know"):
        audit(LINES[:PAGE]).take(unknown)


def test_the_verifier_of_exports_agrees_on_the_head_and_the_root():
    verifier = Verifier()
    for line in LINES:
        verifier.take(line)
    found = audit(LINES)
    assert (verifier.head, fold(verifier.leaves).hex()) == (found.head.hash, found.tree.root().hex())
