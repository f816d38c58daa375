from countersign_sdk import instrument
from fastapi import FastAPI

app = FastAPI()


@app.get("/orders/{order}")
async def order(order: int) -> dict[str, int]:
    return {"order": order}


monitor = instrument(app, service="checkout")
