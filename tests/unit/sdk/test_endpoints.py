"""Our own endpoints: each answers those who may ask, and changes nothing by answering."""

import json

import pytest

from sdk import advice, instrument, schema
from sdk.endpoints import FORMATS
from tests.unit.sdk.asgi_client import call, end_second
from tests.unit.sdk.test_wsgi import ask, bare

PATHS = (
    "/health/alerts",
    *(f"/health/alerts?format={one}" for one in FORMATS),
    "/metrics",
    "/metrics/history",
    "/metrics/ingestion",
    "/__alertengine/status",
)
MOVES = {"timestamp", "now_ms", "oldest_ms"}


async def app(scope, receive, send):
    if scope["path"] == "/broken":
        raise TimeoutError("secret")
    status = 404 if scope["path"] == "/none" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


async def shop(**options):
    """Return a monitor that has seen five requests, two seconds ago at most."""
    monitor = instrument(app, service="shop", metrics_path="/metrics", **options)
    monitor.saturation("db_pool", lambda: (3, 20))
    with monitor.dependency("payments-api"):
        pass
    for path in ("/", "/", "/", "/none"):
        await call(monitor.app, path=path)
    with pytest.raises(TimeoutError):
        await call(monitor.app, path="/broken")
    end_second(monitor)
    return monitor


async def get(monitor, path, **headers):
    path, _, query = path.partition("?")
    status, told, body = await call(monitor.app, path=path, query=query.encode(), headers=headers)
    return status, told.get("content-type"), body


def still(body):
    """Return an answer without what the clock alone moves."""
    try:
        return json.loads(body, object_hook=lambda o: {k: v for k, v in o.items() if k not in MOVES})
    except ValueError:
        return [line for line in body.decode().splitlines() if "oldest" not in line]


@pytest.mark.parametrize("path", PATHS)
async def test_a_hundred_polls_are_answered_alike(path):
    monitor = await shop()
    answers = [await get(monitor, path) for _ in range(100)]
    assert {status for status, _, _ in answers} == {200}
    assert all(still(body) == still(answers[0][2]) for _, _, body in answers)


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_without_the_token_is_told_anything(path):
    monitor = await shop(token="t0ken")
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "t0ken"}):
        status, _, body = await get(monitor, path, **headers)
        assert (status, set(json.loads(body))) == (401, {"detail"})
    assert (await get(monitor, path, authorization="Bearer t0ken"))[0] == 200


@pytest.mark.parametrize("path", PATHS)
async def test_our_endpoints_are_asked_with_get_and_are_not_traffic(path):
    monitor = await shop()
    path = path.partition("?")[0]
    assert (await call(monitor.app, "POST", path))[0] == 405
    status, headers, body = await call(monitor.app, "HEAD", path)
    assert (status, int(headers["content-length"]) > 0, body) == (200, True, b"")
    assert monitor.health()["metrics"]["sample_size"] == 5


@pytest.mark.parametrize(
    "query", ["since=-1", "since=x", "since=9999999999999", "format=xml", "last_n_buckets=²"]
)
async def test_a_question_that_makes_no_sense_is_refused(query):
    assert (await get(await shop(), f"/health/alerts?{query}"))[0] == 400


async def test_history_has_the_rivals_keys_by_route_and_ten_seconds():
    monitor = await shop()
    rows = json.loads((await get(monitor, "/metrics/history?last_n_buckets=6"))[2])["metrics"]
    assert {(r["method"], r["path"]): (r["count"], r["errors"]) for r in rows} == {
        ("GET", "~app"): (4, 1),
        ("", "~unmatched"): (1, 0),
    }
    for row in rows:
        assert row["bucket_ts"] % 10 == 0
        assert 0 < row["avg_latency_ms"] <= row["max_latency_ms"] * 1.016
        assert row["p50_ms"] <= row["p95_ms"] <= row["max_latency_ms"]
        assert (row["service"], row["status_group"]) == ("shop", "all")
    assert json.loads((await get(monitor, "/metrics/history?service=other"))[2]) == {"metrics": []}
    assert json.loads((await get(monitor, "/metrics/history?last_n_buckets=0"))[2]) == {"metrics": []}


async def test_ingestion_and_status_count_every_request_and_mark_simulated_faults():
    monitor = await shop()
    counters = json.loads((await get(monitor, "/metrics/ingestion"))[2])
    assert (counters["enqueued"], counters["dropped"]) == (5, 0)
    assert counters["health_score"] == monitor.health()["health_score"]["score"]
    monitor.fault("slow_database")
    told = json.loads((await get(monitor, "/__alertengine/status"))[2])
    assert (told["ingestion"]["enqueued"], told["mode"]) == (5, "memory")
    assert (told["demo_mode"], told["faults"]) == (True, ["slow_database"])


def test_the_endpoints_are_answered_over_wsgi_too():
    monitor = instrument(bare, metrics_path="/metrics")
    for _ in range(3):
        ask(monitor.app)
    monitor._window.turn()
    assert json.loads(ask(monitor.app, "/metrics/ingestion")[1])["enqueued"] == 3
    assert (
        b'http_request_duration_seconds_count{method="GET",route="~app"} 3' in ask(monitor.app, "/metrics")[1]
    )


async def test_prometheus_is_answered_at_a_path_of_its_own_only_when_asked_for():
    monitor = instrument(app)
    await call(monitor.app, path="/metrics")
    end_second(monitor)
    assert monitor.health()["metrics"]["sample_size"] == 1


# --- the schema -----------------------------------------------------------------------------------------

TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "null": type(None),
}  # fmt: skip


def wrongs(value, form, at="$"):
    """Return what of *value* is not as the JSON Schema *form* says, as far as ours use it."""
    kinds = form.get("type", list(TYPES))
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not any(isinstance(value, TYPES[k]) and (k == "boolean" or value is not True) for k in kinds):
        return [f"{at} is no {kinds}"]
    found = [f"{at} lacks {name}" for name in form.get("required", ()) if name not in value]
    if "enum" in form and value not in form["enum"]:
        found.append(f"{at} is none of {form['enum']}")
    bounds = form.get("minimum"), form.get("maximum")
    if any(b is not None and (value < b if n == 0 else value > b) for n, b in enumerate(bounds)):
        found.append(f"{at} is out of bounds")
    if isinstance(value, list):
        for n, item in enumerate(value):
            found += wrongs(item, form.get("items", {}), f"{at}[{n}]")
    if isinstance(value, dict):
        for name, item in value.items():
            inner = form.get("properties", {}).get(name, form.get("additionalProperties"))
            found += [f"{at}.{name} is not told of"] if inner is None else wrongs(item, inner, f"{at}.{name}")
    return found


@pytest.mark.parametrize("broken", [1, 30])
async def test_an_answer_is_as_its_schema_says(broken):
    monitor = await shop()
    for _ in range(broken - 1):
        with pytest.raises(TimeoutError):
            await call(monitor.app, path="/broken")
    end_second(monitor)
    told = json.loads((await get(monitor, "/health/alerts?format=schema"))[2])
    assert told == schema.HEALTH
    answer = json.loads((await get(monitor, "/health/alerts"))[2])
    assert (answer["status"], len(answer["alerts"])) == ("critical" if broken > 5 else "warning", 1)
    assert wrongs(answer, told) == []
    assert wrongs(json.loads((await get(instrument(app), "/health/alerts"))[2]), told) == []


async def test_the_schema_is_one_and_tells_wrong_answers_apart():
    answer = (await shop()).health()
    wrong = {**answer, "status": "fine", "timestamp": "now", "suggested_action": "reboot"}
    assert len(wrongs(wrong, schema.HEALTH)) == 3
    assert wrongs({k: v for k, v in answer.items() if k != "metrics"}, schema.HEALTH) == ["$ lacks metrics"]
    jsonschema = pytest.importorskip("jsonschema", reason="the full validator is not installed")
    jsonschema.Draft202012Validator.check_schema(schema.HEALTH)
    jsonschema.validate(answer, schema.HEALTH)


# --- advice ---------------------------------------------------------------------------------------------

WELL = dict.fromkeys(("latency", "errors", "anomalies", "traffic", "saturation", "hangs"), 100)


@pytest.mark.parametrize(
    ("status", "components", "action", "rule"),
    [
        ("ok", {}, "none", "well"),
        ("warning", {"errors": 60}, "notify", "degraded"),
        ("critical", {"errors": 0}, "alert", "critical"),
        ("critical", {"latency": 20, "hangs": 30}, "alert", "critical"),
        ("critical", {"hangs": 10, "errors": 30}, "restart", "hung"),
        ("critical", {"saturation": 20}, "restart", "exhausted"),
        ("warning", {"hangs": 50}, "notify", "degraded"),
    ],
)
def test_a_restart_is_suggested_only_for_what_a_restart_mends(status, components, action, rule):
    told = advice.suggest(status, {**WELL, **components})
    assert (told["suggested_action"], told["suggested_by"]["rule"]) == (action, rule)


async def test_the_health_answer_names_the_action_and_its_rule():
    monitor = instrument(app)
    assert monitor.health()["suggested_action"] == "none"
    monitor.saturation("db_pool", lambda: (20, 20))
    told = monitor.health()
    assert (told["suggested_action"], told["suggested_by"]["component"]) == ("restart", "saturation")
