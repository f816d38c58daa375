"""Who was woken at night: from the ledger's Paged entries, each on the person's own clock."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.lately import Past
from bot.week import NIGHTS, Nights, count, night_of, nights
from handlers.charter import parse
from ledger import events as ev
from ledger.clock import ManualClock
from tests.rooms import BOT, CHARTER, POLICY, READING, Tenant, tenant
from tests.unit.bot.test_commands import Front

HARARE = ZoneInfo("Africa/Harare")
THREE = datetime(2026, 6, 3, 1, tzinfo=UTC)
"""Three at night in Harare, on a Wednesday; the night is Tuesday's."""


def at(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def asleep(moment: datetime = THREE, text: str = CHARTER) -> Tenant:
    rules = parse(text.replace("{approve}", "1 oncall").replace("{risk}", "low"))
    return await tenant(rules, clock=ManualClock(moment))


async def paged(acme: Tenant, *to: str, channel: str = "telegram", rule: str = "err_crit", **more) -> str:
    """An incident that reaches *to* now and is over."""
    reading = READING.model_copy(update={"rule": rule})
    made = await acme.record(
        POLICY, lambda v, n: ev.Detected(incident_id=v.next_incident_id("checkout"), reading=reading)
    )
    for who in to:
        await page(acme, made.incident_id, who, channel, **more)
    await acme.record(POLICY, lambda v, n: ev.Recovered(incident_id=made.incident_id, after=READING))
    return made.incident_id


async def page(acme: Tenant, incident: str, who: str, channel: str = "telegram", **more) -> None:
    await acme.record(
        BOT, lambda v, n: ev.Paged(incident_id=incident, recipient=who, channel=channel, **more)
    )


def counted(acme: Tenant) -> tuple[dict[str, Nights], int]:
    return count(acme.room.people, Past.of(acme.room.ledger.view), acme.room.now_ms())


def found(acme: Tenant) -> dict[str, int]:
    told, _ = counted(acme)
    return {who: nights.total for who, nights in told.items()}


async def test_a_page_at_night_counts_for_whom_it_reached():
    acme = await asleep()
    await paged(acme, "rudo")
    assert found(acme) == {"rudo": 1, "tendai": 0}


async def test_a_page_by_day_wakes_nobody():
    acme = await asleep(THREE + timedelta(hours=9))
    await paged(acme, "rudo")
    assert found(acme)["rudo"] == 0


async def test_a_card_without_sound_wakes_nobody():
    acme = await asleep()
    await paged(acme, "rudo", silent=True)
    assert found(acme)["rudo"] == 0


async def test_one_incident_on_two_channels_is_one_page():
    acme = await asleep()
    name = await paged(acme, "tendai")
    await page(acme, name, "tendai", "whatsapp")
    assert found(acme)["tendai"] == 1


async def test_a_night_is_that_of_the_persons_own_clock():
    text = CHARTER.replace('id = "tendai"', 'id = "tendai"\ntimezone = "Asia/Tokyo"')
    acme = await asleep(THREE, text)
    await paged(acme, "rudo", "tendai")
    assert found(acme) == {"rudo": 1, "tendai": 0}


async def test_seven_nights_count_and_the_eighth_does_not():
    acme = await asleep()
    for _ in range(9):
        acme.clock.advance(86_400)
        await paged(acme, "rudo")
    assert found(acme)["rudo"] == 7


async def test_groups_are_told_beside_and_an_incident_counts_once_there():
    acme = await asleep()
    await paged(acme, "chat1", "chat2")
    told, groups = counted(acme)
    assert groups == 1
    assert told.keys() == {"rudo", "tendai"}


async def test_who_left_the_charter_was_woken_all_the_same():
    acme = await asleep()
    await paged(acme, "farai")
    assert found(acme)["farai"] == 1


async def test_the_text_tells_the_total_the_worst_night_and_what_caused_it():
    acme = await asleep()
    await paged(acme, "rudo", "chat1")
    acme.clock.advance(86_400)
    await paged(acme, "rudo")
    await paged(acme, "rudo", rule="lat_warn")
    here = Front(acme)
    assert await here.told("rudo", "/status week") == (
        "Pages at night (22:00–07:00, each on their own clock), last 7 nights: 3.\n"
        "Rudo: 3, worst Wed 03 Jun with 2. checkout err_crit 2, checkout lat_warn 1\n"
        "Tendai: none\n"
        "Most from checkout err_crit 2, checkout lat_warn 1.\n"
        "Group chats were rung for 1 incident besides.\n"
        "A page is an incident whose first card reached somebody with sound. From the ledger."
    )


async def test_a_quiet_week_is_told_as_well():
    here = Front(await asleep())
    told = await here.told("rudo", "/status week")
    assert "last 7 nights: 0." in told
    assert "Rudo: none" in told


async def test_what_an_open_incident_of_long_ago_does_now_counts():
    acme = await asleep()
    made = await acme.opens()
    acme.clock.advance(40 * 86_400)
    await page(acme, made.incident_id, "rudo")
    assert found(acme)["rudo"] == 1


@pytest.mark.parametrize(
    ("hour", "night"),
    [
        ("21:59", None),
        ("22:00", 2),
        ("23:59", 2),
        ("00:00", 1),
        ("06:59", 1),
        ("07:00", None),
        ("12:00", None),
    ],
)
def test_a_night_is_from_ten_to_seven(hour: str, night: int | None):
    local = datetime.fromisoformat(f"2026-06-02T{hour}:00").replace(tzinfo=HARARE)
    assert night_of(at(local), HARARE) == (date(2026, 6, night) if night else None)


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001  they get their zone below
    st.sampled_from(["Africa/Harare", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]),
)
def test_a_page_of_this_very_night_is_always_among_the_last_seven(moment: datetime, name: str):
    now_ms, zone = at(moment.replace(tzinfo=UTC)), ZoneInfo(name)
    night = night_of(now_ms, zone)
    assert len(nights(now_ms, zone)) == NIGHTS
    assert night is None or night in nights(now_ms, zone)
