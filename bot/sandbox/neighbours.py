"""A stage with two tenants under one program: acme, and umbrella, whose people mean it no good.

Albert of umbrella sits in acme's group and is a stranger there. His own services watch the same shop. One has
a webhook that repeats to whoever called it all that it was sent; one has an address that no one may call; one
has an action that nobody may approve.
"""

import json
import re
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from bot.receipts import Receipt
from bot.sandbox.loopback import HOST, Served, serve
from bot.sandbox.stage import CODE, QUICK, Stage
from bot.sandbox.world import HEALTH, STRANGER
from ledger.chain import Entry
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import RedisStore, connect

THEIRS = -100200400
SECRET = "whsec_dGhpcyBpcyB1bWJyZWxsYSdzIG93biBzZWNyZXQ="  # noqa: S105  made up for the one who betrays it
LAB, VAULT, PIT = "lab", "vault", "pit"

CHARTER = """
[tenant]
id = "umbrella"
timezone = "UTC"
allow_networks = ["127.0.0.1/32"]

[[people]]
id = "albert"
name = "Albert"
roles = ["oncall", "admin"]
telegram = {albert}

[[chats]]
telegram = {chat}
"""
SERVICE = """
[[services]]
id = "{id}"
health_url = "{health}"
token_env = "UMBRELLA_LAB_HEALTH"

[[services.actions]]
id = "flush"
title = "Flush {id}"
webhook = "{webhook}"
secret_env = "UMBRELLA_LAB_RECOVERY"
approve = "{approve}"
causes = ["database", "network"]
default = true
"""


class Neighbours(Stage):
    """`repeated` is what umbrella's webhook was sent, and repeated."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.repeated: list[str] = []
        self._echo: Served | None = None
        self.world.telegram.chats.add_group(THEIRS, "umbrella on-call", {STRANGER})

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/echo", self._repeat)
        self._echo = await serve(app)
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._echo:
            await self._echo.close()

    async def _repeat(self, request: web.Request) -> web.Response:
        """Refuse, with all that came and the secret itself, in the headers too."""
        said = json.dumps({"secret": SECRET, "headers": dict(request.headers), "body": await request.text()})
        self.repeated.append(said)
        return web.Response(status=400, text=said, headers={"X-Secret": SECRET})

    def write_charter(self, **changes: Any) -> None:
        super().write_charter(**changes)
        charters = self.folder / "charters"
        charters.mkdir(exist_ok=True)
        (self.folder / "charter.toml").replace(charters / "acme.toml")
        (charters / "umbrella.toml").write_text(self._umbrella(), encoding="utf-8")

    def _umbrella(self) -> str:
        port = self._echo.port if self._echo else 9
        addresses = {LAB: f"http://{HOST}:{port}/echo", VAULT: f"http://{HOST}:{port}/echo"}
        addresses[PIT] = f"http://127.0.0.2:{port}/echo"
        services = [
            SERVICE.format(
                id=name,
                health=self.world.shop.health_url,
                webhook=webhook,
                approve="" if name == VAULT else "1 oncall",
            )
            for name, webhook in addresses.items()
        ]
        policy = "\n".join(["[policy]", *(f"{key} = {value}" for key, value in QUICK.items())])
        return "".join([CHARTER.format(albert=STRANGER, chat=THEIRS), *services, policy])

    def environment(self) -> dict[str, str]:
        own = {"CHARTER": str(self.folder / "charters"), "UMBRELLA_LAB_RECOVERY": SECRET}
        return super().environment() | own | {"UMBRELLA_LAB_HEALTH": self.world.keys[HEALTH]}

    async def adopt(self) -> None:
        """Each tenant's admin opens the bot with the console's code of that tenant."""
        await super().adopt()
        albert = self.world.phone("stranger").in_private
        line = next(line for line in self.said if line.startswith("umbrella") and CODE.search(line))
        await albert.opens(re.findall(CODE, line)[0])
        await albert.expects("Charter in force", within=10)

    def receipts(self) -> set[Receipt]:
        return self.world.receipts(("rudo", "tendai"))

    async def theirs(self) -> list[Entry]:
        """All of umbrella's ledger."""
        server = EmbeddedValkey(self.folder)
        await server.start()
        store = RedisStore(connect(server.url))
        try:
            return await store.read("umbrella", 0, 10_000)
        finally:
            await store.close()
            await server.stop()
