"""Every threshold of detection, in one place, each with a default.

* Numbers are integers (per mille, milliseconds, centinats, milli-fold): the digest is the same everywhere.
* The policy in force is named by its label, such as `2026.1+3f9ac1d2`: its version and the first 8 hex digits
  of the SHA-256 of all of it, overrides included. Change a threshold and the name changes.
* An override names a field of `Policy`. One that cannot be meant is refused with a sentence.
* What is different for one service stands in `services`, and so in the digest; `of` is what holds for it.
* A rule in `shadow` is judged as any other and opens nothing (detectors/alarms.py).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Severity = Literal["critical", "warning"]
Signal = Literal["errors", "latency", "hangs", "traffic", "unreachable", "saturation"]

Permille = Annotated[int, Field(ge=1, le=999)]
Millifold = Annotated[int, Field(ge=1_000, le=100_000)]
Ms = Annotated[int, Field(ge=1, le=86_400_000)]
Centinats = Annotated[int, Field(ge=100, le=100_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Score = Annotated[int, Field(ge=0, le=100)]


Value = bool | int | None | tuple[str, ...]

EVERY = "*"
"""In `shadow`: all rules."""
RULES = (
    "err_crit", "err_warn", "burn", "lat_crit", "lat_body", "lat_warn", "tail", "hangs", "drop",
    "unreachable", "stale", "saturation", "series", "p95_limit", "score",
)  # fmt: skip
"""The rules of detectors/alarms.py and detectors/verdict.py, by the names under which they alarm."""


class BadOverride(ValueError):
    """An override of the policy that cannot be meant: which key, why, and what to write instead."""

    def __init__(self, key: str, reason: str, remedy: str) -> None:
        super().__init__(f"policy.{key}: {reason} {remedy}")
        self.key = key
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Slow:
    """What counts as slow: so many times the usual quantile, or *floor_ms*; *cold_ms* until it is known."""

    of: Literal["p50", "p95", "p99"]
    times_milli: int
    floor_ms: int
    cold_ms: int


@dataclass(frozen=True, slots=True)
class Row:
    """One test on counts: is the share of bad requests *p1* rather than *p0*? Bad is failed, or *slow*."""

    rule: str
    signal: Signal
    severity: Severity
    slow: Slow | None
    p0: float
    p1: float
    sustain_ms: int
    mild_sustain_ms: int  # instead of sustain_ms while the share is mild

    @property
    def middle(self) -> float:
        """The share above which the newest requests are on the sick side."""
        return (self.p0 + self.p1) / 2

    def sustain(self, share: float) -> int:
        """Return how long it must last, in ms, when *share* of the newest requests are bad."""
        return self.sustain_ms if share >= min(2 * self.p1, 0.5) else self.mild_sustain_ms


class Policy(BaseModel):
    """What is sick, how sure we must be, and for how long; bench/detection.py measures the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            "shadow", "services", "stale_ms", "burn_fast_times_milli", "burn_slow_times_milli",
            "burn_alone_ms", "flap_reopens", "flap_close_ms", "kind_permille", "drop_sigmas_milli",
            "drop_mild_sustain_ms", "lat_body_times_milli", "lat_body_p0_permille",
            "lat_body_p1_permille", "lat_body_sustain_ms", "hang_min", "hang_sigmas_milli",
            "series_on", "series_learning_minutes", "series_hold_ms", "series_margin_permille",
            "series_shift_times_milli", "series_least_permille",
        }
    )  # fmt: skip
    """Fields that came later: an old policy keeps its digest, since they stand in the text only where they
    are not the default. So these defaults never change within a version."""

    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.\-]{1,32}$")] = "2026.1"

    budget_permille: Permille = 1  # failures that are allowed: 1 is an objective of 99.9 %

    # How sure: 12 nats are odds of 160,000 to one. The cap bounds how long an incident is remembered.
    evidence_cn: Centinats = 1_200
    evidence_over_cn: Centinats = 600
    min_events: Count = 5
    live_ms: Ms = 9_000  # an alarm needs the newest so many ms with traffic to be sick still

    err_crit_p0_permille: Permille = 20  # or 4 times the budget, if that is more
    err_crit_p1_permille: Permille = 100  # or 3 times p0, if that is more
    err_crit_sustain_ms: Ms = 6_000  # two ticks of 5 s
    err_warn_p0_permille: Permille = 2
    err_warn_p1_permille: Permille = 10
    err_warn_sustain_ms: Ms = 28_000

    lat_crit_times_milli: Millifold = 2_000
    lat_crit_floor_ms: Ms = 50
    lat_crit_p0_permille: Permille = 50
    lat_crit_p1_permille: Permille = 150
    lat_crit_sustain_ms: Ms = 6_000
    lat_crit_mild_sustain_ms: Ms = 28_000
    # Half of all requests may be slower than twice the usual median, but not 80 %.
    lat_body_times_milli: Millifold = 2_000
    lat_body_floor_ms: Ms = 20
    lat_body_p0_permille: Permille = 500
    lat_body_p1_permille: Permille = 800
    lat_body_sustain_ms: Ms = 6_000
    lat_warn_times_milli: Millifold = 1_000
    lat_warn_floor_ms: Ms = 20
    lat_warn_p0_permille: Permille = 100
    lat_warn_p1_permille: Permille = 250
    lat_warn_sustain_ms: Ms = 28_000
    lat_warn_mild_sustain_ms: Ms = 55_000
    tail_times_milli: Millifold = 3_000
    tail_floor_ms: Ms = 500
    tail_p0_permille: Permille = 5
    tail_p1_permille: Permille = 30
    tail_sustain_ms: Ms = 6_000
    tail_mild_sustain_ms: Ms = 20_000
    cold_slow_ms: Ms = 500  # what is slow before the baseline is warm
    cold_tail_ms: Ms = 2_500
    p95_limit_ms: Ms | None = None  # an optional fixed limit on p95, off by default

    hang_ms: Ms = 8_000  # the oldest request in flight, or hang_times the usual p99, if that is more
    hang_times_milli: Millifold = 5_000
    hang_silent_ms: Ms = 4_000  # nothing ended for so long: alarm at once
    hang_sustain_ms: Ms = 4_000  # something still ends: alarm after so long
    # In flight must be so many more than usual, and so many times its square root: chance moves it by that.
    hang_min: Count = 3
    hang_sigmas_milli: Annotated[int, Field(ge=0, le=10_000)] = 3_000

    drop_factor_permille: Permille = 400
    drop_sustain_ms: Ms = 6_000
    drop_mild_sustain_ms: Ms = 11_000  # while more is left than 3/4 of the factor: a restart takes seconds
    drop_lowered_permille: Permille = 600  # expected traffic is lowered to q05 or so much of the median
    drop_sigmas_milli: Annotated[int, Field(ge=0, le=10_000)] = 4_000  # and for traffic that comes in bursts
    drop_min_expected: Count = 15  # in drop_window_ms: with less traffic than that, silence means nothing
    drop_window_ms: Ms = 60_000
    drop_min_history_ms: Ms = 600_000

    unreachable_polls: Annotated[int, Field(ge=2, le=100)] = 3
    stale_ms: Ms = 20_000  # it answers, and for so long tells nothing new

    # The budget, burnt so many times too fast over 5 minutes of an hour, or 30 minutes of six hours.
    burn_fast_times_milli: Millifold = 14_400
    burn_slow_times_milli: Millifold = 6_000
    burn_alone_ms: Ms = 300_000  # it speaks where no other rule has seen anything for so long

    saturation_permille: Annotated[int, Field(ge=1, le=1_000)] = 950
    saturation_sustain_ms: Ms = 28_000

    # A gauge unlike its past. A day of minutes teaches first: after less, each morning is a record.
    series_on: bool = True
    series_learning_minutes: Count = 1_440
    series_hold_ms: Ms = 300_000  # an oddity is one event, and so long an alarm
    series_margin_permille: Permille = 30  # of the range so far, beyond its end
    series_shift_times_milli: Millifold = 2_250  # the usual distance of the last 24 minutes from the median
    series_least_permille: Permille = 50  # of the limit: a smaller change is none

    baseline_min_n: Count = 500
    baseline_warmup_ms: Ms = 1_800_000
    baseline_half_life_ms: Annotated[int, Field(ge=60_000, le=2_592_000_000)] = 68_400_000
    baseline_freeze_ms: Ms = 7_200_000  # an incident that is older than this is learned from

    close_ms: Ms = 60_000
    reopen_ms: Ms = 600_000
    warnings_ring: bool = False
    flap_reopens: Count = 3  # an incident that came back so often stays open for longer
    flap_close_ms: Ms = (
        300_000  # until it was quiet for so long; twice as long each time after, an hour at most
    )
    kind_permille: Permille = 200  # a new exception or dependency that takes so much of the failures is news

    # Score rules of fastapi-alertengine, for people who come from there; off by default.
    min_score_to_alert: Score | None = None
    recover_score: Score | None = None

    shadow: tuple[str, ...] = ()  # rules that are judged and recorded, and open nothing; "*" is all of them
    services: Mapping[str, Mapping[str, Value]] = Field(default_factory=dict)  # what is different for one

    @property
    def threshold(self) -> float:
        """The nats at which a test alarms."""
        return self.evidence_cn / 100

    @property
    def cap(self) -> float:
        """The nats that a test never exceeds."""
        return (self.evidence_cn + self.evidence_over_cn) / 100

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The tests on counts, the most severe of a signal first."""
        p0 = max(self.err_crit_p0_permille, 4 * self.budget_permille)
        p1 = max(self.err_crit_p1_permille, 3 * p0)
        warn0 = max(self.err_warn_p0_permille, 2 * self.budget_permille)
        warn1 = max(self.err_warn_p1_permille, 10 * self.budget_permille)
        usual = Slow("p95", self.lat_crit_times_milli, self.lat_crit_floor_ms, self.cold_slow_ms)
        body = Slow("p50", self.lat_body_times_milli, self.lat_body_floor_ms, self.cold_slow_ms)
        warn = Slow("p95", self.lat_warn_times_milli, self.lat_warn_floor_ms, self.cold_slow_ms)
        tail = Slow("p99", self.tail_times_milli, self.tail_floor_ms, self.cold_tail_ms)
        return (
            _row("err_crit", "errors", "critical", None, p0, p1, self.err_crit_sustain_ms),
            _row("err_warn", "errors", "warning", None, warn0, warn1, self.err_warn_sustain_ms),
            _row(
                "lat_crit",
                "latency",
                "critical",
                usual,
                self.lat_crit_p0_permille,
                self.lat_crit_p1_permille,
                self.lat_crit_sustain_ms,
                self.lat_crit_mild_sustain_ms,
            ),
            _row(
                "tail",
                "latency",
                "critical",
                tail,
                self.tail_p0_permille,
                self.tail_p1_permille,
                self.tail_sustain_ms,
                self.tail_mild_sustain_ms,
            ),
            _row(
                "lat_body",
                "latency",
                "critical",
                body,
                self.lat_body_p0_permille,
                self.lat_body_p1_permille,
                self.lat_body_sustain_ms,
            ),
            _row(
                "lat_warn",
                "latency",
                "warning",
                warn,
                self.lat_warn_p0_permille,
                self.lat_warn_p1_permille,
                self.lat_warn_sustain_ms,
                self.lat_warn_mild_sustain_ms,
            ),
        )

    @cached_property
    def by_route(self) -> tuple[Row, ...]:
        """The tests that each busy route is put to on its own."""
        return tuple(row for row in self.rows if row.rule in {"err_crit", "tail"})

    def shadows(self, rule: str) -> bool:
        """Return whether *rule* is judged and recorded alone."""
        return bool(self.shadow) and (rule in self.shadow or EVERY in self.shadow)

    def of(self, service: str) -> "Policy":
        """Return what holds for *service*."""
        changes = self.services.get(service)
        if changes is None:
            return self
        known = self.by_service
        if service not in known:
            known[service] = self.without_services.with_overrides(changes)
        return known[service]

    @cached_property
    def by_service(self) -> dict[str, "Policy"]:
        """What `of` has found already."""
        return {}

    @cached_property
    def without_services(self) -> "Policy":
        """What holds for every service that has nothing of its own."""
        return type(self).model_validate(self.model_dump() | {"services": {}})

    def canonical(self) -> str:
        """Return the whole policy as JSON with sorted keys: the text that the digest is of."""
        said = self.model_dump()
        said = {key: value for key, value in said.items() if value != self._later(key)}
        return json.dumps(said, sort_keys=True, separators=(",", ":"))

    def _later(self, key: str) -> object:
        """Return the default of a field that came later; of any other what no field ever is."""
        return (
            type(self).model_fields[key].get_default(call_default_factory=True) if key in self.LATER else ...
        )

    def digest(self) -> str:
        """Return the SHA-256 of the canonical text, 64 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @cached_property
    def label(self) -> str:
        """The name under which decisions cite this policy."""
        return f"{self.version}+{self.digest()[:8]}"

    def with_overrides(self, overrides: Mapping[str, object]) -> Self:
        """Return this policy with *overrides* (numbers may be text, as they are in the environment).

        Raises BadOverride, which names the key, the reason and the remedy; nothing changed then.
        """
        changes = {key: _read(key, value) for key, value in overrides.items()}
        try:
            changed = type(self).model_validate(self.model_dump() | changes)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            default = type(self)().model_dump()[key]
            raise BadOverride(
                key, f"{changes.get(key)!r}: {first['msg']}.", f"The default is {default}."
            ) from None
        _check(changed)
        return changed

    def with_services(self, services: Mapping[str, Mapping[str, object]]) -> Self:
        """Return this policy with what is different for each of *services*. Raises BadOverride, as above."""
        own = {
            name: {key: _own(key, value) for key, value in changes.items()}
            for name, changes in services.items()
            if changes
        }
        for changes in own.values():
            self.with_overrides(changes)
        return type(self).model_validate(self.model_dump() | {"services": own})


def _row(
    rule: str,
    signal: Signal,
    severity: Severity,
    slow: Slow | None,
    p0: int,
    p1: int,
    sustain_ms: int,
    mild_sustain_ms: int = 0,
) -> Row:
    return Row(
        rule, signal, severity, slow, p0 / 1000, p1 / 1000, sustain_ms, max(sustain_ms, mild_sustain_ms)
    )


def _read(key: str, value: object) -> object:
    """Return *value* as the field *key* wants it; text becomes the number or truth that it spells."""
    if key == "shadow":
        return _rules(value)
    if key == "services":
        raise BadOverride(key, "is no threshold.", "Put what is different for a service below it.")
    if key not in Policy.model_fields:
        close = get_close_matches(key, Policy.model_fields, n=1)
        remedy = f"Did you mean {close[0]}?" if close else "The thresholds are listed in detectors/policy.py."
        raise BadOverride(_shown(key), "there is no such threshold.", remedy)
    if key == "version" or not isinstance(value, str):
        return value
    text = value.strip().lower()
    words: dict[str, object] = {"true": True, "false": False, "none": None, "off": None, "": None}
    if text in words:
        return words[text]
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18:
        return int(text)
    default = Policy.model_fields[key].default
    raise BadOverride(key, f"{_shown(value)} is not a whole number.", f"Write one, such as {default}.")


def _rules(value: object) -> tuple[str, ...]:
    """Return the names of rules that *value* lists, each once; in the environment with commas in between."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        raise BadOverride("shadow", f"{_shown(value)} is no list.", f'Write one, such as ["{RULES[1]}"].')
    names = tuple(dict.fromkeys(str(name).strip() for name in listed))
    for name in filter(None, names):
        if name not in (*RULES, EVERY):
            known = ", ".join(RULES)
            raise BadOverride("shadow", f"there is no rule {_shown(name)}.", f"The rules are {known}.")
    return tuple(filter(None, names))


def _own(key: str, value: object) -> object:
    """Return the value of an override for one service. A version names the whole policy, not a part of it."""
    if key == "version":
        raise BadOverride(key, "is not a service's.", "Put it under [policy].")
    return _read(key, value)


def _shown(text: object) -> str:
    """Return foreign text fit for a sentence: one short printable line."""
    return repr(str(text)[:60]) if not str(text).isidentifier() else str(text)[:60]


def _check(policy: Policy) -> None:
    """Raise BadOverride when a healthy share is not below its sick share."""
    for row in policy.rows:
        if row.p0 >= row.p1:
            name = f"{row.rule}_p0_permille"
            reason = f"{row.p0:g} counts as healthy and {row.p1:g} as sick."
            raise BadOverride(name, reason, f"Make it less than {row.rule}_p1_permille.")
        if row.p1 >= 1:
            reason = f"a sick share of {row.p1:g} can never be exceeded."
            raise BadOverride(f"{row.rule}_p1_permille", reason, "Lower it, or budget_permille.")
    alert, recover = policy.min_score_to_alert, policy.recover_score
    if alert is not None and recover is not None and recover <= alert:
        raise BadOverride(
            "recover_score", f"{recover} is not above min_score_to_alert.", f"Make it more than {alert}."
        )
