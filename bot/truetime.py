"""How far our clock is from another machine's: the Redis server's, where that is another machine.

The server's time is taken to be that of the middle of the call. One that runs here has our clock: there is
nothing to compare; one that does not answer is not asked twice.
"""

from urllib.parse import urlsplit

from handlers.watched import Offset, nobody
from ledger.clock import Clock
from ledger.redis_store import Commands
from ledger.store import StoreDown
from ledger.view import epoch_ms

HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})


def against_redis(commands: Commands, url: str, clock: Clock) -> Offset:
    """What measures our offset against the server at *url*; an empty one is the embedded server."""
    if url.startswith("unix:") or (urlsplit(url).hostname or "") in HERE:
        return nobody

    async def offset() -> tuple[int, str]:
        before_ms = epoch_ms(clock.now())
        try:
            seconds, micros = await commands("TIME")
        except StoreDown:
            return 0, ""
        ours_ms = (before_ms + epoch_ms(clock.now())) // 2
        return ours_ms - int(seconds) * 1000 - int(micros) // 1000, "the Redis server"

    return offset
