"""The books: a month that balances, and one with each thing wrong once."""

import argparse
import itertools
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import events as ev
from ledger.balance import LAST_MS
from ledger.books import PAGED_MS, SETTLED_MS, Books
from ledger.commands import reconcile as command
from ledger.events import Actor
from ledger.receipts import Secrets
from ledger.reconcile import Kind, Report, reconcile
from ledger.view import fold
from sdk.receipt import issue, key_id
from tests.months import BOT, CHARTER, POLICY, RUDO, RULES, TEXTS, A, Month, reading

UNBALANCED = {Kind.UNAUTHORIZED, Kind.TWO_OUTCOMES, Kind.NO_OUTCOME}
MANY = 300


def report(month: Month, **period: int) -> Report:
    return reconcile(month.raw(), TEXTS, **period)


@pytest.mark.parametrize("seed", range(4))
def test_a_month_of_legal_incidents_balances_without_an_exception(seed: int):
    month = Month(seed).incidents(MANY)
    fold("acme", month.lines)
    found = report(month)
    assert len(month.lines) > 3_000
    assert found.total.authorized > 150
    assert found.balanced
    assert found.exceptions == ()
    assert set(found.counts.values()) == {0}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", Kind)
def test_what_is_wrong_once_is_reported_once_and_nothing_else_is(kind: Kind, seed: int):
    month = Month(seed, kind).incidents(MANY)
    assert month.is_wrong
    found = report(month)
    assert [one.kind for one in found.exceptions] == [kind]
    assert found.counts[kind] == 1
    assert found.balanced is (kind not in UNBALANCED)
    assert not found.clean


def test_all_that_is_wrong_shows_in_the_text_with_the_entry_that_shows_it():
    month = Month(1, Kind.NOT_ENTITLED).incidents(MANY)
    text, [found] = report(month).text(), report(month).exceptions
    assert month.lines[found.seq - 1].event == "Authorized"
    assert f"#{found.seq} {found.incident}: approver not entitled: it needs 1 oncall" in text
    assert "0 two outcomes\n" in text


def test_the_same_books_give_the_same_digest_and_others_another():
    one, same, other = (report(Month(seed).incidents(50)) for seed in (5, 5, 6))
    assert (one.text(), one.digest) == (same.text(), same.digest)
    assert one.digest != other.digest
    assert report(Month(5).incidents(50), until_ms=one.until_ms + 1).digest != one.digest


def test_a_phone_shows_the_result_the_figures_and_no_more_than_twelve_lines():
    assert report(Month(1).incidents(50)).lines()[0] == "The books balance, no exceptions."
    wrong = [f"{entry.seq}" for entry in Month(3).incidents(MANY).lines if entry.event == "Authorized"]
    found = reconcile(Month(3).incidents(MANY).raw(), {})  # no charter to judge by
    assert len(found.exceptions) == len(wrong) > 20
    assert len(found.lines()) == 12
    assert found.lines()[-2] == f"… and {len(wrong) - 5} more exceptions"


@given(st.integers(0, 30), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_periods_that_follow_each_other_hold_each_authorization_once(seed: int, cuts: list[float]):
    month = Month(seed).incidents(25)
    whole = report(month)
    first, last = month.lines[0].at.timestamp() * 1000, whole.until_ms + 1
    edges = [0, *sorted(int(first + (last - first) * cut) for cut in cuts), last]
    parts = [report(month, from_ms=a, to_ms=b) for a, b in itertools.pairwise(edges)]
    assert all(part.clean for part in parts)
    for name in ("authorized", "executed", "failed", "stood_down", "unknown", "receipts"):
        assert sum(getattr(part.total, name) for part in parts) == getattr(whole.total, name)


def test_an_outcome_after_the_period_belongs_to_it_with_its_authorization():
    month = Month(1).incidents(MANY)
    authorized = next(entry for entry in month.lines if entry.event == "Authorized")
    edge = Books({}).last_ms + int(authorized.at.timestamp() * 1000) + 1
    found = report(month, to_ms=edge)
    assert found.total.authorized == 1
    assert found.total.open == found.total.difference == 0


def test_an_authorization_on_the_edge_belongs_to_the_period_that_begins_there():
    month = Month(1).incidents(60)
    edge = next(int(one.at.timestamp() * 1000) for one in month.lines if one.event == "Authorized")
    assert report(month, to_ms=edge).total.authorized == 0
    assert report(month, from_ms=edge, to_ms=edge + 1).total.authorized == 1


def story() -> Month:
    """A month in which one request stands."""
    month = Month(1)
    month.adopt()
    month.say(POLICY, ev.Detected(incident_id="checkout-1", reading=reading("checkout")))
    month.say(BOT, ev.Proposed(incident_id="checkout-1", options=(option(),)))
    return month


def option(name: str = "restart") -> ev.Option:
    action = CHARTER.action("checkout", name)
    return ev.Option(key="1", action=name, digest=action.digest("checkout"), approve=action.approve)


def asked(month: Month, name: str = "restart") -> ev.Ref:
    deadline_ms = month.now_ms + 300_000
    return month.say(
        POLICY, ev.Validated(incident_id="checkout-1", options=(option(name),), deadline_ms=deadline_ms)
    )


def authorized(month: Month, ref: ev.Ref, *voters: str, who: Actor = RUDO, name: str = "restart") -> ev.Ref:
    chosen = option(name)
    made = ev.Authorized(
        incident_id="checkout-1", option="1", action=name, digest=chosen.digest, voters=voters, ref=ref
    )
    return month.say(who, made)


def kinds(found: Report) -> list[Kind]:
    return [one.kind for one in found.exceptions]


def test_an_authorization_is_open_within_its_time_and_missing_after_it():
    month = story()
    month.say(BOT, ev.Paged(incident_id="checkout-1", recipient="rudo", channel="telegram"))
    authorized(month, asked(month), "rudo")
    within, after = (report(month, until_ms=month.now_ms + later) for later in (SETTLED_MS - 1, SETTLED_MS))
    assert (within.clean, within.total.open) == (True, 1)
    assert (after.balanced, kinds(after)) == (False, [Kind.NO_OUTCOME])


def test_a_page_has_a_minute():
    month = story()
    asked(month)
    assert kinds(report(month, until_ms=month.now_ms + PAGED_MS - 1)) == []
    assert kinds(report(month, until_ms=month.now_ms + PAGED_MS)) == [Kind.NEVER_PAGED]


def test_who_is_counted_must_have_voted():
    month = story()
    authorized(month, asked(month, "rollback"), "rudo", "tendai", name="rollback")
    [found] = report(month).exceptions
    assert found.kind is Kind.NOT_ENTITLED
    assert found.sentence == "tendai is counted and did not vote"


def test_a_withdrawn_vote_does_not_count():
    month = story()
    ref = asked(month, "rollback")
    for kind in (ev.Approved, ev.Withdrawn):
        month.say(Actor.engineer("tendai", "telegram"), kind(incident_id="checkout-1", option="1", ref=ref))
    authorized(month, ref, "rudo", "tendai", name="rollback")
    assert kinds(report(month)) == [Kind.NOT_ENTITLED]


def test_two_people_on_one_account_are_one_person():
    month = story()
    for who in ("rudo", "tendai"):
        month.say(RUDO, ev.Linked(person=who, channel="whatsapp", identity="5" * 64))
    ref = asked(month, "rollback")
    month.say(
        Actor.engineer("tendai", "telegram"), ev.Approved(incident_id="checkout-1", option="1", ref=ref)
    )
    authorized(month, ref, "rudo", "tendai", name="rollback")
    [found] = report(month).exceptions
    assert (found.kind, found.sentence) == (Kind.TWICE, "rudo and tendai are linked to one account")


def test_a_charter_whose_text_is_not_its_own_judges_nobody_well():
    month = Month(1).incidents(20)
    forged = TEXTS | {CHARTER.digest(): CHARTER.text().replace("viewer", "oncall")}
    assert set(kinds(reconcile(month.raw(), forged))) == {Kind.NOT_ENTITLED}


def test_the_charter_that_counts_is_the_one_in_force_at_the_time():
    month = Month(1).incidents(40)
    later = ev.CharterAdopted(digest="0" * 64, policy_digest=RULES.digest(), policy_label=RULES.label)
    month.say(RUDO, later)
    assert report(month).clean


def test_a_policy_that_is_not_what_its_name_says_is_told():
    month = Month(1)
    month.adopt()
    month.say(RUDO, ev.PolicyAdopted(digest="0" * 64, label=RULES.label))
    assert kinds(report(month)) == [Kind.POLICY]


def executed(month: Month, number: int, counter: int, receipt: str = "matches", **more: object) -> None:
    """One more run of checkout, from its request to its end."""
    month.say(BOT, ev.Proposed(incident_id="checkout-1", options=(option(),)))
    ref = authorized(month, asked(month), "rudo")
    month.say(
        BOT,
        ev.ExecutionStarted(
            incident_id="checkout-1", attempt=1, by="web.1", until_ms=0, ref=ref, digest=option().digest
        ),
    )
    ended = ev.Executed(incident_id="checkout-1", attempt=1, status=200, ref=ref)
    told = {"receipt": receipt, "receipt_counter": counter}
    month.say(BOT, ended.model_copy(update=told | {k: v(ref.hash) for k, v in more.items()}))


@pytest.mark.parametrize(
    ("counters", "wrong"),
    [
        ([1, 2, 5], 0),
        ([1, 1], 1),
        ([4, 2], 1),
        ([4, 2, 5], 1),
        ([0, 1], 0),
    ],
)
def test_an_apps_count_never_repeats_and_never_goes_back(counters: list[int], wrong: int):
    month = story()
    month.say(BOT, ev.Paged(incident_id="checkout-1", recipient="rudo", channel="telegram"))
    for number, counter in enumerate(counters):
        executed(month, number, counter)
    assert kinds(report(month)) == [Kind.RECEIPT] * wrong


@pytest.mark.parametrize(
    ("receipts", "wrong"), [(["none", "none"], 0), (["none", "matches"], 0), (["matches", "none"], 1),
                            (["differs"], 1), (["something new"], 1), (["unchecked", "unchecked"], 0),
                            (["unchecked", "none"], 1), (["matches", "unchecked"], 1)],
)  # fmt: skip
def test_a_receipt_is_missed_only_where_the_app_has_signed_before(receipts: list[str], wrong: int):
    month = story()
    month.say(BOT, ev.Paged(incident_id="checkout-1", recipient="rudo", channel="telegram"))
    for number, receipt in enumerate(receipts):
        executed(month, number, number + 1, receipt)
    assert kinds(report(month)) == [Kind.RECEIPT] * wrong


@pytest.mark.parametrize(
    ("secret", "held", "kinds_found", "matched"),
    [
        ("theirs", ["theirs"], [], 1),
        ("theirs", [], [], 0),
        ("theirs", ["another"], [], 0),
        ("forged", ["theirs"], [Kind.RECEIPT], 0),
    ],
)
def test_who_holds_an_apps_secret_checks_what_the_bot_could_not(secret, held, kinds_found, matched):
    def signature(key: str) -> str:
        issued = issue(secret, "restart", key, "ok", 1, 5)
        if secret == "forged":
            issued["key_id"] = key_id("theirs")
        return issued["signature"]

    month = story()
    month.say(BOT, ev.Paged(incident_id="checkout-1", recipient="rudo", channel="telegram"))
    executed(
        month, 1, 1, "unchecked",
        receipt_at_ms=lambda key: 5, receipt_key_id=lambda key: key_id("theirs"), receipt_signature=signature,
    )  # fmt: skip
    books = Books(TEXTS, Secrets(held))
    for entry in month.lines:
        books.take(orjson.loads(entry.line), entry.hash)
    found = books.report("acme", books.last_ms, 0, LAST_MS, "")
    assert (kinds(found), found.total.receipts) == (kinds_found, matched)


def test_the_command_takes_the_secrets_of_apps_from_files(tmp_path):
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.configure(parser)
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
    named = [word for name in ("one", "two") for word in ("--receipt-secret-file", str(tmp_path / name))]
    assert parser.parse_args(["export", *named]).secrets == ["one", "two"]
    (tmp_path / "one").write_text("\n")
    for path in ("one", "none"):
        with pytest.raises(argparse.ArgumentError, match="holds no secret"):
            parser.parse_args(["--receipt-secret-file", str(tmp_path / path)])


def test_entries_of_an_older_version_are_read_without_the_fields_that_came_later():
    month = Month(1).incidents(20)
    later, books = {"card_digest", "receipt_counter", "receipt"}, Books(TEXTS)
    for entry in month.lines:
        raw = orjson.loads(entry.line)
        books.take(raw | {"data": {k: v for k, v in raw["data"].items() if k not in later}}, entry.hash)
    assert books.report("acme", books.last_ms, 0, LAST_MS, "").clean


def test_what_the_report_records_is_what_it_takes_to_make_it_again():
    month = Month(2).incidents(30)
    found = report(month, until_ms=month.now_ms + 5)
    fact = found.fact()
    again = reconcile(month.raw(), TEXTS, fact.until_ms, from_ms=fact.from_ms, to_ms=fact.to_ms)
    assert again.digest == fact.digest
    assert (fact.exceptions, fact.balanced, fact.last_seq) == (0, True, month.lines[-1].seq)
    assert replace(again, exceptions=()) == again


def test_an_outcome_that_names_the_authorization_of_another_incident_has_none():
    raw = list(Month(1).incidents(20).raw())
    ended = next(one for one in raw if one["event"] == "Executed")
    others = {one["incident_id"] for one in raw[: ended["seq"]]} - {None, ended["incident_id"]}
    ended["incident_id"] = sorted(others)[0]
    assert Kind.UNAUTHORIZED in kinds(reconcile(raw, TEXTS))


def test_an_empty_log_balances():
    assert reconcile([], {}).clean


def test_a_models_word_books_nothing():
    month = story()
    before = report(month, until_ms=1)
    month.say(A, Month.opinion("checkout-1", "A"))
    after = report(month, until_ms=1)
    assert before.balance == after.balance
    assert after.exceptions == ()
