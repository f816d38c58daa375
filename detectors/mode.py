"""How much of Countersign itself works: three facts in, one mode out, as a table.

A mode is shown to people and limits what is tried, never what is told.
"""

from collections.abc import Mapping
from enum import StrEnum


class Mode(StrEnum):
    NORMAL = "NORMAL"
    DEGRADED = "DEGRADED"
    EMERGENCY = "EMERGENCY"


MODES: Mapping[tuple[bool, bool, bool], Mode] = {
    # redis, sends, polls
    (True, True, True): Mode.NORMAL,
    (True, True, False): Mode.DEGRADED,
    (True, False, True): Mode.DEGRADED,
    (True, False, False): Mode.EMERGENCY,
    (False, True, True): Mode.EMERGENCY,
    (False, True, False): Mode.EMERGENCY,
    (False, False, True): Mode.EMERGENCY,
    (False, False, False): Mode.EMERGENCY,
}

MAY_EXECUTE: Mapping[Mode, bool] = {Mode.NORMAL: True, Mode.DEGRADED: True, Mode.EMERGENCY: False}


def mode(*, redis_ok: bool, sends_ok: bool, polls_ok: bool) -> Mode:
    """Return the mode that follows from what worked lately."""
    return MODES[redis_ok, sends_ok, polls_ok]
