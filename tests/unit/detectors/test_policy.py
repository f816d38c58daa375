import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.policy import BadOverride, Policy


def test_the_label_is_the_version_and_eight_digits_of_the_digest():
    policy = Policy()
    assert policy.label == f"2026.1+{policy.digest()[:8]}"
    assert len(policy.digest()) == 64


def test_any_changed_threshold_changes_the_name():
    assert Policy().with_overrides({"close_ms": 61_000}).label != Policy().label
    assert Policy().with_overrides({"close_ms": 60_000}).label == Policy().label


def test_the_text_that_is_digested_has_no_floats_and_sorted_keys():
    text = Policy().canonical()
    values = json.loads(text, parse_float=pytest.fail)
    assert list(values) == sorted(values)
    assert Policy.model_validate(values) == Policy()


def test_a_policy_cannot_be_changed():
    with pytest.raises(ValidationError):
        Policy().close_ms = 1


def test_numbers_may_come_as_text_from_the_environment():
    policy = Policy().with_overrides({"close_ms": " 30000 ", "p95_limit_ms": "off", "warnings_ring": "true"})
    assert (policy.close_ms, policy.p95_limit_ms, policy.warnings_ring) == (30_000, None, True)


@pytest.mark.parametrize(
    ("overrides", "key", "says"),
    [
        ({"err_crit_p1_permile": 5}, "err_crit_p1_permile", "Did you mean err_crit_p1_permille?"),
        ({"zzz": 5}, "zzz", "listed in detectors/policy.py"),
        ({"__class__": 5}, "__class__", "no such threshold"),
        ({"rows": 5}, "rows", "no such threshold"),
        ({"close_ms\n<b>": 5}, r"'close_ms\n<b>'", "no such threshold"),
        ({"close_ms": "soon"}, "close_ms", "not a whole number. Write one, such as 60000."),
        ({"close_ms": "1e3"}, "close_ms", "not a whole number"),
        ({"close_ms": "٣"}, "close_ms", "not a whole number"),
        ({"close_ms": "9" * 5_000}, "close_ms", "not a whole number"),
        ({"close_ms": 60.5}, "close_ms", "The default is 60000."),
        ({"close_ms": float("nan")}, "close_ms", "The default is 60000."),
        ({"close_ms": True}, "close_ms", "The default is 60000."),
        ({"close_ms": None}, "close_ms", "The default is 60000."),
        ({"close_ms": [60_000]}, "close_ms", "The default is 60000."),
        ({"close_ms": -1}, "close_ms", "greater than or equal to 1"),
        ({"evidence_cn": 0}, "evidence_cn", "greater than or equal to 100"),
        ({"unreachable_polls": 1}, "unreachable_polls", "greater than or equal to 2"),
        ({"version": "x y"}, "version", "The default is 2026.1."),
        ({"lat_crit_p0_permille": 200}, "lat_crit_p0_permille", "less than lat_crit_p1_permille"),
        ({"budget_permille": 200}, "err_crit_p1_permille", "budget_permille"),
        ({"min_score_to_alert": 80, "recover_score": 70}, "recover_score", "Make it more than 80."),
    ],
)
def test_an_override_that_cannot_be_meant_names_key_reason_and_remedy(overrides, key, says):
    with pytest.raises(BadOverride) as refused:
        Policy().with_overrides(overrides)
    assert refused.value.key == key
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(
    st.dictionaries(
        st.one_of(st.text(), st.sampled_from(sorted(Policy.model_fields))),
        st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.floats()),
    )
)
def test_hostile_overrides_are_refused_or_leave_a_policy_that_makes_sense(overrides):
    try:
        policy = Policy().with_overrides(overrides)
    except BadOverride:
        return
    assert all(0 < row.p0 < row.p1 < 1 for row in policy.rows)


def test_a_looser_budget_loosens_both_error_rules():
    rows = {row.rule: row for row in Policy().with_overrides({"budget_permille": 10}).rows}
    assert (rows["err_crit"].p0, rows["err_crit"].p1) == (0.04, 0.12)
    assert (rows["err_warn"].p0, rows["err_warn"].p1) == (0.02, 0.1)
