"""`python -m ledger doctor` on both servers: each thing that is not so is named with its remedy, alone."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.__main__ import main
from ledger.redis_store import FUNCTION, Commands, commands, connect
from tests.servers import KINDS, bare, url_of

WELL, NOT_SO, UNKNOWN = "well   ", "NOT SO ", "unknown"


@dataclass
class Patient:
    kind: str
    folder: Path
    stack: AsyncExitStack

    def as_(self, user: str) -> Commands:
        client = connect(url_of(self.folder, user))
        self.stack.push_async_callback(client.aclose)
        return commands(client)


@pytest.fixture(params=KINDS)
async def patient(request) -> AsyncIterator[Patient]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="dr")))
        await stack.enter_async_context(bare(request.param, folder))
        patient = Patient(request.param, folder, stack)
        await patient.as_("deploy")("FUNCTION", "LOAD", FUNCTION)
        yield patient


@pytest.fixture
def examine(patient, capsys) -> Callable[..., Awaitable[tuple[int, dict[str, list[str]]]]]:
    async def examined(user: str = "app", *, deploy: bool = True) -> tuple[int, dict[str, list[str]]]:
        """The exit code, and the sentences by what was judged."""
        asks = ["--deploy", url_of(patient.folder, "deploy")] if deploy else []
        arguments = ["doctor", "--redis", url_of(patient.folder, user), *asks]
        code = await asyncio.to_thread(main, arguments)
        lines = capsys.readouterr().out.splitlines()
        return code, {
            mark: [line[8:] for line in lines if line.startswith(mark)] for mark in (WELL, NOT_SO, UNKNOWN)
        }

    return examined


async def test_a_fit_server_is_well_in_all(examine):
    code, said = await examine()
    assert (code, said[NOT_SO], said[UNKNOWN]) == (0, [], [])
    assert len(said[WELL]) >= 10


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("appendonly", "no", "yes"), ("appendfsync", "no", "always"), ("appendfsync", "everysec", "always"),
     ("maxmemory-policy", "allkeys-lru", "noeviction"), ("maxmemory-policy", "volatile-ttl", "noeviction")],
)  # fmt: skip
async def test_a_setting_that_loses_entries_is_named_with_the_command_that_mends_it(
    patient, examine, name, value, wanted
):
    await patient.as_("owner")("CONFIG", "SET", name, value)
    code, said = await examine()
    remedy = f"CONFIG SET {name} {wanted}"
    assert code == 1
    assert said[NOT_SO][:2] == [
        f"{name} is {value}. Set it: {remedy}",
        (
            "The server may lose entries. Nothing executes. It needs appendonly yes, appendfsync always and "
            "maxmemory-policy noeviction."
        ),
    ]
    await patient.as_("owner")(*remedy.split())
    assert (await examine())[0] == 0, "the remedy is one"


async def test_waitaof_that_lies_is_found_out_where_there_is_one(patient, examine):
    await patient.as_("owner")("CONFIG", "SET", "appendfsync", "everysec")
    _, said = await examine()
    if patient.kind == "valkey":
        assert "under appendfsync everysec: it does not tell the truth" in said[NOT_SO][-1]
    else:
        assert said[UNKNOWN][0].startswith("WAITAOF could not be tried")
    assert await patient.as_("owner")("EXISTS", "bot:doctor") == 0


@pytest.mark.parametrize("how", ["changed", "missing"])
async def test_a_function_that_is_not_ours_is_named(patient, examine, how):
    deploy = patient.as_("owner")
    if how == "changed":
        await deploy("FUNCTION", "LOAD", "REPLACE", FUNCTION.replace("~= hash", "== hash"))
    else:
        await deploy("FUNCTION", "FLUSH")
    code, said = await examine()
    assert (code, said[NOT_SO]) == (
        1, ["The function ledger_append is missing or another. Run `python -m bot release`."],
    )  # fmt: skip


async def test_a_user_who_may_do_everything_is_told_what_and_who_may_not(examine):
    code, said = await examine("owner")
    assert code == 1
    assert [line.partition(":")[0].partition(" FLUSHALL")[0] for line in said[NOT_SO]] == [
        "This user may change a log", "The user owner may",
    ]  # fmt: skip
    assert all("`python -m ledger acl` prints" in line for line in said[NOT_SO])


async def test_a_password_in_the_settings_is_named(patient, examine):
    await patient.as_("owner")("CONFIG", "SET", "masterauth", "hunter2")
    code, said = await examine()
    assert (code, len(said[NOT_SO])) == (1, 1)
    assert "can read requirepass or masterauth" in said[NOT_SO][0]
    assert "hunter2" not in str(said)


async def test_what_it_could_not_check_is_said_and_is_not_well(patient, examine):
    code, said = await examine(deploy=False)
    assert (code, said[NOT_SO]) == (2, [])
    deadly, again = said[UNKNOWN]
    assert deadly.startswith(
        "Whether FLUSHALL, FLUSHDB, SWAPDB, SHUTDOWN, REPLICAOF, DEBUG, MIGRATE, CONFIG SET"
    )
    assert again.startswith("Whether the server may read its own log again")
    assert all("REDIS_DEPLOY_URL" in line for line in said[UNKNOWN])


async def test_a_server_that_shows_nothing_leaves_all_unknown(patient, examine):
    """As a managed Redis may: each thing that cannot be seen is named, and none is called well."""
    await patient.as_("owner")("ACL", "SETUSER", "app", "-config", "-function", "-role", "-acl")
    code, said = await examine(deploy=False)
    assert (code, said[NOT_SO]) == (2, [])
    hidden = ["appendonly", "appendfsync", "maxmemory-policy", "its functions", "FLUSHALL", "its own log"]
    for name in hidden:
        assert any(name in line for line in said[UNKNOWN]), name
    assert any("LEDGER_DURABILITY=declared" in line for line in said[UNKNOWN])
    assert len(said[WELL]) == 3, said[WELL]


async def test_all_that_is_not_so_is_named_at_once(patient, examine):
    owner = patient.as_("owner")
    for name, value in {"appendfsync": "no", "maxmemory-policy": "allkeys-random"}.items():
        await owner("CONFIG", "SET", name, value)
    await owner("FUNCTION", "FLUSH")
    await owner("ACL", "SETUSER", "app", "~*", "+lset")
    _, said = await examine()
    for word in (
        "appendfsync is no",
        "maxmemory-policy is allkeys-random",
        "ledger_append is missing",
        "LSET",
    ):
        assert any(word in line for line in said[NOT_SO]), word
