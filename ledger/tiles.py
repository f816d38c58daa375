"""The hash tree of a log as files, as https://c2sp.org/tlog-tiles has it. Pure.

A tile is up to 256 hashes of 32 bytes. Those of level 0 are the leaves; a hash of the next level stands for
a full tile of the one below.
"""

from collections.abc import Iterator

from ledger.verify import fold, tile_name

WIDTH = 256
_BYTES = WIDTH * 32


def tiles(hashes: bytes) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each tile over the leaves *hashes*."""
    level = 0
    while hashes:
        parts = [hashes[at : at + _BYTES] for at in range(0, len(hashes), _BYTES)]
        yield from ((tile_name(level, index, len(part) // 32), part) for index, part in enumerate(parts))
        hashes, level = b"".join(fold(part) for part in parts if len(part) == _BYTES), level + 1
