import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from sdk import Recovery, Run, instrument, receipt
from sdk.signature import sign
from tests.unit.sdk.asgi_client import call, slot, until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_MS = 1_764_000_000_000


@pytest.fixture
def recovery(tmp_path):
    return Recovery(SECRET, tmp_path, limit_s=5, wall_ms=lambda: NOW_MS)


def signed(body=b"{}", *, id="msg_1", key="key-1", at_s=NOW_MS // 1000, secret=SECRET, **changes):
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": sign(secret, id, at_s, body),
        "idempotency-key": key,
        **changes,
    }
    return {name: value for name, value in headers.items() if value is not None}


async def post(recovery, action="restart", body=b"{}", **how):
    reply = await recovery.handle(action, signed(body, **how), body)
    return reply.status, dict(reply.headers), json.loads(reply.body)


def counted(recovery, fails=False):
    runs = []

    @recovery.action("restart")
    async def restart(run: Run):
        runs.append(run)
        if fails:
            raise RuntimeError("no")

    return runs


async def test_a_signed_request_runs_its_action_and_answers_a_genuine_receipt(recovery):
    runs = counted(recovery)
    body = b'{"incident": "checkout-3"}'
    status, _, told = await post(recovery, body=body)
    assert status == 200
    assert runs == [Run("restart", "key-1", {"incident": "checkout-3"})]
    issued = told["receipt"]
    assert {k: issued[k] for k in issued if k != "signature"} == {
        "action": "restart",
        "idempotency_key": "key-1",
        "result": "ok",
        "counter": 1,
        "at_ms": NOW_MS,
        "key_id": receipt.key_id(receipt.key(SECRET)),
    }
    assert receipt.is_genuine(receipt.key(SECRET), issued)


async def test_the_same_key_answers_the_same_receipt_and_runs_nothing(recovery):
    runs = counted(recovery)
    first = await post(recovery)
    status, headers, told = await post(recovery, id="msg_2")
    assert (status, told, headers) == (200, first[2], {"idempotent-replayed": "true"})
    assert "idempotent-replayed" not in first[1]
    assert len(runs) == 1


async def test_each_run_counts_one_up(recovery):
    counted(recovery)
    counters = [(await post(recovery, id=f"m{i}", key=f"k{i}"))[2]["receipt"]["counter"] for i in range(3)]
    assert counters == [1, 2, 3]


async def test_receipts_are_signed_with_their_own_secret_where_one_is_given(tmp_path):
    recovery = Recovery(SECRET, tmp_path, receipt_secret="for receipts", wall_ms=lambda: NOW_MS)
    counted(recovery)
    _, _, told = await post(recovery)
    assert receipt.is_genuine("for receipts", told["receipt"])
    assert not receipt.is_genuine(receipt.key(SECRET), told["receipt"])


@pytest.mark.parametrize(
    "how",
    [
        {"secret": b"another"},
        {"at_s": NOW_MS // 1000 - 301},
        {"at_s": NOW_MS // 1000 + 301},
        {"webhook-signature": None},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-id": None},
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": None},
        {"webhook-timestamp": str(NOW_MS // 1000 + 1)},
        {"webhook-timestamp": "soon"},
    ],
)
async def test_a_request_that_is_not_the_bots_runs_nothing(recovery, how, tmp_path):
    runs = counted(recovery)
    status, _, told = await post(recovery, **how)
    assert status == 401
    assert told["detail"]
    assert runs == []
    assert list(tmp_path.iterdir()) == []


async def test_a_changed_body_runs_nothing(recovery):
    runs = counted(recovery)
    reply = await recovery.handle("restart", signed(b"{}"), b"{} ")
    assert (reply.status, runs) == (401, [])


async def test_a_captured_message_cannot_be_replayed_under_another_key(recovery):
    runs = counted(recovery)
    await post(recovery, id="m1", key="k1")
    await post(recovery, id="m2", key="k1")
    for captured in ("m1", "m2"):
        status, _, told = await post(recovery, id=captured, key="k-stolen")
        assert status == 422
        assert "already" in told["detail"]
    assert len(runs) == 1


async def test_a_key_cannot_be_used_for_a_second_action(recovery):
    counted(recovery)
    others = []
    recovery.action("rollback")(lambda: others.append(1))
    await post(recovery)
    assert (await post(recovery, "rollback", id="m2"))[0] == 422
    assert others == []


async def test_without_an_idempotency_key_the_message_id_is_the_key(recovery):
    runs = counted(recovery)
    for _ in range(2):
        _, _, told = await post(recovery, **{"idempotency-key": None})
        assert told["receipt"]["idempotency_key"] == "msg_1"
    assert len(runs) == 1


async def test_two_at_once_with_one_key_run_once_and_one_is_told_to_wait(recovery):
    release, runs = asyncio.Event(), []

    @recovery.action("restart")
    async def restart():
        runs.append(1)
        await release.wait()

    first = asyncio.ensure_future(post(recovery))
    await until(lambda: runs)
    status, headers, _ = await post(recovery, id="m2")
    assert (status, headers["retry-after"]) == (409, "2")
    release.set()
    assert (await first)[0] == 200
    assert (await post(recovery, id="m3"))[1] == {"idempotent-replayed": "true"}
    assert len(runs) == 1


async def test_many_at_once_with_one_key_run_once(recovery):
    runs = counted(recovery)
    statuses = [s for s, _, _ in await asyncio.gather(*(post(recovery, id=f"m{i}") for i in range(20)))]
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert len(runs) == 1


async def test_a_handler_that_raises_is_a_failed_run_and_stays_one(recovery, caplog):
    runs = counted(recovery, fails=True)
    for id in ("m1", "m2"):
        status, _, told = await post(recovery, id=id)
        assert (status, told["receipt"]["result"]) == (500, "failed")
    assert len(runs) == 1
    assert "restart failed" in caplog.text


async def test_a_handler_that_takes_too_long_is_a_failed_run(tmp_path):
    recovery = Recovery(SECRET, tmp_path, limit_s=0.05, wall_ms=lambda: NOW_MS)
    ended = []

    @recovery.action("restart")
    async def restart():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    status, _, told = await post(recovery)
    assert (status, told["receipt"]["result"]) == (500, "failed")
    await until(lambda: ended)


async def test_a_sync_handler_runs_in_a_thread(recovery):
    threads = []
    recovery.action("restart")(lambda run: threads.append((threading.current_thread(), run.action)))
    assert (await post(recovery))[0] == 200
    ((thread, action),) = threads
    assert thread is not threading.main_thread()
    assert action == "restart"


async def test_a_client_that_hangs_up_does_not_stop_a_run(recovery):
    release, runs = asyncio.Event(), []

    @recovery.action("restart")
    async def restart():
        await release.wait()
        runs.append(1)

    request = asyncio.ensure_future(post(recovery))
    await until(lambda: recovery._runs and recovery._journal and recovery._journal._mine)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    release.set()
    await until(lambda: not recovery._runs)
    assert runs == [1]
    assert (await post(recovery, id="m2"))[2]["receipt"]["result"] == "ok"


async def test_a_restarted_app_remembers_what_it_has_run(recovery, tmp_path):
    counted(recovery)
    first = await post(recovery)
    again = Recovery(SECRET, tmp_path, wall_ms=lambda: NOW_MS)
    runs = counted(again)
    assert (await post(again))[2] == first[2]
    assert (await post(again, id="m2", key="k2"))[2]["receipt"]["counter"] == 2
    assert [run.key for run in runs] == ["k2"]


KILLED = """
import asyncio, os, sys
from pathlib import Path
from sdk import Recovery
from tests.unit.sdk.test_recovery import NOW_MS, SECRET, post

recovery = Recovery(SECRET, Path(sys.argv[1]), wall_ms=lambda: NOW_MS)

@recovery.action("restart")
async def restart():
    (Path(sys.argv[1]) / "ran").open("a").write("x")
    os.kill(os.getpid(), 9)

asyncio.run(post(recovery))
"""


async def test_a_run_that_killed_its_process_is_unknown_and_never_run_again(recovery, tmp_path):
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path.cwd(), check=False
    )
    assert killed.returncode == -9
    assert (tmp_path / "ran").read_text() == "x"
    runs = counted(recovery)
    for id in ("m2", "m3"):
        status, _, told = await post(recovery, id=id)
        assert (status, told["receipt"]["result"], told["receipt"]["counter"]) == (500, "unknown", 1)
        assert receipt.is_genuine(receipt.key(SECRET), told["receipt"])
    assert runs == []
    assert (await post(recovery, id="m4", key="k4"))[2]["receipt"]["counter"] == 2


async def test_a_line_torn_by_a_crash_is_forgotten_and_the_journal_goes_on(recovery, tmp_path):
    counted(recovery)
    await post(recovery)
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"begun":"restart","key":"k2","cou')
    again = Recovery(SECRET, tmp_path, wall_ms=lambda: NOW_MS)
    runs = counted(again)
    assert (await post(again, id="m2", key="k2"))[0] == 200
    assert len(runs) == 1
    for line in (tmp_path / "journal.jsonl").read_text().splitlines():
        json.loads(line)


async def test_two_workers_that_share_a_folder_run_a_key_once(tmp_path):
    workers = [Recovery(SECRET, tmp_path, wall_ms=lambda: NOW_MS) for _ in range(2)]
    runs = [counted(worker) for worker in workers]
    for i in range(6):
        await post(workers[(i + i // 2) % 2], id=f"m{i}", key=f"k{i // 2}")
    assert [len(r) for r in runs] == [2, 1]
    last = await post(workers[0], id="m9", key="k9")
    assert last[2]["receipt"]["counter"] == 4


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
async def test_it_is_served_beside_an_app_and_is_not_its_traffic(recovery, framework):
    app = framework()
    runs = counted(recovery)
    monitor = instrument(app, recovery=recovery)
    recovery.action("late")(lambda: None)
    status, headers, body = await call(app, "POST", "/recover/restart", body=b"{}", headers=signed())
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["receipt"]["result"] == "ok"
    assert (await call(app, "POST", "/recover/late", body=b"{}", headers=signed(id="m2", key="k2")))[0] == 200
    assert (await call(app, "GET", "/recover/restart"))[0] == 405
    assert slot(monitor).n == 0
    assert (await call(app, "POST", "/recover/unheard_of"))[0] == 404
    assert len(runs) == 1


@pytest.mark.parametrize("framework", [FastAPI, None])
async def test_it_is_served_without_instrument_too(recovery, framework):
    async def bare(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})

    counted(recovery)
    app = recovery.install(framework() if framework else bare)
    assert (await call(app, "POST", "/recover/restart", body=b"{}", headers=signed()))[0] == 200
    assert (await call(app, "POST", "/elsewhere"))[0] == 404


async def test_a_body_over_sixty_four_kibibytes_is_refused(recovery):
    runs = counted(recovery)
    app = recovery.install(FastAPI())
    body = b"x" * (64 * 1024 + 1)
    assert (await call(app, "POST", "/recover/restart", body=body, headers=signed(body)))[0] == 413
    body = b"x" * (64 * 1024)
    assert (await call(app, "POST", "/recover/restart", body=body, headers=signed(body)))[0] == 200
    assert [run.payload for run in runs] == [None]


async def test_the_default_folder_is_private_to_the_user_and_the_service(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recovery = Recovery(SECRET, service="check/out", wall_ms=lambda: NOW_MS)
    counted(recovery)
    assert list(tmp_path.iterdir()) == []
    assert (await post(recovery))[0] == 200
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"countersign-{os.getuid()}-check_out"
    assert folder.stat().st_mode & 0o777 == 0o700
