"""A rule in shadow is judged as any other, and nothing comes of it; what is different for one service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import EVERY, RULES, BadOverride, Policy

SHADOWED = Policy().with_overrides({"shadow": ["err_crit"]})


def test_a_rule_in_shadow_opens_nothing_and_says_what_it_would_have_said(watch):
    loud, quiet = watch(Policy()), watch(SHADOWED)
    for one in (loud, quiet):
        one.for_s(60)
        one.for_s(15, errors=30)
    assert [alarm.rule for alarm in loud.verdict.alarms] == ["err_crit"]
    assert not quiet.incident_open
    assert [alarm.rule for alarm in quiet.verdict.shadowed] == ["err_crit"]
    assert quiet.verdict.shadowed[0] == loud.verdict.alarms[0]


def test_the_milder_rule_of_the_same_signal_speaks_for_itself(watch):
    one = watch(SHADOWED)
    one.for_s(60)
    one.for_s(60, errors=30)
    assert [alarm.rule for alarm in one.verdict.alarms] == ["err_warn"]
    assert [alarm.rule for alarm in one.verdict.shadowed] == ["err_crit"]


def test_with_all_rules_in_shadow_nothing_opens_whatever_happens(watch):
    one = watch(Policy().with_overrides({"shadow": [EVERY]}))
    one.for_s(60)
    one.for_s(120, errors=100)
    for _ in range(5):
        one.miss()
    assert one.openings == []
    assert one.verdict.healthy
    assert one.verdict.shadowed


def test_a_rule_in_shadow_keeps_nothing_open(watch):
    one = watch(Policy().with_overrides({"shadow": [EVERY]}))
    one.for_s(60)
    verdict = one.for_s(120, errors=100)
    assert verdict.quiet_ms >= 120_000


@pytest.mark.parametrize(
    ("rule", "traffic"),
    [("drop", {"n": 0}), ("hangs", {"inflight": 90, "oldest_ms": 60_000})],
)
def test_a_state_that_a_rule_in_shadow_finds_is_quiet_all_the_same(warm, rule: str, traffic: dict):
    warm.for_s(60, **traffic)
    assert [alarm.rule for alarm in warm.verdict.alarms] == [rule]
    assert warm.verdict.quiet_ms == 0
    warm.policy = warm.policy.with_overrides({"shadow": [rule]})
    verdict = warm.for_s(60, **traffic)
    assert [alarm.rule for alarm in verdict.shadowed] == [rule]
    assert verdict.quiet_ms == 60_000


def test_what_a_rule_in_shadow_finds_is_not_learned_from(warm):
    warm.policy = warm.policy.with_overrides({"shadow": [EVERY]})
    usual = warm.state.baseline.p95_ns
    warm.for_s(1_200, median_ms=800)
    assert warm.state.baseline.p95_ns == usual


def test_the_score_rule_may_stand_in_shadow_as_well(watch):
    one = watch(Policy().with_overrides({"min_score_to_alert": 70, "shadow": ["score"]}))
    one.for_s(60)
    verdict = one.for_s(15, errors=7)
    assert verdict.healthy
    assert [alarm.rule for alarm in verdict.shadowed] == ["score"]


def test_nothing_is_in_shadow_unless_somebody_says_so():
    assert not any(Policy().shadows(rule) for rule in RULES)
    assert all(Policy().with_overrides({"shadow": "*"}).shadows(rule) for rule in (*RULES, "alert"))


@given(st.lists(st.sampled_from(RULES)))
def test_the_environment_lists_rules_with_commas(names: list[str]):
    listed = Policy().with_overrides({"shadow": names})
    assert Policy().with_overrides({"shadow": " , ".join(names)}) == listed
    assert all(listed.shadows(rule) == (rule in names) for rule in RULES)


def test_a_policy_that_uses_neither_keeps_its_name_and_one_that_does_gets_another():
    assert "shadow" not in Policy().canonical()
    assert "services" not in Policy().canonical()
    named = {
        Policy().label,
        SHADOWED.label,
        Policy().with_services({"checkout": {"close_ms": 90_000}}).label,
        Policy().with_services({"search": {"close_ms": 90_000}}).label,
    }
    assert len(named) == 4


def test_what_is_different_for_a_service_holds_for_it_alone():
    policy = Policy().with_overrides({"close_ms": 70_000}).with_services({"checkout": {"live_ms": "12000"}})
    own = policy.of("checkout")
    assert (own.close_ms, own.live_ms) == (70_000, 12_000)
    assert policy.of("search") is policy
    assert policy.live_ms == Policy().live_ms
    assert policy.of("checkout") is own


@given(
    st.dictionaries(
        st.sampled_from(["checkout", "search"]),
        st.dictionaries(st.sampled_from(["close_ms", "live_ms", "tail_floor_ms"]), st.integers(1, 10_000)),
    ),
    st.lists(st.sampled_from(RULES), unique=True),
)
def test_a_policy_is_read_again_from_its_text(services: dict, shadow: list[str]):
    policy = Policy().with_overrides({"shadow": shadow}).with_services(services)
    again = Policy.model_validate_json(policy.canonical())
    assert again == policy
    assert again.digest() == policy.digest()
    assert all(again.of(name) == policy.of(name) for name in services)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"shadow": ["err_crti"]}, "no rule err_crti. The rules are err_crit,"),
        ({"shadow": 5}, "is no list"),
        ({"shadow": ["<b>"]}, "no rule '<b>'"),
        ({"services": {"checkout": {}}}, "is no threshold"),
    ],
)
def test_what_cannot_be_meant_is_refused(overrides: dict, says: str):
    with pytest.raises(BadOverride, match=says):
        Policy().with_overrides(overrides)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"version": "2"}, "not a service's"),
        ({"close_min": 5}, "Did you mean"),
        ({"services": {}}, "is no threshold"),
        ({"lat_crit_p0_permille": 400}, "less than lat_crit_p1_permille"),
    ],
)
def test_what_cannot_be_meant_for_a_service_is_refused(own: dict, says: str):
    with pytest.raises(BadOverride, match=says):
        Policy().with_services({"checkout": own})
