"""The commands that show, check and take out what the ledger proves, put together."""

from dataclasses import dataclass

from bot.access import Access
from bot.auditing import Auditing
from bot.auditing_ways import Ways
from bot.erasing import Eraser, Erasing
from bot.errands import Errands
from bot.reconciling import Reconciling


@dataclass(frozen=True, slots=True)
class Evidence:
    auditing: Auditing
    reconciling: Reconciling
    access: Access
    erasing: Erasing

    @classmethod
    def of(
        cls, errands: Errands, process: str, secret: bytes, eraser: Eraser, ways: Ways | None = None
    ) -> "Evidence":
        """All of them. *ways* are the links, where this program has an address that people can open."""
        return cls(
            Auditing(errands, ways),
            Reconciling(errands, process),
            Access(errands),
            Erasing(errands, secret, eraser),
        )
