"""What rules in shadow would have said is kept alike in memory and on Valkey, each tenant's apart."""

import pytest

from bot.state import RedisShadows
from handlers.shadow import KEPT_MS, MemoryShelf, Shadow, every
from tests.unit.handlers.test_shadow import POLICY, START, Said
from tests.valkey import a_valkey, connected


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture(params=["memory", "valkey"])
async def shelf(request, redis):
    return MemoryShelf() if request.param == "memory" else RedisShadows(redis)


async def test_what_one_process_keeps_another_reads_and_no_other_tenant_does(shelf):
    for service in ("checkout", "search"):
        await Shadow("acme", shelf).see(service, [Said()], POLICY, START, is_open=False)
    assert sorted(one.service for one in await every(shelf, "acme")) == ["checkout", "search"]
    assert await every(shelf, "umbrella") == []
    assert await shelf.load("acme", "mail") is None
    await Shadow("acme", shelf).see("search", [Said("tail")], POLICY, START + 5_000, is_open=False)
    assert sorted(one.rule for one in await every(shelf, "acme")) == ["lat_warn", "lat_warn", "tail"]


async def test_what_nobody_writes_to_any_more_goes(redis):
    await Shadow("acme", RedisShadows(redis)).see("checkout", [Said()], POLICY, START, is_open=False)
    assert 0 < await redis("PTTL", "bot:{acme}:shadow") <= KEPT_MS
