"""Twilio: messages, contents and signatures. The only file that knows the twilio package.

1. Every call ends within ten seconds: the asynchronous client ignores the timeout it is given (twilio-python
   #925), so each stands in one of ours. Nothing is retried here: the outbox does that.
2. Contents are written by the synchronous client, in a thread: the asynchronous one sends JSON as a form
   (twilio-python #932).
3. Every refusal becomes a SendError, and none names a number: what it says may stand in the ledger.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from multidict import MultiDict
from twilio.base.exceptions import TwilioException, TwilioRestException  # type: ignore[import-untyped]
from twilio.http.async_http_client import AsyncTwilioHttpClient  # type: ignore[import-untyped]
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]
from twilio.request_validator import RequestValidator, get_signature_algorithm  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from bot.ports import SendError
from bot.settings import Twilio
from ledger.view import epoch_ms

CALL_S = 10.0
CONTENT_BASE = "https://content.twilio.com"
MOST_RECEIVED = 500
MOST_PAGES = 20
SIGNATURE, ALGORITHM = "X-Twilio-Signature", "X-Twilio-Webhooks-Signature-Settings"
_NUMBER = re.compile(r"(?:whatsapp:)?\+?\d{7,15}\b")

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """A message that somebody sent us, as Twilio lists it: without what it replies to."""

    sid: str
    number: str
    body: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Approval:
    """Where a content stands in WhatsApp's review: unsubmitted, received, pending, approved, rejected, …"""

    status: str
    why: str = ""


class _Http(AsyncTwilioHttpClient):  # type: ignore[misc]
    """Twilio's own client, which signs in by a header: the class that it uses leaves with aiohttp 4."""

    async def request(
        self, method: str, url: str, *, auth: tuple[str, str], headers: Json, **more: Any
    ) -> Any:
        signed_in = headers | {"Authorization": aiohttp.encode_basic_auth(*auth)}
        return await super().request(method, url, headers=signed_in, **more)


class TwilioApi:
    """One account and one WhatsApp sender. Made inside the running loop; ended by `close`."""

    def __init__(self, settings: Twilio) -> None:
        login = (settings.account_sid, settings.auth_token)
        self.number = settings.whatsapp_from.removeprefix("whatsapp:")
        self._http = _Http()
        self._client = Client(*login, http_client=self._http, environment={})
        self._in_thread = Client(*login, http_client=TwilioHttpClient(timeout=CALL_S), environment={})
        self._contents = f"{settings.api_base or CONTENT_BASE}/v1/Content"
        self._validator = RequestValidator(settings.auth_token)
        if settings.api_base:
            self._client.api.base_url = settings.api_base

    async def close(self) -> None:
        await self._http.close()
        self._in_thread.http_client.session.close()

    async def send(self, number: str, message: Mapping[str, str], callback: str = "") -> str:
        """Send *message* (`body`, or `content_sid` and `content_variables`): its sid. Raises SendError."""
        about = {"to": f"whatsapp:{number}", "from_": f"whatsapp:{self.number}", **message}
        if callback:
            about["status_callback"] = callback
        with _translated():
            async with asyncio.timeout(CALL_S):
                return str((await self._client.messages.create_async(**about)).sid)

    async def received(self, since: datetime) -> Sequence[Received]:
        """What people sent us after *since*, the newest first. Raises SendError."""
        with _translated():
            async with asyncio.timeout(CALL_S):
                listed = await self._client.messages.list_async(
                    to=f"whatsapp:{self.number}", date_sent_after=since, limit=MOST_RECEIVED
                )
        found = [_received(one) for one in listed if one.direction == "inbound"]
        return [one for one in found if one.at_ms >= epoch_ms(since)]

    def signed(self, url: str, fields: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> bool:
        """Whether Twilio sent *fields*, all that came, to exactly *url*."""
        given, how = headers.get(SIGNATURE, ""), get_signature_algorithm(headers.get(ALGORITHM, ""))
        return bool(given) and bool(self._validator.validate(url, MultiDict(fields), given, how))

    async def contents(self) -> Sequence[Json]:
        """All contents of the account. Raises SendError."""
        found: list[Json] = []
        url: str | None = f"{self._contents}?PageSize=100"
        for _ in range(MOST_PAGES):
            if not url:
                break
            page = await self._content("GET", url)
            found += page.get("contents", [])
            url = page.get("meta", {}).get("next_page_url")
        return found

    async def make_content(self, content: Json) -> str:
        """Create a content; returns its sid. Raises SendError."""
        return str((await self._content("POST", self._contents, content))["sid"])

    async def submit(self, sid: str, name: str) -> Approval:
        """Ask WhatsApp to approve a content under *name*, as a utility. Raises SendError."""
        url = f"{self._contents}/{sid}/ApprovalRequests/whatsapp"
        return _approval(await self._content("POST", url, {"name": name, "category": "UTILITY"}))

    async def approval(self, sid: str) -> Approval:
        """Where the review of a content stands. Raises SendError."""
        found = await self._content("GET", f"{self._contents}/{sid}/ApprovalRequests")
        return _approval(found.get("whatsapp") or {})

    async def _content(self, method: str, url: str, content: Json | None = None) -> Json:
        def call() -> Any:
            headers = {"Content-Type": "application/json"} if content else {}
            return self._in_thread.request(method, url, data=content, headers=headers, timeout=CALL_S)

        with _translated():
            answer = await asyncio.to_thread(call)
            if answer.status_code == 404 and method == "GET":
                return {}
            if answer.status_code >= 300:
                raise TwilioRestException(answer.status_code, url, _said(answer.text))
            found: Json = orjson.loads(answer.text)
            return found


def _received(one: Any) -> Received:
    at: datetime = (one.date_sent or one.date_created).astimezone(UTC)
    return Received(str(one.sid), str(one.from_).removeprefix("whatsapp:"), str(one.body or ""), epoch_ms(at))


def _approval(found: Json) -> Approval:
    return Approval(str(found.get("status") or "unsubmitted"), str(found.get("rejection_reason") or ""))


def _said(text: str) -> str:
    try:
        return str(orjson.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:100]


@contextmanager
def _translated() -> Iterator[None]:
    """Twilio's refusals, and the network's, as SendError."""
    try:
        yield
    except TwilioRestException as error:
        raise _refused(error) from error
    except TimeoutError as error:
        raise SendError(f"Twilio did not answer within {CALL_S:g} s.", unknown=True) from error
    except aiohttp.ClientConnectorError as error:
        raise SendError("Twilio cannot be reached.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise SendError(f"The line to Twilio broke: {type(error).__name__}.", unknown=True) from error
    except (TwilioException, ValueError, KeyError) as error:
        raise SendError(f"Twilio answered strangely: {type(error).__name__}.", unknown=True) from error


def _refused(error: TwilioRestException) -> SendError:
    """429 and 5xx are for a while; any other refusal is for good."""
    said = _NUMBER.sub("the number", str(error.msg)).rstrip(".")
    code = f" (error {error.code})" if error.code else ""
    text = f"Twilio refuses with {error.status}{code}: {said}."
    return SendError(text, permanent=400 <= error.status < 500 and error.status not in {408, 429})
