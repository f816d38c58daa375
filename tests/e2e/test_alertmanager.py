"""Debian's Prometheus and Alertmanager as they are: what they say fires opens an incident and ends it."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest
from aiohttp import web

from bot.alerts import AlertDoor, Shelf
from bot.app import application
from bot.sandbox.premises import free_port
from handlers.charter import parse
from ledger.store import StoreDown
from tests.contract.test_alerts import SECRET, TOLD, Purse
from tests.rooms import tenant
from tests.unit.handlers.test_alerts import Told
from tests.valkey import a_valkey, connected

TOOLS = ("prometheus", "prometheus-alertmanager")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("alertmanager"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason="apt-get install prometheus prometheus-alertmanager"
    ),
]
WITHIN_S = 60

ROUTES = """
route: {{receiver: bot, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: bot
    webhook_configs:
      - url: {url}/alerts/alertmanager/acme
        http_config: {{authorization: {{credentials: {secret}}}}}
"""
SCRAPES = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{folder}/rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ["127.0.0.1:{shop}"]}}]}}]
"""
RULES = """
groups:
  - name: shop
    rules:
      - alert: ShopFails
        expr: shop_failing > 0
        labels: {service: checkout, severity: critical}
        annotations: {summary: "the shop fails"}
"""


@contextlib.asynccontextmanager
async def served(app: web.Application):
    """The address of *app* while it is served."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running(*command):
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


class Shop:
    """A service that says of itself whether it fails."""

    def __init__(self) -> None:
        self.fails = True
        self.app = web.Application()
        self.app.router.add_get("/metrics", self.metrics)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f"shop_failing {int(self.fails)}\n")


class Failing(Shelf):
    """A shelf whose store is away at first."""

    refused = 0

    async def put(self, tenant, alerts):
        if self.refused < 2:
            self.refused += 1
            raise StoreDown("it does not answer")
        await super().put(tenant, alerts)


async def shows(here: Told, shelf: Shelf, *events: str) -> None:
    """Wait until the ledger has *events*."""
    async with asyncio.timeout(WITHIN_S):
        while here.events != list(events):
            await shelf.refresh("acme")
            await here.hears()
            await asyncio.sleep(0.1)


async def test_what_prometheus_finds_opens_and_closes_an_incident_also_where_the_store_was_away(tmp_path):
    acme = await tenant(parse(TOLD))
    here, shop = Told(acme), Shop()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(a_valkey())
        shelf = Failing(await stack.enter_async_context(connected(server)))
        here.detect.alerts = shelf.of("acme")
        door = AlertDoor({"acme": acme.room}, Purse(), shelf, acme.clock)
        bot = await stack.enter_async_context(served(application([], door.routes())))
        metrics = await stack.enter_async_context(served(shop.app))
        for command in prepared(tmp_path, bot, metrics):
            await stack.enter_async_context(running(*command))
        await shows(here, shelf, "Detected")
        assert shelf.refused == 2
        reading = acme.incident.opened.reading
        assert (reading.headline, reading.severity) == ("alertmanager says: the shop fails", "critical")
        shop.fails = False
        await shows(here, shelf, "Detected", "Recovered")


def prepared(folder: Path, bot: str, metrics: str) -> list[list[str]]:
    """The commands of both tools, with their files in *folder*."""
    alertmanager, prometheus = free_port(), free_port()
    shop = metrics.rpartition(":")[2]
    (folder / "am.yml").write_text(ROUTES.format(url=bot, secret=SECRET))
    (folder / "rules.yml").write_text(RULES)
    (folder / "p.yml").write_text(SCRAPES.format(folder=folder, alertmanager=alertmanager, shop=shop))
    listens = "--web.listen-address=127.0.0.1:"
    stored, listens = f"--storage.path={folder}/am", "--web.listen-address=127.0.0.1:"
    scraping = [f"--config.file={folder}/p.yml", f"--storage.tsdb.path={folder}/p", f"{listens}{prometheus}"]
    routing = [
        f"--config.file={folder}/am.yml",
        stored,
        f"{listens}{alertmanager}",
        "--cluster.listen-address=",
    ]
    return [[TOOLS[0], *scraping], [TOOLS[1], *routing]]
