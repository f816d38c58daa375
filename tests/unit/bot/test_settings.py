"""Settings come from the environment alone, and a wrong one names itself and its remedy."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import settings
from bot.settings import NAMES, BadSettings, environment, kept_in, process_environment, read

GOOD = {
    "ALERT_SECRET": "a secret of the operator, 32 bytes or more",
    "LEDGER_KEY": "a key of the operator, 32 bytes or more",
}


def mistakes(**changes: str) -> str:
    with pytest.raises(BadSettings) as wrong:
        read({name: value for name, value in (GOOD | changes).items() if value is not None})
    return str(wrong.value)


def test_two_secrets_are_enough_to_begin():
    found = read(GOOD)
    assert (found.port, found.charter, found.data_dir) == (8000, Path("charter.toml"), Path("var"))
    assert (found.telegram, found.twilio, found.council, found.redis_url) == (None, None, None, "")
    assert found.redis_tls_verify == "full"
    assert not found.durability_declared


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ALERT_SECRET": None}, "ALERT_SECRET needs 32 bytes or more and has 0. Make one: python"),
        ({"ALERT_SECRET": "short"}, "has 5"),
        (
            {"LEDGER_KEY": None},
            "LEDGER_KEY needs 32 bytes or more and has 0. Make one: python -m ledger keygen",
        ),
        ({"PORT": "eighty"}, "PORT is 'eighty': write a number from 0 to 65535"),
        ({"PORT": "70000"}, "PORT is '70000'"),
        ({"PORT": "nan"}, "PORT is 'nan'"),
        ({"LOOP_INTERVAL_S": "0"}, "LOOP_INTERVAL_S is '0': write a number from 0.2 to 300"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL must start with redis://"),
        ({"REDIS_TLS_VERIFY": "no"}, "REDIS_TLS_VERIFY is 'no': write one of full, none, ca:"),
        ({"PUBLIC_BASE_URL": "bot.example.com"}, "PUBLIC_BASE_URL is 'bot.example.com': write an address"),
        ({"DYNO": "web.1"}, "REDIS_URL must be set on a dyno"),
        ({"TWILIO_ACCOUNT_SID": "AC1"}, "TWILIO_AUTH_TOKEN, TWILIO_WHATSAPP_FROM must be set too"),
        ({"ANTHROPIC_API_KEY": "k", "COUNCIL_ENABLED": "perhaps"}, "COUNCIL_ENABLED is 'perhaps'"),
    ],
)
def test_a_wrong_setting_names_itself_and_its_remedy(wrong, says):
    assert says in mistakes(**wrong)


def test_all_mistakes_are_told_at_once():
    said = mistakes(ALERT_SECRET="", PORT="x", PUBLIC_BASE_URL="ftp://x")
    assert [line.split()[0] for line in said.splitlines()] == ["PUBLIC_BASE_URL", "ALERT_SECRET", "PORT"]


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=40)))
def test_whatever_stands_there_is_read_or_refused_in_words(told):
    mistaken = []
    try:
        read(told)
    except BadSettings as wrong:
        mistaken = wrong.mistakes
    assert mistaken or all(len(told[name].strip().encode()) >= 32 for name in GOOD)
    assert all(any(name in mistake for name in NAMES) for mistake in mistaken)


def test_a_mistake_never_tells_a_secret():
    assert "hunter2" not in mistakes(ALERT_SECRET="hunter2")


def test_the_rivals_names_are_taken_with_a_notice():
    found = read(GOOD | {"ALERTENGINE_BASE_URL": "https://x.example/", "POLICY_MIN_SCORE_TO_ALERT": "60"})
    assert found.public_base_url == "https://x.example"
    assert "PUBLIC_BASE_URL" in found.notices[0]
    assert found.policy == {"min_score_to_alert": "60"}


def test_every_name_that_is_read_is_refused_to_charters():
    """What settings.py asks for by name stands in NAMES, so that no charter can send it anywhere."""
    source = Path(settings.__file__).read_text()
    asked = set(re.findall(r'reader\.\w+\(\s*"([A-Z_]+)"', source)) | set(
        re.findall(r'"((?:TWILIO|TELEGRAM|REDIS|LEDGER)_[A-Z_]+)"', source)
    )
    assert {"ALERT_SECRET", "TWILIO_AUTH_TOKEN", "REDIS_TLS_VERIFY"} <= asked
    assert {name for name in asked if not name.endswith("_")} <= NAMES


def test_a_dotenv_stands_behind_the_environment(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PORT='8123'\nCHARTER='from the file'\nHOST='h'\nEMPTY\nDEAR='$PORT'\n")
    monkeypatch.setenv("CHARTER", "from the environment")
    monkeypatch.setenv("HOST", "")
    found = environment(tmp_path)
    assert (found["PORT"], found["CHARTER"], found["HOST"]) == ("8123", "from the environment", "")
    assert found["DEAR"] == "$PORT"
    assert "EMPTY" not in found
    assert "PORT" not in process_environment() or process_environment()["PORT"] != "8123"


def test_without_a_dotenv_there_is_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/tmp/x")
    assert kept_in(tmp_path / ".env") == {}
    assert environment(tmp_path) == process_environment()
