"""Every number in every explanation, recomputed from the raw ticks by other means than the detectors'.

The arithmetic here is written anew: sums over the raw ticks since the alarm began, Page's sum step by step,
the interval by bisection. It reads the sentence that people get, not the alarm's fields.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from detectors.policy import RULES, Policy
from detectors.suspects import ms
from detectors.window import Gauge, Missed, Part, Tick
from sdk import histogram
from tests.unit.detectors.conftest import Watched

FAST, SLOW = histogram.index(80_000_000), histogram.index(5_000_000_000)
TWICE = histogram.index(250_000_000)
HOPELESS = {"shadow": ["err_crit", "err_warn"]}
LIMITED = {"p95_limit_ms": 300, "shadow": [name for name in RULES if name != "p95_limit"]}


class Recorded(Watched):
    """A watched service whose raw ticks and misses are kept."""

    raw: list
    rates: dict

    def _judge(self, seen):
        if not hasattr(self, "raw"):
            self.raw, self.rates = [], {}
        self.rates[id(seen)] = self.state.baseline.expected_rps_milli
        self.raw.append(seen)
        return super()._judge(seen)

    def since(self, at_ms):
        return [one for one in self.raw if isinstance(one, Tick) and one.at_ms > at_ms and one.span_ms]

    def before(self, tick):
        ticks = [one for one in self.raw if isinstance(one, Tick)]
        return ticks[ticks.index(tick) - 1]

    def arrived(self, tick):
        """How many came in the time of *tick*: who hangs has come."""
        return max(0, tick.n + tick.inflight - self.before(tick).inflight)

    def watched(self, tick):
        """What an app remembers is a minute: after a longer pause nothing is known of the traffic before."""
        return tick.at_ms - self.before(tick).at_ms <= 60_000


def page(pairs, p0, p1, cap=18.0):
    """Page's sum over pairs k of n."""
    total = 0.0
    for k, n in pairs:
        if n:
            total = min(
                cap, max(0.0, total + k * math.log(p1 / p0) + (n - k) * math.log((1 - p1) / (1 - p0)))
            )
    return total


def lowest(k, n):
    """The least share that is no more than 2.5758 standard deviations below what was seen, by bisection."""
    low, high = 0.0, k / n
    for _ in range(80):
        middle = (low + high) / 2
        far = k / n - middle > 2.5758293035489004 * math.sqrt(middle * (1 - middle) / n)
        low, high = (middle, high) if far else (low, middle)
    return low


def ends(k, n):
    return lowest(k, n), 1 - lowest(n - k, n)


COUNTED = re.compile(
    r"(?P<k>\d+) of (?P<n>\d+) requests(?: to (?P<route>.+?))? (?:failed|slower than (?P<limit>[\d.]+ m?s)"
    r"(?:, (?P<times>[\d.]+) × the usual (?P<of>p\d\d) or more,)?) in (?P<window>[\d. a-z]+) "
    r"\((?P<share>[\d.]+) %, 99 % interval (?P<low>[\d.]+)–(?P<high>[\d.]+) %\)\. "
    r"(?:Normal is|Expected) at most (?P<p0>[\d.]+) %\. Evidence (?P<nats>[\d.]+) of (?P<of_nats>[\d.]+)\."
)


def counted(service: Recorded, alarm):
    said = COUNTED.fullmatch(alarm.explanation)
    assert said, alarm.explanation
    row = next(row for row in service.policy.rows if row.rule == alarm.rule)
    ticks, route = service.since(alarm.since_ms), said["route"]
    name = f"{alarm.rule}\t{route}" if route else alarm.rule
    limit_ns = service.state.tests[name].limit_ns
    pairs = [bad(tick, route, limit_ns if row.slow else 0) for tick in ticks]
    k, n = sum(k for k, _ in pairs), sum(n for _, n in pairs)
    assert (int(said["k"]), int(said["n"])) == (k, n)
    assert said["window"] == ms(service.at_ms - alarm.since_ms)
    assert said["share"] == f"{100 * k / n:.1f}"
    low, high = ends(k, n)
    digits = 0 if high >= 0.1 else 1
    assert abs(float(said["low"]) - 100 * low) <= 0.51 * 10**-digits
    assert abs(float(said["high"]) - 100 * high) <= 0.51 * 10**-digits
    assert float(said["p0"]) == pytest.approx(100 * row.p0)
    assert float(said["nats"]) == pytest.approx(page(pairs, row.p0, row.p1), abs=0.051)
    assert float(said["of_nats"]) == pytest.approx(12 + (math.log(20) if route else 0), abs=0.051)
    if row.slow:
        assert said["limit"] == ms(limit_ns // 1_000_000)
    if said["times"]:
        usual = histogram.quantile(service.state.baseline.hist, int(said["of"][1:]) / 100)
        assert limit_ns >= 0.9 * float(said["times"]) * usual
    assert f"{100 * k / n:.0f} %" in alarm.headline or f"{100 * k / n:.1f} %" in alarm.headline


def bad(tick, route, limit_ns):
    part = next((one for one in tick.routes if one.name == route), Part("", 0, 0, {})) if route else tick
    if not limit_ns:
        return part.errors, part.n
    return sum(c for i, c in part.hist.items() if histogram.midpoint(i) > limit_ns), part.n


def dropped(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\d+) requests in ([\d. a-z]+), about (\d+) expected\. Evidence ([\d.]+) of 12\.0\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    ticks = [tick for tick in service.since(alarm.since_ms) if service.watched(tick)]
    due = [service.rates[id(tick)] * tick.span_ms / 1e6 for tick in ticks]
    came = [service.arrived(tick) for tick in ticks]
    assert int(said[1]) == sum(came)
    assert said[2] == ms(service.at_ms - alarm.since_ms)
    assert int(said[3]) == round(sum(due))
    nats = 0.0
    for n, expected in zip(came, due, strict=True):
        nats = min(18.0, max(0.0, nats + n * math.log(0.4) + 0.6 * expected))
    assert float(said[4]) == pytest.approx(nats, abs=0.051)


def hung(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\d+) requests in flight \(usually (\d+)\), the oldest for ([\d. a-z]+?), "
        r"(?:none ended for ([\d. a-z]+)|others end)\. The limit is ([\d. a-z]+)\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    ticks = [one for one in service.raw if isinstance(one, Tick)]
    last, busy = ticks[-1], next(tick for tick in reversed(ticks) if tick.n)
    assert (int(said[1]), said[3]) == (last.inflight, ms(last.oldest_ms))
    assert said[4] in (None, ms(service.at_ms - busy.at_ms))
    minutes = service.state.baseline.minutes[-60:]
    assert int(said[2]) == int(sorted(one.inflight for one in minutes)[len(minutes) // 2])
    assert said[5] == "8 s"


def silent(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\d+) polls in a row failed in ([\d. a-z]+), the last with: (.+)\.", alarm.explanation
    )
    assert said, alarm.explanation
    row = []
    for one in reversed(service.raw):
        if not isinstance(one, Missed):
            break
        row.append(one)
    assert (int(said[1]), said[2], said[3]) == (len(row), ms(row[0].at_ms - row[-1].at_ms), row[0].why)


def old(service: Recorded, alarm):
    said = re.fullmatch(
        r"Each poll in ([\d. a-z]+) was answered, and none with a second that we did not know\. "
        r"From 20 s on nobody knows how it is\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    row = []
    for one in reversed(service.raw):
        if isinstance(one, Missed) or one.span_ms:
            break
        row.append(one)
    assert said[1] == ms(row[0].at_ms - row[-1].at_ms)


def full(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\S+): (\d+) of (\d+) in use for ([\d. a-z]+)\. Full is from 95 %\.", alarm.explanation
    )
    assert said, alarm.explanation
    began = None
    for tick in (one for one in service.raw if isinstance(one, Tick)):
        gauge = next((one for one in tick.gauges if one.name == said[1]), Gauge("", 0, 1))
        began = (began or tick.at_ms) if gauge.used >= 0.95 * gauge.limit else None
    assert (gauge.used, gauge.limit) == (int(said[2]), int(said[3]))
    assert said[4] == ms(service.at_ms - began)


def unlike(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\S+), a mean a minute, the newest compared with (\d+) before: "
        r"(?:(?P<value>\S+) is outside the (?P<low>\S+) to (?P<high>\S+) so far|"
        r"The mean of the newest 24 is (?P<mean>\S+), (?P<away>\S+) from the median of (?P<median>\S+); "
        r"95% of the time it is within (?P<usual>\S+))\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    reads = {}
    for tick in (one for one in service.raw if isinstance(one, Tick)):
        for gauge in (one for one in tick.gauges if one.name == said[1]):
            reads.setdefault(tick.at_ms // 60_000, []).append(gauge.used)
    means = [sum(read) / len(read) for minute, read in reads.items() if minute <= alarm.since_ms // 60_000]
    before, value = means[:-1][-1_500:], means[-1]
    assert (int(said[2]), alarm.headline.split()[2]) == (len(before), f"{value:.4g}")
    if said["value"]:
        shown = [f"{one:.4g}" for one in (value, min(before), max(before))]
        assert [said["value"], said["low"], said["high"]] == shown
        return
    mean, median = math.fsum(means[-24:]) / 24, sorted(before)[len(before) // 2]
    past = sorted(abs(math.fsum(before[end - 24 : end]) / 24 - median) for end in range(len(before), 23, -6))
    assert float(said["mean"]) == pytest.approx(mean, rel=1e-3)
    assert float(said["median"]) == pytest.approx(median, rel=1e-3)
    assert float(said["away"]) == pytest.approx(abs(mean - median), rel=1e-2)
    assert float(said["usual"]) == pytest.approx(past[int(0.95 * len(past))], rel=1e-2)


def burnt(service: Recorded, alarm):
    counts = r"(\d+) of (\d+) requests failed in ([\d. a-z]+) \(([\d.]+) %\)"
    said = re.fullmatch(
        rf"{counts}, and {counts}\. 0\.1 % may fail: from ([\d.]+) times that in both "
        r"the budget burns too fast\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    ticks = [one for one in service.raw if isinstance(one, Tick)]
    last = len(ticks) - len(ticks) % 12  # twelve looks are a minute
    for (k, n, window, share), looks in ((said.groups()[:4], 60), (said.groups()[4:8], 720)):
        seen = ticks[last - looks : last]
        assert (int(k), int(n)) == (sum(one.errors for one in seen), sum(one.n for one in seen))
        assert window == ms(5_000 * looks)
        assert share == f"{100 * int(k) / int(n):.2f}"
        assert int(k) / int(n) >= 0.001 * float(said[9])


def limited(service: Recorded, alarm):
    said = re.fullmatch(
        r"(\d+) of (\d+) requests slower than 300 ms, the limit that your policy sets for p95, "
        r"in ([\d. a-z]+)\.",
        alarm.explanation,
    )
    assert said, alarm.explanation
    ticks = service.since(alarm.since_ms)
    pairs = [bad(tick, "", 300_000_000) for tick in ticks]
    assert (int(said[1]), int(said[2])) == (sum(k for k, _ in pairs), sum(n for _, n in pairs))
    assert said[3] == ms(service.at_ms - alarm.since_ms)


def scored(service: Recorded, alarm):
    said = re.fullmatch(
        r"Score (\d+) of 100, your policy alarms at 70\. (\d+) of (\d+) requests failed\.", alarm.explanation
    )
    assert said, alarm.explanation
    ticks = service.since(alarm.since_ms)
    assert (int(said[2]), int(said[3])) == (sum(one.errors for one in ticks), sum(one.n for one in ticks))
    assert int(said[1]) == service.verdict.score


CHECKS: dict[str, Callable[[Recorded, object], None]] = {
    **dict.fromkeys(("err_crit", "err_warn", "lat_crit", "lat_body", "lat_warn", "tail"), counted),
    "burn": burnt, "hangs": hung, "drop": dropped, "unreachable": silent, "stale": old, "saturation": full,
    "series": unlike, "p95_limit": limited, "score": scored,
}  # fmt: skip


def test_each_rule_has_its_check():
    assert set(CHECKS) == set(RULES)


@cache
def healthy():
    service = Watched()
    service.for_s(2_400)
    return service.state, service.at_ms


def warm(overrides):
    state, at_ms = healthy()
    service = Recorded(policy=Policy().with_overrides(overrides), state=state, at_ms=at_ms)
    service.for_s(60)
    return service


@dataclass(frozen=True)
class Look:
    """One poll of a sick service."""

    share: int
    slow: int
    gone: int
    span_s: int
    kind: str

    def play(self, service: Recorded) -> None:
        if self.kind == "miss":
            service.miss(self.span_s)
            return
        if self.kind == "still":
            service.app_ahead_ms = 0
            service.see(n=0, span_s=0, passed_s=self.span_s)
            return
        n = max(1, 20 * self.span_s * (100 - self.gone) // 100)
        failed, slow = n * self.share // 100, n * self.slow // 100
        pay = max(1, n // 20)
        hist = {FAST: n - slow, SLOW: slow} if self.kind != "twice" else {FAST: n - slow, TWICE: slow}
        parts = (
            Part("GET /", n - pay, 0, {FAST: n - pay}),
            Part("POST /pay", pay, min(pay, failed), {FAST: pay}),
        )
        hangs = self.kind == "hang"
        service.see(
            n=0 if hangs else n,
            errors=0 if hangs else failed,
            hist={} if hangs else hist,
            span_s=self.span_s,
            routes=() if hangs else parts,
            inflight=90 if hangs else 2,
            oldest_ms=20_000 if hangs else 100,
            gauges=(Gauge("db_pool", 20, 20),) if self.kind == "full" else (),
        )


def looks(kind: str):
    drawn = st.builds(
        Look,
        st.sampled_from([0, 1, 3, 12, 40, 100]),
        st.sampled_from([0, 1, 6, 40, 95]),
        st.sampled_from([0, 50, 90, 100]),
        st.sampled_from([1, 5, 7, 15]),
        st.just(kind),
    )
    return st.tuples(drawn, st.integers(2, 14)).map(lambda pair: [pair[0]] * pair[1])


kinds = st.sampled_from(["plain", "plain", "plain", "twice", "full", "hang", "miss", "still"])
nights = st.lists(kinds.flatmap(looks), min_size=1, max_size=4).map(lambda many: [*chain(*many)])


@settings(max_examples=40, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(nights, st.sampled_from([{}, {"p95_limit_ms": 300}, {"min_score_to_alert": 70}]))
def test_whatever_happens_each_sentence_is_true(night, overrides):
    service = warm(overrides)
    for look in night:
        look.play(service)
        for alarm in service.verdict.alarms:
            CHECKS[alarm.rule](service, alarm)


@pytest.mark.parametrize(
    ("rule", "traffic", "overrides"),
    [
        ("err_crit", {"errors": 30}, {}),
        ("err_warn", {"errors": 3}, {}),
        ("lat_crit", {"median_ms": 800}, {}),
        ("lat_warn", {"hist": {FAST: 60, TWICE: 40}}, {"shadow": ["lat_body"]}),
        ("tail", {"hist": {FAST: 92, SLOW: 8}}, {"shadow": ["lat_crit", "lat_body"]}),
        ("drop", {"n": 5}, {}),
        ("p95_limit", {"hist": {TWICE: 60, SLOW: 40}}, LIMITED),
        ("score", {"errors": 9}, {"min_score_to_alert": 70, "shadow": ["err_crit", "err_warn"]}),
        ("saturation", {"gauges": (Gauge("db_pool", 20, 20),)}, {}),
        ("hangs", {"n": 0, "inflight": 90, "oldest_ms": 20_000}, {}),
    ],
)
def test_the_sentence_of_each_rule_is_true(rule, traffic, overrides):
    service = warm(overrides)
    said = set()
    for _ in range(15):
        service.see(**traffic)
        for alarm in service.verdict.alarms:
            CHECKS[alarm.rule](service, alarm)
            said.add(alarm.rule)
    assert rule in said


@pytest.mark.parametrize(("level", "says"), [(8_000, "outside"), (5_650, "The mean of the newest 24")])
def test_the_sentence_of_a_gauge_is_true(level, says):
    service, found = warm({"series_learning_minutes": 150}), set()
    for look in range(1_200):
        used = level if look > 900 else round(5_000 + 700 * math.sin(look * 2.4))
        service.see(n=600, hist={FAST: 600}, span_s=30, gauges=(Gauge("db_pool", used, 10_000),))
        for alarm in service.verdict.alarms:
            CHECKS[alarm.rule](service, alarm)
            found.add((alarm.rule, says in alarm.explanation))
    assert found == {("series", True)}


def test_the_sentence_of_the_budget_is_true():
    service = Recorded(policy=Policy().with_overrides(HOPELESS))
    said = set()
    for look in range(725):
        service.see(n=1_000, errors=15 + look % 3, hist={FAST: 1_000})
        for alarm in service.verdict.alarms:
            CHECKS[alarm.rule](service, alarm)
            said.add(alarm.rule)
    assert said == {"burn"}
