"""A Litestar app as anybody writes it."""

import os

from litestar import Litestar, MediaType, get

from sdk import instrument


@get("/pid/{who:str}", media_type=MediaType.TEXT, sync_to_thread=False)
def pid(who: str) -> str:
    return str(os.getpid())


app = instrument(Litestar([pid]), service="shop").app
