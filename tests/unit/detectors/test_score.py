import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.score import line

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("share", "points"),
    [(0, 100), (0.02, 100), (0.06, 70), (0.1, 40), (0.193, 31), (0.3, 20), (0.5, 0), (1, 0)],
)
def test_100_where_it_is_healthy_40_where_it_is_sick_0_at_five_times_that(share, points):
    assert line(share, 0.02, 0.1) == points


@given(shares, shares)
def test_more_bad_requests_never_score_better(one, two):
    assert line(max(one, two), 0.05, 0.25) <= line(min(one, two), 0.05, 0.25)
