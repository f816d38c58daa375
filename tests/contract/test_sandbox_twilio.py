"""The sandbox's Twilio server, driven by the real twilio client and held against the published schema."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.rest.content.v1.content import ContentList

from bot.sandbox.loopback import Bell, serve
from bot.sandbox.twilio import Twilio, segments, signature

ACCOUNT, TOKEN, RUDO, SENDER = "AC" + "0" * 32, "t0ken", "+263770000001", "+14155238886"
SHARED = Path(__file__).parents[3] / "shared"
SPEC = SHARED / "specs" / "twilio_messages_calls.json"
CAPTURED = SHARED / "fixtures" / "twilio" / "whatsapp_quick_reply.form.json"
BODY = "Approval needed for {{1}}: {{2}}. Reply RUN {{3}} to run it."


class Receiver:
    """Our side: it keeps what Twilio posts, and whether the signature was right for the address."""

    def __init__(self) -> None:
        self.inbound: list[dict[str, str]] = []
        self.statuses: list[dict[str, str]] = []
        self.signed: list[bool] = []
        self.bell = Bell()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        form = await request.post()
        right = RequestValidator(TOKEN).validate(
            self.url + request.path_qs, form, request.headers.get("X-Twilio-Signature", "")
        )
        self.signed.append(right)
        kept = self.statuses if request.path.endswith("status") else self.inbound
        kept.append(dict(form))
        self.bell.ring()
        return web.Response(text="<Response/>", content_type="text/xml")


@pytest.fixture
async def receiver():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/twilio/{what}", receiver.take)
    served = await serve(app)
    receiver.url = served.url
    yield receiver
    await served.close()


@pytest.fixture
async def server(receiver):
    twilio = Twilio(ACCOUNT, TOKEN, SENDER)
    twilio.add_person(RUDO, "Rudo")
    twilio.inbound_url = f"{receiver.url}/twilio/whatsapp"
    await twilio.start()
    yield twilio
    await twilio.close()


@pytest.fixture
def client(server):
    client = Client(ACCOUNT, TOKEN)
    client.api.base_url = client.content.base_url = server.url
    yield client
    client.http_client.session.close()


async def sent(client: Client, receiver: Receiver, **message: Any) -> Any:
    message = {"to": f"whatsapp:{RUDO}", "from_": f"whatsapp:{SENDER}"} | message
    return await asyncio.to_thread(
        client.messages.create, status_callback=f"{receiver.url}/twilio/status", **message
    )


async def content(client: Client, body: str = BODY, titles: tuple[str, ...] = ("Approve", "Deny")) -> Any:
    actions = [{"type": "QUICK_REPLY", "title": title, "id": f"v1|{title}"} for title in titles]
    request = ContentList.ContentCreateRequest(
        {
            "friendly_name": "cs_request",
            "language": "en",
            "variables": {"1": "checkout", "2": "19 % fail", "3": "4812"},
            "types": ContentList.Types(
                {"twilio/quick-reply": ContentList.TwilioQuickReply({"body": body, "actions": actions})}
            ),
        }
    )
    return await asyncio.to_thread(client.content.v1.contents.create, content_create_request=request)


async def statuses(receiver: Receiver, sid: str, last: str) -> list[str]:
    def mine() -> list[str]:
        return [form["MessageStatus"] for form in receiver.statuses if form["MessageSid"] == sid]

    await receiver.bell.until(lambda: last in mine(), 5)
    return mine()


async def test_inside_the_window_free_text_is_delivered(server, client, receiver):
    await server.say(RUDO, "status")
    message = await sent(client, receiver, body="1 incident is open.")
    assert (message.status, message.direction, message.body) == (
        "queued",
        "outbound-api",
        "1 incident is open.",
    )
    assert await statuses(receiver, message.sid, "delivered") == ["sent", "delivered"]
    assert all(receiver.signed)


async def test_outside_the_window_free_text_is_taken_and_then_fails_with_63016(server, client, receiver):
    message = await sent(client, receiver, body="1 incident is open.")
    assert message.status == "queued"
    assert await statuses(receiver, message.sid, "failed") == ["failed"]
    assert receiver.statuses[-1]["ErrorCode"] == "63016"
    fetched = await asyncio.to_thread(client.messages(message.sid).fetch)
    assert (fetched.status, fetched.error_code) == ("failed", 63016)


async def test_the_window_closes_after_a_day(server, client, receiver):
    await server.say(RUDO, "status")
    server.open_window(RUDO, opened=False)
    message = await sent(client, receiver, body="too late")
    assert await statuses(receiver, message.sid, "failed") == ["failed"]


async def test_an_approved_template_gets_through_at_any_hour(server, client, receiver):
    made = await content(client)
    assert (await sent(client, receiver, content_sid=made.sid)).status == "queued"
    await receiver.bell.until(lambda: receiver.statuses, 5)
    assert receiver.statuses[-1]["ErrorCode"] == "63016"
    async with aiohttp.ClientSession(headers=login()) as session:
        url = f"{server.url}/v1/Content/{made.sid}/ApprovalRequests/whatsapp"
        async with session.post(url, json={"name": "cs_request", "category": "UTILITY"}) as answer:
            assert (await answer.json())["status"] == "approved"
    variables = json.dumps({"1": "billing", "2": "p95 is 4 s", "3": "5190"})
    message = await sent(client, receiver, content_sid=made.sid, content_variables=variables)
    assert await statuses(receiver, message.sid, "delivered") == ["sent", "delivered"]
    kept = server.texts[message.sid]
    assert kept.body == "Approval needed for billing: p95 is 4 s. Reply RUN 5190 to run it."
    assert [(b.title, b.id) for b in kept.buttons] == [("Approve", "v1|Approve"), ("Deny", "v1|Deny")]


async def test_a_session_takes_three_quick_replies_without_approval_and_not_four(server, client, receiver):
    server.open_window(RUDO)
    three = await content(client, titles=("Approve", "Deny", "I am on it"))
    message = await sent(client, receiver, content_sid=three.sid)
    assert await statuses(receiver, message.sid, "delivered") == ["sent", "delivered"]
    four = await content(client, titles=("a", "b", "c", "d"))
    message = await sent(client, receiver, content_sid=four.sid)
    assert await statuses(receiver, message.sid, "undelivered") == ["undelivered"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{{1}} needs you: {{2}} and {{3}}.", "starts or ends with a variable"),
        ("Needs you: {{1}} {{2}} now.", "side by side"),
        ("Needs you: {{4}} now.", "No sample value for variable 4"),
    ],
)
async def test_whatsapp_rejects_what_it_always_rejects(server, client, body, why):
    made = await content(client, body=body)
    server.contents[made.sid].submit()
    assert server.contents[made.sid].approval == "rejected"
    assert why in server.contents[made.sid].why


async def test_a_long_button_title_or_a_form_encoded_template_is_refused(server, client):
    with pytest.raises(TwilioRestException, match="title must have 1 to 20"):
        await content(client, titles=("x" * 21,))
    async with (
        aiohttp.ClientSession(headers=login()) as session,
        session.post(f"{server.url}/v1/Content", data={"language": "en"}) as answer,
    ):
        assert answer.status == 415


async def test_a_tap_arrives_signed_with_the_fields_of_a_captured_one(server, client, receiver):
    server.open_window(RUDO)
    made = await content(client)
    message = await sent(client, receiver, content_sid=made.sid)
    await statuses(receiver, message.sid, "delivered")
    await server.tap(RUDO, server.texts[message.sid], "Approve")
    form = receiver.inbound[-1]
    assert (form["ButtonPayload"], form["Body"]) == ("v1|Approve", "Approve")
    assert form["OriginalRepliedMessageSid"] == message.sid
    assert all(receiver.signed)
    if not CAPTURED.exists():
        pytest.skip("the captured quick reply is not beside this repository")
    captured = json.loads(CAPTURED.read_text())
    assert form.keys() == captured.keys()
    assert shape(form) == shape(captured)


def shape(form: dict[str, str]) -> dict[str, str]:
    """The fields with letters and digits blurred, but for those that a person chose."""
    chosen = {"Body", "ButtonText", "ButtonPayload", "ProfileName", "ChannelMetadata", "WaId", "From", "To"}
    return {
        name: re.sub(r"[0-9a-f]{15,}", "…", value)
        for name, value in form.items()
        if name
        not in chosen | {"OriginalRepliedMessageSid", "OriginalRepliedMessageSender", "ExternalUserId"}
    }


async def test_a_swipe_names_the_message_and_plain_text_does_not(server, client, receiver):
    server.open_window(RUDO)
    message = await sent(client, receiver, body="Approve?")
    await statuses(receiver, message.sid, "delivered")
    await server.say(RUDO, "RUN", server.texts[message.sid])
    await server.say(RUDO, "yes")
    swiped, plain = receiver.inbound
    assert swiped["OriginalRepliedMessageSid"] == message.sid
    assert "OriginalRepliedMessageSid" not in plain
    assert "ButtonPayload" not in swiped
    assert server.inbound_statuses == [200, 200]


async def test_a_tap_on_a_button_that_is_not_there_is_an_error_of_the_play(server, client, receiver):
    server.open_window(RUDO)
    message = await sent(client, receiver, body="no buttons")
    with pytest.raises(LookupError):
        await server.tap(RUDO, server.texts[message.sid], "Approve")


async def test_a_number_without_whatsapp_is_undeliverable(server, client, receiver):
    message = await sent(client, receiver, to="whatsapp:+263779999999", body="hi")
    assert await statuses(receiver, message.sid, "undelivered") == ["undelivered"]
    assert receiver.statuses[-1]["ErrorCode"] == "63024"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"body": ""}, 21602),
        ({"body": "x" * 1601}, 21617),
        ({"to": "whatsapp:12", "body": "x"}, 21211),
        ({"to": RUDO, "body": "x"}, 63007),
        ({"content_sid": "HX" + "0" * 32}, 21655),
    ],
)
async def test_the_api_refuses_with_twilios_codes(client, receiver, server, message, code):
    with pytest.raises(TwilioRestException) as refused:
        await sent(client, receiver, **message)
    assert refused.value.code == code


async def test_a_wrong_token_and_a_sick_vendor_are_told(server, client, receiver):
    stranger = Client(ACCOUNT, "wrong")
    stranger.api.base_url = server.url
    with pytest.raises(TwilioRestException) as refused:
        await sent(stranger, receiver, body="x")
    stranger.http_client.session.close()
    assert refused.value.status == 401
    server.mood = 503
    with pytest.raises(TwilioRestException) as refused:
        await sent(client, receiver, body="x")
    assert refused.value.status == 503


async def test_missed_messages_can_be_listed(server, client, receiver):
    await server.say(RUDO, "first")
    await server.say(RUDO, "second")
    await sent(client, receiver, body="answer")
    listed = await asyncio.to_thread(client.messages.list, to=f"whatsapp:{SENDER}")
    assert [(m.body, m.direction) for m in listed] == [("second", "inbound"), ("first", "inbound")]
    contents = await asyncio.to_thread(client.content.v1.contents.list)
    assert contents == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("x" * 160, 1), ("x" * 161, 2), ("€" * 80, 1), ("€" * 81, 2), ("—" * 70, 1), ("—" * 71, 2), ("", 1)],
)
def test_segments_are_counted_as_a_network_does(text, count):
    assert segments(text) == count


def test_the_signature_is_the_librarys_own():
    url, form = "https://acme.example/twilio/whatsapp?a=b", {"To": "+1", "Body": "é", "Empty": ""}
    assert signature(TOKEN, url, form) == RequestValidator(TOKEN).compute_signature(url, form)


def login() -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, TOKEN)}


@pytest.mark.skipif(not SPEC.exists(), reason="Twilio's published schema is not beside this repository")
async def test_every_message_has_the_published_shape(server, client, receiver):
    await server.say(RUDO, "status")
    await sent(client, receiver, body="answer")
    server.open_window(RUDO, opened=False)
    failed = await sent(client, receiver, body="never")
    await statuses(receiver, failed.sid, "failed")
    url = f"{server.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    async with aiohttp.ClientSession(headers=login()) as session, session.get(url) as answer:
        page = await answer.json()
    spec = json.loads(SPEC.read_text())
    path = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
    listed = spec["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert page.keys() == listed["properties"].keys()
    assert len(page["messages"]) == 3
    for message in page["messages"]:
        assert faults(spec, message, "api.v2010.account.message") == []


def faults(spec: dict[str, Any], value: dict[str, Any], schema: str) -> list[str]:
    """What is wrong with *value*, measured by the published properties."""
    properties = spec["components"]["schemas"][schema]["properties"]
    found = [f"{name} is unknown" for name in value.keys() - properties.keys()]
    found += [f"{name} is missing" for name in properties.keys() - value.keys()]
    for name in value.keys() & properties.keys():
        about = properties[name]
        if "$ref" in about:
            about = spec["components"]["schemas"][about["$ref"].rsplit("/", 1)[-1]]
        if not fits(value[name], about):
            found.append(f"{name}: {value[name]!r} does not fit")
    return found


def fits(value: Any, about: dict[str, Any]) -> bool:
    if value is None:
        return bool(about.get("nullable"))
    kind = {"string": str, "integer": int, "object": dict}[about["type"]]
    patterned = "pattern" not in about or re.fullmatch(about["pattern"], value)
    return isinstance(value, kind) and bool(patterned) and value in about.get("enum", [value])
