"""Every threshold in force as a person reads it: its value with its unit, and where it comes from.

Which threshold belongs to which rule is said by its name: `tail_floor_ms` is of `tail`. What a rule uses that
is named otherwise stands in ALSO, and what is no rule's own holds for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bot.words import many, span, tenths
from detectors.policy import RULES, BadOverride, Policy
from handlers.charter import Charter

MEANS: Mapping[str, str] = {
    "err_crit": "many more requests fail than is normal",
    "err_warn": "more requests fail than the budget allows",
    "burn": "the budget of errors is used up many times too fast",
    "lat_crit": "many requests take several times the usual p95",
    "lat_body": "most requests take several times the usual median",
    "lat_warn": "more requests than usual are slower than the usual p95",
    "tail": "the slowest requests take several times the usual p99",
    "hangs": "requests wait for too long and do not end",
    "drop": "much less traffic arrives than is usual",
    "unreachable": "the health check does not answer",
    "stale": "the health check answers and tells nothing new",
    "saturation": "a gauge with a limit is full",
    "series": "a gauge is unlike its past; it warns, and wakes nobody",
    "p95_limit": "p95 is above a limit of your own; off unless you set it",
    "score": "the health score is low, a rule of fastapi-alertengine; off unless you set it",
}
"""What each rule speaks of."""
ALSO: Mapping[str, tuple[str, ...]] = {
    "err_crit": ("budget_permille",),
    "err_warn": ("budget_permille",),
    "burn": ("budget_permille",),
    "lat_crit": ("cold_slow_ms",),
    "lat_body": ("cold_slow_ms",),
    "lat_warn": ("cold_slow_ms",),
    "tail": ("cold_tail_ms",),
    "hangs": ("hang_",),
    "score": ("min_score_to_alert", "recover_score"),
}
NO_THRESHOLD = frozenset({"version", "shadow", "services"})
KEYS = tuple(key for key in Policy.model_fields if key not in NO_THRESHOLD)
ENVIRONMENT = "POLICY_"


@dataclass(frozen=True, slots=True)
class Threshold:
    """One of them: *source* is default, charter, a variable of the environment, or whose own it is."""

    key: str
    value: object
    source: str

    @property
    def line(self) -> str:
        """err_crit_sustain_ms = 6000 (6 s), charter"""
        return f"{self.key} = {_plain(self.value)}{_meaning(self.key, self.value)}, {self.source}"


def keys_of(rule: str) -> list[str]:
    """The thresholds that *rule* uses and most others do not."""
    begins = (f"{rule}_", *ALSO.get(rule, ()))
    return [key for key in KEYS if key.startswith(begins)]


def common() -> list[str]:
    """The thresholds that are no rule's own."""
    owned = {key for rule in RULES for key in keys_of(rule)}
    return [key for key in KEYS if key not in owned]


def in_force(policy: Policy, charter: Charter | None) -> dict[str, Threshold]:
    """All of them by key, as they hold for every service that has none of its own."""
    asked, written = _asked(charter), charter.policy if charter else {}
    return {key: Threshold(key, getattr(policy, key), _source(policy, asked, written, key)) for key in KEYS}


def own(policy: Policy) -> dict[str, list[Threshold]]:
    """What is different for a service, by its name."""
    return {
        name: [Threshold(key, value, f"{name}'s own") for key, value in changes.items() if key in KEYS]
        for name, changes in policy.services.items()
    }


def _asked(charter: Charter | None) -> Policy:
    """What the charter alone would make. One of an older program may not be readable any more."""
    try:
        return Policy().with_overrides(charter.policy if charter else {})
    except BadOverride:
        return Policy()


def _source(policy: Policy, asked: Policy, written: Mapping[str, object], key: str) -> str:
    value = getattr(policy, key)
    if key in written and value == getattr(asked, key):
        return "charter"
    default = value == Policy.model_fields[key].default and key not in written
    return "default" if default else f"{ENVIRONMENT}{key.upper()}"


def _plain(value: object) -> str:
    if value is None:
        return "off"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meaning(key: str, value: object) -> str:
    """What the number means: (6 s), (2 %), (2 times), (16 nats)."""
    if isinstance(value, bool) or not isinstance(value, int):
        return ""
    match key.rpartition("_")[2]:
        case "ms":
            return f" ({span(value)})" if value >= 1_000 else ""
        case "permille":
            return f" ({tenths(value)} %)"
        case "milli":
            return f" ({value / 1000:g} times)"
        case "cn":
            return f" ({value / 100:g} nats)"
        case "polls":
            return f" ({many(value, 'poll')})"
        case _:
            return ""
