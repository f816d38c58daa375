"""The HTTP client of actions: one request, one answer, nothing kept.

* A webhook's is signed as Standard Webhooks (standardwebhooks.com), a vendor's carries a token; both have the
  `Idempotency-Key` that the call names.
* Each call has a connection of its own, to addresses that were judged (addresses.py). No redirects, no
  cookies, no proxy, nothing decompressed.
* Ten seconds for all of it, half of that to connect. Of an answer 64 KiB are read; its status counts, even
  where the rest of the body never comes.
* An error names the host and nothing else: paths, headers and bodies can hold secrets.
"""

import asyncio
from collections.abc import Callable

import aiohttp
from yarl import URL

from handlers.adapters.addresses import Addresses
from handlers.ports import Call, PortError, Reply
from sdk import signature

TRY_S = 10.0
CONNECT_S = 5.0
MOST_BYTES = 64 * 1024
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


class HttpWebhook:
    """`handlers.ports.Webhook` over HTTP. *addresses* makes the judge of addresses from allow_networks."""

    def __init__(
        self,
        addresses: Callable[[tuple[str, ...]], Addresses] = Addresses,
        *,
        try_s: float = TRY_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._addresses = addresses
        self._try_s = try_s
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s)

    async def post(self, call: Call) -> Reply:
        """What was answered. Raises PortError: permanent, or unknown where the request may have arrived."""
        addresses = self._addresses(call.allow_networks)
        url = addresses.check(call.url)
        connector = aiohttp.TCPConnector(resolver=addresses, use_dns_cache=False, force_close=True)
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session:
                return await self._post(session, url, call)
        except NOT_SENT:
            raise PortError(f"{url.host} could not be reached.") from None
        except TimeoutError:
            raise PortError(f"{url.host} gave no answer within {self._try_s:g} s.", unknown=True) from None
        except (aiohttp.ClientError, OSError):
            raise PortError(f"{url.host} cut the connection before it answered.", unknown=True) from None

    async def _post(self, session: aiohttp.ClientSession, url: URL, call: Call) -> Reply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout_at(began + self._try_s):
            response = await session.request(
                call.method, url, data=call.body or None, headers=_headers(call), allow_redirects=False
            )
        try:
            body = await _body(response, began + self._try_s)
        finally:
            response.close()
        return Reply(response.status, body, round((loop.time() - began) * 1000))


async def _body(response: aiohttp.ClientResponse, until: float) -> bytes:
    """At most MOST_BYTES of the answer: what had come when it was cut off or time was up."""
    read = bytearray()
    try:
        async with asyncio.timeout_at(until):
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) >= MOST_BYTES:
                    break
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass  # the status has been told, and the status is the answer
    return bytes(read[:MOST_BYTES])


def _headers(call: Call) -> dict[str, str]:
    sent = {
        **call.headers,
        "content-type": call.content_type,
        "accept-encoding": "identity",
        "user-agent": "Countersign",
        "idempotency-key": call.idempotency_key,
    }
    if call.bearer:
        return {**sent, "authorization": f"Bearer {call.secret.decode()}"}
    return {
        **sent,
        "webhook-id": call.message_id,
        "webhook-timestamp": str(call.timestamp),
        "webhook-signature": signature.sign(call.secret, call.message_id, call.timestamp, call.body),
    }
