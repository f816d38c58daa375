"""The ten plays as a user runs them: a command, a folder, an exit code, lines of JSON, a good export."""

import asyncio
import json
import sys
import time

import pytest

from bot.sandbox.plays import PLAYS
from tests.stages import ROOT, an_environment, short_folder

WITHIN_S = 120

pytestmark = pytest.mark.slow

AS_USERS_RUN_THEM = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"plays-{number % 2}"))
    for number, name in enumerate(sorted(set(PLAYS) - {"hostile-tenant"}))
]
"""All but the tenth, which test_threats.py runs and reads line by line."""


async def run(*arguments, environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("name", AS_USERS_RUN_THEM)
async def test_a_play_goes_as_expected_its_export_verifies_and_its_books_balance(name):
    with short_folder() as folder:
        alone = an_environment() | {"DATA_DIR": str(folder)}
        began = time.monotonic()
        code, out, err = await run("-m", "bot", "sandbox", "--play", name, "--json", environment=alone)
        assert code == 0, f"{out}\n{err}"
        assert time.monotonic() - began < WITHIN_S
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) > 3
        assert all(line.keys() == {"at", "who", "what"} for line in lines)
        export = folder / "export"
        verifier = "-I", "-S", str(export / "verify.py"), str(export)
        code, out, err = await run(*verifier, environment={})
        assert code == 0, f"{out}\n{err}"
        code, out, err = await run("-m", "ledger", "reconcile", str(export), environment=alone)
        assert code == 0, f"{out}\n{err}"
        assert "The books balance, no exceptions." in out


def test_all_ten_are_there():
    assert set(PLAYS) == {
        "consensus",
        "dissent",
        "whatsapp",
        "models-down",
        "webhook-down",
        "double-tap",
        "stranger-taps",
        "expired-then-ask-again",
        "app-dies",
        "hostile-tenant",
    }


async def test_a_play_that_does_not_exist_is_refused_with_those_that_do():
    code, out, err = await run("-m", "bot", "sandbox", "--play", "opera", environment=an_environment())
    assert (code, out) == (2, "")
    assert "consensus" in err


@pytest.mark.parametrize("name", ["DYNO", "REDIS_URL"])
async def test_a_play_does_not_start_where_production_is(name):
    code, out, err = await run(
        "-m", "bot", "sandbox", "--play", "consensus", environment=an_environment() | {name: "web.1"}
    )
    assert (code, out) == (2, "")
    assert name in err
