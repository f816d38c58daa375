from countersign_sdk import instrument
from flask import Flask

app = Flask(__name__)


@app.get("/orders/<int:order>")
def order(order: int) -> dict[str, int]:
    return {"order": order}


monitor = instrument(app, service="checkout")
