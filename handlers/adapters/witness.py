"""The HTTP client of a witness: one POST of `add-checkpoint` (https://c2sp.org/tlog-witness), and its answer.

It goes where a copy off the box may go (sink.py). It is signed as that is; a witness need not look at it.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

from handlers.adapters.sink import LOOPBACK, judge_of
from handlers.adapters.webhook import HttpWebhook
from handlers.ports import Call, PortError
from ledger.witness import TEXT

PATH = "/add-checkpoint"
_SIZE = re.compile("0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Vouched:
    """Its signature lines; or none, and how many entries it cosigned before."""

    lines: str = ""
    size: int | None = None


class HttpWitness:
    """Posts to *url* followed by `/add-checkpoint`, signed with *secret*."""

    def __init__(self, url: str, secret: bytes) -> None:
        self._url = f"{url}{PATH}"
        self._secret = secret
        self._webhook = HttpWebhook(judge_of(url))

    async def add(self, body: str, now_s: int, allow_networks: tuple[str, ...] = ()) -> Vouched:
        """What it says to *body*. Raises PortError where that is neither a signature nor a size."""
        reply = await self._webhook.post(self._call(body.encode(), now_s, allow_networks))
        said = reply.body.decode(errors="replace")
        if reply.status == 200:
            return Vouched(said)
        if reply.status == 409 and _SIZE.fullmatch(said.strip()):
            return Vouched(size=int(said))
        raise PortError(f"It answered {reply.status}: {said.partition('\n')[0][:200]}", status=reply.status)

    def _call(self, body: bytes, now_s: int, allow_networks: tuple[str, ...]) -> Call:
        name = sha256(body).hexdigest()[:32]
        return Call(
            url=self._url,
            body=body,
            secret=self._secret,
            message_id=name,
            timestamp=now_s,
            idempotency_key=name,
            allow_networks=(*LOOPBACK, *allow_networks),
            content_type=TEXT,
        )
