"""Thresholds and shadow in the charter: for all services, and for one."""

import pytest

from detectors.policy import RULES
from handlers.charter import Charter, CharterError, parse
from handlers.charter_check import hints
from tests.unit.handlers.test_charter import ACTION, GOOD, PERSON, SERVICE, only_mistake

OTHER = '[[services]]\nid = "search"\nhealth_url = "https://search.example.com/health/alerts"\n'


def with_service(lines: str, rest: str = "") -> str:
    return f'[tenant]\nid = "acme"\n{PERSON}{SERVICE}{lines}\n{ACTION}{OTHER}{rest}'


def test_a_rule_in_shadow_is_so_for_all_services():
    policy = parse(GOOD + '[policy]\nshadow = ["tail"]\n').effective_policy()
    assert policy.of("checkout").shadows("tail")
    assert not policy.of("checkout").shadows("err_crit")


def test_a_service_in_shadow_is_so_alone_and_wholly():
    policy = parse(with_service("shadow = true")).effective_policy()
    assert all(policy.of("checkout").shadows(rule) for rule in RULES)
    assert not any(policy.of("search").shadows(rule) for rule in RULES)


def test_a_service_has_thresholds_of_its_own_and_shares_the_others():
    text = with_service("policy = {lat_warn_floor_ms = 50}", "[policy]\nclose_ms = 90000\n")
    policy = parse(text).effective_policy({"close_ms": "70000", "lat_warn_floor_ms": "60"})
    assert (policy.of("checkout").lat_warn_floor_ms, policy.of("checkout").close_ms) == (50, 70_000)
    assert policy.of("search").lat_warn_floor_ms == 60


def test_what_a_service_has_of_its_own_is_part_of_the_names_under_which_decisions_are_made():
    plain, own = parse(with_service("")), parse(with_service("policy = {lat_warn_floor_ms = 50}"))
    assert plain.effective_policy().label != own.effective_policy().label
    assert plain.digest() != own.digest()
    assert '"lat_warn_floor_ms":"50"' in own.text()
    assert parse(with_service("shadow = false")).digest() == plain.digest()


def test_a_kept_charter_makes_the_same_policy():
    charter = parse(with_service("shadow = true\npolicy = {lat_warn_floor_ms = 50}"))
    again = Charter.model_validate_json(charter.model_dump_json())
    assert again.digest() == charter.digest()
    assert again.effective_policy() == charter.effective_policy()


@pytest.mark.parametrize(
    ("lines", "key", "reason", "remedy"),
    [
        ("policy = {lat_warn_floor = 3}", "lat_warn_floor", "no such threshold", "Did you mean"),
        ('policy = {version = "3"}', "version", "not a service's", "Put it under [policy]"),
        ('policy = {shadow = ["tial"]}', "shadow", "there is no rule tial", "err_crit"),
        ("policy = {lat_crit_p0_permille = 200}", "lat_crit_p0_permille", "as healthy", "Make it less"),
        ("policy = {close_ms = 0}", "close_ms", "greater than or equal to 1", "The default is 60000"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_a_service_has_of_its_own_names_the_service(lines, key, reason, remedy):
    mistake = only_mistake(with_service(lines))
    assert mistake.key == f"services.checkout.policy.{key}"
    assert reason in mistake.reason
    assert remedy in mistake.remedy


def test_what_is_no_table_is_told_so():
    with pytest.raises(CharterError, match=r"services\.1\.policy: is no table"):
        parse(with_service("policy = 3"))


def test_a_service_in_shadow_is_worth_a_second_look():
    assert any(
        "nobody is told when it breaks" in hint for hint in hints(parse(with_service("shadow = true")))
    )
    assert not any("shadow" in hint for hint in hints(parse(with_service(""))))
