"""From a fault to the card on the wire, at 20 requests a second, with the settings that a new charter has.

    python -m bench.incident [RUNS]

The sandbox's shop breaks; the real program polls it every five seconds and tells Telegram. Each run is a
program, a shop and a ledger of its own, and the fault falls at a random moment between two polls. Nothing has
been learned, as on a first day, when slow is over 500 ms: there "ten times slower" begins with a shop whose
usual p95 is 150 ms. In the row "usual known" policy has learned the usual for a minute (it takes 30 as
shipped). Both models hang meanwhile, but in the last row: there both answer at once.

    fault → card       the shop breaks → the first message reached Telegram      bar: 15 s
    verdict → card     Detected, by its own time → the same message             bar: 1 s
    verdict → request  Detected → the card asks for an approval: no model spoke (12 s), or both agree
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bot.sandbox.phone import TelegramPhone
from bot.sandbox.stage import Stage
from bot.sandbox.world import GROUP
from ledger.view import epoch_ms

FAULT_S, VERDICT_S = 15.0, 1.0
POLL_S = 5.0
WITHIN_S = 60.0
DIAL = 8.0
"""How much slower than in a demonstration the shop is on a usual day."""


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, what is usual before it, what policy has learned by then, and whether models answer."""

    says: str
    fault: Mapping[str, Any]
    usual: Mapping[str, Any] = field(default_factory=dict)
    learned_s: float = 0.0
    answer: bool = False


HALF = {"errors": 0.5}
ROWS = (
    Row("half of all requests fail", HALF),
    Row("ten times slower, first day", {"latency": 10 * DIAL}, {"latency": DIAL}),
    Row("ten times slower, usual known", {"latency": 10.0}, learned_s=75.0),
    Row("all handlers hang", {"hang": True}),
    Row("the process is killed", {"die": True}),
    Row("half fail, both models answer", HALF, answer=True),
)


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds: fault → card, verdict → card, verdict → request."""

    fault: float
    verdict: float
    request: float


async def run(row: Row) -> Run:
    policy = {"baseline_warmup_ms": 60_000} if row.learned_s else {}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="in-") as folder:
        stage = Stage(Path(folder), os.environ, charter={"policy": policy})
        async with stage:
            world, phone = stage.world, stage.world.phone("rudo").in_chat(GROUP)
            if row.answer:
                world.models.consensus("database")
            else:
                world.models.down("hang")
            await world.shop.faults(**row.usual)
            await stage.adopt()
            await asyncio.sleep(max(row.learned_s, 2 * POLL_S) + random.uniform(0, POLL_S))
            began = time.monotonic()
            await world.shop.faults(**row.fault)
            card = await first(phone, "")
            asked = await first(phone, "Approve")
            opened = next(entry for entry in await stage.entries() if entry.event == "Detected")
            verdict = epoch_ms(opened.at) / 1000 - time.time() + time.monotonic()
            return Run(card - began, card - verdict, asked - verdict)


async def first(phone: TelegramPhone, label: str) -> float:
    """When the group first saw a card, with a button *label*."""
    await phone.expects_button(label, WITHIN_S)
    newest = next(seen for seen in reversed(phone.seen()) if seen.shows(label))
    return newest.at if label else newest.came


async def main(runs: int) -> None:
    everything: list[Run] = []
    print(f"{runs} runs each, 20 requests/s, a poll every {POLL_S:g} s: median (slowest) in seconds\n")
    print(f"{'':30}{'fault → card':>18}{'verdict → card':>18}{'verdict → request':>20}")
    for row in ROWS:
        found = [await run(row) for _ in range(runs)]
        everything += found
        columns = zip(*(astuple(one) for one in found), strict=True)
        told = [f"{median(column):.2f} ({max(column):.2f})" for column in columns]
        print(f"{row.says:30}{told[0]:>18}{told[1]:>18}{told[2]:>20}", flush=True)
    late, slow = max(one.fault for one in everything), max(one.verdict for one in everything)
    print(f"\nbar: fault → card within {FAULT_S:g} s: {met(late <= FAULT_S)}")
    print(f"bar: verdict → card within {VERDICT_S:g} s: {met(slow < VERDICT_S)}")


def met(good: bool) -> str:
    return "met" if good else "MISSED"


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
