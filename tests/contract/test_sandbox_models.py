"""The sandbox's Messages API, driven by the real anthropic client."""

import asyncio
import json

import anthropic
import pytest
from anthropic import AsyncAnthropic
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from bot.sandbox.models import Models, cause_of, evidence, sensible
from handlers.adapters.anthropic import Claude
from handlers.ports import Brief

KEY, A, B = "sk-ant-sandbox", "claude-haiku-5-5", "claude-sonnet-5-5"
PIECES = [
    {"id": "E1", "kind": "exception", "name": "POST /pay", "text": "POST /pay 31 × ValueError [new]"},
    {"id": "E2", "kind": "gauge", "name": "db_pool", "text": "db_pool 20 of 20 in use"},
    {"id": "E3", "kind": "commit", "name": "a1b2c3d", "text": "a1b2c3d “Fix ]} isolation” (John)"},
]


class Theory(BaseModel):
    cause: str
    component: str
    p: float
    evidence: list[str]
    check: str
    why: str


@pytest.fixture
async def server():
    models = Models(KEY)
    await models.start()
    yield models
    await models.close()


@pytest.fixture
async def client(server):
    async with AsyncAnthropic(api_key=KEY, base_url=server.url, max_retries=0, timeout=5) as client:
        yield client


def asked(model: str = A, pieces: list[dict[str, object]] = PIECES) -> dict[str, object]:
    said = json.dumps(pieces, ensure_ascii=False)
    turn = f"Service [checkout] is failing.\nEvidence:\n{said}\nName one cause."
    return {
        "model": model,
        "max_tokens": 400,
        "system": [{"type": "text", "text": "You name one cause."}],
        "messages": [{"role": "user", "content": turn}],
        "output_config": {"format": {"type": "json_schema", "schema": Theory.model_json_schema()}},
    }


def theory(message: anthropic.types.Message) -> Theory:
    return Theory.model_validate_json(message.content[0].text)


async def test_a_sensible_model_names_the_cause_of_the_strongest_evidence(client, server):
    message = await client.messages.create(**asked())
    said = theory(message)
    assert (said.cause, said.evidence, message.stop_reason) == ("database", ["E2", "E1"], "end_turn")
    assert "db_pool" in said.why
    assert server.asked[0].body["system"][0]["text"] == "You name one cause."


async def test_the_library_can_parse_the_answer_itself(client):
    call = {k: v for k, v in asked().items() if k != "output_config"}
    parsed = await client.messages.parse(**call, output_format=Theory)
    assert parsed.parsed_output.cause == "database"


async def test_two_models_agree_or_disagree_as_told(client, server):
    server.consensus("dependency")
    both = await asyncio.gather(*(client.messages.create(**asked(m)) for m in (A, B)))
    assert [theory(m).cause for m in both] == ["dependency", "dependency"]
    server.dissent(A, B)
    both = await asyncio.gather(*(client.messages.create(**asked(m)) for m in (A, B)))
    assert [(theory(m).cause, theory(m).p) for m in both] == [("database", 0.82), ("network", 0.76)]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("rate_limited", anthropic.RateLimitError),
        ("overloaded", anthropic._exceptions.OverloadedError),
        ("unauthorized", anthropic.AuthenticationError),
        ("broken", anthropic.InternalServerError),
    ],
)
async def test_a_vendor_in_trouble_raises_what_it_raises(client, server, behaviour, error):
    server.down(behaviour)
    with pytest.raises(error):
        await client.messages.create(**asked())


async def test_a_rate_limit_says_when_to_come_again(client, server):
    server.down("rate_limited")
    with pytest.raises(anthropic.RateLimitError) as limited:
        await client.messages.create(**asked())
    assert limited.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("behaviour", ["hang", "slow"])
async def test_a_model_that_takes_too_long_times_out(client, server, behaviour):
    server.down(behaviour)
    with pytest.raises(anthropic.APITimeoutError):
        await client.with_options(timeout=0.2).messages.create(**asked())


@pytest.mark.parametrize(
    ("behaviour", "stop"), [("refusal", "refusal"), ("truncated", "max_tokens"), ("garbage", "end_turn")]
)
async def test_an_unusable_answer_says_why_it_stopped(client, server, behaviour, stop):
    server.script(A, behaviour)
    message = await client.messages.create(**asked())
    assert message.stop_reason == stop
    text = message.content[0].text if message.content else ""
    with pytest.raises(ValueError, match=r"validation error"):
        Theory.model_validate_json(text)


async def test_a_tricked_model_brings_markup_and_instructions(client, server):
    server.script(A, "injection")
    assert "<script>" in theory(await client.messages.create(**asked())).why
    server.script(A, "out_of_range")
    assert theory(await client.messages.create(**asked())).p > 1


async def test_a_wrong_key_or_a_forbidden_parameter_is_refused(client, server):
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="sk-ant-stranger").messages.create(**asked())
    with pytest.raises(anthropic.BadRequestError, match="Extra inputs"):
        await client.messages.create(**asked(), extra_body={"temperature": 0.1})


def test_the_component_is_one_that_the_question_allows():
    properties = {"component": {"enum": ["db_pool", "POST /pay"]}, "check": {"enum": ["slow_log", "none"]}}
    body = asked() | {"output_config": {"format": {"schema": {"properties": properties}}}}
    assert (sensible(body)["component"], sensible(body)["check"]) == ("POST /pay", "slow_log")
    assert sensible(body, "dependency")["check"] == "none"


def test_a_model_that_must_defend_a_cause_cites_the_best_it_has():
    said = sensible(asked(), "deploy")
    assert (said["cause"], said["evidence"], said["p"]) == ("deploy", ["E3", "E1"], 0.85)
    said = sensible(asked(), "traffic")
    assert (said["cause"], said["evidence"], said["p"]) == ("traffic", ["E1"], 0.6)


async def test_two_sensible_models_of_one_council_agree(server):
    """As the bot asks: two lenses, of which both see the strongest suspect, and answers from closed lists."""
    seen = {"A": PIECES[:2], "B": [PIECES[0], PIECES[2] | {"kind": "exception", "text": "TimeoutError"}]}
    answers = []
    for lens, pieces in seen.items():
        components = tuple(piece["name"] for piece in pieces)
        brief = Brief(lens, "checkout-1", "checkout", "19 % fail", tuple(pieces), components, ("slow_log",))
        claude = Claude(A, KEY, base_url=server.url)
        answers.append(await claude.ask(brief))
        await claude.close()
    first, second = answers
    assert (first.cause, first.component, first.check) == (second.cause, second.component, second.check)
    assert first.cause == "database"
    assert set(first.evidence) & set(second.evidence)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("db_pool 20 of 20 in use", "database"),
        ("payments-api p95 4.9 s", "dependency"),
        ("deployed 3 min before: a1b2c3d", "deploy"),
        ("31 × TimeoutError", "database"),
        ("p95 rose from 30 to 900 ms", "capacity"),
        ("the moon is full", "unknown"),
    ],
)
def test_each_clue_speaks_for_its_cause(text, cause):
    assert cause_of({"kind": "", "text": text}) == cause


@given(st.lists(st.text(), min_size=1), st.text(alphabet="ab [", max_size=20))
def test_evidence_is_found_whatever_it_says_and_whatever_stands_before(texts, before):
    pieces = [{"id": f"E{i}", "text": text} for i, text in enumerate(texts)]
    body = {"messages": [{"role": "user", "content": f"{before}\n{json.dumps(pieces)} thanks [end]"}]}
    assert evidence(body) == pieces
