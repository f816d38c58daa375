"""What one might do about the health of an app: one word, and the rule that named it. Advice only. Pure.

The first rule that holds names it. A restart is suggested where the app hangs or is full, because that is
what a restart mends; never for errors or slowness alone, whose cause may lie elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Components = Mapping[str, int]
NOTIFY, ALERT, RESTART, NONE = "notify", "alert", "restart", "none"
ACTIONS = (NOTIFY, ALERT, RESTART, NONE)


def _worst(components: Components) -> str:
    return min(components, key=lambda name: components[name])


RULES: dict[str, tuple[Callable[[str, Components], bool], str, str]] = {
    "hung": (
        lambda status, all: status == "critical" and _worst(all) == "hangs",
        RESTART,
        "requests hang, and nothing else is worse",
    ),
    "exhausted": (
        lambda status, all: status == "critical" and _worst(all) == "saturation",
        RESTART,
        "something is full, and nothing else is worse",
    ),
    "critical": (lambda status, all: status == "critical", ALERT, "a component is critical"),
    "degraded": (lambda status, all: status == "warning", NOTIFY, "a component is below normal"),
    "well": (lambda status, all: True, NONE, "every component is normal"),
}


def suggest(status: str, components: Components) -> dict[str, object]:
    """Return the keys *suggested_action* and *suggested_by* of ``health/1``."""
    for rule, (holds, action, why) in RULES.items():
        if holds(status, components):
            return {
                "suggested_action": action,
                "suggested_by": {"rule": rule, "component": _worst(components), "why": why},
            }
    raise AssertionError("the last rule always holds")
