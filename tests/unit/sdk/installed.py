"""The SDK under the name that it installs by, and programs that import it so."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

SDK = Path(__file__).parents[3] / "sdk"
EXAMPLES = SDK / "examples"
LONG_S = 60
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


def environment(folder):
    """Return the environment in which ``countersign_sdk`` is the SDK, by a link in *folder*."""
    with contextlib.suppress(FileExistsError):
        (folder / "countersign_sdk").symlink_to(SDK)
    paths = os.pathsep.join([str(folder), str(EXAMPLES)])
    return {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


@contextlib.asynccontextmanager
async def running(folder, *command):
    """Run a server; give the address that it says it listens at."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=folder,
        env=environment(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LONG_S):
            yield await _address(server)
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        await server.communicate()


async def _address(server):
    said = ""
    while line := (await server.stdout.readline()).decode():
        said += line
        found = ADDRESS.search(line)
        if found:
            return found[0]
    raise AssertionError(f"the server has ended:\n{said}")
