"""When Python looks for garbage: the young often and in a moment, all of it once an hour.

What is remembered of 5,000 services is half a million small objects, and a search through all of them takes
a third of a second, in which nothing else runs. By itself Python would search every fifteen seconds. Nearly
all that this program lets go is freed by counting; cycles are few, and wait for the hour.
"""

import gc
import logging
import time

from ledger.clock import Clock

log = logging.getLogger(__name__)

YOUNG = (2_000, 5, 1_000_000)
"""When young, middle and old are searched: after so many objects, or searches of the one before."""
HOUR_S = 3_600.0


def spare() -> None:
    """Leave the old alone, until `hourly` comes."""
    gc.set_threshold(*YOUNG)


async def hourly(clock: Clock) -> None:
    """Until cancelled."""
    while True:
        await clock.sleep(HOUR_S)
        began = time.perf_counter()
        found = gc.collect()
        log.info("The hour's garbage: %d objects, %.0f ms.", found, (time.perf_counter() - began) * 1000)
