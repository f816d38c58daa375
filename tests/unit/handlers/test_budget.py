"""What models cost is counted; when the day's budget is gone nobody is asked, and all else goes on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cards import Notes, Reader, render
from handlers import budget
from handlers.charter import parse
from handlers.ports import NoOpinion, Outcome, Usage
from ledger import events as ev
from ledger.machine import Stage
from ledger.view import DAY_MS
from tests.council_room import CHARTER, Room, Scripted, opinion
from tests.unit.bot.stories import START, Story
from tests.unit.bot.stories import charter as shop

PRICES = """
[limits]
model_usd_per_day = "{limit}"
prices = [
  {{ model = "haiku", input_usd = "1.00", output_usd = "5.00" }},
  {{ model = "sonnet", input_usd = "1.00", output_usd = "5.00" }},
]
"""
MOST = 8_000 * 1 + 2_048 * 5
"""What one question costs at most at these prices, in millionths of a dollar."""


def priced(limit: str) -> str:
    return CHARTER + PRICES.format(limit=limit)


def both(first=None, second=None) -> dict[str, Scripted]:
    return {"A": Scripted("haiku", first), "B": Scripted("sonnet", second)}


def costing(tokens_in: int, tokens_out: int):
    return replace(opinion(), usage=Usage(tokens_in, tokens_out))


async def asked(limit: str, first, second) -> Room:
    room = Room(both(first, second), priced(limit))
    await room.open()
    await room.run()
    return room


async def test_what_each_answer_cost_stands_in_its_entry_and_adds_up():
    room = await asked("2.00", costing(1_500, 200), costing(1_000, 0))
    a, b = room.incident.diagnoses()["A"], room.incident.diagnoses()["B"]
    assert (a.input_tokens, a.output_tokens, a.cost_micros) == (1_500, 200, 2_500)
    assert b.cost_micros == 1_000
    assert room.ledger.view.spent == (room.now_ms // DAY_MS, 3_500)


async def test_when_the_budget_does_not_cover_a_question_nobody_is_asked_and_people_are_at_once():
    room = await asked("0.00", opinion(), opinion())
    assert room.outcomes() == {"A": "spent", "B": "spent"}
    assert [model.asked for model in room.models.values()] == [[], []]
    assert room.stage is Stage.VALIDATED
    assert room.incident.opened_ms == room.now_ms
    assert room.request.options[0].action == "restart_workers"
    assert room.request.reason.startswith("No model was asked, today's budget for them is spent")


async def test_two_questions_at_once_do_not_spend_the_same_money():
    room = await asked("0.02", costing(10, 1), costing(10, 1))
    assert sorted(room.outcomes().values()) == ["answered", "spent"]


async def test_what_was_spent_is_known_after_a_restart_and_forgotten_the_next_day():
    room = await asked("0.05", costing(8_000, 2_048), costing(8_000, 2_048))
    charter, view = parse(priced("0.05")), room.ledger.view
    assert budget.left_micros(charter, view, room.now_ms) == 50_000 - 2 * MOST
    assert budget.is_spent(charter, "haiku", view, room.now_ms)
    assert budget.left_micros(charter, view, room.now_ms + DAY_MS) == 50_000
    assert not budget.is_spent(charter, "haiku", view, room.now_ms + DAY_MS)


@pytest.mark.parametrize(
    ("failed", "cost"),
    [
        (NoOpinion(Outcome.MALFORMED, usage=Usage(100, 10)), 150),
        (NoOpinion(Outcome.MALFORMED), MOST),
        (NoOpinion(Outcome.UNAVAILABLE), 0),
        (NoOpinion(Outcome.RATE_LIMITED), 0),
        (NoOpinion(Outcome.OVERLOADED), 0),
        (NoOpinion(Outcome.UNAUTHORIZED), 0),
    ],
)
async def test_a_failure_counts_what_it_used_and_the_most_where_nobody_knows(failed, cost):
    room = await asked("2.00", failed, costing(0, 0))
    assert room.incident.diagnoses()["A"].cost_micros == cost


async def test_a_model_that_hangs_counts_the_most():
    room = await asked("2.00", None, costing(0, 0))
    await room.run(12)
    assert room.incident.diagnoses()["A"].cost_micros == MOST


def test_a_model_without_a_price_is_dear():
    charter = parse(priced("2.00"))
    assert budget.cost_micros(charter, "unknown", Usage(1_000, 100)) == 1_000 * 5 + 100 * 25
    assert budget.cost_micros(charter, "haiku", Usage(1_000, 100)) == 1_500


@given(st.lists(st.tuples(st.integers(0, 8_000), st.integers(0, 2_048)), max_size=60))
def test_whatever_is_used_a_day_never_costs_more_than_its_limit(answers):
    charter = parse(priced("0.25"))
    spent = 0
    for into, out in answers:
        if 250_000 - spent >= budget.cost_micros(charter, "haiku", budget.MOST):
            spent += budget.cost_micros(charter, "haiku", Usage(into, out))
    assert spent <= 250_000


def test_the_card_says_that_nobody_was_asked_and_why():
    story = Story().detected()
    for lens in "AB":
        story.diagnosed(lens, None, after_s=0)
    told = [
        replace(fact, event=fact.event.model_copy(update={"outcome": "spent"}))
        if isinstance(fact.event, ev.Diagnosed)
        else fact
        for fact in story.incident.facts
    ]
    story.incident = replace(story.incident, facts=tuple(told))
    looking = render(story.incident, shop(), Reader.of(shop(), "rudo"), START, notes=Notes()).html
    assert "No model is asked: today's budget for them is spent." in looking
    story.asked(verdict="NONE")
    html = render(story.incident, shop(), Reader.of(shop(), "rudo"), START, notes=Notes()).html
    assert "<b>No model was asked</b>: today's budget for them, $2.00, is spent. This is policy alone" in html
