"""The sick shop: every symptom is real, and only what the remedy would really heal is healed by it."""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from dataclasses import dataclass

import aiohttp
import pytest

from bot.sandbox.load import Load
from bot.sandbox.loopback import epoch
from bot.sandbox.premises import Keys, Premises
from sdk.signature import sign
from sdk.wire import Snapshot, decode

KEYS = Keys("health-key", "recovery-key", "ops-key")
pytestmark = pytest.mark.xdist_group("shop")


@pytest.fixture
async def shop(folder):
    shop = Premises(folder, KEYS)
    await shop.start()
    yield shop
    await shop.close()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


@dataclass
class Customer:
    shop: Premises
    http: aiohttp.ClientSession

    async def asks(self, method: str, path: str) -> int:
        async with self.http.request(method, self.shop.url + path) as answer:
            return answer.status

    async def health(self) -> Snapshot:
        login = {"Authorization": f"Bearer {KEYS.health}"}
        async with self.http.get(f"{self.shop.health_url}?format=slots&since=0", headers=login) as answer:
            return decode(await answer.read())


@pytest.fixture
def customer(shop, http):
    return Customer(shop, http)


async def recover(
    shop: Premises, http: aiohttp.ClientSession, action: str, key: str = "", secret: str = ""
) -> int:
    body, now = json.dumps({"action": action}).encode(), str(epoch())
    message = "msg_" + secrets.token_hex(8)
    headers = {
        "webhook-id": message,
        "webhook-timestamp": now,
        "webhook-signature": sign(secret or KEYS.recovery, message, now, body),
        "idempotency-key": key or message,
    }
    async with http.post(shop.webhook(action), data=body, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def test_a_well_shop_serves_all_its_routes(customer):
    routes = [("GET", "/"), ("GET", "/products"), ("POST", "/checkout"), ("POST", "/pay")]
    assert [await customer.asks(*route) for route in routes] == [200] * 4
    health = await customer.health()
    assert [(g.name, g.used, g.limit) for g in health.saturation] == [("db_pool", 0, 20)]
    assert health.faults == ()


async def test_an_exhausted_pool_is_full_and_a_restart_empties_it(shop, customer, http):
    await shop.faults(db=True)
    assert await customer.asks("GET", "/products") == 500
    health = await customer.health()
    assert [(g.used, g.limit) for g in health.saturation] == [(20, 20)]
    assert health.faults == ("db",)
    before = (await shop.state())["pid"]
    assert await recover(shop, http, "restart_workers") == 200
    state = await shop.state()
    assert state["pid"] != before
    assert (state["restarts"], state["faults"]["db"]) == (1, False)
    assert await customer.asks("GET", "/products") == 200


async def test_slow_payments_survive_a_restart_and_end_with_the_fallback(shop, customer, http):
    await shop.faults(payments=True)
    await recover(shop, http, "restart_workers")
    assert (await shop.state())["faults"]["payments"]
    assert await timed(customer.asks("POST", "/pay")) > 1
    assert await recover(shop, http, "switch_payments") == 200
    assert await timed(customer.asks("POST", "/pay")) < 1
    assert (await shop.state())["fallback"]


async def timed(work) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def test_the_dial_for_errors_fails_every_request_at_its_end(shop, customer):
    await shop.faults(errors=1.0)
    assert [await customer.asks("GET", "/") for _ in range(5)] == [500] * 5


async def test_hanging_handlers_answer_nobody_but_health_still_speaks(shop, customer):
    await shop.faults(hang=True)

    async def hangs() -> bool:
        with contextlib.suppress(TimeoutError):
            async with customer.http.get(shop.url, timeout=aiohttp.ClientTimeout(total=0.3)):
                return False
        return True

    async with asyncio.timeout(10):
        while not await hangs():
            pass
    assert (await customer.health()).faults == ("hang",)


async def test_a_dead_shop_stays_dead_until_a_signed_request_starts_it(shop, customer, http):
    await shop.die()
    with pytest.raises(aiohttp.ClientConnectionError):
        await customer.asks("GET", "/")
    assert await recover(shop, http, "restart_workers", secret="stranger") == 401
    assert not (await shop.state())["running"]
    assert await recover(shop, http, "restart_workers") == 200
    assert await customer.asks("GET", "/") == 200


async def test_the_same_key_runs_once(shop, http):
    for _ in range(3):
        assert await recover(shop, http, "restart_workers", key="once") == 200
    assert (await shop.state())["restarts"] == 1
    hooks = await shop.hooks()
    assert [(h["action"], h["key"], h["status"]) for h in hooks] == [("restart_workers", "once", 200)] * 3


@pytest.mark.parametrize(("mood", "status"), [("500", 500), ("to http://10.0.0.1/", 302)])
async def test_a_moody_webhook_runs_nothing(shop, http, mood, status):
    await shop.faults(mood=mood)
    assert await recover(shop, http, "restart_workers") == status
    assert (await shop.state())["restarts"] == 0


async def test_a_mute_webhook_runs_and_does_not_say_so(shop):
    await shop.faults(mood="mute")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http:
        with pytest.raises(TimeoutError):
            await recover(shop, http, "restart_workers")
    assert (await shop.state())["restarts"] == 1


async def test_well_makes_all_well(shop, customer):
    await shop.faults(errors=1.0, payments=True, mood="500")
    await shop.die()
    state = await shop.well()
    assert state["running"]
    assert not any([state["faults"]["errors"], state["faults"]["payments"], state["mood"], state["fallback"]])
    assert await customer.asks("POST", "/pay") == 200


async def test_buttons_and_dials_are_not_for_strangers(shop, http):
    url = f"http://127.0.0.1:{shop.ops_port}/ops"
    async with http.get(f"{url}/state") as answer:
        assert answer.status == 403
    async with http.post(
        f"{url}/faults", json={"die": True}, headers={"Authorization": "Bearer no"}
    ) as answer:
        assert answer.status == 403
    assert (await shop.state())["running"]


async def test_nothing_survives_a_sandbox_that_was_killed(folder):
    program = (
        "import asyncio, pathlib, sys; from bot.sandbox.premises import Keys, Premises\n"
        "async def main():\n"
        "    shop = Premises(pathlib.Path(sys.argv[1]), Keys('a', 'b', 'c')); await shop.start()\n"
        "    print(shop.shop_port, shop.ops_port, flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    ports = (await sandbox.stdout.readline()).split()
    lines = [await asyncio.open_connection("127.0.0.1", int(port)) for port in ports]
    sandbox.kill()
    await sandbox.communicate()
    async with asyncio.timeout(5):
        assert [await reader.read() for reader, _ in lines] == [b"", b""]
    for _, writer in lines:
        writer.close()


async def test_customers_come_at_their_rate_and_tell_what_they_saw(shop):
    load = Load(shop.url, rate=40)
    load.start()
    await load.bell.until(lambda: len(load.points()) >= 3, 10)
    await load.close()
    second = load.points()[1]
    assert 30 <= second["rps"] <= 50
    assert second["errors"] == 0
    assert 0 < second["p95"] < 1000
