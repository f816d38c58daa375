import random

from hypothesis import example, given
from hypothesis import strategies as st

from sdk import histogram as h

latency = st.one_of(
    st.integers(h.LOWEST_NS, h.HIGHEST_NS),
    st.integers(5, 36).flatmap(lambda e: st.integers(-2, 2).map(lambda d: max(32, min(2**36, 2**e + d)))),
)


@given(latency)
@example(h.LOWEST_NS)
@example(h.HIGHEST_NS)
def test_a_latency_lies_within_the_bounds_of_its_bucket(ns):
    lower, upper = h.bounds(h.index(ns))
    assert lower <= ns < upper
    assert h.index(ns) in h.BUCKETS


def test_buckets_follow_each_other_without_gap_or_overlap():
    for i, following in zip(h.BUCKETS, h.BUCKETS[1:], strict=False):
        assert h.bounds(i)[1] == h.bounds(following)[0]


@given(st.integers(-(10**12), 10**13))
def test_what_is_out_of_range_is_clamped(ns):
    assert h.index(ns) == h.index(max(h.LOWEST_NS, min(ns, h.HIGHEST_NS)))


@given(st.lists(st.lists(latency, max_size=30), max_size=8), st.randoms(use_true_random=False))
def test_merging_parts_in_any_order_is_the_whole_bit_for_bit(parts, shuffle):
    histograms = [h.of(part) for part in parts]
    shuffle.shuffle(histograms)
    assert h.merge(*histograms) == h.of(ns for part in parts for ns in part)


@given(st.lists(latency, min_size=1, max_size=300), st.floats(0.001, 1.0))
def test_a_quantile_is_within_one_point_six_percent_of_the_exact_one(values, q):
    exact = sorted(values)[max(1, -int(-(q * len(values) - 1e-9) // 1)) - 1]
    assert abs(h.quantile(h.of(values), q) - exact) <= 0.016 * exact


def test_quantiles_of_a_heavy_tail_are_within_one_point_six_percent():
    rng = random.Random(7)
    values = sorted(int(rng.lognormvariate(16, 1.2)) for _ in range(20_000))
    counts = h.of(values)
    for q in (0.5, 0.9, 0.95, 0.99, 0.999):
        exact = values[int(q * len(values)) - 1]
        assert abs(h.quantile(counts, q) - exact) <= 0.016 * exact


def test_an_empty_histogram_has_quantile_zero():
    assert h.quantile({}, 0.95) == 0


@given(st.lists(latency, max_size=50), latency)
def test_above_counts_the_buckets_whose_midpoint_is_above(values, threshold):
    counts = h.of(values)
    assert h.above(counts, threshold) == sum(h.midpoint(h.index(ns)) > threshold for ns in values)


@given(st.lists(latency, max_size=50))
def test_the_flat_form_loses_nothing(values):
    counts = h.of(values)
    assert h.unflat(h.flat(counts)) == counts


@given(st.dictionaries(st.sampled_from(h.BUCKETS), st.integers(0, 50)), st.lists(st.floats(0.01, 1)))
def test_several_quantiles_in_one_pass_are_those_asked_for_one_by_one(counts, qs):
    one_by_one = [h.quantile(counts, q) for q in qs]
    assert h.quantiles(counts, *qs) == one_by_one
