"""A world without a bot: the tests here play the bot's part by hand."""

import shutil
import tempfile
from pathlib import Path

import pytest
from telegram import Bot

from bot.sandbox.world import World


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def world(folder):
    async with World(folder, {}, shop=False) as world:
        yield world


@pytest.fixture
async def bot(world):
    env = world.env()
    async with Bot(env["TELEGRAM_BOT_TOKEN"], base_url=f"{env['TELEGRAM_API_BASE']}/bot") as bot:
        yield bot
