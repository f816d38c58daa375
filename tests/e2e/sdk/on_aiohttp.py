"""An aiohttp app as anybody writes it."""

import os

from aiohttp import web

from sdk import instrument


async def pid(request):
    return web.Response(text=str(os.getpid()))


app = web.Application()
app.router.add_get("/pid/{who}", pid)
instrument(app, service="shop")
