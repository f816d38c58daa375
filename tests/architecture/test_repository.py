"""The files around the code: what installs, what checks, what a platform reads."""

import json
import re
import tomllib

import pytest

from bot import settings
from handlers.charter import load_all
from tests.architecture.house import ROOT, text

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
RUNS_TESTS = re.compile(r"pytest|\$\(MAKE\) test|make test")


def test_the_version_of_python_is_pinned_for_platforms():
    assert text(".python-version").strip() == "3.12"


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_requirements_are_pinned_and_name_no_index(file):
    lines = [line for line in text(file).splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert "://" not in text(file)
    assert "--index-url" not in "\n".join(lines)
    assert all(re.match(r"^[a-z0-9][\w.\-\[\]]*==\S+( ; .+)?$", line) for line in lines), lines


def test_every_dependency_is_pinned():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    pinned = {
        line.partition("==")[0].lower() for line in text("requirements.txt").splitlines() if "==" in line
    }
    assert {re.match(r"[\w.\-]+", one)[0].lower() for one in project["dependencies"]} <= pinned


def test_check_runs_no_tests_and_test_runs_them():
    assert not RUNS_TESTS.search(_recipe("check"))
    assert "pytest" in _recipe("test")


def test_check_runs_format_lint_types_and_contracts():
    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports"):
        assert tool in _recipe("check")


def test_continuous_integration_runs_what_the_readme_says():
    assert re.findall(r"^make (\w+)$", text(".ci/run"), re.MULTILINE) == ["check", "test"]


def _recipe(target: str) -> str:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n?)+)", text("Makefile"), re.MULTILINE)
    assert found, target
    return found[1]


def test_every_decision_has_context_decision_and_what_was_rejected():
    files = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [file.name[:4] for file in files] == [f"{n:04}" for n in range(1, len(files) + 1)]
    for file in files:
        heads = re.findall(r"^## (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert heads[:3] == ["Context", "Decision", "Rejected"], file.name
        assert len(file.read_text(encoding="utf-8").split()) < 900, f"{file.name}: one page"


def test_every_dependency_has_its_line_in_the_decision_about_dependencies():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    listed = (next((ROOT / "docs" / "adr").glob("0011-*.md"))).read_text(encoding="utf-8")
    for one in project["dependencies"]:
        assert f"`{re.match(r'[A-Za-z0-9.-]+', one)[0]}`" in listed, one


def test_the_changelog_names_the_version():
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", text("CHANGELOG.md"), re.MULTILINE)


def test_the_procfile_starts_the_program_and_a_release():
    kinds = dict(line.split(":", 1) for line in text("Procfile").splitlines() if line.strip())
    assert {kind: run.strip() for kind, run in kinds.items()} == {
        "release": "python -m bot release",
        "web": "python -m bot",
    }


def test_the_deploy_button_asks_for_settings_that_there_are():
    app = json.loads(text("app.json"))
    assert set(app["env"]) <= settings.NAMES
    secrets = {name for name, one in app["env"].items() if one.get("generator") == "secret"}
    assert secrets >= {"ALERT_SECRET", "TELEGRAM_WEBHOOK_SECRET"}
    told = {name: one["value"] for name, one in app["env"].items() if "value" in one}
    told |= dict.fromkeys(secrets, "s" * settings.LEAST_SECRET)
    settings.read(told | {"DYNO": "web.1", "REDIS_URL": "rediss://redis.example.com"})


def test_the_deploy_button_takes_a_redis_that_persists_and_one_dyno_that_does_not_sleep():
    app = json.loads(text("app.json"))
    (plan,) = (addon["plan"] for addon in app["addons"])
    assert re.fullmatch(r"heroku-redis:(premium|private|shield)-\d+", plan)
    assert app["formation"] == {"web": {"quantity": 1, "size": "basic"}}


def test_the_charters_of_a_fresh_deployment_are_good():
    folder = json.loads(text("app.json"))["env"]["CHARTER"]["value"]
    assert load_all(ROOT / folder, settings.NAMES)
