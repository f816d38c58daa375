"""The state of an export is that of the live ledger, byte for byte, and every part of it counts."""

import gzip
import json
import random
from dataclasses import fields, replace

import pytest

from bot.ports import Verb
from ledger import events as ev
from ledger.chain import GENESIS, parse
from ledger.clock import ManualClock
from ledger.commands.replay import replayed
from ledger.export import export
from ledger.ledger import Ledger
from ledger.machine import Stage
from ledger.state import digest, dump
from ledger.store import MemoryStore
from ledger.verify import Tampered, Verifier
from ledger.view import Rules, Run, View, fold
from tests.chains import NOON, tell_story
from tests.rooms import BOT, tenant

SEED = b"s" * 32


def written(view: View) -> bytes:
    return b"".join(dump(view))


async def test_an_export_makes_the_state_that_the_ledger_that_wrote_it_has(tmp_path):
    acme = await tenant()
    await acme.opens()
    request = await acme.asks()
    await acme.taps_on("rudo", Verb.APPROVE, request.hash)
    await acme.record(BOT, lambda view, now: ev.Watched())
    assert acme.incident.stage is Stage.AUTHORIZED
    await export(acme.room.store, "acme", tmp_path / "acme")
    view = replayed(tmp_path / "acme", Verifier())
    assert written(view) == written(acme.room.ledger.view)
    assert digest(view) == digest(acme.room.ledger.view)


async def test_who_writes_and_who_reads_have_the_same_state(tmp_path):
    store = MemoryStore()
    told = await tell_story(store, signer=SEED)
    reader = Ledger("acme", store, ManualClock(NOON), random.Random(2))
    await reader.catch_up()
    await export(store, "acme", tmp_path / "acme")
    log = Verifier()
    assert written(replayed(tmp_path / "acme", log)) == written(reader.view) == written(fold("acme", told))
    assert log.verdict().startswith("INTACT.")


async def test_one_word_in_one_entry_makes_other_bytes(tmp_path):
    told = await tell_story(MemoryStore())
    lines, prev = [], GENESIS.hash
    for entry in told:
        says = json.loads(entry.line) | {"prev": prev}
        says["reason"] = "another" if entry.seq == 2 else says["reason"]
        says["ref"] = says["ref"] and {
            "seq": says["ref"]["seq"],
            "hash": parse(lines[says["ref"]["seq"] - 1]).hash,
        }
        lines.append(json.dumps(says, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
        prev = parse(lines[-1]).hash
    file = tmp_path / "changed.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    assert written(replayed(file, Verifier())) != written(fold("acme", told))


async def test_an_altered_entry_is_named_and_makes_no_state(tmp_path):
    store = MemoryStore()
    await tell_story(store)
    await export(store, "acme", tmp_path / "acme")
    file = tmp_path / "acme" / "entries-00000.jsonl.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"rudo", b"anna", 1), mtime=0))
    with pytest.raises(Tampered) as bad:
        replayed(tmp_path / "acme", Verifier())
    assert bad.value.seq in {1, 2}


OTHER = {
    "tenant": "globex",
    "head": GENESIS,
    "rules": Rules("c", "p", "l"),
    "signers": ("key",),
    "paused": ev.Paused(until_ms=7),
    "overridden": ev.OncallOverridden(person="rudo", until_ms=7),
    "spent": (1, 7),
    "maintenance": {"checkout": 7},
    "links": {("rudo", "telegram"): "a commitment"},
    "runs": (Run("checkout-1", "checkout", "restart", 7),),
    "open_ids": {"checkout-1": None},
    "unreviewed": {"checkout-7": None},
    "numbers": {"checkout": 7},
    "normals": {"checkout": 7},
    "anchors": {"a" * 16: "checkout-9"},
    "acts": {("telegram", "1"): 7},
    "noted": {"Watched": 7},
    "touched": [(7, "checkout-1")],
    "incidents": {},
}


@pytest.mark.parametrize("name", [field.name for field in fields(View)])
async def test_each_part_of_the_view_is_in_its_bytes(name):
    view = fold("acme", await tell_story(MemoryStore()))
    assert written(replace(view, **{name: OTHER[name]})) != written(view)


async def test_each_part_of_an_incident_is_in_its_bytes():
    view = fold("acme", await tell_story(MemoryStore()))
    incident = view.incidents["checkout-1"]
    fact = incident.facts[1]
    others = [
        replace(incident, stage=Stage.DENIED),
        replace(incident, entered_ms=7),
        *(
            replace(incident, facts=(incident.facts[0], replace(fact, **change)))
            for change in (
                {"seq": 7}, {"hash": "b" * 64}, {"at_ms": 7}, {"actor": BOT.model_copy(update={"id": "x"})},
                {"event": fact.event.model_copy(update={"reason": "x"})},
                {"event": fact.event.model_copy(update={"verdict": "AGREE"})},
            )
        ),
    ]  # fmt: skip
    made = {written(replace(view, incidents={"checkout-1": one})) for one in (incident, *others)}
    assert len(made) == len(others) + 1
    assert len(list(dump(view))) == 2


def test_the_order_in_which_things_came_to_be_does_not_show_where_it_means_nothing():
    ways = [{"a": 1, "é": 2}, {"é": 2, "a": 1}]
    one, two = (View("acme", maintenance=way, numbers=way) for way in ways)
    assert written(one) == written(two)
