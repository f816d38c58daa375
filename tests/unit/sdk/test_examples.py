"""Each example of the README, word for word, under the server that such an app usually has."""

import asyncio
import json
import re
import socket

import aiohttp
import pytest

from sdk import wire
from tests.unit.sdk.installed import EXAMPLES, LONG_S, SDK, running

UVICORN = ("-m", "uvicorn", "--port", "0", "--lifespan", "auto")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2")
WAITRESS = ("-m", "waitress", "--listen=127.0.0.1:{port}")
SERVED = {
    "with_fastapi": ((*UVICORN, "with_fastapi:app"), "GET /orders/{order}"),
    "with_starlette": ((*UVICORN, "with_starlette:app"), "GET /orders/{order:int}"),
    "with_litestar": ((*UVICORN, "with_litestar:app"), "GET /orders/{order}"),
    "with_flask": ((*GUNICORN, "with_flask:app"), "GET /orders/<int:order>"),
    "with_django": ((*WAITRESS, "with_django:app"), "GET /orders/<int:order>"),
    "with_aiohttp": (("-m", "aiohttp.web", "-H", "127.0.0.1", "-P", "{port}", "with_aiohttp:main"),
                     "GET /orders/{order}"),
    "bare": ((*UVICORN, "bare:app"), "GET ~app"),
}  # fmt: skip
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (SDK / "README.md").read_text(encoding="utf-8"), re.M | re.S)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def eventually(ask, holds):
    """Return the first of *ask*'s answers that *holds*."""
    async with asyncio.timeout(LONG_S):
        while not holds(found := await ask()):  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("name", SERVED)
def test_the_readme_has_each_example_word_for_word(name):
    assert (EXAMPLES / f"{name}.py").read_text(encoding="utf-8") in BLOCKS


@pytest.mark.parametrize("name", SERVED)
async def test_an_example_counts_what_it_is_asked_over_http(name, tmp_path):
    command, route = SERVED[name]
    port = free_port()
    command = [word.format(port=port) if "port}" in word else word for word in command]
    async with running(tmp_path, *command) as address, aiohttp.ClientSession(address) as http:

        async def ask(path):
            async with http.get(path) as answer:
                return answer.status, await answer.read()

        async def counted():
            told = wire.decode((await ask("/health/alerts?format=slots"))[1])
            seen.extend(slot for slot in told.slots if slot.t > max((s.t for s in seen), default=0))
            return {part.name: part.n for part in wire.merge_slots(seen).routes}

        seen = []
        if name.startswith("with_aiohttp"):
            await eventually(lambda: reached(port), bool)
        answers = [await ask(f"/orders/{n}") for n in range(7)]
        assert {status for status, _ in answers} == {200}
        assert json.loads(answers[-1][1])["order"] in {6, 7}
        found = await eventually(counted, lambda found: found.get(route, 0) >= 7)
        assert found == {route: 7}
        assert (await ask("/metrics/ingestion"))[0] == 200


async def reached(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.mark.parametrize("simulate", [True, False])
async def test_trouble_is_simulated_only_behind_its_flag_and_is_marked_as_such(simulate, tmp_path):
    flags = ["--simulate"] if simulate else []
    command = [str(EXAMPLES / "shop.py"), "--port", str(free_port()), *flags]
    async with running(tmp_path, *command) as address, aiohttp.ClientSession(address) as http:
        async with http.post("/simulate/spike?kind=errors&seconds=300") as answer:
            assert answer.status == (202 if simulate else 404)

        async def health():
            async with http.get("/health/alerts") as answer:
                return await answer.json()

        if simulate:
            told = await eventually(health, lambda told: told["status"] == "critical")
            assert told["faults"] == ["simulated errors"]
            assert told["alerts"][0]["type"] == "error_anomaly"
            async with http.get("/health/alerts?format=slots") as answer:
                assert wire.decode(await answer.read()).faults == ("simulated errors",)
        else:
            assert (await health())["faults"] == []
