"""What an app signed for, against what was authorized: the third leg of the reconciliation. Pure.

An app may sign with a secret that the bot does not hold. Then the bot records the receipt as *unchecked*, and
whoever holds the secret checks it from the entries alone: an auditor, not the operator.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdk import receipt

MATCHES, UNCHECKED, DIFFERS, NONE = "matches", "unchecked", "differs", "none"
SIGNED = frozenset({MATCHES, UNCHECKED})


class Raw(Protocol):
    """One entry, or a part of one, as the JSON that it is: a dict, or what is read like one."""

    def __getitem__(self, name: str, /) -> Any: ...

    def get(self, name: str, otherwise: Any, /) -> Any: ...


@dataclass(slots=True)
class Count:
    """What one app has signed for: its highest count, the entry of each, and whether one was checked here."""

    highest: int = -1
    seen: dict[int, int] = field(default_factory=dict)
    checked: bool = False

    def take(self, kind: str, counter: int, seq: int) -> None:
        """Count a run that was signed for and found to be right."""
        if kind in SIGNED:
            self.seen[counter] = seq
            self.highest = max(self.highest, counter)
            self.checked |= kind == MATCHES


class Secrets:
    """The secrets of apps that who reconciles holds, by the id that a receipt names."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        self._by_id = {receipt.key_id(one): one for one in secrets}

    def judge(self, entry: Raw, action: str) -> str:
        """What the receipt in *entry* (Executed) is, read with our secrets: a word of `Executed.receipt`."""
        data = entry["data"]
        told: str = data.get("receipt", NONE)
        secret = self._by_id.get(data.get("receipt_key_id", ""))
        if told not in SIGNED or secret is None:
            return told
        return MATCHES if receipt.is_genuine(secret, _again(data, entry["ref"]["hash"], action)) else DIFFERS


def _again(data: Raw, key: str, action: str) -> Mapping[str, object]:
    """The receipt as the app sent it."""
    return {
        "action": action,
        "idempotency_key": key,
        "result": "ok",
        "counter": data.get("receipt_counter", 0),
        "at_ms": data.get("receipt_at_ms", 0),
        "key_id": data.get("receipt_key_id", ""),
        "signature": data.get("receipt_signature", ""),
    }


def wrong(kind: str, counter: int, floor: int | None, count: Count, service: str) -> str:
    """What is wrong with a run's receipt, or an empty text. An app that never signs has none to miss.

    *floor* is the app's highest count when the run began.
    """
    if kind not in SIGNED | {NONE}:
        return "the app's receipt is for something else, or is not genuine"
    if kind == NONE:
        return f"{service} signed for runs before, and not for this one" if count.seen else ""
    if counter in count.seen:
        return f"the app's count {counter} stands at #{count.seen[counter]} too"
    if floor is not None and counter <= floor:
        return f"the app's count is {counter}, and was {floor} before this began"
    if kind == UNCHECKED and count.checked:
        return f"{service} signed for runs before with a secret that is held here, and not for this one"
    return ""
