"""The threats that come by wire, one test each: the tenth play as a user runs it, read line by line.

The play tries the whole list against the real program; a threat of which a pure rule decides has its test in
tests/unit/handlers/test_threats.py as well.
"""

import json
import subprocess
import sys

import pytest

from bot.sandbox.attacks import THREATS
from bot.sandbox.plays import PLAYS
from tests.stages import ROOT, an_environment, short_folder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("threats")]

GRACE_S = 30


@pytest.fixture(scope="module")
def played():
    """The exit code of the play, the checklist by threat, and that of the verifier of its export."""
    with short_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "bot", "sandbox", "--play", "hostile-tenant", "--json"],
            cwd=ROOT,
            env=an_environment() | {"DATA_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=PLAYS["hostile-tenant"].seconds + GRACE_S,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        checks = [line["what"] for line in lines if line["who"] == "check"]
        export = folder / "export"
        verifier = [sys.executable, "-I", "-S", str(export / "verify.py"), str(export)]
        verified = subprocess.run(verifier, capture_output=True, check=False).returncode
        yield done, {check[2:].partition(":")[0]: check for check in checks}, verified


@pytest.fixture
def withstood(played):
    """Whether the play says of a threat that it was refused, answered and is on record as these."""
    done, checks, _ = played

    def look(threat: str, *marks: str) -> bool:
        said = checks.get(threat, f"{threat} was not tried:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        assert said.startswith("✓"), said
        assert "refused, answered" in said
        return all(mark in said for mark in marks)

    return look


def test_every_threat_of_the_list_is_tried_and_the_play_ends_well(played):
    done, checks, verified = played
    assert (done.returncode, verified) == (0, 0), f"{done.stdout}\n{done.stderr}"
    assert set(checks) == set(THREATS)
    assert "restart_workers ran once" in done.stdout


def test_a_forged_update_is_refused(withstood):
    assert withstood("forged update", "forged_update")


def test_a_button_is_authorized_like_the_command(withstood):
    assert withstood("button not authorized like the command", "stranger", "wrong_code")


def test_a_forged_or_altered_token_decides_nothing(withstood):
    """A used one spelled otherwise, `alg: none`, a wrong `aud`, another tenant, key or verb."""
    assert withstood("forged or altered token", "forged_link", "used", "unknown")


def test_a_leaked_link_opened_by_a_preview_bot_changes_nothing(withstood):
    assert withstood("leaked link opened by a preview bot", "a look leaves no trace")


def test_a_bare_yes_approves_nothing(withstood):
    assert withstood("bare yes", "bare_yes")


def test_dns_that_answers_private_the_second_time_is_not_followed(withstood):
    assert withstood("DNS that answers private the second time", "WebhookFailed")


def test_a_webhook_that_echoes_secrets_is_repeated_nowhere(withstood):
    assert withstood("webhook that echoes secrets", "WebhookFailed")


def test_twenty_replays_at_once_are_one_vote(withstood):
    assert withstood("twenty replays at once", "Approved")
