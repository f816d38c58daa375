"""What runs until the process ends: a mistake in a part is logged, and the part begins again a second later.

Each part is safe to begin again: what is due is in the ledger, and what arrived is in the inbox.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

AGAIN_S = 1.0

type Part = Callable[[], Awaitable[None]]


async def lasting(name: str, part: Part, again_s: float = AGAIN_S) -> None:
    """Run *part* until it ends by itself or is cancelled. The outermost loop of the process."""
    while True:
        try:
            return await part()
        except Exception:
            log.exception("%s ended; it begins again.", name)
            await asyncio.sleep(again_s)
