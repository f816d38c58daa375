"""What a person may choose for an action: nothing that the charter does not allow, and all of it bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from handlers.charter_action import Action
from handlers.charter_parameters import BadParameter, Parameter, fill
from ledger.events import Given

REGION = Parameter(id="region", kind="enum", choices=("eu", "us"), default="eu")
COUNT = Parameter(id="count", kind="integer", least=-1, most=20)
NAME = Parameter(id="name", kind="text", pattern="[a-z-]{1,20}", default="web")
OWNER = Parameter(id="owner", kind="text", pattern="acme", default="acme", fixed=True)
ALL = (REGION, COUNT, NAME, OWNER)


def action(**fields) -> Action:
    named = {"id": "scale", "title": "Scale", "secret_env": "ACME_X", "approve": "1 oncall"}
    return Action(**(named | {"webhook": "https://ops.example.com/scale", "parameters": ALL} | fields))


def test_defaults_fill_what_was_not_given():
    assert [(one.name, one.value) for one in fill(ALL, {"count": "3"})] == [
        ("region", "eu"), ("count", "3"), ("name", "web"), ("owner", "acme"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region", "EU"), ("region", "eu\n"), ("region", ""), ("region", "eu,us"),
        ("count", "21"), ("count", "-2"), ("count", "03"), ("count", "+3"), ("count", "3.0"),
        ("count", "1e1"), ("count", "٣"), ("count", " 3"), ("count", "3\n"), ("count", "-0"),
        ("count", "9" * 40),
        ("name", "web\n"), ("name", "web;rm"), ("name", "x" * 21), ("name", "../x"), ("name", "web\u202e"),
        ("owner", "evil"), ("nobody", "x"),
    ],
)  # fmt: skip
def test_a_hostile_value_is_refused_in_words(name, value):
    with pytest.raises(BadParameter) as wrong:
        fill(ALL, {"count": "3", name: value})
    assert name in str(wrong.value)


def test_what_has_no_default_must_be_given():
    with pytest.raises(BadParameter, match="count is missing: a whole number from -1 to 20"):
        fill(ALL, {})


@given(st.text(max_size=30))
def test_a_text_is_allowed_only_where_all_of_it_matches(value):
    whole = bool(value) and len(value) <= 20 and all(c in "abcdefghijklmnopqrstuvwxyz-" for c in value)
    assert action().admits(fill(ALL, {"count": "1"})) is True
    got = tuple(
        Given(name=n, value=v)
        for n, v in (("region", "eu"), ("count", "1"), ("name", value), ("owner", "acme"))
    )
    assert action().admits(got) is whole


def test_another_value_is_another_request():
    one, two = (action().fill({"count": n}) for n in ("1", "2"))
    assert action().digest("checkout", one) != action().digest("checkout", two)
    assert action().digest("checkout", one) == action().digest("checkout", action().fill({"count": "1"}))


@pytest.mark.parametrize("given_", [(), (Given(name="count", value="1"),)])
def test_values_that_are_not_whole_are_not_admitted(given_):
    assert not action().admits(given_)


def test_what_runs_is_bound_for_vendors_too():
    main = action(
        webhook="", github={"repository": "a/b", "workflow": "w.yml", "branch": "main"}, parameters=()
    )
    dev = action(
        webhook="", github={"repository": "a/b", "workflow": "w.yml", "branch": "dev"}, parameters=()
    )
    assert main.url == "https://api.github.com/repos/a/b/actions/workflows/w.yml/dispatches"
    assert main.request == "POST api.github.com/repos/a/b/actions/workflows/w.yml/dispatches on main"
    assert main.digest("checkout") != dev.digest("checkout")
    heroku = action(webhook="", heroku={"app": "acme-checkout"}, parameters=())
    assert heroku.request == "DELETE api.heroku.com/apps/acme-checkout/dynos"
    assert action(webhook="", heroku={"app": "acme-checkout", "dyno": "web.1"}, parameters=()).url.endswith(
        "/dynos/web.1"
    )


def test_more_values_than_a_person_can_read_are_refused():
    long = tuple(Parameter(id=f"p{n}", kind="text", pattern="x+", default="x" * 60) for n in range(2))
    with pytest.raises(BadParameter, match="longer than 90"):
        fill(long, {})


@pytest.mark.parametrize("fields", [{"causes": ("database",)}, {"default": True}])
def test_what_is_offered_by_itself_needs_all_its_values(fields):
    with pytest.raises(ValidationError, match="count has no default"):
        action(**fields)


def test_what_is_fixed_is_nobodys_to_change_even_to_what_its_pattern_admits():
    branch = Parameter(id="branch", kind="text", pattern="[a-z]+", default="main", fixed=True)
    assert fill((branch,), {"branch": "main"}) == fill((branch,), {})
    with pytest.raises(BadParameter, match="branch is fixed"):
        fill((branch,), {"branch": "dev"})
