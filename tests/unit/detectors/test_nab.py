"""The scoring of the Numenta Anomaly Benchmark, by cases that can be worked out on paper."""

import pytest

from bench.nab import ARCHIVE, PROFILES, File, corpus, scored, sigmoid, total

FILE = File("x", [0.0] * 1_000, [(400, 499), (700, 799)])


@pytest.mark.parametrize("profile", PROFILES)
def test_no_detection_is_0_and_the_first_instant_of_each_window_is_100(profile):
    assert total([scored(FILE, [])], 2, profile) == 0
    assert total([scored(FILE, [400, 700])], 2, profile) == pytest.approx(100)


def test_the_earlier_in_a_window_the_better_and_only_the_best_counts():
    early, late = scored(FILE, [410]), scored(FILE, [480])
    assert early.hits > late.hits > 0
    assert scored(FILE, [410, 480]) == early


def test_a_false_alarm_costs_more_the_farther_it_is_behind_a_window():
    assert scored(FILE, [505]).false < scored(FILE, [600]).false <= 1
    assert scored(FILE, [100]).false == 1
    assert sigmoid(3.01) == -1


def test_the_profiles_weigh_false_alarms_and_misses():
    noisy = [scored(FILE, [100, 400, 700])]
    assert total(noisy, 2, "low FP") < total(noisy, 2, "standard")
    assert total([scored(FILE, [100])], 2, "standard") == pytest.approx(100 * -0.11 / 4)
    assert total([scored(FILE, [100])], 2, "low FN") == pytest.approx(100 * -0.11 / 6)


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the corpus lies in ../shared/data, and only there")
def test_the_corpus_is_the_published_one():
    files = corpus(ARCHIVE)
    assert len(files) == 58
    assert sum(len(file.values) for file in files) == 365_558
    assert sum(len(file.windows) for file in files) == 116
    assert all(first >= file.probation for file in files for first, _ in file.windows)
