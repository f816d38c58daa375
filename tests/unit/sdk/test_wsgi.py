import io
import json
import subprocess
import sys
import threading

import pytest

from sdk import Recovery, instrument
from tests.unit.sdk.asgi_client import routes, slot
from tests.unit.sdk.test_recovery import NOW_MS, SECRET, signed


def ask(app, path="/", method="GET", body=b"", headers=(), read=None):
    started = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{f"HTTP_{k.upper().replace('-', '_')}": v for k, v in dict(headers).items()},
    }
    answer = app(environ, lambda status, headers, *_: started.append(int(status[:3])))
    try:
        taken = [part for part, _ in zip(answer, range(read or 1000), strict=False)]
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[-1], b"".join(taken)


def bare(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


def flask_shop():
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")

    @app.get("/orders/<int:order>")
    def order(order):
        if order == 13:
            raise TimeoutError("secret")
        return {"order": order}

    app.route("/stream")(lambda: flask.Response(b"x" for _ in range(3)))
    return app


def test_flask_is_measured_by_its_rules_and_the_types_of_its_exceptions():
    app = flask_shop()
    monitor = instrument(app)
    assert ask(app, "/orders/7") == (200, b'{"order":7}\n')
    assert ask(app, "/orders/13")[0] == 500
    assert ask(app, "/nowhere/9")[0] == 404
    found = routes(monitor)
    assert set(found) == {"GET /orders/<int:order>", "~unmatched"}
    part = found["GET /orders/<int:order>"]
    assert (part.n, part.errors, part.exceptions) == (2, 1, {"TimeoutError": 1})
    assert (slot(monitor).client_errors, monitor.snapshot().inflight) == (1, 0)


def test_a_stream_ends_with_its_last_byte_and_a_client_that_went_away_is_aborted():
    app = flask_shop()
    monitor = instrument(app)
    assert ask(app, "/stream") == (200, b"xxx")
    ask(app, "/stream", read=1)
    counted = slot(monitor)
    assert (counted.n, counted.errors, counted.aborted) == (2, 0, 1)
    assert monitor.snapshot().inflight == 0


def test_django_is_measured_by_its_routes(tmp_path):
    pytest.importorskip("django")
    script = """
import django, logging
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
def order(request, order):
    if order == 13: raise TimeoutError("secret")
    return HttpResponse(b"ok")
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
logging.disable(logging.CRITICAL)
urlpatterns = [path("orders/<int:order>/", order)]
django.setup()
from django.core.wsgi import get_wsgi_application
from sdk import instrument
from tests.unit.sdk.asgi_client import routes
from tests.unit.sdk.test_wsgi import ask
monitor = instrument(get_wsgi_application())
print([ask(monitor.app, f"/orders/{n}/")[0] for n in (7, 13)], ask(monitor.app, "/no")[0])
print({name: (p.n, p.errors, dict(p.exceptions)) for name, p in routes(monitor).items()})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    statuses, counted = ran.stdout.splitlines() or [ran.stderr, ""]
    assert statuses == "[200, 500] 404"
    assert counted == "{'GET /orders/<int:order>/': (2, 1, {'TimeoutError': 1}), '~unmatched': (1, 0, {})}"


def test_requests_on_many_threads_are_all_counted_once():
    monitor = instrument(bare)

    def work():
        for _ in range(1_000):
            ask(monitor.app)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet in the middle of a count
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        threads[0].join(0.01)
        monitor._window.turn()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(usual)
    monitor._window.turn()
    whole = monitor._window.minute.total  # a slow machine takes longer than the minute that this keeps
    assert (monitor._window.totals.counted, sum(whole.counts), monitor.snapshot().inflight) == (
        8_000,
        whole.n,
        0,
    )


def test_an_exception_of_a_bare_app_is_an_error_and_still_reaches_the_server():
    def broken(environ, start_response):
        raise TimeoutError("secret")

    monitor = instrument(broken)
    with pytest.raises(TimeoutError):
        ask(monitor.app)
    assert routes(monitor)["GET ~app"].exceptions == {"TimeoutError": 1}


def test_our_endpoints_are_answered_beside_a_wsgi_app_and_are_not_its_traffic(tmp_path):
    recovery = Recovery(SECRET, tmp_path, wall_ms=lambda: NOW_MS)
    runs = []
    recovery.action("restart")(lambda: runs.append(1))
    monitor = instrument(bare, token="t0ken", recovery=recovery)
    ask(monitor.app)
    assert ask(monitor.app, "/health/alerts")[0] == 401
    status, body = ask(monitor.app, "/health/alerts", headers={"authorization": "Bearer t0ken"})
    assert (status, json.loads(body)["service_name"]) == (200, "app")
    for _ in range(2):
        status, body = ask(monitor.app, "/recover/restart", "POST", b"{}", signed())
        assert (status, json.loads(body)["receipt"]["result"]) == (200, "ok")
    assert runs == [1]
    assert slot(monitor).n == 1


def test_of_a_body_that_is_too_long_no_more_is_read_than_tells_so(tmp_path):
    recovery = Recovery(SECRET, tmp_path, wall_ms=lambda: NOW_MS)
    runs = []
    recovery.action("restart")(lambda: runs.append(1))
    monitor = instrument(bare, recovery=recovery)
    body = b"x" * (64 * 1024 + 1)
    assert ask(monitor.app, "/recover/restart", "POST", body, signed(body))[0] == 413
    assert ask(monitor.app, "/recover/restart", "POST", body[:-1], signed(body[:-1]))[0] == 200
    assert runs == [1]
