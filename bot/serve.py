"""`python -m bot`: serves until it is told to end, and tells its operator what to read first."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Mapping

from bot.garbage import hourly, spare
from bot.production import running
from bot.settings import BadSettings, Settings, read
from detectors.policy import BadOverride
from handlers.charter import CharterError
from ledger.clock import WallClock
from ledger.embedded import CannotStart
from ledger.store import StoreDown

CANNOT = (BadSettings, BadOverride, CharterError, CannotStart, StoreDown, OSError)
"""What keeps it from starting. Each says what is wrong and what to do."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve(environment: Mapping[str, str]) -> int:
    """Serve. Returns 0 after a clean end, 2 when it could not start."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "twilio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(read(environment), environment))
    except CANNOT as why:
        print(f"Countersign did not start.\n{why}", file=sys.stderr)  # noqa: T201  it is for the operator
        return 2
    return 0


def settle() -> None:
    """What the start has made stays until the end: the garbage collector looks at it no more. It took a fifth
    of all time where many tapped at once."""
    gc.collect()
    gc.freeze()
    spare()


async def _serve(settings: Settings, environment: Mapping[str, str]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, ended.set)
    async with running(settings, environment) as program:
        print(f"Countersign is up on port {program.port}.", flush=True)  # noqa: T201  as above
        for line in program.greeting:
            print(line, flush=True)  # noqa: T201  as above
        settle()
        garbage = asyncio.create_task(hourly(WallClock()))
        await ended.wait()
        garbage.cancel()
        print("Ending.", flush=True)  # noqa: T201  as above
