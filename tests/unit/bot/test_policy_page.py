"""`/policy`: every threshold with its source, each rule's record, and what shadow would have said."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.lately import MOST, Past, Said, by_rule, precision, said
from bot.thresholds import KEYS, MEANS, NO_THRESHOLD, common, in_force, keys_of
from bot.words import units
from detectors.policy import RULES, Policy
from handlers.charter import parse
from handlers.shadow import Episode, MemoryShelf
from ledger import events as ev
from ledger.events import Actor
from ledger.store import StoreDown
from tests.rooms import BOT, CHARTER, POLICY, READING, Tenant, tenant
from tests.unit.bot.test_commands import Front

PHONE = 1_400
"""What stands on a phone without much scrolling; Telegram cuts at 4,096."""
RUDO = Actor.engineer("rudo", "telegram")


def rules(more: str = "", service: str = ""):
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    return parse(text.replace('id = "checkout"\n', f'id = "checkout"\n{service}\n') + more)


async def here(more: str = "", service: str = "") -> Front:
    return Front(await tenant(rules(more, service)))


async def opened(acme: Tenant, rule: str = "err_crit", origin: str = "policy") -> str:
    reading = READING.model_copy(update={"rule": rule})
    made = await acme.record(
        POLICY,
        lambda v, n: ev.Detected(incident_id=v.next_incident_id("checkout"), reading=reading, origin=origin),
    )
    return made.incident_id


async def says(acme: Tenant, name: str, kind: str) -> None:
    await acme.record(RUDO, lambda v, n: ev.Feedback(incident_id=name, kind=kind))


async def over(acme: Tenant, name: str) -> None:
    await acme.record(POLICY, lambda v, n: ev.Recovered(incident_id=name, after=READING))


async def verified(acme: Tenant) -> str:
    """An incident in which a person approved an action that helped."""
    name = await opened(acme)
    request = await acme.asks()
    ref = ev.Ref(seq=request.seq, hash=request.hash)
    made = await acme.record(
        RUDO, lambda v, n: ev.Authorized(incident_id=name, option="1", action="restart_workers", ref=ref)
    )
    of = ev.Ref(seq=made.seq, hash=made.hash)
    await acme.record(
        BOT, lambda v, n: ev.ExecutionStarted(incident_id=name, attempt=1, by="b", until_ms=0, ref=of)
    )
    await acme.record(BOT, lambda v, n: ev.Executed(incident_id=name, attempt=1, status=200, ref=of))
    await acme.record(POLICY, lambda v, n: ev.Verified(incident_id=name, before=READING, after=READING))
    return name


def shadowed(front: Front, *episodes: Episode) -> None:
    shelf = front.commands._shadows
    assert isinstance(shelf, MemoryShelf)
    for one in episodes:
        shelf.kept["acme", one.service] = json.dumps(
            [asdict(e) for e in episodes if e.service == one.service]
        )


def episode(front: Front, rule: str = "lat_warn", days_ago: int = 1, **more) -> Episode:
    at_ms = front.acme.room.now_ms() - days_ago * 86_400_000
    given = {"service": "checkout", "severity": "warning", "headline": "62 % of requests are slow"}
    return Episode(**(given | {"rule": rule, "since_ms": at_ms, "until_ms": at_ms + 5_000} | more))


# --- the record -------------------------------------------------------------------------------------------


async def test_what_a_person_said_last_counts():
    acme = await tenant()
    name = await opened(acme)
    assert said(acme.incident) is Said.UNSAID
    await over(acme, name)
    for kind, came in (
        ("not_incident", Said.NOT), ("cause_right", Said.CONFIRMED), ("cause_wrong", Said.CONFIRMED),
        (ev.NEW_NORMAL, Said.NORMAL),
    ):  # fmt: skip
        await says(acme, name, kind)
        assert said(acme.incident) is came


async def test_an_action_that_a_person_approved_and_that_helped_confirms():
    acme = await tenant()
    await verified(acme)
    assert said(acme.incident) is Said.CONFIRMED
    await says(acme, "checkout-1", "not_incident")
    assert said(acme.incident) is Said.NOT


async def test_a_closing_as_not_an_incident_counts_and_any_other_closing_says_nothing():
    acme = await tenant()
    for kind in ("not_an_incident", "resolved"):
        name = await opened(acme)
        await acme.record(RUDO, lambda v, n: ev.Resolved(incident_id=name, kind=kind))  # noqa: B023
    found = [said(one) for one in acme.room.ledger.view.incidents.values()]
    assert found == [Said.NOT, Said.UNSAID]


async def test_each_rule_counts_what_it_opened_in_thirty_days_and_no_more():
    acme = await tenant()
    await over(acme, await opened(acme, "tail"))
    acme.clock.advance(31 * 86_400)
    for rule in ("err_crit", "err_crit", "lat_warn"):
        await over(acme, await opened(acme, rule))
    await over(acme, await opened(acme, "err_crit", origin="engineer"))
    found = by_rule(Past.of(acme.room.ledger.view), acme.room.now_ms())
    assert {rule: tally.total() for rule, tally in found.items()} == {"err_crit": 2, "lat_warn": 1}


async def test_the_past_is_what_was_opened_since_and_what_is_open_still_each_once():
    acme = await tenant()
    old = await opened(acme)
    await over(acme, await opened(acme))
    acme.clock.advance(3_600)
    from_ms = acme.room.now_ms()
    new = await opened(acme)
    past = Past.of(acme.room.ledger.view)
    assert [one.id for one in past.since(from_ms)] == [new, old]
    assert [one.id for one in past.since(0)] == [new, "checkout-2", old]


async def test_what_is_not_counted_is_not_kept_quiet():
    acme = await tenant()
    await over(acme, await opened(acme))
    [one] = acme.room.ledger.view.incidents.values()
    assert not Past([one] * MOST, []).is_cut(one.opened_ms)
    assert Past([one] * (MOST + 1), []).is_cut(one.opened_ms)
    assert not Past([one] * (MOST + 1), []).is_cut(one.opened_ms + 1)
    assert by_rule(Past([one] * (MOST + 1), []), one.opened_ms)["err_crit"].total() == MOST


@given(st.lists(st.sampled_from(Said)))
def test_precision_is_of_those_of_which_somebody_said_anything(words: list[Said]):
    right, of = precision(Counter(words))
    assert right == words.count(Said.CONFIRMED)
    assert of == len(words) - words.count(Said.UNSAID)


# --- the thresholds ---------------------------------------------------------------------------------------


def test_every_threshold_belongs_to_a_rule_or_to_all():
    owned = {key for rule in RULES for key in keys_of(rule)}
    assert owned | {*common()} == {*KEYS} == {*Policy.model_fields} - NO_THRESHOLD
    assert not owned & {*common()}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_thresholds(rule: str):
    assert keys_of(rule)


def test_a_threshold_comes_from_the_default_the_charter_or_the_environment():
    charter = rules("[policy]\nclose_ms = 70000\nlive_ms = 9000\nhang_ms = 5000\n")
    policy = charter.effective_policy({"hang_ms": "6000", "tail_floor_ms": "400"})
    found = in_force(policy, charter)
    assert found["close_ms"].source == "charter"
    assert found["live_ms"].source == "charter"
    assert found["hang_ms"].source == "POLICY_HANG_MS"
    assert found["tail_floor_ms"].source == "POLICY_TAIL_FLOOR_MS"
    assert found["evidence_cn"].source == "default"


def test_the_environment_may_set_a_threshold_back_to_its_default():
    charter = rules("[policy]\nclose_ms = 70000\n")
    found = in_force(charter.effective_policy({"close_ms": "60000"}), charter)
    assert found["close_ms"].source == "POLICY_CLOSE_MS"


def test_a_threshold_is_told_as_the_charter_spells_it_and_with_what_it_means():
    found = in_force(Policy(), None)
    assert found["err_crit_sustain_ms"].line == "err_crit_sustain_ms = 6000 (6 s), default"
    assert found["err_crit_p0_permille"].line == "err_crit_p0_permille = 20 (2 %), default"
    assert found["lat_crit_times_milli"].line == "lat_crit_times_milli = 2000 (2 times), default"
    assert found["evidence_cn"].line == "evidence_cn = 1200 (12 nats), default"
    assert found["p95_limit_ms"].line == "p95_limit_ms = off, default"
    assert found["warnings_ring"].line == "warnings_ring = false, default"
    assert found["unreachable_polls"].line == "unreachable_polls = 3 (3 polls), default"


# --- the page ---------------------------------------------------------------------------------------------


async def test_the_summary_says_the_label_the_sources_and_the_record_of_each_rule():
    front = await here("[policy]\nclose_ms = 70000\n")
    acme = front.acme
    await verified(acme)
    for kind in ("cause_right", "not_incident", ""):
        name = await opened(acme)
        await over(acme, name)
        if kind:
            await says(acme, name, kind)
    told = await front.told("rudo", "/policy")
    label = acme.room.ledger.view.rules.label
    assert told.startswith(
        f"Policy {label}. {len(KEYS)} thresholds: {len(KEYS) - 1} default, 1 from the charter."
    )
    assert "err_crit: 4 opened: 2 confirmed, 1 not an incident, 1 unsaid. Precision 2 of 3." in told
    assert "Nothing from" in told
    assert "In shadow" not in told


async def test_a_fresh_tenant_reads_that_nothing_was_said():
    told = await (await here()).told("rudo", "/policy")
    assert "all at their defaults" in told
    assert f"Nothing from {', '.join(RULES)}." in told


async def test_what_rules_in_shadow_would_have_said_is_told_by_rule():
    front = await here('[policy]\nshadow = ["lat_warn", "tail"]\n')
    shadowed(
        front,
        episode(front),
        episode(front, days_ago=2, alone=False),
        episode(front, days_ago=31),
    )
    told = await front.told("rudo", "/policy")
    assert "In shadow, recorded and nobody told: lat_warn, tail." in told
    assert "lat_warn: In shadow it would have spoken 2 times, 1 of them opening an incident." in told
    assert "tail: In shadow, and would not have spoken." in told


async def test_a_service_in_shadow_is_named():
    front = await here(service="shadow = true\npolicy = {lat_warn_floor_ms = 50}")
    told = await front.told("rudo", "/policy")
    assert "Thresholds of their own: checkout (1)." in told
    assert "nobody told: all of checkout." in told
    of = await front.told("rudo", "/policy checkout")
    assert "lat_warn_floor_ms = 50, checkout's own" in of
    assert "In shadow: every rule." in of


async def test_a_rule_tells_its_thresholds_its_record_and_its_newest_episodes():
    front = await here('[policy]\nshadow = ["lat_warn"]\n', "policy = {lat_warn_floor_ms = 50}")
    shadowed(front, *(episode(front, days_ago=n) for n in range(1, 6)))
    told = (await front.told("rudo", "/policy lat_warn")).splitlines()
    assert told[1] == "Last 30 days: In shadow it would have spoken 5 times."
    assert told[2] == "🌒 Tue 02 Jun 14:00 checkout: 62 % of requests are slow (warning)"
    assert sum(line.startswith("🌒") for line in told) == 3
    assert "lat_warn_floor_ms = 20, default" in told
    assert "lat_warn_floor_ms = 50, checkout's own" in told
    assert "cold_slow_ms = 500, default" in told


@pytest.mark.parametrize("rule", RULES)
async def test_each_rule_has_a_page_that_fits_a_phone(rule: str):
    told = await (await here()).told("rudo", f"/policy {rule}")
    assert told.startswith(f"{rule}: {MEANS[rule]}.\nLast 30 days: it said nothing.")
    assert units(told) <= PHONE
    assert all(f"{key} = " in told for key in keys_of(rule))


async def test_the_summary_fits_a_phone_also_when_every_rule_has_a_record():
    front = await here('[policy]\nshadow = ["lat_warn", "tail"]\n')
    for rule in (*RULES, "alert_grafana"):
        name = await opened(front.acme, rule)
        await over(front.acme, name)
        await says(front.acme, name, "not_incident")
    shadowed(front, episode(front), episode(front, "tail"), episode(front, "alert_sentry", service="search"))
    told = await front.told("rudo", "/policy")
    assert "alert_grafana: 1 opened" in told
    assert "alert_sentry: In shadow it would have spoken 1 time." in told
    assert units(told) <= 2 * PHONE


async def test_all_shows_every_threshold_once():
    front = await here("[policy]\nclose_ms = 70000\n", "policy = {lat_warn_floor_ms = 50}")
    told = (await front.told("rudo", "/policy all")).splitlines()
    assert all(
        sum(line.startswith(f"{key} = ") for line in told) == 1 for key in {*KEYS} - {"lat_warn_floor_ms"}
    )
    assert "close_ms = 70000 (1 min 10 s), charter" in told
    assert "lat_warn_floor_ms = 50, checkout's own" in told


async def test_another_word_is_told_what_there_is():
    told = await (await here()).told("rudo", "/policy <b>")
    assert "no rule or service of that name" in told
    assert "<b>" not in told


async def test_while_the_store_is_away_the_rest_is_told():
    class Away(MemoryShelf):
        async def all(self, tenant: str) -> dict[str, str]:
            raise StoreDown("away")

    front = await here()
    front.commands._shadows = Away()
    told = await front.told("rudo", "/policy")
    assert "cannot be read now" in told
    assert "thresholds" in told
