"""Charts: how long one takes, how large it is, and how long the loop stood still while twenty were drawn.

    python -m bench.charts

Three kinds of half hours: a usual incident, one with gaps, and the noisiest that the tests could think of.
The stall is measured twice: with the easel's threads, and with the same twenty drawn on the loop. Bars:
20,000 bytes, no stall over 50 ms.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from bot.chart import Chart, Mark
from bot.easel import Easel
from bot.plot import draw
from detectors.history import KEPT_MS, POINT_MS, Point

UNTIL = 1_780_449_360_000
ROUNDS, MANY = 15, 20
MARKS = tuple(
    Mark(label, UNTIL - ago * 1000)
    for label, ago in (("opened", 300), ("approved", 180), ("ran", 178), ("recovered", 10))
)


def usual(k: int, chance: random.Random) -> tuple[int, int, int]:
    sick = 2 <= k < 10
    return 360, 68 if sick else 0, 2_800_000 if sick else round(chance.gauss(92_000, 6_000))


def noisy(k: int, chance: random.Random) -> tuple[int, int, int]:
    n = chance.choice((1, 10**9))
    return n, chance.choice((0, n)), chance.choice((1_000, 68_700_000))


def half_hour(shape: Callable[[int, random.Random], tuple[int, int, int]], *, gaps: bool = False) -> Chart:
    chance = random.Random(7)
    points = tuple(
        Point(UNTIL - k * POINT_MS, POINT_MS, *shape(k, chance), 70_000, 128_000)
        for k in range(59, -1, -1)
        if not (gaps and k % 10 < 3)
    )
    return Chart(
        "checkout", UNTIL - KEPT_MS, UNTIL, "Africa/Harare", points, MARKS, UNTIL - 312_000, 12_000, 20
    )


KINDS = {
    "a usual incident": half_hour(usual),
    "with gaps": half_hour(usual, gaps=True),
    "the noisiest": half_hour(noisy, gaps=True),
}


def timed(chart: Chart) -> tuple[float, int]:
    """The median milliseconds of a drawing, and its bytes."""
    took, png = [], b""
    for _ in range(ROUNDS):
        began = time.perf_counter()
        png = draw(chart)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000, len(png)


async def stall(work: Callable[[], Awaitable[object]]) -> float:
    """The longest milliseconds between two turns of the loop while *work* is done."""
    done, worst = asyncio.Event(), 0.0

    async def turns() -> None:
        nonlocal worst
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    turning = asyncio.create_task(turns())
    await asyncio.sleep(0.05)
    await work()
    done.set()
    await turning
    return worst * 1000


def twenty() -> list[Chart]:
    return [replace(KINDS["a usual incident"], service=f"service-{n}") for n in range(MANY)]


async def in_threads() -> None:
    easel = Easel()
    await asyncio.gather(*(easel.picture(chart) for chart in twenty()))


async def on_the_loop() -> None:
    for chart in twenty():
        draw(chart)


async def stalls() -> None:
    for name, work in (("in the easel's threads", in_threads), ("on the loop", on_the_loop)):
        found = [await stall(work) for _ in range(5)]
        print(f"{MANY} drawn {name:22}: the loop stood still for {min(found):6.1f} ms at the most")


def main() -> None:
    draw(KINDS["a usual incident"])
    for name, chart in KINDS.items():
        ms, size = timed(chart)
        print(f"{name:18}: {ms:6.1f} ms, {size:6,} bytes")
    asyncio.run(stalls())


if __name__ == "__main__":
    main()
