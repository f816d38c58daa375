"""A FastAPI app as anybody writes it; where it pushes to, and whether it is broken, stands around it."""

import os
from pathlib import Path

from fastapi import FastAPI, HTTPException

from sdk import instrument

app = FastAPI()
monitor = instrument(
    app, service="shop", push_url=os.environ.get("PUSH_URL"), push_token=os.environ.get("PUSH_TOKEN")
)
BROKEN = Path(os.environ.get("BROKEN", "/nonexistent"))


@app.get("/pid/{who}")
def pid(who: str):
    if BROKEN.exists():
        raise HTTPException(503)
    return os.getpid()
