"""The shop as the sandbox holds it: its supervisor's process, its addresses, its buttons and dials.

Nothing here survives the sandbox: the supervisor ends when its standard input does, and its shop with it.
"""

import asyncio
import json
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bot.sandbox.loopback import HOST

ROOT = Path(__file__).resolve().parents[2]
UP_WITHIN_S = 20.0
PORTS = range(20_000, 32_000)
"""Below the ports that Linux, macOS and Windows take for outgoing connections."""

type State = dict[str, Any]


class NotUp(Exception):
    """The shop did not answer in time."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the bot is told, and what only the sandbox knows (`ops`)."""

    health: str
    recovery: str
    ops: str


def free_port() -> int:
    """A port that nobody listens on at this moment.

    Not one that the system hands out: it would give it to the next outgoing connection before we listen.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


class Premises:
    """The shop and its supervisor, as two processes."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder, self.keys = folder, keys
        self.shop_port, self.ops_port = free_port(), free_port()
        self.last: State = {"running": False, "faults": {}, "hooks": [], "restarts": 0}
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.shop_port}"

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def health_url(self) -> str:
        return f"{self.url}/health/alerts"

    def webhook(self, action: str) -> str:
        """Where the signed request for *action* goes: outside the shop's own process."""
        return f"http://{HOST}:{self.ops_port}/recover/{action}"

    async def start(self) -> None:
        """Both processes, up and answering; raises NotUp."""
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.keys.ops}"})
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot.sandbox.supervisor",
            stdin=asyncio.subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the sandbox, which ends this by closing its input
        )
        settings = {
            "port": self.ops_port,
            "shop_port": self.shop_port,
            "state_dir": str(self.folder),
            "recovery_secret": self.keys.recovery,
            "health_token": self.keys.health,
            "ops_token": self.keys.ops,
        }
        if self._process.stdin:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        await self._until_up()

    async def close(self) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
            await self._process.wait()
            with suppress(ConnectionError):
                await self._process.stdin.wait_closed()
        if self._session:
            await self._session.close()
        self._process = self._session = None

    async def state(self) -> State:
        """What is the case: `running`, `faults`, `fallback`, `mood`, `restarts`, `hooks`."""
        return await self._ops("GET", "state", None)

    async def faults(self, **wanted: Any) -> State:
        """Turns buttons and dials: errors=0.2, latency=10.0, db=True, payments=True, hang=True."""
        return await self._ops("POST", "faults", wanted)

    async def die(self) -> State:
        """The shop's process exits hard, and nobody restarts it unasked."""
        return await self.faults(die=True)

    async def well(self) -> State:
        """All faults off, and the shop up."""
        return await self.faults(well=True)

    async def hooks(self) -> list[State]:
        """The requests that reached the recovery endpoint, oldest first: `at`, `action`, `key`, `status`."""
        hooks: list[State] = (await self.state())["hooks"]
        return hooks

    async def _ops(self, method: str, what: str, body: State | None) -> State:
        if self._session is None:
            raise NotUp("The shop was not started.")
        url = f"http://{HOST}:{self.ops_port}/ops/{what}"
        try:
            async with self._session.request(method, url, json=body) as answer:
                answer.raise_for_status()
                self.last = await answer.json()
        except aiohttp.ClientError as error:
            raise NotUp(f"The shop's supervisor does not answer: {error}") from None
        return self.last

    async def _until_up(self) -> None:
        try:
            async with asyncio.timeout(UP_WITHIN_S):
                while not (self.last["running"] and await self._shop_answers()):
                    await self._look()
        except TimeoutError:
            raise NotUp(f"The shop did not answer within {UP_WITHIN_S:.0f} s.") from None

    async def _look(self) -> None:
        await asyncio.sleep(0.05)
        if self._process and self._process.returncode is not None:
            raise NotUp(f"The shop's supervisor ended with {self._process.returncode}.")
        with suppress(NotUp):
            await self.state()

    async def _shop_answers(self) -> bool:
        if self._session is None:
            return False
        try:
            async with self._session.get(f"{self.url}/") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False
