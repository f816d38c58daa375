from detectors.suspects import Candidate, ms, one_line, rank, readings
from detectors.verdict import suspects
from detectors.window import Gauge, Part, Tick
from sdk import histogram


def tick(pay_errors=0, payments_ms=200, used=6):
    pay = Part("POST /pay", 50, pay_errors, histogram.of([90_000_000] * 50), {"TimeoutError": pay_errors})
    home = Part("GET /", 50, 0, histogram.of([20_000_000] * 50))
    api = Part("payments-api", 50, 0, histogram.of([payments_ms * 1_000_000] * 50))
    return Tick(0, 5_000, 100, pay_errors, 0, 0, {}, 1, 9, (pay, home), (api,), (Gauge("db_pool", used, 20),))


def test_what_shifted_most_comes_first_and_is_numbered():
    before = [readings(tick()) for _ in range(12)]
    during = [readings(tick(31, 4_900, 20)) for _ in range(2)]
    found = rank(before, during, [Candidate("commit", "a1b2c3d", "deployed 3 min before", 50)])
    assert [one.id for one in found] == [f"E{i}" for i in range(1, len(found) + 1)]
    texts = {one.kind: one.text for one in found}
    assert found[0].text == "db_pool 20 of 20 in use"
    assert texts["exception"] == "POST /pay 62 × TimeoutError"
    assert texts["route_errors"] == "POST /pay 62 of 100 failed"
    assert texts["dependency_latency"] == "calls to payments-api p95 4.9 s, usually 199 ms"
    assert texts["commit"] == "deployed 3 min before"
    assert "GET /" not in {one.component for one in found}


def test_what_did_not_change_is_not_evidence():
    same = [readings(tick(5, 200, 19)) for _ in range(6)]
    assert rank(same, same) == ()


def test_a_flat_metric_with_a_tiny_change_does_not_win():
    before = [readings(tick(payments_ms=200)) for _ in range(12)]
    during = [readings(tick(20, payments_ms=210)) for _ in range(3)]
    assert {one.kind for one in rank(before, during)} == {"exception", "route_errors"}


def test_at_most_twelve_and_none_longer_than_a_line():
    extra = [Candidate("commit", f"{i:07x}", "x" * 500 + "\n\u202e<script>", 90 - i) for i in range(40)]
    found = rank([], [], extra)
    assert len(found) == 12
    assert found[-1].id == "E12"
    assert all(len(one.text) <= 120 and one.text.isprintable() for one in found)


def test_control_and_bidi_characters_do_not_survive():
    assert one_line("a\u202eb\x00c\td\ne") == "a b c d e"
    assert len(one_line("y" * 121)) == 120


def test_a_route_that_tries_to_break_the_key_is_only_text():
    bad = Part("GET /\tx\ty", 10, 10, histogram.of([10**6] * 10), {"E\tvil\n": 10})
    found = rank([], [readings(Tick(0, 5_000, 10, 10, 0, 0, {}, 0, 0, (bad,)))])
    assert {one.component for one in found} == {"GET / x y"}


def test_a_service_that_is_sick_from_birth_has_suspects_too():
    assert rank([], [readings(tick(50, 200, 20))])[0].text == "db_pool 20 of 20 in use"


def test_a_judged_incident_names_its_suspects_against_the_last_good_minute(warm):
    good = tick()
    for _ in range(12):
        warm.see(routes=good.routes, dependencies=good.dependencies, gauges=good.gauges)
    bad = tick(31, 200, 20)
    verdict = warm.for_s(15, errors=31, routes=bad.routes, dependencies=bad.dependencies, gauges=bad.gauges)
    found = suspects(warm.state, verdict)
    assert [one.kind for one in found] == ["gauge", "exception", "route_errors"]
    assert found[1].text == "POST /pay 93 × TimeoutError"


def test_durations_read_as_people_write_them():
    assert [ms(value) for value in (190, 2_847, 5_000, 12_300, 60_000, 270_000, 120_000)] == [
        "190 ms", "2.8 s", "5 s", "12 s", "60 s", "4 min 30 s", "2 min",
    ]  # fmt: skip
