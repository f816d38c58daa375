"""What the commands that serve share: where they listen, and that they end when told to."""

import argparse
import asyncio
import signal

from aiohttp import web

SHUTDOWN_S = 5.0


def add_listen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")


async def serve_until_told(app: web.Application, given: argparse.Namespace, what: str) -> int:
    """Serve *app* where *given* says, say so on a line, and return 0 after SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, given.host, given.port).start()
        print(f"{what}, at http://{given.host}:{runner.addresses[0][1]}", flush=True)
        await ended.wait()
    finally:
        await runner.cleanup()
    return 0
