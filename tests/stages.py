"""The real program on its stage, for tests: short folders, a bare environment, and the usual first scenes."""

import os
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from bot.sandbox.plays import Scene
from bot.sandbox.stage import INHERITED, QUICK, ROOT, Stage

__all__ = ["QUICK", "ROOT", "a_stage", "an_environment", "opened", "short_folder"]

CARD_S, ASK_S, END_S = 30.0, 20.0, 40.0


@contextmanager
def short_folder():
    """A folder whose name is short enough for a socket in it; gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="cs-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def an_environment():
    """What any program needs, and nothing of ours."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


@asynccontextmanager
async def a_stage(*, adopt=True, settings=None, **charter):
    """World and program, the charter adopted. Left by raising, it adds what the program said last."""
    told = {"LOOP_INTERVAL_S": "1"} | (settings or {})
    with short_folder() as folder:
        stage = Stage(folder, an_environment(), charter={"policy": QUICK} | charter, settings=told)
        async with stage:
            try:
                if adopt:
                    await stage.adopt()
                stage.world.models.consensus("database")
                yield Scene(stage, lambda who, what: None)
            except BaseException as error:
                error.add_note("\n".join(stage.said[-40:]))
                raise


async def opened(scene):
    """The shop breaks, and Rudo sees a card with Approve."""
    await scene.breaks("the database pool is exhausted", db=True)
    return await scene.phone("rudo").expects_button("Approve", CARD_S + ASK_S)
