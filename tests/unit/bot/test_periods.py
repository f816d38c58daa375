"""A stretch of time as people name it: on their own clock, and refused where it is none."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.periods import FORMS, BadPeriod, parse
from ledger.view import epoch_ms

HARARE, BERLIN = ZoneInfo("Africa/Harare"), ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 1, 30, tzinfo=HARARE)
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("words", "name"),
    {
        "today": "2026-11-21",
        "yesterday": "2026-11-20",
        "7d": "2026-11-15..2026-11-21",
        "7 D": "2026-11-15..2026-11-21",
        "2026-11": "2026-11-01..2026-11-30",
        "2026-12": "2026-12-01..2026-12-31",
        "2024-02": "2024-02-01..2024-02-29",
        "2026-11-20": "2026-11-20",
        "2026-11-01..2026-11-20": "2026-11-01..2026-11-20",
        " 2026-11-01 … 2026-11-20 ": "2026-11-01..2026-11-20",
    }.items(),
)
def test_each_form_means_whole_days(words, name):
    assert parse(words, NOW).name == name


@pytest.mark.parametrize(
    "words",
    ["", "tomorrow", "0d", "9999d", "99999d", "2026-13", "2026-02-30", "2026-11-20..2026-11-01", "0000-00",
     "9999-12", "1970-01", "2026-11-01..", "٣d x", "7d; DROP", "a" * 500],
)  # fmt: skip
def test_what_names_no_period_is_answered_with_the_forms_that_do(words):
    with pytest.raises(BadPeriod) as said:
        parse(words, NOW)
    assert FORMS in str(said.value)
    assert len(str(said.value)) < 200


def test_a_day_is_the_readers_own():
    harare, berlin = parse("2026-11-21", NOW), parse("2026-11-21", NOW.astimezone(BERLIN))
    assert berlin.start_ms - harare.start_ms == HOUR
    assert harare.holds(datetime(2026, 11, 20, 22, 0, tzinfo=UTC))
    assert not berlin.holds(datetime(2026, 11, 20, 22, 0, tzinfo=UTC))
    assert parse("today", NOW.astimezone(UTC).astimezone(ZoneInfo("UTC"))).name == "2026-11-20"


def test_a_day_has_25_hours_when_the_clocks_go_back():
    day = parse("2026-10-25", NOW.astimezone(BERLIN))
    assert day.end_ms - day.start_ms == 25 * HOUR


@given(st.dates(date(1971, 1, 2), date(2100, 1, 1)), st.integers(0, 800))
def test_its_name_reads_back_as_the_same_period(first, days):
    words = f"{first}..{first + timedelta(days=days)}"
    period = parse(words, NOW)
    assert parse(period.name, NOW) == period
    assert period.start_ms < period.end_ms
    assert period.holds(datetime.fromtimestamp(period.start_ms / 1000, UTC))
    assert not period.holds(datetime.fromtimestamp(period.end_ms / 1000, UTC))
    assert epoch_ms(datetime.fromtimestamp(period.start_ms / 1000, HARARE)) == period.start_ms
