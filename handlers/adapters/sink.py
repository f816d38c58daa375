"""The HTTP client of the copy off the box: one signed POST a batch (ledger/offbox.py), and what it was told.

Over https it goes to any public address, or to a network that the charter's allow_networks names; over plain
http to the latter and to this machine alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from handlers.adapters.addresses import Address, Addresses
from handlers.adapters.webhook import HttpWebhook
from handlers.ports import Call, PortError
from ledger.offbox import TYPE, Batch

LOOPBACK = ("127.0.0.0/8", "::1/128")
_SIZE = re.compile("0|[1-9][0-9]{0,15}")


class Named(Addresses):
    """The networks that are named, and nothing else."""

    def admits(self, address: Address) -> bool:
        return not address.is_global and super().admits(address)


def judge_of(url: str) -> Callable[[tuple[str, ...]], Addresses]:
    """Who judges where *url* may lead."""
    return Named if url.startswith("http:") else Addresses


@dataclass(frozen=True, slots=True)
class Told:
    """What the other side has now, in entries, and why it did not take the batch, if it did not."""

    size: int
    why: str = ""


class HttpSink:
    """Posts to *url*, signed with *secret*. *addresses* makes the judge of addresses from allow_networks."""

    def __init__(
        self, url: str, secret: bytes, addresses: Callable[[tuple[str, ...]], Addresses] | None = None
    ) -> None:
        self._url = url
        self._secret = secret
        self._webhook = HttpWebhook(addresses or judge_of(url))
        plain = url.startswith("http:")
        self._advice = " Over http:// a copy goes only to this machine or to allow_networks." if plain else ""

    async def send(self, batch: Batch, now_s: int, allow_networks: tuple[str, ...] = ()) -> Told:
        """What the other side has after *batch*. Raises PortError where it does not say."""
        try:
            reply = await self._webhook.post(self._call(batch, now_s, allow_networks))
        except PortError as error:
            advice = self._advice if error.permanent else ""
            raise PortError(f"{error}{advice}", permanent=error.permanent) from None
        if 200 <= reply.status < 300:
            return Told(batch.last)
        size, _, why = reply.body[:400].decode(errors="replace").partition("\n")
        if reply.status == 409 and _SIZE.fullmatch(size.strip()):
            return Told(int(size), why.strip() or f"It has {size.strip()} entries.")
        raise PortError(f"It answered {reply.status}: {size[:200].strip()}", status=reply.status)

    def _call(self, batch: Batch, now_s: int, allow_networks: tuple[str, ...]) -> Call:
        """One and the same message however often it is sent, told by the number of its first entry."""
        name = f"{batch.tenant}.{batch.first}"
        return Call(
            url=self._url,
            body=batch.body(),
            secret=self._secret,
            message_id=name,
            timestamp=now_s,
            idempotency_key=name,
            allow_networks=(*LOOPBACK, *allow_networks),
            headers=batch.headers(),
            content_type=TYPE,
        )
