"""What draws charts in this process, put together: one easel for all tenants, and where pictures hang."""

from collections.abc import Mapping

from bot.easel import Easel
from bot.lookback import Lookback
from bot.outbox import Outbox
from bot.pictures import Pictures
from bot.ports import Channel, Gallery
from bot.room import Room
from bot.shown import ShownCards
from bot.state import RedisStates
from bot.wall import RedisWall
from handlers.detect import Detect
from ledger.clock import Clock
from ledger.redis_store import Commands


class Charting:
    """*channels* are those of the program, also those that open later."""

    def __init__(
        self,
        redis: Commands,
        shown: ShownCards,
        outbox: Outbox,
        channels: Mapping[str, Channel],
        clock: Clock,
    ) -> None:
        self.easel = Easel()
        self._wall = RedisWall(redis)
        self._states = RedisStates(redis)
        self._shown = shown
        self._outbox = outbox
        self._channels = channels
        self._clock = clock

    def lookback(self, detect: Detect) -> Lookback:
        return Lookback(detect, self._states)

    def pictures(self, room: Room, detect: Detect) -> Pictures:
        """Who hangs charts under the cards of *room*."""
        galleries = {name: one for name, one in self._channels.items() if isinstance(one, Gallery)}
        return Pictures(
            room.ledger,
            room.rulebook,
            self._shown,
            self._wall,
            self.lookback(detect),
            self.easel,
            self._outbox,
            galleries,
            room.address,
            self._clock,
        )
