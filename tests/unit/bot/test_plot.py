"""The picture: small, the same twice, every mark on it, gaps hatched and never drawn as zero."""

import asyncio
import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.canvas import ascii_of
from bot.chart import MARKS, Chart, Mark, alt, window_ms
from bot.places import apart, nice, rows_of, stretches
from bot.plot import AMBER, BLUE, BLUE_AREA, DISC, LEFT, MOST_BYTES, PANEL, RIGHT, USUAL, WIDTH, draw, place
from detectors.history import KEPT_MS, POINT_MS, Point
from tests.charts import (
    ALL_MARKS,
    MINUTE,
    OPENED,
    RECOVERED,
    UNTIL,
    chart,
    colours,
    half_hour,
    has_line,
    how_many,
    look,
    noisy,
    says,
)

LONG = "a-service-with-a-name-that-is-longer-than-any-heading"


@pytest.mark.parametrize("seed", range(4))
def test_the_noisiest_chart_is_at_most_20_kb(seed):
    """Every figure leaps, every fifth point is missing, every band differs, and all that can happen did."""
    chance, points = random.Random(seed), []
    for k in (k for k in range(60, 0, -1) if k % 5 or seed % 2):
        n = chance.choice((1, 10**9, chance.randrange(10**9)))
        figures = n, chance.choice((0, n)), chance.choice((1_000, 68_700_000, chance.randrange(10**7)))
        band = chance.randrange(10**6), chance.randrange(10**6, 68 * 10**6)
        points.append(Point(UNTIL - (k - 1) * POINT_MS, POINT_MS, *figures, *band))
    marked = (Mark(label, UNTIL - chance.randrange(KEPT_MS)) for label in dict.fromkeys(MARKS.values()))
    marks = tuple(sorted(marked, key=lambda one: one.at_ms))
    png = draw(replace(chart(tuple(points), marks), service=LONG, timezone="Asia/Kathmandu"))
    assert len(png) <= MOST_BYTES == 20_000
    assert look(png).width >= WIDTH * 2 // 3


def test_an_incident_as_it_mostly_is_takes_less_and_keeps_its_size():
    png = draw(chart())
    assert len(png) < 16_000
    assert look(png).width == WIDTH


def test_the_same_chart_gives_the_same_bytes():
    assert draw(chart()) == draw(chart())


def test_all_marks_stand_at_their_time():
    picture = look(draw(chart()))
    assert all(has_line(picture, chart(), mark) for mark in ALL_MARKS)


@pytest.mark.parametrize("gone", ALL_MARKS, ids=lambda mark: mark.label)
def test_a_mark_that_did_not_happen_is_not_there(gone):
    spread = tuple(replace(one, at_ms=UNTIL - (4 - n) * 6 * MINUTE) for n, one in enumerate(ALL_MARKS))
    left = tuple(one for one in spread if one.label != gone.label)
    picture = look(draw(chart(half_hour(sick_from=0), left)))
    assert [has_line(picture, chart(), one) for one in spread] == [one in left for one in spread]


def test_a_mark_from_before_the_half_hour_is_named_and_has_no_line():
    old = Mark("opened", UNTIL - KEPT_MS - MINUTE)
    assert not has_line(look(draw(chart(half_hour(sick_from=0), (old,)))), chart(), old)


def test_the_picture_says_of_itself_what_it_shows():
    assert says(draw(chart())) == alt(chart())


def test_what_is_usual_is_a_band_and_unknown_is_none():
    points = half_hour(sick_from=0)
    cold = tuple(one._replace(low_us=0, high_us=0) for one in points)
    known, unknown = (how_many(look(draw(chart(one, ()))), USUAL) for one in (points, cold))
    assert known > 5_000
    assert unknown < 500


def test_a_gap_is_hatched_and_no_line_runs_through_it():
    whole, lost = (chart(half_hour(sick_from=0, without=one), ()) for one in ((), ((10, 20),)))
    left, right = (round(place(lost, UNTIL - ago * MINUTE)) for ago in (20, 10))
    hatched, plain = (look(draw(one)).crop((left + 6, 60, right - 20, 440)) for one in (lost, whole))
    high, clear = (one.crop((0, 20, one.width, 35)) for one in (hatched, plain))
    assert how_many(clear, PANEL) == clear.width * clear.height
    assert how_many(high, PANEL) < 0.95 * high.width * high.height
    assert not {AMBER, BLUE, BLUE_AREA} & colours(hatched)
    assert {AMBER, BLUE, BLUE_AREA} <= colours(plain)


def test_no_request_is_a_zero_of_traffic_and_no_latency():
    still = tuple(Point(UNTIL - k * POINT_MS, POINT_MS, 0, 0, 0, 0, 0) for k in range(59, -1, -1))
    seen = colours(look(draw(chart(still, ()))))
    assert BLUE in seen
    assert AMBER not in seen


def test_one_point_alone_can_be_seen():
    seen = colours(look(draw(chart(half_hour(sick_from=0)[-1:], ()))))
    assert {AMBER, BLUE} <= seen


@pytest.mark.parametrize("points", [(), half_hour()[:1], half_hour(shape=noisy)], ids=["none", "one", "loud"])
@pytest.mark.parametrize("marks", [(), (OPENED,), ALL_MARKS], ids=["unmarked", "opened", "all"])
def test_it_is_narrow_enough_for_a_phone_and_telegram_takes_it(points, marks):
    """sendPhoto: width and height together at most 10,000, and at most 20 to 1."""
    picture = look(draw(chart(points, marks)))
    assert picture.width == WIDTH
    assert picture.height < 700


def test_words_that_the_font_does_not_know_are_left_out():
    assert ascii_of("café–漢 µs") == "cafe- s"
    assert draw(replace(chart(), service="漢字"))


def test_huge_figures_fit():
    tall = tuple(Point(UNTIL, POINT_MS, 10**15, 10**15, 68_700_000, 68_000_000, 68_700_000) for _ in "1")
    assert len(draw(chart(tall, usual_rps_milli=10**15))) <= MOST_BYTES


@settings(deadline=None)
@given(st.floats(0.001, 1e18))
def test_a_round_scale_holds_its_value_without_waste(value):
    high = nice(value)
    assert value <= high <= max(1, 2 * value)


@settings(deadline=None)
@given(st.lists(st.floats(LEFT, RIGHT), max_size=7))
def test_discs_never_cover_each_other_nor_leave_the_picture(places):
    gap = 2 * DISC + 3
    found = apart(sorted(places), gap, LEFT, RIGHT)
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(found))
    assert all(LEFT - 1e-6 <= one <= RIGHT + 1e-6 for one in found)
    far = sorted(places)
    if all(b - a >= gap for a, b in pairwise(far)):
        assert found == pytest.approx(far)


def test_marks_are_numbered_in_rows_of_two():
    rows = list(rows_of((*ALL_MARKS, OPENED)))
    assert [[number for number, _ in row] for row in rows] == [[1, 2], [3, 4], [5]]


def test_a_line_breaks_where_there_is_no_value():
    points = half_hour(sick_from=0, without=((10, 12),))
    assert [len(one) for one in stretches(points, lambda one: one.n)] == [36, 19]
    assert len(stretches(points, lambda one: None if one.at_ms == points[3].at_ms else 1)) == 3


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, KEPT_MS), st.integers(1, 200_000), st.integers(0, 10**6), st.integers(0, 10**8)
        ),
        max_size=62,
    ),
    st.lists(st.integers(-KEPT_MS, KEPT_MS), max_size=6),
)
def test_anything_can_be_drawn_within_the_limit(rows, marked):
    points = tuple(sorted(Point(UNTIL - ago, span, n, n // 3, p95, 0, 0) for ago, span, n, p95 in rows))
    labels = ("opened", "approved", "ran", "failed to run", "recovered", "closed")
    marks = tuple(Mark(label, UNTIL - ago) for label, ago in zip(labels, sorted(marked), strict=False))
    began = window_ms(points, marks, UNTIL)
    drawn = Chart("checkout", began, UNTIL, "Asia/Kathmandu", points, marks, UNTIL - MINUTE)
    assert len(draw(drawn)) <= MOST_BYTES


async def test_twenty_drawn_in_threads_do_not_hold_up_the_loop():
    """The bar is 50 ms on a quiet machine; this only sees that the loop goes on meanwhile."""
    done, turns = asyncio.Event(), 0

    async def turn() -> None:
        nonlocal turns
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    began = time.perf_counter()
    charts = [replace(chart(), until_ms=UNTIL + n) for n in range(20)]
    await asyncio.gather(*(asyncio.to_thread(draw, one) for one in charts))
    done.set()
    await turning
    assert turns > 20, time.perf_counter() - began


def test_a_recovery_at_the_very_end_is_still_on_the_picture():
    late = replace(RECOVERED, at_ms=UNTIL)
    assert has_line(look(draw(chart(marks=(*ALL_MARKS[:3], late)))), chart(), late)
