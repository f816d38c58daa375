"""The board on which the processes that watch a tenant post their beats: `handlers.crew.Board` on Redis.

`bot:{tenant}:crew` is a stream of the newest posts. It is a hint like all of `bot:*`: gone without loss.
"""

from collections.abc import Sequence

from handlers.crew import Post
from ledger.redis_store import Commands

KEPT_MS = 15_000
POST = """
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], '*', 'by', ARGV[1], 'said', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return redis.call('XRANGE', KEYS[1], ARGV[3], '+')
"""


class RedisBoard:
    """One call a beat: post, trim, read."""

    def __init__(self, commands: Commands) -> None:
        self._redis = commands

    async def post(self, tenant: str, by: str, text: bytes, after: str, most: int) -> Sequence[Post]:
        since = f"({after}" if after else "-"
        rows = await self._redis("EVAL", POST, 1, f"bot:{{{tenant}}}:crew", by, text, since, most, KEPT_MS)
        return [_post(id, fields) for id, fields in rows]


def _post(id: bytes, fields: Sequence[bytes]) -> Post:
    kept = dict(zip(fields[::2], fields[1::2], strict=True))
    ms, _, _ = id.partition(b"-")
    return Post(kept[b"by"].decode(), int(ms), kept[b"said"], id.decode())
