"""What models cost, and what may still be spent today. Pure.

* A charter names prices; a model that it does not price counts as dear, so that the limit errs to its side.
* What a vendor did not say (an answer that came too late, or in no known form) counts as the most that one
  question can cost. What was never asked, refused at the door or not taken counts nothing: a vendor that is
  down for hours does not use up the day.
* A day is UTC's. What was spent stands in the ledger, so that a restart forgets nothing; only what was asked
  for an incident that closed before the answer came stands nowhere.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

from handlers.charter import Charter
from handlers.ports import Outcome, Usage
from ledger.view import DAY_MS, View

DEAR = (Decimal(5), Decimal(25))
"""Dollars for a million tokens, in and out, where the charter has no price: more than any that we know."""
MOST = Usage(8_000, 2_048)
"""What one question costs at most: two tries of at most four thousand tokens in and 1,024 out."""
NOTHING = Usage()
FREE = frozenset(
    {
        Outcome.NO_KEY,
        Outcome.UNAUTHORIZED,
        Outcome.RATE_LIMITED,
        Outcome.OVERLOADED,
        Outcome.UNAVAILABLE,
        Outcome.SPENT,
    }
)
"""The vendor did no work for these."""


def used(outcome: Outcome, said: Usage | None) -> Usage:
    """What a question counts that came to *outcome*, where the vendor *said* what it used, or did not."""
    if said is not None:
        return said
    return NOTHING if outcome in FREE else MOST


def cost_micros(charter: Charter, model: str, usage: Usage) -> int:
    """In millionths of a dollar, rounded up."""
    priced: Mapping[str, tuple[Decimal, Decimal]] = {
        one.model: (Decimal(one.input_usd), Decimal(one.output_usd)) for one in charter.limits.prices
    }
    into, out = priced.get(model, DEAR)
    return int((usage.input_tokens * into + usage.output_tokens * out).to_integral_value(ROUND_CEILING))


def left_micros(charter: Charter, view: View, now_ms: int) -> int:
    """What may still be spent on the day of *now_ms*; negative where more was."""
    day, spent = view.spent
    whole = int(Decimal(charter.limits.model_usd_per_day) * 1_000_000)
    return whole - (spent if day == now_ms // DAY_MS else 0)


def is_spent(charter: Charter, model: str, view: View, now_ms: int, reserved_micros: int = 0) -> bool:
    """Whether *model* may not be asked any more today. *reserved_micros* is out for questions under way."""
    left = left_micros(charter, view, now_ms) - reserved_micros
    return left < cost_micros(charter, model, MOST)
