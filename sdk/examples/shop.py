"""A shop to try it on, without the bot: it is well until it is told to simulate trouble.

    python shop.py --simulate
    curl -X POST 'http://127.0.0.1:8000/simulate/spike?kind=errors&seconds=30'
    curl http://127.0.0.1:8000/health/alerts

Faults exist only with --simulate. While one lasts, every answer names it under ``faults``.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal

import uvicorn
from countersign_sdk import Monitor, instrument
from fastapi import FastAPI

ORDERS_A_SECOND = 50


class Shop:
    """Orders, and the *trouble* that is simulated, if any."""

    def __init__(self) -> None:
        self.trouble = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def order(self, order: int) -> dict[str, int]:
        """Sell, as well as the trouble lets us."""
        if self.trouble == "slow":
            await asyncio.sleep(1)
        if self.trouble == "errors":
            raise TimeoutError
        return {"order": order}

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* beside the requests."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def spike(self, monitor: Monitor, kind: str, seconds: float) -> None:
        """Be in trouble for a while, and have customers who notice."""
        self.trouble = kind
        monitor.fault(f"simulated {kind}")
        for n in range(round(seconds * ORDERS_A_SECOND)):
            self.start(self._buy(monitor, n))
            await asyncio.sleep(1 / ORDERS_A_SECOND)
        self.trouble = ""
        monitor.fault(f"simulated {kind}", on=False)

    async def _buy(self, monitor: Monitor, n: int) -> None:
        scope = {"type": "http", "method": "GET", "path": f"/orders/{n}", "headers": [], "query_string": b""}

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: object) -> None:
            return

        with contextlib.suppress(TimeoutError):
            await monitor.app(scope, receive, send)


def build(*, simulate: bool) -> FastAPI:
    """Return the app; POST /simulate/spike is there only where faults may be simulated."""
    shop = Shop()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        monitor.close()

    app = FastAPI(lifespan=lifespan)
    app.get("/orders/{order}")(shop.order)
    if simulate:

        @app.post("/simulate/spike", status_code=202)
        async def spike(kind: Literal["errors", "slow"] = "errors", seconds: float = 30) -> dict[str, object]:
            shop.start(shop.spike(monitor, kind, min(seconds, 300)))
            return {"simulated": True, "kind": kind, "seconds": seconds}

    monitor = instrument(app, service="shop", metrics_path="/metrics")
    return app


def main() -> None:
    """Serve the shop on loopback."""
    arguments = argparse.ArgumentParser(description="A shop to try countersign-sdk on.")
    arguments.add_argument("--port", type=int, default=8000)
    arguments.add_argument("--simulate", action="store_true", help="let POST /simulate/spike make trouble")
    chosen = arguments.parse_args()
    uvicorn.run(build(simulate=chosen.simulate), port=chosen.port, log_level="info")


if __name__ == "__main__":
    main()
