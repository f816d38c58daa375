"""A Flask app as anybody writes it."""

import os

from flask import Flask

from sdk import instrument

app = Flask(__name__)
monitor = instrument(app, service="shop")


@app.get("/pid/<who>")
def pid(who):
    return str(os.getpid())
