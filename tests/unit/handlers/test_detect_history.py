"""The half hour of a service outlives the process that measured it, as the folded state does."""

import json
from itertools import pairwise

from handlers.detect import Detect
from tests.unit.handlers.test_detect import world


class Shelf:
    """States in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def load(self, tenant, service):
        return self.texts.get(service)

    async def save(self, tenant, states):
        self.texts |= states


async def test_a_new_process_goes_on_with_the_half_hour_of_the_one_before():
    here, shelf = await world(), Shelf()
    await here.goes(200)
    await here.is_silent(120)
    await here.goes(100)
    await here.detect.keep(shelf)
    before = here.detect.seen["checkout"].history
    assert max(b.began_ms - a.at_ms for a, b in pairwise(before)) == 120_000
    here.detect = Detect(here.acme.room.ledger, here.acme.room.rulebook)
    await here.detect.restore(shelf, "checkout")
    assert here.detect.seen["checkout"].history == before
    await here.goes(60)
    assert here.detect.seen["checkout"].history[: len(before)] == before
    assert sum(one.n for one in here.detect.seen["checkout"].history[len(before) :]) >= 60 * 20


async def test_a_state_from_before_there_was_a_history_is_taken_up_without_one():
    here, shelf = await world(), Shelf()
    await here.goes(100)
    await here.detect.keep(shelf)
    kept = json.loads(shelf.texts["checkout"])
    del kept["history"]
    shelf.texts["checkout"] = json.dumps(kept)
    other = Detect(here.acme.room.ledger, here.acme.room.rulebook)
    await other.restore(shelf, "checkout")
    assert other.seen["checkout"].history == ()
    assert other.seen["checkout"].state == here.detect.seen["checkout"].state
