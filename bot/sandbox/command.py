"""`python -m bot sandbox`: everything on this machine, with a phone on a web page; or a play, headless.

A play exits 0 only if what it expects happened and the export of its ledger verifies.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path

from bot.sandbox.page import Page
from bot.sandbox.phone import Unmet
from bot.sandbox.plays import PLAYS
from bot.sandbox.premises import NotUp as ShopNotUp
from bot.sandbox.scene import Scene
from bot.sandbox.stage import NotUp, Stage, export
from bot.sandbox.world import NotHere, check_place
from ledger.chain import Entry, receipt
from ledger.rows import row

SHOWN = {"baseline_warmup_ms": 60_000}
"""The policy of a demonstration: the usual is known after a minute, so that the dial for latency shows."""
FAILED = (Unmet, NotUp, ShopNotUp, TimeoutError)


def sandbox(play: str | None, *, as_json: bool, environment: Mapping[str, str]) -> int:
    """Run the sandbox, or the play of that name.

    The exit code: 0 all as expected, 1 something expected did not happen, 2 it cannot run here.
    """
    if play is not None and play not in PLAYS:
        print(f"There is no play {play!r}. There are: {', '.join(PLAYS)}.", file=sys.stderr)  # noqa: T201
        return 2
    try:
        check_place(environment)
        if play is None:
            return asyncio.run(_ended(_demo(_folder(environment, "var/demo"), environment)))
        return asyncio.run(_ended(_play(play, Log(as_json), _folder(environment), environment)))
    except NotHere as why:
        print(why, file=sys.stderr)  # noqa: T201  it is for the person at the terminal
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0


async def _ended(work: Coroutine[None, None, int]) -> int:
    """*work*, which SIGTERM ends as Ctrl-C does: with everything that it started."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


class Log:
    """What happened, a line each, since it began."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._began = time.monotonic()

    def __call__(self, who: str, what: str) -> None:
        at = round(time.monotonic() - self._began, 2)
        line = json.dumps({"at": at, "who": who, "what": what}, ensure_ascii=False)
        print(line if self._as_json else f"{at:6.2f}  {who:8} {what}", flush=True)  # noqa: T201  the play's log


async def _play(name: str, log: Log, folder: Path, environment: Mapping[str, str]) -> int:
    play = PLAYS[name]
    stage = play.stage(folder, environment, charter=play.charter, settings=play.settings)
    try:
        async with asyncio.timeout(play.seconds), stage:
            await stage.adopt()
            log("rudo", "adopts the charter with the console's code")
            await play.run(Scene(stage, log))
    except FAILED as why:
        log("play", f"FAILED: {why or type(why).__name__}")
        for line in stage.said[-30:]:
            print(line, file=sys.stderr)  # noqa: T201  what the program said, for who mends it
        return 1
    verified = await export(folder, stage.receipts())
    log("play", f"{name}: as expected; the export {'verifies' if verified == 0 else 'DOES NOT VERIFY'}")
    return 0 if verified == 0 else 1


def _folder(environment: Mapping[str, str], default: str = "") -> Path:
    """DATA_DIR, *default*, or a new temporary folder. The export of an earlier play goes; its keys stay."""
    given = environment.get("DATA_DIR", default)
    folder = Path(given).resolve() if given else Path(tempfile.mkdtemp(prefix="cs-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "export").is_dir():
        shutil.rmtree(folder / "export")
    return folder


async def _demo(folder: Path, environment: Mapping[str, str]) -> int:
    """The sandbox until Ctrl-C. With a real bot token, people are whoever opens that bot with the code."""
    real = bool(environment.get("TELEGRAM_BOT_TOKEN"))
    charter: dict[str, object] = {"telegram": {}, "chats": ()} if real else {}
    stage = Stage(folder, environment, charter=charter | {"policy": SHOWN}, settings={"LOOP_INTERVAL_S": "2"})
    rows: list[dict[str, object]] = []
    async with stage:
        if real:
            await stage.until_said("or opens", 5)
            _say("\n".join(line for line in stage.said if "/start" in line or "t.me" in line))
        elif stage.invitation():
            await stage.adopt()
        page = Page(stage.world, lambda: rows)
        url = await page.start(int(environment.get("SANDBOX_PORT", "8484")))
        _say(f"Open {url}")
        _say("Break the shop, read the card, tap. Ctrl-C ends it.")
        try:
            while True:
                entries = await stage.entries()
                rows[:] = [_row(entry) for entry in entries]
                await asyncio.sleep(1)
        finally:
            await page.close()


def _row(entry: Entry) -> dict[str, object]:
    """An entry as the page shows it: a person by name, everybody else by kind."""
    found = row(entry)
    who = found["actor_id"] if found["actor"] == "engineer" else found["actor"]
    return {**found, "actor": who, "event": entry.event, "receipt": receipt(entry)}


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  it is for the person at the terminal
