"""An ASGI app without a framework."""

import os

from sdk import instrument


async def pid(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


app = instrument(pid, service="shop").app
