"""A question that was asked is still open after a restart, and a command is never its answer."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import conversation
from bot.conversation import (
    FLOWS,
    SPENT_S,
    TALK_S,
    Key,
    MemoryConversations,
    RedisConversations,
    State,
)
from ledger.clock import ManualClock
from tests.valkey import a_valkey, connected

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RUDO = Key("acme", "telegram", "1001")


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
async def redis():
    async with a_valkey() as server, connected(server) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def talks(request, clock):
    if request.param == "memory":
        return MemoryConversations(clock)
    return RedisConversations(request.getfixturevalue("redis"))


@pytest.fixture
def survey(monkeypatch):
    flow = {
        "size": State("How big?", takes=r"\d+", else_say="A number, please.", next="colour"),
        "colour": State("Which colour?"),
    }
    monkeypatch.setattr(conversation, "FLOWS", {**FLOWS, "survey": flow})


async def test_a_typed_reason_ends_the_question_that_deny_asked(talks):
    asked = await talks.begin("deny", RUDO, {"incident": "checkout-3"})
    assert "Why?" in asked.say
    assert not asked.done
    step = await talks.feed(RUDO, "  it is only a load test ")
    assert (step.flow, step.done) == ("deny", True)
    assert step.data == {"incident": "checkout-3", "reason": "it is only a load test"}


async def test_words_outside_a_conversation_belong_to_none(talks):
    assert await talks.feed(RUDO, "hello") is None
    await talks.begin("deny", RUDO, {})
    for other in (replace(RUDO, tenant="x"), replace(RUDO, channel="w"), replace(RUDO, vendor_id="2")):
        assert await talks.feed(other, "hello") is None


async def test_after_the_answer_the_conversation_is_over(talks):
    await talks.begin("deny", RUDO, {})
    assert (await talks.feed(RUDO, "noise")).done
    assert await talks.feed(RUDO, "by the way") is None


async def test_the_same_message_handled_again_means_the_same(talks):
    await talks.begin("deny", RUDO, {})
    first = await talks.feed(RUDO, "noise")
    assert await talks.feed(RUDO, "noise") == first


async def test_a_step_leads_to_the_next_and_a_wrong_answer_to_the_same(talks, survey):
    assert (await talks.begin("survey", RUDO, {})).say == "How big?"
    assert (await talks.feed(RUDO, "huge")).say == "A number, please."
    assert (await talks.feed(RUDO, "7")).say == "Which colour?"
    last = await talks.feed(RUDO, "red")
    assert (last.done, last.data) == (True, {"size": "7", "colour": "red"})


async def test_a_command_is_no_answer_and_cancel_ends_it(talks):
    await talks.begin("deny", RUDO, {})
    assert await talks.feed(RUDO, "/status") is None
    step = await talks.feed(RUDO, "/cancel")
    assert (step.cancelled, step.done) == (True, False)
    assert await talks.feed(RUDO, "noise") is None


async def test_a_new_conversation_takes_the_place_of_the_old_one(talks):
    await talks.begin("deny", RUDO, {"incident": "checkout-3"})
    await talks.begin("link", RUDO, {})
    assert "That is no code" in (await talks.feed(RUDO, "it is a test")).say
    assert (await talks.feed(RUDO, "48121990")).data == {"code": "48121990"}


async def test_a_restart_forgets_nothing(redis):
    await RedisConversations(redis).begin("deny", RUDO, {"incident": "checkout-3"})
    step = await RedisConversations(redis).feed(RUDO, "noise")
    assert step.data == {"incident": "checkout-3", "reason": "noise"}


async def test_a_conversation_ends_after_ten_minutes(clock):
    talks = MemoryConversations(clock)
    await talks.begin("deny", RUDO, {})
    clock.advance(TALK_S)
    assert await talks.feed(RUDO, "noise") is None


async def test_redis_forgets_in_the_same_time(redis):
    talks = RedisConversations(redis)
    await talks.begin("deny", RUDO, {})
    assert TALK_S - 5 < await redis("TTL", str(RUDO)) <= TALK_S
    await talks.feed(RUDO, "noise")
    assert SPENT_S - 5 < await redis("TTL", str(RUDO)) <= SPENT_S


@given(st.text())
async def test_no_text_is_an_error(text):
    talks = MemoryConversations(ManualClock(NOON))
    await talks.begin("link", RUDO, {})
    step = await talks.feed(RUDO, text)
    assert step is None or step.done or step.say


def test_every_flow_ends():
    for flow in FLOWS.values():
        state, seen = next(iter(flow)), []
        while state:
            assert state not in seen
            seen.append(state)
            assert flow[state].prompt
            assert re.compile(flow[state].takes)
            state = flow[state].next
