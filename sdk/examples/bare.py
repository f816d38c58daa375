from countersign_sdk import instrument
from countersign_sdk.asgi import Receive, Scope, Send


async def orders(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"order":7}'})


app = instrument(orders, service="checkout").app
