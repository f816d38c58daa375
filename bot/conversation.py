"""What a person is in the middle of telling us, kept so that a restart does not forget it.

1. Flows are data: a state asks, takes what matches, keeps it under its own name and goes on to the next.
2. A conversation belongs to one person on one channel of one tenant, and ends by itself after ten minutes.
3. A command is never taken for an answer; /cancel ends the conversation.
4. The last answer stays known for a minute: the same message, handled again after a crash, means the same.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.view import epoch_ms

TALK_S = 600
SPENT_S = 60
MOST_WORDS = 1_000


@dataclass(frozen=True, slots=True)
class State:
    """One question. `takes` is what an answer must look like, `else_say` what is said when it does not."""

    prompt: str
    takes: str = r".*\S.*"
    else_say: str = ""
    next: str = ""


FLOWS: Mapping[str, Mapping[str, State]] = {
    "deny": {
        "reason": State("Denied. Why? Answer with one line, or send /cancel. Nothing runs either way."),
    },
    "code": {
        "digits": State(
            "Answer with the six digits, or /cancel.",
            takes=r"\d{3} ?\d{3}",
            else_say="That is no code: it has six digits. Send it again, or /cancel.",
        ),
    },
    "glass": {
        "sure": State(
            "Answer BREAK GLASS to approve it alone, or /cancel. Everybody is told at once.",
            takes=r"(?i:break\s+glass)",
            else_say="Nothing was run. Answer BREAK GLASS to approve it alone, or /cancel.",
        ),
    },
    "link": {
        "code": State(
            "Send the code that an admin or the console gave you. /cancel ends this.",
            takes=r"[A-Za-z0-9]{6,16}",
            else_say="That is no code: it has letters and digits alone. Send it again, or /cancel.",
        ),
    },
}
"""A flow begins with its first state and ends where `next` is empty."""


@dataclass(frozen=True, slots=True)
class Key:
    """Who is talking."""

    tenant: str
    channel: str
    vendor_id: str

    def __str__(self) -> str:
        return f"bot:conv:{{{self.tenant}}}:{self.channel}:{self.vendor_id}"


@dataclass(frozen=True, slots=True)
class Step:
    """Where a conversation stands. *data* is what it began with and what was answered, by state.

    *say* is to be said now; `done` means that all is answered, `cancelled` that the person ended it.
    """

    flow: str
    data: Mapping[str, str] = field(default_factory=dict)
    say: str = ""
    done: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation as it is kept. `spent` is the last answer of one that is over."""

    flow: str
    state: str
    data: dict[str, str]
    spent: str = ""


class Conversations(ABC):
    """All conversations; a storage keeps one text a key, for so many seconds."""

    async def begin(self, flow: str, key: Key, data: Mapping[str, str]) -> Step:
        """Ask the first question of *flow*. A conversation that this person was in is over."""
        first = next(iter(FLOWS[flow]))
        await self._keep(key, _Talk(flow, first, dict(data)))
        return Step(flow, data, FLOWS[flow][first].prompt)

    async def feed(self, key: Key, text: str) -> Step | None:
        """What *text* means in this person's conversation; None where it belongs to none."""
        kept = await self._get(str(key))
        if kept is None:
            return None
        talk, words = _Talk(**json.loads(kept)), text.strip()[:MOST_WORDS]
        if talk.spent:
            return Step(talk.flow, talk.data, done=True) if words == talk.spent else None
        if words == "/cancel":
            await self._drop(str(key))
            return Step(talk.flow, talk.data, "Left as it is.", cancelled=True)
        if words.startswith("/"):
            return None
        return await self._answer(key, talk, words)

    async def _answer(self, key: Key, talk: _Talk, words: str) -> Step:
        state = FLOWS[talk.flow][talk.state]
        if not re.fullmatch(state.takes, words, re.S):
            return Step(talk.flow, talk.data, state.else_say or state.prompt)
        data = talk.data | {talk.state: words}
        if not state.next:
            await self._keep(key, replace(talk, data=data, spent=words), SPENT_S)
            return Step(talk.flow, data, done=True)
        await self._keep(key, _Talk(talk.flow, state.next, data))
        return Step(talk.flow, data, FLOWS[talk.flow][state.next].prompt)

    async def _keep(self, key: Key, talk: _Talk, seconds: int = TALK_S) -> None:
        await self._put(str(key), json.dumps(asdict(talk)), seconds)

    @abstractmethod
    async def _get(self, name: str) -> str | None: ...

    @abstractmethod
    async def _put(self, name: str, text: str, seconds: int) -> None: ...

    @abstractmethod
    async def _drop(self, name: str) -> None: ...


class MemoryConversations(Conversations):
    """For tests and the simulator."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[int, str]] = {}

    async def _get(self, name: str) -> str | None:
        until_ms, text = self._kept.get(name, (0, ""))
        return text if until_ms > self._now_ms() else None

    async def _put(self, name: str, text: str, seconds: int) -> None:
        self._kept[name] = (self._now_ms() + seconds * 1_000, text)

    async def _drop(self, name: str) -> None:
        self._kept.pop(name, None)

    def _now_ms(self) -> int:
        return epoch_ms(self._clock.now())


class RedisConversations(Conversations):
    """`bot:conv:{tenant}:channel:vendor`, which Redis forgets in time. Raises StoreDown."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def _get(self, name: str) -> str | None:
        kept: bytes | None = await self._redis("GET", name)
        return None if kept is None else kept.decode()

    async def _put(self, name: str, text: str, seconds: int) -> None:
        await self._redis("SET", name, text, "EX", seconds)

    async def _drop(self, name: str) -> None:
        await self._redis("DEL", name)
