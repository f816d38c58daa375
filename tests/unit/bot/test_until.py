"""Until when, as people type it on their own clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from bot.until import NoInstant, until
from ledger.view import epoch_ms

HARARE, BERLIN = ZoneInfo("Africa/Harare"), ZoneInfo("Europe/Berlin")


def ms(text: str, zone: ZoneInfo = HARARE) -> int:
    return epoch_ms(datetime.fromisoformat(text).replace(tzinfo=zone))


NOW = ms("2026-06-03 14:00")


@pytest.mark.parametrize(
    ("words", "instant", "rest"),
    [
        ("until 18:30 moving the database", "2026-06-03 18:30", "moving the database"),
        ("18:30", "2026-06-03 18:30", ""),
        ("until 08:00 x", "2026-06-04 08:00", "x"),
        ("14:00", "2026-06-04 14:00", ""),
        ("Until 2h x y", "2026-06-03 16:00", "x y"),
        ("90m", "2026-06-03 15:30", ""),
        ("2d", "2026-06-05 14:00", ""),
        ("2026-06-10 08:00 holiday", "2026-06-10 08:00", "holiday"),
        ("2026-06-10T08:00 holiday", "2026-06-10 08:00", "holiday"),
    ],
)
def test_an_instant_is_read_and_the_words_behind_it_stay(words, instant, rest):
    assert until(words, NOW, HARARE) == (ms(instant), rest)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "until",
        "tomorrow",
        "25:00",
        "0h",
        "2026-06-02 08:00",
        "2026-13-01 08:00",
        "2026-06-04",
        "99d",
        "1y",
    ],
)
def test_what_is_no_time_is_refused_with_what_to_write(words):
    with pytest.raises(NoInstant, match="until 14:00"):
        until(words, NOW, HARARE)


def test_an_hour_is_of_the_writers_own_clock_also_on_the_day_when_it_is_put_back():
    before = ms("2026-10-25 01:30", BERLIN)
    assert until("08:00", before, BERLIN)[0] == ms("2026-10-25 08:00", BERLIN)
    assert until("08:00", before, BERLIN)[0] - before == 7_500 * 3600
