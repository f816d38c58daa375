"""Pushes kept in memory, by the rules of `bot.pushes.RedisShelf`."""

from handlers.adapters.pushed import Kept
from sdk.word import read_head, read_second, word_of


class MemoryShelf:
    """`pushed.Shelf` of one service."""

    def __init__(self):
        self.workers, self.last_ms = {}, 0

    async def put(self, tenant, service, parcel, now_ms):
        self.keep(parcel, now_ms)
        return True

    async def read(self, tenant, service, known, now_ms):
        return Kept(self.words(), self.last_ms)

    def keep(self, parcel, now_ms=0):
        newest, lines = self.workers.get(parcel.worker, (parcel, {}))
        if parcel.number > newest.number or newest is parcel:
            newest, self.last_ms = parcel, now_ms
        lines = {**parcel.lines, **lines}
        lines = {t: line for t, line in lines.items() if newest.oldest <= t <= newest.word.through}
        self.workers[parcel.worker] = newest, lines

    def words(self):
        return {
            worker: word_of(
                read_head(newest.head), {t: read_second(t, line) for t, line in sorted(lines.items())}
            )
            for worker, (newest, lines) in self.workers.items()
        }
