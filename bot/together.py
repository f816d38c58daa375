"""What comes while a call is under way goes together in the next, without a timer: none waits for others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Batch[Ask, Got]:
    """What goes in one call, and that call. It takes more until it begins."""

    asks: list[Ask] = field(default_factory=list)
    weight: int = 0
    call: "asyncio.Task[Sequence[Got]] | None" = None


class Together[Ask, Got]:
    """*act* answers many, in their order. They weigh at most *most* together, or it is one alone."""

    def __init__(
        self,
        act: Callable[[Sequence[Ask]], Awaitable[Sequence[Got]]],
        most: int,
        weigh: Callable[[Ask], int],
    ) -> None:
        self._act = act
        self._most = most
        self._weigh = weigh
        self._open = _Batch[Ask, Got]()
        self._turn = asyncio.Lock()

    async def ask(self, ask: Ask) -> Got:
        """The answer to *ask*. Raises what its call raised. Who does not wait any longer stops no call."""
        weight = self._weigh(ask)
        if self._open.asks and self._open.weight + weight > self._most:
            self._open = _Batch()
        batch, place = self._open, len(self._open.asks)
        batch.asks.append(ask)
        batch.weight += weight
        if batch.call is None:
            batch.call = asyncio.create_task(self._go(batch))
        return (await asyncio.shield(batch.call))[place]

    async def _go(self, batch: _Batch[Ask, Got]) -> Sequence[Got]:
        async with self._turn:
            if batch is self._open:
                self._open = _Batch()
            return await self._act(batch.asks)
