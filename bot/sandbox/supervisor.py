"""Who keeps the shop running, outside its process: a dead shop can be restarted, by a signed request.

A process of its own, told by a line of JSON on standard input; the end of input ends it and its shop.

    POST /recover/{action}    the recovery endpoint (Standard Webhooks): `restart_workers`, `switch_payments`
    POST /ops/faults          the buttons and dials of the sandbox      GET /ops/state    what is the case
    POST /payments/charge     the payments API that the shop calls      POST /fallback/charge    the other one

`restart_workers` kills the process and starts another, so what ailed that process is gone; slow payments ail
another server and stay. `switch_payments` points the shop at the fallback, and survives restarts.
"""

import asyncio
import hmac
import json
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sdk import Recovery

SLOW_PAYMENTS_S, QUICK_PAYMENTS_S = (1.4, 2.6), (0.01, 0.03)
UP_WITHIN_S = 10.0
LOCAL = {"errors": 0.0, "latency": 1.0, "db": False, "hang": False}

type State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    port: int
    shop_port: int
    state_dir: str
    recovery_secret: str
    health_token: str
    ops_token: str


@dataclass(slots=True)
class Hook:
    """One request to the recovery endpoint as it arrived; `at` is monotonic seconds of this machine."""

    at: float
    action: str
    key: str
    status: int = 0


@dataclass(slots=True)
class Supervisor:
    """The shop's process and everything around it."""

    settings: Settings
    faults: State = field(default_factory=lambda: dict(LOCAL))
    slow_payments: bool = False
    fallback: bool = False
    mood: str = ""
    restarts: int = 0
    hooks: deque[Hook] = field(default_factory=lambda: deque(maxlen=500))
    process: asyncio.subprocess.Process | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def state(self) -> State:
        return {
            "running": self.running,
            "pid": self.process.pid if self.process else 0,
            "faults": self.faults | {"payments": self.slow_payments},
            "fallback": self.fallback,
            "mood": self.mood,
            "restarts": self.restarts,
            "hooks": [{"at": h.at, "action": h.action, "key": h.key, "status": h.status} for h in self.hooks],
        }

    # the shop's process

    async def start(self) -> None:
        """Starts the shop, well, and returns when it answers."""
        self.faults = dict(LOCAL)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot.sandbox.shop",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await self._say(
            port=self.settings.shop_port, payments=self._payments(), token=self.settings.health_token
        )
        await self._answers()

    async def stop(self) -> None:
        """Ends the shop at once."""
        if self.process and self.running:
            self.process.kill()
        await self._gone()

    async def restart(self) -> None:
        async with self.changing:
            await self.stop()
            await self.start()
            self.restarts += 1

    async def _answers(self) -> None:
        url = f"http://127.0.0.1:{self.settings.shop_port}/openapi.json"
        async with asyncio.timeout(UP_WITHIN_S), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url) as answer:
                        await answer.read()
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def _say(self, **order: Any) -> None:
        if self.process and self.process.stdin and self.running:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            await self.process.stdin.drain()

    def _payments(self) -> str:
        return f"{self.url}/{'fallback' if self.fallback else 'payments'}"

    # faults and remedies

    async def order(self, wanted: State) -> State:
        """Applies buttons and dials: those of `LOCAL`, `payments`, `mood`, `die`, `start`, `well`."""
        if wanted.pop("well", False):
            wanted = {**LOCAL, "payments": False, "mood": "", "start": True, "fallback": False} | wanted
        self.slow_payments = bool(wanted.get("payments", self.slow_payments))
        self.mood = str(wanted.get("mood", self.mood))
        if "fallback" in wanted:
            await self.switch_payments(fallback=bool(wanted["fallback"]))
        if wanted.get("start") and not self.running:
            await self.restart()
        local = {name: type(LOCAL[name])(wanted[name]) for name in LOCAL.keys() & wanted.keys()}
        if local and self.running:
            self.faults |= local
            await self._say(**local)
        if wanted.get("die"):
            await self._say(die=True)
            await self._gone()
        return self.state()

    async def _gone(self) -> None:
        if self.process and self.process.stdin:
            await self.process.wait()
            self.process.stdin.close()
            with suppress(ConnectionError):
                await self.process.stdin.wait_closed()

    async def switch_payments(self, *, fallback: bool = True) -> None:
        self.fallback = fallback
        await self._say(payments=self._payments())

    async def charge(self, request: Request) -> Response:
        slow = self.slow_payments and request.url.path.startswith("/payments")
        await asyncio.sleep(self.chance.uniform(*(SLOW_PAYMENTS_S if slow else QUICK_PAYMENTS_S)))
        return JSONResponse({"charged": True})


def recovery(supervisor: Supervisor) -> Recovery:
    """The signed endpoint, with the two things that this shop knows how to do."""
    settings = supervisor.settings
    endpoint = Recovery(settings.recovery_secret, state_dir=Path(settings.state_dir))

    @endpoint.action("restart_workers")
    async def restart_workers() -> None:
        await supervisor.restart()

    @endpoint.action("switch_payments")
    async def switch_payments() -> None:
        await supervisor.switch_payments()

    return endpoint


class Moody:
    """Notes each request to the recovery endpoint, and spoils the answer as told by `mood`.

    An HTTP status is answered at once; `hang` answers nothing; `mute` runs it and answers nothing; `to <url>`
    redirects.
    """

    def __init__(self, app: ASGIApp, supervisor: Supervisor) -> None:
        self.app, self.supervisor = app, supervisor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/recover/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        hook = Hook(
            time.monotonic(), scope["path"].rsplit("/", 1)[-1], request.headers.get("idempotency-key", "")
        )
        self.supervisor.hooks.append(hook)

        async def noting(message: Any) -> None:
            if self.supervisor.mood == "mute":
                await asyncio.Event().wait()
            if message["type"] == "http.response.start":
                hook.status = message["status"]
            await send(message)

        await (await self._spoiled() or self.app)(scope, receive, noting)

    async def _spoiled(self) -> ASGIApp | None:
        mood = self.supervisor.mood
        if mood == "hang":
            await asyncio.Event().wait()
        if mood.startswith("to "):
            return RedirectResponse(mood.removeprefix("to "), 302)
        return JSONResponse({"error": "as told"}, int(mood)) if mood.isdigit() else None


def build(supervisor: Supervisor) -> Starlette:
    async def state(request: Request) -> Response:
        return (
            JSONResponse(supervisor.state()) if _allowed(supervisor, request) else Response(status_code=403)
        )

    async def faults(request: Request) -> Response:
        if not _allowed(supervisor, request):
            return Response(status_code=403)
        return JSONResponse(await supervisor.order(await request.json()))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        starting = asyncio.create_task(supervisor.start())
        yield
        starting.cancel()
        await supervisor.stop()

    app = Starlette(
        routes=[
            Route("/ops/state", state),
            Route("/ops/faults", faults, methods=["POST"]),
            Route("/payments/charge", supervisor.charge, methods=["POST"]),
            Route("/fallback/charge", supervisor.charge, methods=["POST"]),
        ],
        lifespan=lifespan,
    )
    recovery(supervisor).install(app)
    app.add_middleware(Moody, supervisor)
    return app


def _allowed(supervisor: Supervisor, request: Request) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(given.encode(), supervisor.settings.ops_token.encode())


def _end_with(source: TextIO, server: uvicorn.Server) -> None:
    source.read()
    server.should_exit = True


async def main(source: TextIO) -> None:
    """Serves until standard input ends."""
    supervisor = Supervisor(Settings(**json.loads(source.readline())))
    config = uvicorn.Config(
        build(supervisor),
        host="127.0.0.1",
        port=supervisor.settings.port,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_end_with, args=(source, server), name="input", daemon=True).start()
    await server.serve()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(main(sys.stdin))
