"""What is wrong now: the alarms that a state amounts to, each with numbers that anyone can recompute.

* A test alarms when its evidence reaches the threshold, enough requests were bad, the newest are bad still,
  and the run lasted long enough. Its k, n and window are the whole run.
* Hangs, silence of the app and full gauges are states, not counts: they alarm when held long enough.
* There is one alarm a signal, the most severe.
* What a rule in shadow finds is told apart: it is recorded, and nothing comes of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import log

from detectors import budget, present
from detectors.alarm import Alarm
from detectors.evidence import Evidence, wilson
from detectors.policy import Policy, Row, Signal, Slow
from detectors.state import Sample, ServiceState
from detectors.suspects import ROUTES, ms, one_line
from sdk import histogram

RANK: Mapping[Signal, int] = {
    "unreachable": 0,
    "hangs": 1,
    "errors": 2,
    "latency": 3,
    "traffic": 4,
    "saturation": 5,
}


def alarms(state: ServiceState, policy: Policy) -> tuple[Alarm, ...]:
    """Return what is wrong now, worst first, at most one alarm a signal."""
    return heard(state, policy)[0]


def heard(state: ServiceState, policy: Policy) -> tuple[tuple[Alarm, ...], tuple[Alarm, ...]]:
    """Return what is wrong now, and what is wrong only for rules in shadow; of each the worst of a signal."""
    found = sorted(_all(state, policy), key=_order)
    if not policy.shadow:
        return _first(found), ()
    spoken = [alarm for alarm in found if not policy.shadows(alarm.rule)]
    return _first(spoken), _first([alarm for alarm in found if policy.shadows(alarm.rule)])


def _first(found: Sequence[Alarm]) -> tuple[Alarm, ...]:
    first = {alarm.signal: alarm for alarm in reversed(found)}
    return tuple(alarm for alarm in found if first[alarm.signal] is alarm)


def is_sick(state: ServiceState, policy: Policy) -> bool:
    """Return whether anything looks sick still, alarm or not: an incident is not quiet then.

    A rule in shadow keeps nothing open.
    """
    hot = [row.rule for row, _ in _strong(state, policy) if _hot(state, row, row.rule, "", policy)]
    return (
        any(not policy.shadows(rule) for rule in hot)
        or (_drop_is_hot(state, policy) and not policy.shadows("drop"))
        or ("hang" in state.held and not policy.shadows("hangs"))
    )


def _order(alarm: Alarm) -> tuple[bool, int, bool, int]:
    return (alarm.severity != "critical", RANK[alarm.signal], bool(alarm.subject), -alarm.evidence_cn)


def _all(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    yield from present.unreachable(state, policy)
    yield from present.stale(state, policy)
    yield from present.hangs(state, policy)
    for row, names in _strong(state, policy):
        whole = [*_counted(state, row, policy)]
        yield from whole or _worst_route(state, row, names, policy)
    yield from budget.burning(state, policy)
    yield from _drop(state, policy)
    yield from present.full(state, policy)
    yield from present.unlike(state, policy)
    yield from _p95_limit(state, policy)


def _counted(state: ServiceState, row: Row, policy: Policy) -> Iterator[Alarm]:
    share = _hot(state, row, row.rule, "", policy)
    test = state.test(row.rule)
    if not share or not _lasts(state, test, row.sustain(share)):
        return
    yield _count_alarm(state, row, test, "", policy.threshold)


def _lasts(state: ServiceState, test: Evidence, span_ms: int) -> bool:
    """Return whether the run is *span_ms* long and was seen twice: after a missed poll one look is long."""
    return test.seen_ms >= span_ms and bool(state.recent) and test.since_ms < state.recent[-1].began_ms


def _strong(state: ServiceState, policy: Policy) -> list[tuple[Row, list[str]]]:
    """Return the rows of which some test has evidence enough for a service, and those tests."""
    names = [name for name, test in state.tests.items() if test.nats >= policy.threshold]
    strong: dict[str, list[str]] = {}
    for name in names:
        strong.setdefault(name.partition("\t")[0], []).append(name)
    return [(row, strong[row.rule]) for row in policy.rows if row.rule in strong]


def _worst_route(state: ServiceState, row: Row, names: Sequence[str], policy: Policy) -> Iterator[Alarm]:
    """Yield the alarm of the route with the most evidence, where its service as a whole has none."""
    hot = []
    for name in names:
        route, test = name.partition("\t")[2], state.test(name)
        share = _hot(state, row, name, route, policy) if route else 0.0
        if share and _lasts(state, test, row.sustain(share)):
            hot.append((test.nats, test.k, route, test))
    if hot:
        _, _, route, test = max(hot, key=lambda one: one[:3])
        yield _count_alarm(state, row, test, route, _threshold(route, policy))


def _count_alarm(state: ServiceState, row: Row, test: Evidence, route: str, threshold: float) -> Alarm:
    window_ms = state.at_ms - test.since_ms
    if row.slow is None:
        headline, explanation = _errors_text(row, test, window_ms, route)
    else:
        headline, explanation = _slow_text(state, row, row.slow, test, window_ms, route)
    return Alarm(
        row.rule,
        row.signal,
        row.severity,
        headline,
        f"{explanation} Evidence {test.nats:.1f} of {threshold:.1f}.",
        test.since_ms,
        test.k,
        test.n,
        window_ms,
        test.centinats,
        round(threshold * 100),
        one_line(route),
    )


def _threshold(route: str, policy: Policy) -> float:
    return policy.threshold + log(ROUTES) if route else policy.threshold


def _hot(state: ServiceState, row: Row, name: str, route: str, policy: Policy) -> float:
    """Return the share of bad ones among the newest requests; 0 when that is well, or evidence is short."""
    test = state.tests.get(name)
    if test is None or test.nats < _threshold(route, policy) or test.k < policy.min_events:
        return 0.0
    if not is_known(state, row):
        return 0.0
    k, n = _newest(state, row, route, policy)
    share = k / n if n else 0.0
    return share if share > row.middle else 0.0


def is_known(state: ServiceState, row: Row) -> bool:
    """Return whether bad means something here: of a new service only what is critically slow is said."""
    if row.slow is None or state.baseline.warm:
        return True
    return row.severity == "critical" and state.baseline.knows(row.slow, row.p0)


def _newest(state: ServiceState, row: Row, route: str, policy: Policy) -> tuple[int, int]:
    samples = list(state.newest(policy.live_ms))
    if route:
        pairs = [sample.counts.get(f"{row.rule}\t{route}", (0, 0)) for sample in samples]
        return sum(k for k, _ in pairs), sum(n for _, n in pairs)
    n = sum(sample.n for sample in samples)
    return sum(state.bad(row, sample) for sample in samples), n


def _errors_text(row: Row, test: Evidence, window_ms: int, route: str) -> tuple[str, str]:
    of = f" to {one_line(route)}" if route else ""
    what = f"of {one_line(route)} fails" if route else "of requests fail"
    counts = f"{test.k} of {test.n} requests{of} failed in {ms(window_ms)} ({_interval(test)})."
    return f"{_percent(test)} {what}", f"{counts} Normal is at most {row.p0 * 100:.3g} %."


def _slow_text(
    state: ServiceState, row: Row, slow: Slow, test: Evidence, window_ms: int, route: str
) -> tuple[str, str]:
    limit_ns = test.limit_ns or state.baseline.limit_ns(slow)
    known = state.baseline.warm and state.baseline.times(slow) <= limit_ns
    usual = f", {slow.times_milli / 1000:.3g} × the usual {slow.of} or more," if known else ""
    of = f" to {route}" if route else ""
    what = f"of {route} is slow" if route else "of requests are slow"
    counts = (
        f"{test.k} of {test.n} requests{of} slower than {ms(limit_ns // 1_000_000)}{usual} "
        f"in {ms(window_ms)} ({_interval(test)})."
    )
    return f"{_percent(test)} {what}", f"{counts} Expected at most {row.p0 * 100:.3g} %."


def _percent(test: Evidence) -> str:
    share = 100 * test.k / test.n
    return f"{share:.0f} %" if share >= 1 else f"{share:.1f} %"


def _interval(test: Evidence) -> str:
    low, high = wilson(test.k, test.n)
    digits = 0 if high >= 0.1 else 1
    return f"{100 * test.k / test.n:.1f} %, 99 % interval {100 * low:.{digits}f}–{100 * high:.{digits}f} %"


def _drop_is_hot(state: ServiceState, policy: Policy) -> bool:
    hot = state.test("drop").nats >= policy.threshold
    return hot and _left(state, policy) < (1 + policy.drop_factor_permille / 1000) / 2


def _left(state: ServiceState, policy: Policy) -> float:
    """Return the share of what is expected that the newest samples have."""
    newest = state.since(state.at_ms - policy.live_ms)
    expected = state.baseline.expected(sum(sample.span_ms for sample in newest))
    return sum(sample.n for sample in newest) / expected if expected else 1.0


def _drop(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    if not _drop_is_hot(state, policy):
        return
    test = state.test("drop")
    few = _left(state, policy) * 1000 <= 0.75 * policy.drop_factor_permille
    span_ms = policy.drop_sustain_ms if few else policy.drop_mild_sustain_ms
    if not _lasts(state, test, span_ms):
        return
    window_ms = state.at_ms - test.since_ms
    share = 100 * test.n / test.expected
    headline = f"traffic is at {share:.0f} % of the usual" if test.n else "no traffic arrives"
    yield Alarm(
        "drop",
        "traffic",
        "critical",
        headline,
        f"{test.n} requests in {ms(window_ms)}, about {test.expected:.0f} expected. "
        f"Evidence {test.nats:.1f} of {policy.threshold:.1f}.",
        test.since_ms,
        test.n,
        round(test.expected),
        window_ms,
        test.centinats,
        policy.evidence_cn,
    )


def _p95_limit(state: ServiceState, policy: Policy) -> Iterator[Alarm]:
    """Yield the alarm of the optional fixed limit: half a minute of samples, the p95 of each above it."""
    limit_ms = policy.p95_limit_ms
    if limit_ms is None:
        return
    samples: list[Sample] = list(state.newest(policy.lat_warn_sustain_ms))
    if sum(sample.span_ms for sample in samples) < policy.lat_warn_sustain_ms:
        return
    worst = [histogram.quantile(sample.hist, 0.95) // 1_000_000 for sample in samples]
    if min(worst) <= limit_ms:
        return
    n = sum(sample.n for sample in samples)
    k = sum(histogram.above(sample.hist, limit_ms * 1_000_000) for sample in samples)
    since_ms = samples[-1].began_ms
    yield Alarm(
        "p95_limit",
        "latency",
        "warning",
        f"p95 above {ms(limit_ms)}",
        f"{k} of {n} requests slower than {ms(limit_ms)}, the limit that your policy sets for p95, in "
        f"{ms(state.at_ms - since_ms)}.",
        since_ms,
        k,
        n,
        state.at_ms - since_ms,
        0,
        0,
    )
