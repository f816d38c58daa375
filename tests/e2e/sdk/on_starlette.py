"""A Starlette app as anybody writes it."""

import os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sdk import instrument


async def pid(request):
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/pid/{who}", pid)])
monitor = instrument(app, service="shop")
