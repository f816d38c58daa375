"""The SDK on every Python that the machine has, from 3.10 on, with nothing but its standard library."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sdk.installed import environment

SCENARIO = Path(__file__).with_name("scenario.py")
NAMES = [f"python3.{minor}" for minor in range(10, 16)]
PLACES = {
    Path("~/.pyenv/versions").expanduser(): "3.1*/bin/python3",
    Path("/opt"): "*/bin/python3.1[0-9]",
    Path("/usr/local/bin"): "python3.1[0-9]",
}
CHECKS = [
    node.name
    for node in ast.parse(SCENARIO.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name not in {"call", "counted"}
]
WHICH = "import sys, tempfile, ssl; print('%d.%d' % sys.version_info[:2])"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pythons")]


def pythons():
    """Return one interpreter a version; a version manager's shims may lie, so each is run."""
    found = {}
    places = [str(path) for place, pattern in PLACES.items() for path in sorted(place.glob(pattern))]
    for candidate in [sys.executable, *places, *filter(None, map(shutil.which, NAMES))]:
        told = subprocess.run(
            [candidate, "-I", "-c", WHICH], capture_output=True, text=True, check=False, cwd="/"
        )
        version = told.stdout.strip()
        if told.returncode == 0 and version.startswith("3.") and int(version[2:]) >= 10:
            found.setdefault(version, candidate)
    return found


PYTHONS = pythons()


@pytest.mark.parametrize("version", sorted({*PYTHONS, "3.10"}, key=lambda v: int(v[2:])))
def test_every_promise_holds_on_this_python(version, tmp_path):
    if version not in PYTHONS:
        pytest.skip(f"there is no Python {version} on this machine")
    ran = subprocess.run(
        [PYTHONS[version], "-s", "-W", "error", str(SCENARIO)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(tmp_path), timeout=100,
    )  # fmt: skip
    assert (ran.stdout.split(), ran.stderr[-2000:]) == (CHECKS, "")
