"""The text that Prometheus reads, as its own client reads it, and over several workers."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sdk import histogram, prometheus, wire
from sdk.cell import Closed, Packed, _packed
from sdk.minute import Minute
from sdk.told import Told
from sdk.totals import OCTAVES, Totals, read
from tests.unit.sdk.test_endpoints import get, shop

LINE = re.compile(
    r'# (HELP \S+ [^\n]+|TYPE \S+ (counter|gauge|histogram))'
    r'|[a-z_]+(\{[a-z_]+="([^"\\\n]|\\[\\"n])*"(,[a-z_]+="([^"\\\n]|\\[\\"n])*")*\})? [0-9.e+-]+'
)  # fmt: skip
NOW = wire.Snapshot("shop", 1_764_000_000_000)


def second(*latencies, name="GET /", errors=0, exceptions=()):
    packed = Packed(
        name, len(latencies), errors, 0, 0, *_packed(histogram.of(latencies)), dict.fromkeys(exceptions, 1)
    )
    return Closed(1, (packed,), (), 0)


def rendered(*totals):
    named = {f"w{n}": one for n, one in enumerate(totals)}
    return prometheus.render(Told(NOW, (), Minute(), totals=named))


def samples(text):
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def total(*seconds):
    totals = Totals(detailed=True)
    for one in seconds:
        totals.add(one)
    return totals


async def test_what_an_app_did_is_what_prometheus_reads():
    monitor = await shop()
    status, kind, body = await get(monitor, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = samples(body.decode())
    app = (("method", "GET"), ("route", "~app"))
    assert found["http_request_duration_seconds_count", app] == 4
    assert found["http_request_errors_total", app] == 1
    assert found["http_request_exceptions_total", (*app, ("type", "TimeoutError"))] == 1
    unmatched = (("method", ""), ("route", "~unmatched"))
    assert found["http_request_client_errors_total", unmatched] == 1
    assert found["saturation_used", (("name", "db_pool"),)] == 3
    assert found["dependency_call_duration_seconds_count", (("dependency", "payments-api"),)] == 1
    assert (found["countersign_workers", ()], found["http_requests_in_flight", ()]) == (1, 0)
    assert (await get(monitor, "/health/alerts?format=prometheus"))[2] == body


@given(st.lists(st.integers(0, 2**38), max_size=40), st.text(max_size=20))
def test_each_line_is_of_the_format_and_each_histogram_adds_up(latencies, name):
    text = rendered(total(second(*latencies, name=f"GET {name}", exceptions=[name or "x"])))
    assert text.endswith("\n")
    assert all(LINE.fullmatch(line) for line in text[:-1].split("\n"))
    families = {f.name: f for f in text_string_to_metric_families(text)}
    counted = families["http_request_duration_seconds"].samples
    buckets = [(s.labels["le"], s.value) for s in counted if s.name.endswith("_bucket")]
    edges = [float(le) for le, _ in buckets]
    assert edges == sorted(set(edges))
    for le, value in buckets:
        # A latency on an edge is in the bucket above it: at 2**n ns, one nanosecond off.
        at = round(float(le) * 1e9) if le != "+Inf" else None
        assert value == sum(at is None or min(ns, histogram.HIGHEST_NS) < at for ns in latencies)


def test_the_edges_are_those_of_the_exact_histogram_a_factor_of_two_apart():
    edges = [float(edge) for edge in prometheus.EDGES.values()]
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(edges))
    assert {round(edge * 1e9) for edge in edges} <= {histogram.bounds(i)[0] for i in histogram.BUCKETS}
    assert (edges[0], edges[-1]) == (3.2768e-05, 68.719476736)


def test_counters_only_rise_and_each_of_several_workers_has_its_own():
    one, other = total(second(1_000_000, 2_000_000, errors=1)), total(second(5_000_000))
    before = samples(rendered(one, other))
    labels = (("method", "GET"), ("route", "/"))
    count = "http_request_duration_seconds_count"
    assert before[count, (*labels, ("worker", "w0"))] == 2
    one.add(second(3_000_000))
    after = samples(rendered(one, other))
    assert after[count, (*labels, ("worker", "w0"))] == 3
    assert all(after[key] >= value for key, value in before.items())
    assert samples(rendered(one))[count, labels] == 3


def test_the_sum_is_that_of_the_latencies_within_a_buckets_width():
    latencies = [10**6 * n for n in range(1, 1001)]
    labels = (("method", "GET"), ("route", "/"))
    told = samples(rendered(total(second(*latencies))))
    assert told["http_request_duration_seconds_sum", labels] == pytest.approx(sum(latencies) / 1e9, rel=0.016)


def test_totals_cross_to_another_worker_unchanged():
    one = total(second(1, 2**40, exceptions=["TimeoutError"]), second(5_000_000, name="POST /pay"))
    assert rendered(read(one.document())) == rendered(one) == rendered(one.copy())
    assert read(one.document()).counted == 3
    assert Totals().document() == {"counted": 0}


@pytest.mark.parametrize(
    "value",
    [None, [], {"counted": -1}, {"counted": 1, "routes": {"GET /": [[1], {}]}}, {"routes": {"a": 1}},
     {"routes": {"a": [["x"] * (5 + OCTAVES), {}]}}, {"routes": []},
     {"routes": {"a": [[1] * (5 + OCTAVES), 5]}}],
)  # fmt: skip
def test_totals_of_another_form_are_malformed(value):
    with pytest.raises(wire.Malformed):
        read(value)


def test_any_number_of_exception_types_over_time_stays_bounded():
    kept = total(*(second(1, exceptions=[f"E{n}"]) for n in range(1000)))
    assert len(kept.named["routes"]["GET /"].exceptions) == 9
    assert sum(kept.named["routes"]["GET /"].exceptions.values()) == 1000
