"""The real program on its stage, for tests: short folders, a bare environment, and what is seen from outside.

`Books` reads the ledger beside the program and starts nothing. `Twin` is a second program on the same store.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from bot.sandbox.phone import Unmet
from bot.sandbox.plays import Scene, answered
from bot.sandbox.premises import free_port
from bot.sandbox.stage import INHERITED, QUICK, ROOT, Stage
from ledger.embedded import EmbeddedValkey
from ledger.machine import OUTCOMES, unsettled
from ledger.redis_store import RedisStore, commands, connect
from ledger.store import StoreDown
from ledger.view import fold

CARD_S, ASK_S, END_S = 30.0, 20.0, 45.0
LOOK_S = 0.03
ENDINGS = {event.__name__ for event in OUTCOMES}


@contextmanager
def short_folder():
    """A folder whose name is short enough for a socket in it; gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="cs-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def an_environment():
    """What any program needs, and nothing of ours."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


@asynccontextmanager
async def a_scene(*, settings=None, **charter):
    """World and program, the charter adopted, both models naming the database."""
    told = {"LOOP_INTERVAL_S": "1"} | (settings or {})
    with short_folder() as folder:
        stage = Stage(folder, an_environment(), charter={"policy": QUICK} | charter, settings=told)
        async with stage:
            try:
                await stage.adopt()
                stage.world.models.consensus("database")
                yield Scene(stage, lambda who, what: None)
            except BaseException as error:
                error.add_note("The program said:\n" + "\n".join(stage.said[-40:]))
                raise


@asynccontextmanager
async def an_incident(**options):
    """A scene in which the shop broke, and Rudo sees a card with Approve; with the books."""
    async with a_scene(**options) as scene, the_books(scene) as books:
        await breaks(scene)
        yield scene, books


async def breaks(scene):
    await scene.breaks("the database pool is exhausted", db=True)
    return await scene.phone("rudo").expects_button("Approve", CARD_S + ASK_S)


async def until(look, what, within=15.0):
    """What *look*, which may be a coroutine function, finds; raises Unmet when it finds nothing in time."""
    ends = time.monotonic() + within
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > ends:
            raise Unmet(f"within {within:g} s it did not happen that {what}")
        await asyncio.sleep(LOOK_S)


class Books:
    """acme's ledger as it stands, read beside the program. A server that is away is waited for."""

    def __init__(self, folder):
        self._client = connect(EmbeddedValkey(Path(folder)).url_of("owner"), timeout_s=2)
        self._store = RedisStore(self._client)

    async def close(self):
        await self._store.close()

    async def entries(self):
        async def look():
            with suppress(StoreDown):  # it may just be started again
                return await self._store.read("acme", 0, 10_000)

        return await until(look, "the ledger can be read")

    async def vault(self):
        """What people typed, by commitment."""
        flat = await commands(self._client)("HGETALL", "led:{acme}:vault")
        return dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat

    async def everything(self):
        """Every value on the server, of whatever key, one after the other."""
        call, reads = commands(self._client), {b"string": ("GET",), b"list": ("LRANGE", 0, -1)}
        reads |= {b"hash": ("HGETALL",), b"set": ("SMEMBERS",), b"stream": ("XRANGE", "-", "+")}
        found = []
        for key in await call("KEYS", "*"):
            word, *more = reads.get(await call("TYPE", key), ("ZRANGE", 0, -1))
            found.append((key, await call(word, key, *more)))
        return repr(found).encode()

    async def count(self):
        return Counter(entry.event for entry in await self.entries())

    async def shows(self, event, within=15.0, count=1):
        """Sooner or later *event* stands in them; the last one."""

        async def look():
            with suppress(StoreDown):
                found = [entry for entry in await self.entries() if entry.event == event]
                return found[-1] if len(found) >= count else None

        return await until(look, f"{count} × {event} stands in the ledger", within)

    async def balance(self):
        """Each authorization has one outcome, and the whole folds."""
        entries = await self.entries()
        assert unsettled(fold("acme", entries).incidents.values()) == []
        count = Counter(entry.event for entry in entries)
        assert sum(count[ending] for ending in ENDINGS) == count["Authorized"]
        return count

    async def server(self):
        """The embedded server's process."""
        await self.entries()
        return (await commands(self._client)("INFO", "server"))["process_id"]


@asynccontextmanager
async def the_books(scene):
    books = Books(scene.stage.folder)
    try:
        yield books
    finally:
        await books.close()


@contextmanager
def frozen(pid):
    """The process stands still, as when a machine stalls; it goes on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Twin:
    """A second program on the same store, in its own process; Telegram's webhook points at the newest."""

    def __init__(self, stage):
        self._stage = stage
        self.port = free_port()
        self.said = []
        self._process = None
        self._reader = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        own = {"PORT": str(self.port), "PUBLIC_BASE_URL": self.url}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot"),
            env=self._stage.environment() | own,
            cwd=self._stage.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())
        await until(lambda: any("is up" in line for line in self.said), "the twin is up", 30)
        hook = self._stage.world.telegram.delivery
        await until(lambda: hook.webhook.url.startswith(self.url), "Telegram knows the twin", 10)
        return self

    async def __aexit__(self, *why):
        await self.end(signal.SIGTERM)

    async def kill(self):
        await self.end(signal.SIGKILL)

    async def end(self, how):
        if self._process.returncode is None:
            self._process.send_signal(how)
        await self._process.wait()
        await self._reader

    async def _read(self):
        while line := await self._process.stdout.readline():
            self.said.append(line.decode(errors="replace").rstrip())


def tap(scene, who, label):
    """*who* presses the newest button *label* and does not wait; the tap, with its answer when it comes."""
    press = scene.phone(who).sees(label)
    return press.phone.telegram.tap(press.phone.user_id, press.message, press.data)


async def all_stored(scene):
    """Every update that Telegram sent was taken."""
    delivery = scene.stage.world.telegram.delivery
    await until(lambda: not delivery.pending(), "all updates are stored")
    assert delivery.tries[-1].status == 200


async def hooked(scene, count=1, status=None, within=15.0):
    """Sooner or later *count* requests (with this *status*) reached the recovery endpoint; all of them."""

    async def look():
        hooks = await scene.runs()
        fit = [hook for hook in hooks if status is None or hook["status"] == status]
        return hooks if len(fit) >= count else None

    return await until(look, f"{count} requests reach the recovery endpoint", within)


__all__ = [
    "ASK_S",
    "CARD_S",
    "END_S",
    "QUICK",
    "ROOT",
    "Books",
    "Twin",
    "a_scene",
    "all_stored",
    "an_environment",
    "an_incident",
    "answered",
    "breaks",
    "frozen",
    "hooked",
    "short_folder",
    "tap",
    "the_books",
    "until",
]
