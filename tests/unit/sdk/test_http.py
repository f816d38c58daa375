"""The SDK in a real server over real HTTP: what the bot will meet."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI

from sdk import Recovery, instrument, receipt, wire
from sdk.signature import sign
from tests.unit.sdk.asgi_client import until
from tests.unit.sdk.test_recovery import SECRET


@asynccontextmanager
async def serving(app):
    """Serve *app* on a free port of loopback; give a client with its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    task = asyncio.ensure_future(server.serve())
    await until(lambda: server.started or task.done())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            yield http
    finally:
        server.should_exit = True
        await task


def shop(tmp_path):
    app = FastAPI()
    recovery = Recovery(SECRET, tmp_path)
    runs = []

    @app.get("/pay/{order}")
    async def pay(order: int):
        if order % 4 == 0:
            raise TimeoutError
        return {"paid": order}

    app.state.mended = asyncio.Event()

    @app.get("/hang")
    async def hang():
        await app.state.mended.wait()

    @recovery.action("restart_workers")
    def restart():
        runs.append(1)

    monitor = instrument(app, service="shop", token="t0ken", recovery=recovery)
    monitor.saturation("db_pool", lambda: (3, 20))
    return app, monitor, runs


async def poll(http, since=0):
    async with http.get(
        "/health/alerts",
        params={"format": "slots", "since": since},
        headers={"authorization": "Bearer t0ken"},
    ) as answer:
        assert answer.status == 200
        return wire.decode(await answer.read())


async def test_what_happened_over_http_is_what_a_poller_decodes(tmp_path):
    app, monitor, _ = shop(tmp_path)
    async with serving(app) as http:
        for order in range(20):
            async with http.get(f"/pay/{order}") as answer:
                assert answer.status == (500 if order % 4 == 0 else 200)
        async with http.get("/no/such/page") as answer:
            assert answer.status == 404
        hanging = asyncio.ensure_future(http.get("/hang"))
        await until(lambda: monitor.snapshot().inflight == 1)
        monitor._window.turn()
        told = await poll(http)
        app.state.mended.set()
        (await hanging).close()
        merged = wire.merge_slots(told.slots)
        assert (told.service, told.inflight, told.workers) == ("shop", 1, 1)
        assert (merged.n, merged.errors, merged.client_errors) == (21, 5, 1)
        parts = {part.name: part for part in merged.routes}
        assert parts["GET /pay/{order}"].exceptions == {"TimeoutError": 5}
        assert parts["~unmatched"].n == 1
        assert told.saturation == (wire.Gauge("db_pool", 3, 20),)
        assert (await poll(http, since=told.slots[-1].t)).slots == ()


async def test_a_poll_without_its_token_is_refused_over_http(tmp_path):
    async with serving(shop(tmp_path)[0]) as http, http.get("/health/alerts") as answer:
        assert answer.status == 401


async def test_a_signed_recovery_over_http_runs_once_and_is_receipted(tmp_path):
    app, _, runs = shop(tmp_path)
    async with serving(app) as http:
        now = time.time_ns() // 10**9
        body = b'{"incident":"shop-1"}'
        receipts = []
        for id in ("m1", "m2"):
            headers = {
                "webhook-id": id,
                "webhook-timestamp": str(now),
                "webhook-signature": sign(SECRET, id, now, body),
                "idempotency-key": "k1",
            }
            async with http.post("/recover/restart_workers", data=body, headers=headers) as answer:
                assert answer.status == 200
                receipts.append(
                    (answer.headers.get("idempotent-replayed"), json.loads(await answer.read())["receipt"])
                )
        (first, issued), (second, again) = receipts
        assert (first, second, issued, runs) == (None, "true", again, [1])
        assert receipt.is_genuine(receipt.key(SECRET), issued)
