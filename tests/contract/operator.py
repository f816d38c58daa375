"""What an operator's commands talk to in tests: a Bot API server, a Valkey, an app with a health address."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bot.sandbox.chats import User
from bot.sandbox.loopback import Served, serve
from bot.sandbox.telegram import Telegram
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from tests.rooms import CHARTER
from tests.valkey import a_valkey

TOKEN, BASE = "100200:sandbox", "http://127.0.0.1:9"
RUDO, TENDAI, TARIRO, ME = 1001, 1002, 1003, 4242
GROUP = -100200300


@dataclass
class Place:
    """Everything around the commands, the folder they run in, and what they said."""

    folder: Path
    telegram: Telegram
    valkey: EmbeddedValkey
    app: Served
    said: list[str] = field(default_factory=list)

    @property
    def say(self) -> Callable[[str], None]:
        return self.said.append

    @property
    def told(self) -> str:
        return "\n".join(self.said)

    @property
    def health_url(self) -> str:
        return f"{self.app.url}/health/alerts"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """A good one; None leaves a name out."""
        good = {
            "ALERT_SECRET": "a secret of the operator, 32 bytes or more",
            "LEDGER_KEY": "a key of the operator, 32 bytes or more",
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE": self.telegram.url,
            "TELEGRAM_WEBHOOK_SECRET": "s3cret-of-the-webhook",
            "PUBLIC_BASE_URL": BASE,
            "REDIS_URL": self.valkey.url,
            "REDIS_DEPLOY_URL": self.valkey.url_of("deploy"),
            "CHARTER": str(self.folder / "charter.toml"),
            "DATA_DIR": str(self.folder / "var"),
            "ACME_CHECKOUT_RECOVERY": "the webhook's secret",
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def write_charter(self, old: str = "", new: str = "") -> None:
        text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
        text = text.replace("http://127.0.0.1:9000/health/alerts", self.health_url)
        (self.folder / "charter.toml").write_text(text.replace(old, new) if old else text)


@asynccontextmanager
async def a_place() -> AsyncIterator[Place]:
    telegram = Telegram(TOKEN)
    for number, name in ((RUDO, "Rudo"), (TENDAI, "Tendai"), (TARIRO, "Tariro"), (ME, "Ada")):
        telegram.chats.add_person(User(number, name), opened=number != TENDAI)
    telegram.chats.add_group(GROUP, "acme on-call", {RUDO, TENDAI})
    await telegram.start()
    app = await serve(_healthy())
    try:
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as folder:
            async with a_valkey() as valkey:
                place = Place(Path(folder), telegram, valkey, app)
                place.write_charter()
                yield place
    finally:
        await app.close()
        await telegram.close()


def _healthy() -> web.Application:
    """An app that answers ten requests a second of one route, none of which failed."""

    async def alerts(request: web.Request) -> web.Response:
        now_ms = int(WallClock().now().timestamp() * 1000)
        slots = [_slot(now_ms // 1000 - ago) for ago in range(5, 0, -1)]
        return web.json_response(
            {"schema": "slots/1", "service": "checkout", "now_ms": now_ms, "slots": slots, "inflight": 1}
        )

    made = web.Application()
    made.router.add_get("/health/alerts", alerts)
    return made


def _slot(t: int) -> dict[str, object]:
    counts = {"n": 10, "errors": 0, "hist": []}
    route = {"route": "POST /pay", **counts, "exceptions": {}}
    return {"t": t, **counts, "client_errors": 0, "aborted": 0, "routes": [route], "dependencies": []}
