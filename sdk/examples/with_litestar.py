from countersign_sdk import instrument
from litestar import Litestar, get
from litestar.params import FromPath


@get("/orders/{order:int}")
async def order(order: FromPath[int]) -> dict[str, int]:
    return {"order": order}


monitor = instrument(Litestar([order]), service="checkout")
app = monitor.app
