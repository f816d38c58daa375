"""The world with the real program in it: Countersign as its own process, unchanged, told by its environment.

It is started as anybody would start it, its charter is adopted with the console's code from Rudo's phone, and
it is ended with SIGTERM. `kill` ends it as a power cut would.
"""

import asyncio
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bot.channels.whatsapp_templates import make_templates
from bot.receipts import Receipt
from bot.sandbox.world import World
from bot.settings import read
from ledger.chain import Entry, receipt_of
from ledger.embedded import EmbeddedValkey
from ledger.redis_store import RedisStore, connect

ROOT = Path(__file__).resolve().parents[2]
UP_WITHIN_S = 30.0
END_WITHIN_S = 25.0
INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "VIRTUAL_ENV")
CODE = re.compile(r"/start ([A-Z2-7]{12})")
QUICK = {"close_ms": 4000, "err_crit_sustain_ms": 3000, "hang_sustain_ms": 3000}
"""The policy of a play: the same rules with a shorter quiet, so that a play fits into a minute."""


class NotUp(Exception):
    """Countersign did not come up; the message is what it said."""


class Stage:
    """*charter* are options of `World.charter_toml`, *settings* more of the bot's environment."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        charter: Mapping[str, Any] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.world = World(folder, environment)
        self.said: list[str] = []
        self._environment = environment
        self._charter = dict(charter or {})
        self._settings = dict(settings or {})
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            undo.push_async_exit(self.__aexit__)
            await self.world.start()
            self.write_charter()
            self._settings |= await self._templates()
            await self.start()
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()
        await self.world.close()

    def write_charter(self, **changes: Any) -> None:
        """Write the charter's file, with *changes* from now on."""
        self._charter |= changes
        (self.folder / "charter.toml").write_text(self.world.charter_toml(**self._charter), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """What the bot's process finds around it: nothing of ours that it does not need."""
        kept = {name: self._environment[name] for name in INHERITED if name in self._environment}
        told = {"CHARTER": str(self.folder / "charter.toml"), "HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
        return kept | told | {"PYTHONPATH": str(ROOT)} | self.world.env() | self._settings

    async def start(self) -> None:
        """Start the bot and wait until it serves. Raises NotUp."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            env=self.environment(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        up = asyncio.Event()
        self._reader = asyncio.create_task(self._read(self._process, up))
        with suppress(TimeoutError):
            async with asyncio.timeout(UP_WITHIN_S):
                await up.wait()
        if not any(line.startswith("Countersign is up") for line in self.said):
            raise NotUp("\n".join(self.said[-20:]))

    async def adopt(self) -> None:
        """Rudo opens the bot with the console's code."""
        rudo = self.world.phone("rudo").in_private
        await rudo.opens(await self._console_code())
        await rudo.expects("Charter in force", within=10)

    async def end(self) -> int:
        """SIGTERM, and the exit code. A bot that does not end is killed."""
        return await self._stop(signal.SIGTERM)

    async def kill(self) -> None:
        """As a power cut would."""
        await self._stop(signal.SIGKILL)

    async def entries(self) -> list[Entry]:
        """All of acme's ledger, read beside the running program."""
        server = EmbeddedValkey(self.folder)
        await server.start()
        store = RedisStore(connect(server.url))
        try:
            return await store.read("acme", 0, 10_000)
        finally:
            await store.close()
            await server.stop()

    def receipts(self) -> set[Receipt]:
        """What acme's people can hold against its ledger."""
        return self.world.receipts()

    async def _templates(self) -> dict[str, str]:
        """Make the WhatsApp templates, as `python -m bot templates` does. Returns their settings."""
        shown: list[str] = []
        await make_templates(read(self.environment()).twilio, shown.append)
        return dict(line.split("=", 1) for line in shown if not line.startswith("#"))

    async def until_said(self, words: str, within: float) -> None:
        """Wait for a line of the program with *words* in it, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not any(words in line for line in self.said):  # noqa: ASYNC110  lines come from a pipe
                    await asyncio.sleep(0.05)

    def invitation(self) -> str:
        """The line with the console's code, where a charter waits for its first adoption; else nothing."""
        return next((line for line in self.said if CODE.search(line)), "")

    async def _console_code(self) -> str:
        await self.until_said("/start", 5)
        found = CODE.search(self.invitation())
        if found is None:
            raise NotUp("\n".join(["It printed no code.", *self.said[-20:]]))
        return found[1]

    async def _read(self, process: asyncio.subprocess.Process, up: asyncio.Event) -> None:
        self.said.clear()
        while process.stdout and (line := await process.stdout.readline()):
            self.said.append(line.decode(errors="replace").rstrip())
            if self.said[-1].startswith("Countersign is up"):
                up.set()
        up.set()

    async def _stop(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader:
            await self._reader
        return process.returncode if process.returncode is not None else -1


async def export(folder: Path, kept: Iterable[Receipt] = ()) -> int:
    """Write the ledger of the ended program to `folder/export`, with the receipts that people *kept*, and
    verify that. The verifier's exit code."""
    await _python(
        "-m",
        "ledger",
        "export",
        "--data-dir",
        str(folder),
        "--tenant",
        "acme",
        "--to",
        str(folder / "export"),
    )
    lines = [f"{one.seq}:{receipt_of(one.start)}\n" for one in sorted(kept, key=lambda one: one.seq)]
    if lines and (folder / "export").is_dir():
        (folder / "export" / "receipts.txt").write_text("".join(lines), encoding="utf-8")
    return await _python("-I", "-S", str(folder / "export" / "verify.py"), str(folder / "export"))


async def _python(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()
