"""The bot's web side with a few routes, and a client that knows only its address."""

import aiohttp
from aiohttp import web

from bot.app import application


class Site:
    """Serves *routes* while it is entered; `post` asks as anybody could."""

    def __init__(self, routes):
        self._runner = web.AppRunner(application([], routes), shutdown_timeout=0.1)

    async def __aenter__(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._http = aiohttp.ClientSession(f"http://127.0.0.1:{self._runner.addresses[0][1]}")
        return self

    async def __aexit__(self, *failure):
        await self._http.close()
        await self._runner.cleanup()

    async def post(self, path, body, headers):
        """The status and the text of the answer."""
        async with self._http.post(path, data=body, headers=headers) as answer:
            return answer.status, await answer.text()
