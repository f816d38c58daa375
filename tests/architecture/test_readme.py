"""What the README says is so: its links, tables, examples and pictures."""

import re
import sys
import time
from pathlib import Path

import pytest

import sdk
from bot import settings
from bot.commands import COMMANDS
from detectors.policy import Policy
from handlers.charter import Quorum, parse
from ledger import __main__ as ledger_command
from ledger.diagram import moves
from ledger.machine import TRANSITIONS, Stage
from sdk import signature
from tests.architecture import generated
from tests.architecture.house import (
    ROOT,
    codes,
    defined_tests,
    documents,
    fenced,
    links,
    section,
    table,
    text,
)

PROMISES = 8
SECRETS = {"ALERT_SECRET": "s" * 32, "LEDGER_KEY": "k" * 32}
MOST_PICTURE_BYTES = 1_000_000


@pytest.mark.parametrize("document", documents())
def test_every_link_leads_somewhere(document):
    base = (ROOT / document).parent
    for link in links(text(document)):
        if not link.startswith("http"):
            assert (base / link.partition("#")[0]).exists(), f"{document}: {link}"


@pytest.mark.parametrize("row", table("The eight promises"), ids=lambda row: row[0].split(".")[0].strip("* "))
def test_each_promise_names_a_mechanism_and_tests_that_exist(row):
    _, mechanism, tests = row
    assert links(mechanism)
    assert codes(tests)
    for one in codes(tests):
        path, _, name = one.partition("::")
        assert name in defined_tests(path), one


def test_there_are_eight_promises_in_their_order():
    numbers = [int(re.match(r"\*\*(\d)", row[0])[1]) for row in table("The eight promises")]
    assert numbers == list(range(1, PROMISES + 1))


def test_what_is_generated_is_current():
    assert generated.readme() == text("README.md"), "run: python -m tests.architecture.generated"


def test_every_command_stands_in_the_table():
    assert {code.removeprefix("/") for row in table("Commands") for code in codes(row[0])} == set(COMMANDS)


def test_the_diagram_shows_every_move_and_no_other():
    shown = "\n".join(fenced("The ledger", "mermaid"))
    for (event, to), sources in moves().items():
        for stage in sources:
            edge = f"{stage or '[*]'} --> {to} : {event.__name__} ("
            assert edge in shown or f"{event.__name__} (" in _note(shown, to), edge
    edges = re.findall(r"^ +(\S+) --> (\S+) : (\w+)", shown, re.MULTILINE)
    for stage, to, name in edges:
        row = TRANSITIONS[None if stage == "[*]" else Stage(stage)]
        assert to in {target for event, target in row.items() if event.__name__ == name}


def _note(diagram: str, stage: Stage) -> str:
    found = re.search(rf"note right of {stage}\n(.*?)end note", diagram, re.DOTALL)
    return found[1] if found else ""


def test_every_setting_stands_in_the_table_and_nothing_else():
    named = [code for row in table("Settings") for code in codes(row[0])]
    templates = {f"TWILIO_CONTENT_SID_{one.removeprefix('cs_').upper()}" for one in settings.TEMPLATES}
    assert sorted(named) == sorted(settings.NAMES | templates | {"POLICY_…"})


def test_what_is_called_reserved_is_read_by_nothing():
    source = text("bot/settings.py")
    unread = {name for name in settings.NAMES if source.count(f'"{name}"') == 1}
    reserved = {code for row in table("Settings") if row[2].startswith("Reserved") for code in codes(row[0])}
    assert reserved == unread


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (name, default)
        for row in table("Settings")
        for name, default in zip(codes(row[0]), codes(row[1]), strict=False)
    ],
)
def test_a_default_is_the_one_that_counts(name, shown):
    if name == "REDIS_DEPLOY_URL":
        assert shown in settings.NAMES
        return
    secret = SECRETS | {"TELEGRAM_BOT_TOKEN": "1:a", "ANTHROPIC_API_KEY": "k"}
    without, told = settings.read(secret), settings.read(secret | {name: shown})
    assert without == told


def test_overrides_of_the_policy_are_as_the_table_says():
    found = settings.read(SECRETS | {"POLICY_CLOSE_MS": "90000"})
    assert Policy().with_overrides(found.policy).close_ms == 90_000
    scores = SECRETS | {"POLICY_MIN_SCORE_TO_ALERT": "70", "POLICY_RECOVER_SCORE": "80"}
    judged = Policy().with_overrides(settings.read(scores).policy)
    assert (judged.min_score_to_alert, judged.recover_score) == (70, 80)


def test_the_charter_of_the_readme_is_a_charter():
    (example,) = fenced("The charter", "toml")
    charter = parse(example, forbidden_secrets=settings.NAMES)
    (service,) = charter.services
    assert service.default_action is service.actions[0]
    assert [p.id for p in charter.approvers(service.actions[0].quorum)] == ["rudo"]
    assert charter.effective_policy().close_ms == 90_000
    for offered in re.findall(r'or ("[^"]+ or [^"]+")', example):
        assert Quorum.parse(offered.strip('"')).needs() == 1


async def test_the_app_of_the_readme_tells_its_health_and_recovers(tmp_path, monkeypatch):
    (example,) = fenced("Instrument an app", "python")
    monkeypatch.setitem(sys.modules, "countersign_sdk", sdk)
    for name, value in (
        ("CHECKOUT_RECOVERY", "s" * 32),
        ("CHECKOUT_HEALTH", "t"),
        ("RECOVERY_DIR", tmp_path),
    ):
        monkeypatch.setenv(name, str(value))
    house = {"__name__": "example"}
    exec(compile(example, "README.md", "exec"), house)  # noqa: S102  it is our own README
    app = house["app"]
    assert await _status(app, "GET", "/health/alerts") == 401
    assert await _status(app, "GET", "/health/alerts", authorization="Bearer t") == 200
    now = str(int(time.time()))
    signed = signature.sign(signature.key_of("s" * 32), "m1", now, b"{}")
    headers = {"webhook_id": "m1", "webhook_timestamp": now, "webhook_signature": signed}
    assert await _status(app, "POST", "/recover/restart_workers", **headers) == 200
    assert app.state.restarts == 1
    assert await _status(app, "POST", "/recover/restart_workers") == 401


async def _status(app, method: str, path: str, **headers: str) -> int:
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize("row", table("Figures"), ids=lambda row: row[0])
def test_a_figure_comes_from_a_script_that_is_here(row):
    *_, measured, script = row
    modules = re.findall(r"python -m (bench\.\w+)", script)
    assert modules or measured == "not measured yet"
    for module in modules:
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_every_command_line_is_one_that_there_is():
    shown = section("Commands") + section("A real bot in two minutes") + section("Heroku")
    source = text("bot/__main__.py")
    for command in set(re.findall(r"python -m bot (\w+)", shown)):
        assert f'"{command}"' in source, f"python -m bot {command}"
    for command in re.search(r"python -m ledger ([\w|]+)", shown)[1].split("|"):
        assert command in {known.NAME for known in ledger_command.COMMANDS}


def test_pictures_are_small():
    for picture in links(text("README.md")):
        if Path(picture).suffix in {".webp", ".gif", ".png"}:
            assert (ROOT / picture).stat().st_size < MOST_PICTURE_BYTES


def test_the_targets_of_make_are_there():
    named = set(re.findall(r"^make (\w+)", "\n".join(fenced("Countersign", "sh")), re.MULTILINE))
    assert named >= {"demo", "test"}
    for target in named:
        assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)
