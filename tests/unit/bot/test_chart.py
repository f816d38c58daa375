"""What a chart says in one sentence, and which facts stand on it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.chart import LEAST_MS, Mark, alt, began_ms, marks, newest, shown_ms, shown_rate, window_ms
from bot.words import units
from detectors.history import KEPT_MS, POINT_MS, Point
from ledger import events as ev
from ledger.machine import Stage
from tests.charts import MINUTE, OPENED, UNTIL, chart, half_hour
from tests.unit.bot.stories import MOMENTS, POLICY, SICK, START, told

CAPTION = 1024


def test_the_whole_story_in_one_sentence():
    said = alt(chart())
    assert said.startswith("checkout: p95 from 9")
    assert "to 2.8 s at 03:1" in said
    assert "errors 0 % to 18.8 %, now 0 %, 12 requests/s" in said
    assert said.endswith("; opened 03:11, approved 03:13, ran 03:13, recovered 03:15.")


def test_the_numbers_of_the_sentence_are_those_of_the_points():
    points = (
        Point(UNTIL - 90_000, POINT_MS, 300, 0, 92_000, 0, 0),
        Point(UNTIL - 60_000, POINT_MS, 300, 3, 94_000, 0, 0),
        Point(UNTIL - 30_000, POINT_MS, 330, 64, 2_850_000, 0, 0),
        Point(UNTIL, POINT_MS, 270, 30, 1_100_000, 0, 0),
    )
    began = chart(points, (OPENED,), began_ms=UNTIL - 60_000)
    assert alt(began) == (
        "checkout: p95 from 93 ms to 2.9 s at 03:15, now 1.1 s, errors 0.5 % to 19.3 %, now 11.1 %, "
        "10 requests/s; opened 03:11."
    )


def test_traffic_that_broke_away_is_told_from_what_to_what():
    low = [Point(UNTIL - k * POINT_MS, POINT_MS, 3, 0, 92_000, 0, 0) for k in (1, 0)]
    assert "12 to 0.1 requests/s" in alt(chart((*half_hour(sick_from=0)[:-2], *low)))


def test_without_an_incident_it_tells_the_usual_swing():
    said = alt(chart(half_hour(sick_from=0), ()))
    assert said == "checkout: p95 76 ms to 102 ms, errors 0 %, 13 requests/s; nothing is open."


def test_nothing_measured_is_no_number():
    assert alt(chart((), ())) == ("checkout: nothing was measured in this time; nothing is open.")


def test_a_gap_is_told_and_what_was_not_watched_yet_is_none():
    assert "no data for 4 min" in alt(chart(half_hour(without=((8, 11.5),))))
    assert "no data" not in alt(chart(half_hour(without=((20, 30),))))


def test_an_old_figure_is_not_called_now():
    said = alt(chart(half_hour(without=((0, 3),))))
    assert "now" not in said
    assert "no data for 3 min" in said


def test_one_point_is_said_once():
    said = alt(chart(half_hour(sick_from=0)[-1:], ()))
    assert said.count("p95") == 1
    assert " to " not in said


def test_requests_that_all_hang_are_no_latency():
    points = tuple(Point(UNTIL - k * POINT_MS, POINT_MS, 0, 0, 0, 0, 0) for k in range(3, -1, -1))
    assert alt(chart(points, (OPENED,))) == "checkout: no request, 0 requests/s; opened 03:11."


def test_times_are_on_the_readers_clock():
    assert "opened 02:11, approved 02:13" in alt(replace(chart(), timezone="Europe/London"))


def test_a_sentence_fits_into_a_caption():
    assert units(alt(chart())) < CAPTION / 3


@pytest.mark.parametrize("story", MOMENTS.values(), ids=MOMENTS)
def test_every_moment_of_an_incident_has_a_chart(story):
    incident = story.incident
    assert marks(incident)[0].label == "opened"
    assert newest(incident) in incident.facts
    assert [one.at_ms for one in marks(incident)] == sorted(one.at_ms for one in marks(incident))
    assert began_ms(incident) > 0


def test_what_was_approved_run_and_verified_stands_on_it():
    story = told().agreed().asked().approved().authorized().started().executed().verified()
    assert story.incident.stage is Stage.RESOLVED
    assert [one.label for one in marks(story.incident)] == ["opened", "approved", "ran", "recovered"]
    assert newest(story.incident) == story.incident.facts[-1]


def test_it_began_when_policy_says_so_and_not_when_it_was_seen():
    assert began_ms(told().incident) == SICK.since_ms == START - 12_000


def test_what_comes_back_is_marked_beside_the_first_time():
    story = told().say(POLICY, ev.Recovered(after=SICK), 300).say(POLICY, ev.Reopened(reading=SICK), 100)
    assert [one.label for one in marks(story.incident)] == ["opened", "recovered", "open again"]


def test_a_vote_does_not_draw_it_anew():
    story = told().agreed().asked()
    before = newest(story.incident)
    assert newest(story.acknowledged().incident) == before


@pytest.mark.parametrize(
    ("us", "reads"),
    [(0, "0 ms"), (400, "0.4 ms"), (92_400, "92 ms"), (999_999, "999 ms"), (1_000_000, "1 s"),
     (2_849_999, "2.8 s"), (68_700_000, "68 s")],
)  # fmt: skip
def test_latencies_read_short(us, reads):
    assert shown_ms(us) == reads


@pytest.mark.parametrize(
    ("milli", "reads"),
    [(0, "0"), (300, "0.3"), (9_960, "10"), (12_400, "12"), (1_200_000, "1,200"), (12_000_000, "12k"),
     (3_000_000_000, "3M"), (4 * 10**12, "4G")],
)  # fmt: skip
def test_rates_read_short(milli, reads):
    assert shown_rate(milli) == reads


def test_what_was_watched_for_a_short_time_is_shown_large():
    young = half_hour()[-14:]
    assert UNTIL - window_ms(half_hour(), (), UNTIL) == KEPT_MS
    assert UNTIL - window_ms(young, (), UNTIL) == 7 * MINUTE
    assert UNTIL - window_ms(young[-1:], (), UNTIL) == LEAST_MS
    assert UNTIL - window_ms(young[-1:], (Mark("opened", UNTIL - 12 * MINUTE),), UNTIL) == 12.5 * MINUTE
    assert UNTIL - window_ms((), (), UNTIL) == KEPT_MS


a_point = st.builds(
    lambda ago, span, n, bad, p95: Point(UNTIL - ago, span, n, bad % (n + 1), p95 if n else 0, 0, 0),
    st.integers(-100_000, 2 * KEPT_MS),
    st.integers(1, 300_000),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 68_700_000),
)


@settings(deadline=None)
@given(st.lists(a_point, max_size=20), st.booleans())
def test_any_points_make_a_sentence_and_gaps_never_overlap_them(points, wrong):
    ordered = tuple(sorted(points))
    here = chart(ordered, began_ms=UNTIL - 5 * MINUTE if wrong else 0)
    assert units(alt(here)) < CAPTION
    for began, ended in here.gaps():
        assert all(one.at_ms <= began or one.began_ms >= ended for one in here.within())
