"""Draws charts beside the event loop, a few at a time. What goes wrong costs a picture and nothing else."""

import asyncio
import logging
from collections.abc import Callable

from bot.chart import Chart, alt
from bot.plot import draw
from bot.ports import Picture

log = logging.getLogger(__name__)

AT_ONCE = 2
KEPT = 16


class Easel:
    """The same chart, asked for by several chats, is drawn once."""

    def __init__(self, draw: Callable[[Chart], bytes] = draw) -> None:
        self._draw = draw
        self._few = asyncio.Semaphore(AT_ONCE)
        self._drawn: dict[Chart, asyncio.Task[Picture | None]] = {}

    async def picture(self, chart: Chart) -> Picture | None:
        """The picture of *chart*; None where it cannot be drawn."""
        if chart not in self._drawn:
            self._drawn[chart] = asyncio.create_task(self._made(chart), name="easel")
            for old in [*self._drawn][:-KEPT]:
                del self._drawn[old]
        return await asyncio.shield(self._drawn[chart])

    async def _made(self, chart: Chart) -> Picture | None:
        try:
            async with self._few:
                return Picture(await asyncio.to_thread(self._draw, chart), alt(chart))
        except Exception:
            log.exception("The chart of %s cannot be drawn.", chart.service)
            return None
