"""A log page by page: each is asked for while the one before it is being read."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

type Page = list[bytes]


async def ahead(read: Callable[[int], Awaitable[Page]]) -> AsyncGenerator[Page]:
    """The pages of *read(after)*, until one is empty. Raises what that raises. It must be closed."""
    after, asked = 0, asyncio.ensure_future(read(0))
    try:
        while page := await asked:
            after += len(page)
            asked = asyncio.ensure_future(read(after))
            await asyncio.sleep(0)  # so that it is sent before the page is read
            yield page
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
