import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import health, instrument
from sdk.window import SECOND_NS, Window
from sdk.wire import Gauge
from tests.unit.sdk.asgi_client import call

START = 1_764_000_000


def window_of(*seconds, start=START):
    """Return the closed slots of a window in which the n-th second had these (route, ns, error) requests."""
    clock = [0]
    window = Window(now=lambda: clock[0], wall=lambda: start * SECOND_NS + clock[0])
    for second in seconds:
        for route, ns, error in second:
            cell = window.cell(route)
            cell.times.append(ns)
            cell.errors += error
        clock[0] += SECOND_NS
        window.turn()
    return window.closed(), window.minute


def evaluate(*seconds, **present):
    now_ms = (START + len(seconds)) * 1000
    return health.evaluate(health.Present("checkout", now_ms, **present), *window_of(*seconds))


FAST = ("GET /", 5_000_000, 0)
FAILED = ("GET /", 5_000_000, 1)
SLOW = ("GET /", 3_000_000_000, 0)


def test_a_hundred_percent_errors_in_five_milliseconds_is_health_zero():
    told = evaluate(*[[FAILED] * 20] * 10)
    assert told["health_score"]["score"] == 0
    assert told["status"] == "critical"
    assert told["metrics"]["error_rate"] == 1.0
    assert told["health_score"]["components"]["latency"] == 100
    assert [a["type"] for a in told["alerts"]] == ["error_anomaly"]
    assert told["alerts"][0]["message"] == "200 of 200 requests failed in 10 s (100.0%)"


def test_a_healthy_app_is_a_hundred():
    told = evaluate(*[[FAST] * 20] * 60)
    assert (told["status"], told["health_score"]["score"], told["alerts"]) == ("ok", 100, [])
    assert told["metrics"]["overall_p95_ms"] == pytest.approx(5.0, rel=0.016)
    assert told["metrics"]["rps"] == 20.0


def test_slow_answers_are_a_latency_spike():
    told = evaluate(*[[FAST] * 20] * 50, *[[SLOW] * 20] * 10)
    assert told["status"] == "critical"
    assert [a["type"] for a in told["alerts"]] == ["latency_spike"]
    assert told["alerts"][0]["trend_direction"] == "increasing"
    assert told["health_score"]["trend"] == "degrading"


def test_one_failure_of_one_request_is_not_critical():
    assert evaluate([FAILED])["status"] == "warning"


def test_an_app_without_requests_says_so_and_is_not_sick():
    told = evaluate()
    assert (told["status"], told["reason"], told["metrics"]["sample_size"]) == ("ok", "no_data", 0)


def test_a_full_pool_and_a_hanging_request_pull_the_score_down_without_any_traffic():
    assert evaluate(saturation=(Gauge("db_pool", 20, 20),))["status"] == "critical"
    assert evaluate(saturation=(Gauge("db_pool", 10, 20),))["status"] == "ok"
    assert evaluate(oldest_ms=30_000)["status"] == "critical"


def test_traffic_that_stops_is_seen():
    told = evaluate(*[[FAST] * 20] * 50, *[[]] * 10)
    assert told["health_score"]["components"]["traffic"] == 20


def test_the_worst_routes_come_first_and_are_few():
    told = evaluate([FAILED, *[(f"GET /{i}", 5_000_000, 0) for i in range(100) for _ in range(3)]])
    assert told["routes"][0]["route"] == "GET /"
    assert len(told["routes"]) == health.TOP_ROUTES


def test_webhooks_have_their_own_p95():
    told = evaluate([FAST, ("POST /webhook/x", 900_000_000, 0)])
    assert told["metrics"]["webhook_p95_ms"] == pytest.approx(900, rel=0.016)
    assert told["metrics"]["api_p95_ms"] == pytest.approx(5, rel=0.016)


@given(st.lists(st.lists(st.sampled_from([FAST, FAILED, SLOW]), max_size=8), max_size=20))
def test_the_score_is_the_worst_component_and_asking_twice_changes_nothing(seconds):
    told = evaluate(*seconds)
    score = told["health_score"]
    assert score["score"] == min(score["components"].values())
    assert all(0 <= component <= 100 for component in score["components"].values())
    assert evaluate(*seconds) == told


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_component_falls_with_every_bad_event(k, n):
    k = min(k, n)
    assert health.component(k, n, 0.02, 0.1) <= health.component(k - 1, n, 0.02, 0.1) if k else True


async def test_it_has_every_key_that_fastapi_alertengine_answers():
    peer = pytest.importorskip("fastapi_alertengine.engine")

    def keys(document, path=""):
        for key, value in document.items():
            yield f"{path}{key}"
            if isinstance(value, dict):
                yield from keys(value, f"{path}{key}.")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body"})

    monitor = instrument(app)
    _, _, body = await call(monitor.app, path="/health/alerts")
    theirs = peer.AlertEngine()
    assert set(keys(theirs.evaluate())) <= set(keys(json.loads(body)))
    for _ in range(20):
        await call(monitor.app)
        theirs._recent.append({"latency_ms": 5.0, "type": "api", "status_code": 500})
    monitor._window.turn()
    _, _, body = await call(monitor.app, path="/health/alerts")
    told, known = json.loads(body), theirs.evaluate()
    assert set(keys(known)) <= set(keys(told))
    assert set(known["alerts"][0]) <= set(told["alerts"][0])


async def ask(monitor, query=b"", method="GET", **headers):
    status, answered, body = await call(monitor.app, method, "/health/alerts", query=query, headers=headers)
    return status, answered, body


async def nothing(scope, receive, send):
    raise AssertionError("the app was asked")


async def test_with_a_token_only_its_bearer_is_answered():
    monitor = instrument(nothing, token="s3cret")
    for wrong in ("", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret ", "Bearer s3cr\u00e9t"):
        status, headers, body = await ask(monitor, authorization=wrong)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert b"metrics" not in body
    assert (await ask(monitor, authorization="Bearer s3cret"))[0] == 200


@pytest.mark.parametrize(
    ("query", "method", "status"),
    [
        (b"format=slots&since=0", "GET", 200),
        (b"format=slots", "HEAD", 200),
        (b"format=xml", "GET", 400),
        (b"format=slots&since=-1", "GET", 400),
        (b"format=slots&since=NaN", "GET", 400),
        (b"format=slots&since=" + b"9" * 5000, "GET", 400),
        (b"", "POST", 405),
        (b"\xff=%zz&&&", "GET", 200),
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(query, method, status):
    told, headers, body = await ask(instrument(nothing), query, method)
    assert told == status
    assert headers["cache-control"] == "no-store"
    assert (method == "HEAD") == (body == b"")
