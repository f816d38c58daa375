"""Whose turn it is: the rota on the tenant's clock, and whoever took over."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import maintenance, rota
from handlers.charter import parse
from ledger import events as ev
from ledger.view import View, epoch_ms

PEOPLE = "".join(
    f'[[people]]\nid = "{name}"\nname = "{name.title()}"\nroles = ["{role}"]\n'
    for name, role in (("rudo", "oncall"), ("tendai", "oncall"), ("tariro", "oncall"), ("chipo", "admin"))
)


def charter(more: str = "", zone: str = "Africa/Harare"):
    services = '[[services]]\nid = "checkout"\nhealth_url = "https://x.example/h"\n'
    return parse(f'[tenant]\nid = "acme"\ntimezone = "{zone}"\n{PEOPLE}{services}{more}')


ROTA = '[rota]\npeople = ["rudo", "tendai", "tariro"]\nstarts = 2026-06-01T08:00:00\nevery = "7d"\n'


def ms(text: str, zone: str = "Africa/Harare") -> int:
    return epoch_ms(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


@pytest.mark.parametrize(
    ("now", "person", "following", "ends"),
    [
        ("2026-05-20 12:00", "rudo", "tendai", "2026-06-08 08:00"),
        ("2026-06-01 08:00", "rudo", "tendai", "2026-06-08 08:00"),
        ("2026-06-08 07:59", "rudo", "tendai", "2026-06-08 08:00"),
        ("2026-06-08 08:00", "tendai", "tariro", "2026-06-15 08:00"),
        ("2026-06-15 08:00", "tariro", "rudo", "2026-06-22 08:00"),
        ("2026-06-22 08:00", "rudo", "tendai", "2026-06-29 08:00"),
    ],
)
def test_shifts_follow_one_another(now, person, following, ends):
    assert rota.turn(charter(ROTA), View("acme"), ms(now)) == rota.Turn(person, ms(ends), following)


def test_a_shift_changes_at_the_same_hour_when_clocks_are_put_back():
    found = rota.turn(charter(ROTA, "Europe/Berlin"), View("acme"), ms("2026-10-24 12:00", "Europe/Berlin"))
    assert found.until_ms == ms("2026-10-26 08:00", "Europe/Berlin")


@given(st.integers(0, 60 * 24 * 90))
def test_at_every_minute_one_person_is_on_call_and_the_next_follows_at_its_end(minute):
    rules, now = charter(ROTA, "Europe/Berlin"), ms("2026-09-01 00:00", "UTC") + minute * 60_000
    found = rota.turn(rules, View("acme"), now)
    after = rota.turn(rules, View("acme"), found.until_ms)
    assert now < found.until_ms <= now + 7 * 86_400_000 + 3_600_000
    assert after.person == found.next != found.person


def test_without_a_rota_everybody_with_the_role_is_woken():
    assert rota.turn(charter(), View("acme"), ms("2026-06-01 08:00")) is None
    assert [p.id for p in rota.woken(charter(), View("acme"), 0)] == ["rudo", "tendai", "tariro"]


def test_who_took_over_is_woken_until_their_time_is_up_and_the_rota_follows():
    view, now = View("acme"), ms("2026-06-02 08:00")
    view.overridden = ev.OncallOverridden(person="tariro", until_ms=ms("2026-06-09 08:00"))
    rules = charter(ROTA)
    assert rota.turn(rules, view, now) == rota.Turn("tariro", ms("2026-06-09 08:00"), "tendai", "rudo")
    assert [p.id for p in rota.woken(rules, view, now)] == ["tariro"]
    assert rota.turn(rules, view, ms("2026-06-09 08:00")).person == "tendai"


def test_who_left_the_charter_cannot_have_taken_over():
    view = View("acme")
    view.overridden = ev.OncallOverridden(person="gone", until_ms=ms("2026-06-09 08:00"))
    assert rota.turn(charter(ROTA), view, ms("2026-06-02 08:00")).person == "rudo"


def test_a_step_names_who_is_on_call_who_is_next_a_person_or_a_role_each_once():
    rules, view, now = charter(ROTA), View("acme"), ms("2026-06-02 08:00")
    assert rota.named(("oncall", "next"), rules, view, now) == ("rudo", "tendai")
    assert rota.named(("admin", "chipo"), rules, view, now) == ("chipo",)
    assert rota.named(("next",), charter(), view, now) == ("rudo", "tendai", "tariro")


WINDOW = '[[maintenance]]\nservices = ["checkout"]\ndays = ["sun"]\nbegins = "22:00"\nends = "04:00"\n'
SUNDAY = "2026-06-07"


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        (f"{SUNDAY} 21:59", ""),
        (f"{SUNDAY} 22:00", "2026-06-08 04:00"),
        ("2026-06-08 03:59", "2026-06-08 04:00"),
        ("2026-06-08 04:00", ""),
        ("2026-06-08 22:30", ""),
        (f"{SUNDAY} 02:00", ""),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(now, ends):
    rules, view = charter(WINDOW), View("acme")
    assert maintenance.until_ms(rules, view, "checkout", ms(now)) == (ms(ends) if ends else 0)
    assert maintenance.until_ms(rules, view, "other", ms(now)) == 0


def test_what_ends_last_counts_and_what_is_over_does_not():
    rules, view, now = charter(WINDOW), View("acme"), ms(f"{SUNDAY} 23:00")
    view.maintenance["checkout"] = ms("2026-06-08 06:00")
    assert maintenance.until_ms(rules, view, "checkout", now) == ms("2026-06-08 06:00")
    view.maintenance["checkout"] = now
    assert maintenance.until_ms(rules, view, "checkout", now) == ms("2026-06-08 04:00")
    later = epoch_ms(datetime(2026, 6, 9, tzinfo=UTC) + timedelta(hours=1))
    assert maintenance.until_ms(rules, view, "checkout", later) == 0
