"""A newcomer writes a charter from the README's example and `charter check`, and from nothing else."""

import re
from pathlib import Path

import pytest

from bot.__main__ import main
from handlers.charter import Charter, CharterError, parse

EXAMPLE = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[3] / "README.md").read_text(), re.S)[0]
ROLL_BACK = "services.1.actions.2"


@pytest.fixture
def check(tmp_path, capsys):
    def run(text: str) -> tuple[int, str]:
        file = tmp_path / "acme.toml"
        file.write_text(text)
        code = main(["charter", "check", str(file)])
        return code, capsys.readouterr().out

    return run


def test_the_readmes_example_passes_check_and_nothing_in_it_is_worth_a_second_look_but_what_it_shows(check):
    code, said = check(EXAMPLE)
    assert code == 0
    assert "acme: a good charter of 2 people and 1 services" in said
    assert said.count("worth a look") == 1
    assert "services.checkout.actions.roll_back: nothing offers it by itself" in said


@pytest.mark.parametrize(
    ("old", "new", "key", "reason", "remedy"),
    [
        (
            'kind = "integer"',
            'kind = "float"',
            f"{ROLL_BACK}.parameters.1.kind",
            "'enum', 'integer'",
            "README",
        ),
        ("least = 1\n", "", f"{ROLL_BACK}.parameters.1", "needs least", "Add it"),
        ("least = 1\n", "least = 9\n", f"{ROLL_BACK}.parameters.1", "more than most", "Swap"),
        (
            "least = 1\n",
            'least = 1\nchoices = ["a"]\n',
            f"{ROLL_BACK}.parameters.1",
            "choices is not for",
            "Remove",
        ),
        ('default = "1"', 'default = "7"', f"{ROLL_BACK}.parameters.1", "whole number from 1 to 3", "Choose"),
        ('default = "1"', "fixed = true", f"{ROLL_BACK}.parameters.1", "no default", "Add the value"),
        ('undo = "deploy again"', 'undo = "x"\ncolour = 1', f"{ROLL_BACK}.colour", "no such key", "spelling"),
        (
            'undo = "deploy again"',
            'webhook = "https://x.example"',
            ROLL_BACK,
            "webhook and github",
            "one alone",
        ),
        (
            'repository = "acme/checkout", w',
            'repository = "checkout", w',
            f"{ROLL_BACK}.github.repository",
            "form",
            "README",
        ),
        (
            'repository = "acme/checkout", w',
            'repository = "acme/..", w',
            f"{ROLL_BACK}.github.repository",
            "no repos",
            "owner/name",
        ),
        ('workflow = "rollback.yml"', 'workflow = "../x"', f"{ROLL_BACK}.github.workflow", "form", "README"),
        ('approve = "2 dev or 1 admin"\n', "", f"{ROLL_BACK}.approve", "is missing", "Add it"),
        ('approve = "2 dev or 1 admin"\n', 'approve = "many"\n', "rules.1.approve", "no quorum", "1 oncall"),
        ("per_hour = 3 ", "per_hour = 0 ", "services.1.actions.1.per_hour", "greater than", "README"),
        (
            'causes = ["database", "capacity"]',
            'causes = "database"',
            "services.1.actions.1.causes",
            "no list",
            "brackets",
        ),
        ('people = ["rudo"]', 'people = ["rudy"]', "rota.people", "no person rudy", "rudo, tendai"),
        ('people = ["rudo"]', 'people = ["tendai"]', "rota.people", "not the role oncall", "roles of tendai"),
        ('people = ["rudo"]', "people = []", "rota.people", "at least 1 item", "README"),
        (
            "starts = 2026-06-01T08:00:00 ",
            "starts = 2026-06-01T08:00:00Z ",
            "rota.starts",
            "offset",
            "own hour",
        ),
        ('every = "7d"', 'every = "5m"', "rota.every", "too short", "7d"),
        (
            'to = ["next", "tendai"]',
            'to = ["boss"]',
            "escalation.1.to",
            "neither a person nor a role",
            "rudo",
        ),
        (
            'channels = ["telegram"]',
            'channels = ["pager"]',
            "escalation.1.channels.1",
            "'telegram' or",
            "README",
        ),
        ('after = "2m"', 'after = "0s"', "escalation.1.after", "not later", "order"),
        ('after = "2m"', "after = 120", "escalation.1.after", "no duration", "in quotes"),
        ('days = ["sun"]', 'days = ["sunday"]', "maintenance.1.days", "no day", "mon, tue"),
        ('begins = "02:00"', 'begins = "2am"', "maintenance.1.begins", "no hour", "02:30"),
        ('begins = "02:00"', 'begins = "04:00"', "maintenance.1", "begins when it ends", "later"),
        (
            'services = ["checkout"]\ndays',
            'services = ["shop"]\ndays',
            "maintenance.1.services",
            "no service shop",
            "checkout",
        ),
        ("runs_per_hour = 20", "services = 0", "limits.services", "greater than", "README"),
        ('input_usd = "1.00"', "input_usd = 1.00", "limits.prices.1.input_usd", "is no text", "quotes"),
        ('timezone = "Europe/Berlin"', 'timezone = "Berlin"', "people.2.timezone", "no time zone", "Harare"),
        (
            'url = "https://grafana.example.com/d/slow"',
            'url = "slow"',
            "services.1.checks.1.url",
            "no address",
            "https",
        ),
        (
            'secret_env = "ACME_GITHUB"',
            'secret_env = "GITHUB_TOKEN"',
            "charter",
            "not this tenant's",
            "ACME_",
        ),
        ('title = "Roll checkout back"', 'title = ""', f"{ROLL_BACK}.title", "is empty", "Write something"),
    ],
)
def test_a_mistake_in_the_example_is_explained(check, old, new, key, reason, remedy):
    assert EXAMPLE.count(old) >= 1
    code, said = check(EXAMPLE.replace(old, new, 1))
    assert code == 1
    [line] = [one for one in said.splitlines() if f": {key}: " in one]
    assert re.fullmatch(r"\S+acme\.toml: .+?\. .+[.?]", line)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(?=x)y", r"(a)\1", "a*a*a*a*b", "(a|aa)*b", "[a", "(?P<n>x)", "(?#)x"]
)
def test_a_pattern_that_could_keep_the_program_busy_is_refused(pattern):
    text = EXAMPLE.replace('kind = "integer"', f"kind = \"text\"\npattern = '{pattern}'")
    with pytest.raises(CharterError) as wrong:
        parse(text.replace("least = 1\n", "").replace("most = 3\n", ""))
    [mistake] = [one for one in wrong.value.mistakes if one.key.endswith("pattern")]
    assert "busy" in mistake.reason or "no pattern" in mistake.reason


def test_an_actions_own_word_counts_before_a_rules_and_the_first_rule_before_the_second():
    second = '\n[[rules]]\napprove = "1 dev"\ncooldown = "1h"\n'
    charter = parse(EXAMPLE.replace("[rota]", f"{second}\n[rota]"))
    rolled, restart = charter.action("checkout", "roll_back"), charter.action("checkout", "restart_workers")
    assert (rolled.approve, rolled.per_hour, rolled.cooldown) == ("2 dev or 1 admin", 1, 3_600_000)
    assert (restart.approve, restart.per_hour, restart.cooldown) == ("1 oncall", 3, 600_000)


def test_a_charter_that_uses_nothing_new_has_the_digest_that_it_always_had():
    text = """
[tenant]
id = "acme"
[[people]]
id = "rudo"
name = "Rudo"
roles = ["oncall", "admin"]
telegram = 1001
[[services]]
id = "checkout"
health_url = "https://checkout.example.com/health/alerts"
[[services.actions]]
id = "restart"
title = "Restart"
webhook = "https://ops.example.com/recover/restart"
secret_env = "ACME_RECOVERY"
approve = "1 oncall"
cooldown = "10m"
expires = "90s"
"""
    digest = "034e969f2147441e2fa35d90e087fcda6f7df553cb1554508ae582abf92532dc"
    assert parse(text).digest() == digest


def test_what_is_kept_of_a_charter_is_the_same_charter():
    charter = parse(EXAMPLE)
    kept = Charter.model_validate_json(charter.model_dump_json())
    assert kept == charter
    assert kept.digest() == charter.digest()
