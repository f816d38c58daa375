"""What the SDK must do on any Python, with nothing else installed: run as a script, it says what holds.

PYTHONPATH=<a folder with sdk as countersign_sdk> python3.10 -W error tests/unit/sdk/scenario.py
"""

import asyncio
import contextlib
import io
import json
import random
import sys
import tempfile
import threading
import time

from countersign_sdk import Recovery, histogram, instrument, receipt, wire
from countersign_sdk.signature import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    if scope["path"] == "/broken":
        raise TimeoutError("secret")
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def ask(app, path="/", method="GET", body=b"", headers=(), type="http", query=b""):
    """Return the status and the body of one request."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    await app(
        {
            "type": type,
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(k.encode(), v.encode()) for k, v in dict(headers).items()],
        },
        receive,
        send,
    )
    return sent[0].get("status"), b"".join(m.get("body", b"") for m in sent)


def call(*asked, **how):
    """Ask, on a loop of its own."""
    return asyncio.run(ask(*asked, **how))


def counted(monitor):
    """Return everything that was counted as one slot."""
    monitor._window.turn()
    return wire.merge_slots(monitor.snapshot().slots)


def histograms_merge_exactly():
    chosen = random.Random(1)
    latencies = [int(chosen.lognormvariate(17, 1)) for _ in range(10_000)]
    parts = [histogram.of(latencies[n::7]) for n in range(7)]
    assert histogram.merge(*parts) == histogram.of(latencies)
    true = sorted(latencies)[4_999]
    assert abs(histogram.quantile(histogram.of(latencies), 0.5) - true) <= 0.016 * true


def asgi_is_counted_once():
    monitor = instrument(app, share=False)
    for _ in range(10):
        assert call(monitor.app) == (200, b"ok")
    with contextlib.suppress(TimeoutError):
        call(monitor.app, "/broken")
    call(monitor.app, type="websocket")
    slot = counted(monitor)
    assert (slot.n, slot.errors, sum(slot.hist.values())) == (11, 1, 11)
    assert (slot.routes[0].name, dict(slot.routes[0].exceptions)) == ("GET ~app", {"TimeoutError": 1})
    assert [(s.name, s.n) for s in slot.streams] == [("WEBSOCKET ~app", 1)]


def a_cancelled_request_is_aborted():
    monitor = instrument(app, share=False)

    async def cancelled():
        task = asyncio.ensure_future(
            monitor.app({"type": "http", "method": "GET", "path": "/hang"}, None, None)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    slot = counted(monitor)
    assert (slot.n, slot.errors, slot.aborted, monitor.snapshot().inflight) == (1, 0, 1, 0)


def threads_lose_and_double_nothing():
    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [b"ok"]

    monitor = instrument(wsgi, share=False)

    def work():
        for _ in range(500):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
            assert list(monitor.app(environ, lambda status, headers: None)) == [b"ok"]

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(usual)
    assert (counted(monitor).n, monitor.snapshot().inflight) == (2_000, 0)


def a_signed_action_runs_once():
    with tempfile.TemporaryDirectory() as folder:
        recovery, runs = Recovery(SECRET, folder), []
        recovery("restart_workers")(lambda: runs.append(1))
        monitor = instrument(app, share=False, recovery=recovery)
        now = int(time.time())
        answers = []
        for id in ("m1", "m2"):
            headers = {
                "webhook-id": id,
                "webhook-timestamp": str(now),
                "webhook-signature": sign(SECRET, id, now, b"{}"),
                "idempotency-key": "k1",
            }
            answers.append(call(monitor.app, "/recover/restart_workers", "POST", b"{}", headers))
        assert answers[0] == answers[1]
        assert answers[0][0] == 200
        assert runs == [1]
        assert receipt.is_genuine(receipt.key(SECRET), json.loads(answers[0][1])["receipt"])
        assert call(monitor.app, "/recover/restart_workers", "POST", b"{}")[0] == 401


def every_endpoint_answers():
    monitor = instrument(app, share=False, metrics_path="/metrics")
    call(monitor.app)
    monitor._window.turn()
    asked = [
        ("/health/alerts", b"format=" + kind) for kind in (b"health", b"slots", b"schema", b"prometheus")
    ]
    paths = ("/metrics", "/metrics/history", "/metrics/ingestion", "/__alertengine/status")
    for path, query in [*asked, *((path, b"") for path in paths)]:
        status, body = call(monitor.app, path, query=query)
        assert (status, bool(body)) == (200, True), path
    assert wire.decode(call(monitor.app, "/health/alerts", query=b"format=slots")[1]).slots[0].n == 1


def workers_answer_for_each_other():
    async def until_both_are_heard(workers):
        for worker in workers:
            await ask(worker.app)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            told = json.loads((await ask(workers[0].app, "/health/alerts"))[1])
            if (told["metrics"]["sample_size"], told["metrics"]["workers"]) == (2, 2):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(told["metrics"])

    with tempfile.TemporaryDirectory() as folder:
        workers = [instrument(app, service="shop", share=folder) for _ in range(2)]
        try:
            asyncio.run(until_both_are_heard(workers))
        finally:
            for worker in workers:
                worker.close()


CHECKS = (
    histograms_merge_exactly,
    asgi_is_counted_once,
    a_cancelled_request_is_aborted,
    threads_lose_and_double_nothing,
    a_signed_action_runs_once,
    every_endpoint_answers,
    workers_answer_for_each_other,
)

if __name__ == "__main__":
    for check in CHECKS:
        check()
        sys.stdout.write(f"{check.__name__}\n")
