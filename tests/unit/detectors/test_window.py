import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.window import Gauge, Part, Tick, merge
from sdk import histogram

hists = st.dictionaries(st.integers(32, 1000), st.integers(1, 50), max_size=8)


@st.composite
def ticks(draw):
    hist = draw(hists)
    n = sum(hist.values())
    errors = draw(st.integers(0, n))
    route = Part(draw(st.sampled_from(["/a", "/b"])), n, errors, hist, {"E": errors} if errors else {})
    return Tick(
        10_000, 5_000, n, errors, 0, 0, hist, draw(st.integers(0, 9)), draw(st.integers(0, 9)), (route,)
    )


@given(st.lists(ticks(), min_size=1, max_size=6))
def test_merging_workers_adds_up_exactly(found):
    whole = merge(found)
    assert whole.n == sum(tick.n for tick in found) == sum(whole.hist.values())
    assert whole.errors == sum(part.errors for part in whole.routes)
    assert whole.hist == histogram.merge(*(tick.hist for tick in found))
    assert whole.inflight == sum(tick.inflight for tick in found)
    assert whole.span_ms == 5_000


@given(st.lists(ticks(), min_size=2, max_size=6))
def test_how_it_was_split_does_not_matter(found):
    assert merge([merge(found[:1]), merge(found[1:])]) == merge(found)


def test_successive_ticks_span_their_time_and_only_the_newest_state_counts():
    old = Tick(5_000, 5_000, 1, 0, 0, 0, {40: 1}, 7, 900, gauges=(Gauge("pool", 9, 9),))
    new = Tick(10_000, 5_000, 2, 1, 0, 0, {40: 2}, 3, 100, gauges=(Gauge("pool", 1, 9),))
    whole = merge([new, old])
    assert (whole.at_ms, whole.span_ms, whole.n, whole.inflight, whole.oldest_ms) == (
        10_000,
        10_000,
        3,
        3,
        100,
    )
    assert whole.gauges == (Gauge("pool", 1, 9),)


def test_nothing_cannot_be_merged():
    with pytest.raises(ValueError, match="no tick"):
        merge([])
