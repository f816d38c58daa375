"""The threats that come by wire, one test each: the tenth play as a user runs it, read line by line.

The play tries the whole list against the real program; a threat of which a pure rule decides has its test in
tests/unit/handlers/test_threats.py as well.
"""

import fcntl
import json
import subprocess
import sys
from dataclasses import asdict, dataclass

import pytest

from bot.sandbox.attacks import THREATS
from bot.sandbox.plays import PLAYS
from tests.stages import ROOT, an_environment, short_folder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("threats"), pytest.mark.timeout(300)]

GRACE_S = 30


@dataclass(frozen=True)
class Played:
    """How the play went: its exit code and output, and the exit code of the verifier of its export."""

    code: int
    out: str
    err: str
    verified: int

    @property
    def checks(self) -> dict[str, str]:
        """The checklist, by threat."""
        lines = [json.loads(line) for line in self.out.splitlines()]
        said = [line["what"] for line in lines if line["who"] == "check"]
        return {check[2:].partition(":")[0]: check for check in said}


@pytest.fixture(scope="module")
def played(tmp_path_factory, testrun_uid):
    """The play, run once for all processes that test."""
    shared = tmp_path_factory.getbasetemp().parent / f"threats-{testrun_uid}"
    with shared.open("a+", encoding="utf-8") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        kept.seek(0)
        if not (text := kept.read()):
            text = json.dumps(asdict(play()))
            kept.write(text)
    return Played(**json.loads(text))


def play() -> Played:
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
        export = folder / "export"
        verifier = [sys.executable, "-I", "-S", str(export / "verify.py"), str(export)]
        verified = subprocess.run(verifier, capture_output=True, check=False)
        return Played(done.returncode, done.stdout, done.stderr, verified.returncode)


@pytest.fixture
def withstood(played):
    """Whether the play says of a threat that it was refused, answered and is on record as these."""

    def look(threat: str, *marks: str) -> bool:
        said = played.checks.get(
            threat, f"{threat} was not tried:\n{played.out[-2000:]}\n{played.err[-2000:]}"
        )
        assert said.startswith("✓"), said
        assert "refused, answered" in said
        return all(mark in said for mark in marks)

    return look


def test_every_threat_of_the_list_is_tried_and_the_play_ends_well(played):
    assert (played.code, played.verified) == (0, 0), f"{played.out}\n{played.err}"
    assert set(played.checks) == set(THREATS)
    assert "restart_workers ran once" in played.out


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
