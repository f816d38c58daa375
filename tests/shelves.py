"""Pushes kept in memory, by the rules of `bot.pushes.RedisShelf`."""

from dataclasses import replace

from handlers.adapters.pushed import Kept


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
        newest, seconds = self.workers.get(parcel.worker, (parcel, {}))
        if parcel.number > newest.number or newest is parcel:
            newest, self.last_ms = parcel, now_ms
        seconds = {**parcel.word.seconds, **seconds}
        seconds = {t: one for t, one in seconds.items() if newest.oldest <= t <= newest.word.through}
        self.workers[parcel.worker] = newest, seconds

    def words(self):
        return {
            worker: replace(newest.word, seconds=dict(sorted(seconds.items())))
            for worker, (newest, seconds) in self.workers.items()
        }
