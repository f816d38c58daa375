"""Recovery beside WSGI apps, whose threads have no event loop of their own."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sdk import Recovery, receipt
from tests.unit.sdk.test_recovery import NOW_MS, SECRET, signed
from tests.unit.sdk.test_wsgi import ask, bare, flask_shop

PATH = "/recover/restart_workers"


@pytest.fixture
def recovery(tmp_path):
    return Recovery(SECRET, tmp_path, limit_s=0.05, wall_ms=lambda: NOW_MS)


def test_flask_answers_an_action_in_place_and_its_own_routes_as_before(recovery):
    app, runs = flask_shop(), []
    assert recovery.install(app) is app

    @recovery("restart_workers")
    def restart(run):
        runs.append(run.payload)

    for id, replayed in (("m1", False), ("m2", True)):
        status, body = ask(app, PATH, "POST", b'{"n":1}', signed(b'{"n":1}', id=id))
        issued = json.loads(body)["receipt"]
        assert (status, issued["result"], issued["counter"]) == (200, "ok", 1), replayed
        assert receipt.is_genuine(receipt.key(SECRET), issued)
    assert runs == [{"n": 1}]
    assert ask(app, "/orders/7") == (200, b'{"order":7}\n')
    assert ask(app, PATH, "POST", b"{}", signed(b"{}", secret="whsec_AAAA"))[0] == 401
    assert ask(app, PATH)[0] == 405


def test_any_other_wsgi_app_is_wrapped(recovery):
    recovery("restart_workers")(lambda: None)
    app = recovery.install(bare)
    assert ask(app, PATH, "POST", b"{}", signed())[0] == 200
    assert ask(app, "/")[1] == b"ok"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_action_that_takes_too_long_is_answered_in_time(recovery, kind):
    ended = threading.Event()

    def hangs():
        ended.wait(30)

    async def hangs_too():
        await asyncio.Event().wait()

    recovery("restart_workers")({"sync": hangs, "async": hangs_too}[kind])
    begun = time.monotonic()
    status, body = ask(recovery.install(bare), PATH, "POST", b"{}", signed())
    took = time.monotonic() - begun
    ended.set()
    assert (status, json.loads(body)["receipt"]["result"]) == (500, "failed")
    assert took < 20


def test_of_many_threads_that_ask_with_one_key_one_runs(recovery):
    runs = []
    recovery("restart_workers")(lambda: runs.append(1))
    app = recovery.install(bare)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, app, PATH, "POST", b"{}", signed(id=f"m{n}")) for n in range(16)]
    answers = [one.result() for one in asked]
    assert {status for status, _ in answers} <= {200, 409}
    assert len({body for status, body in answers if status == 200}) == 1
    assert runs == [1]
