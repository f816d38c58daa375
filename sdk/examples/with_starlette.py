from countersign_sdk import instrument
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def order(request: Request) -> JSONResponse:
    return JSONResponse({"order": request.path_params["order"]})


app = Starlette(routes=[Route("/orders/{order:int}", order)])
monitor = instrument(app, service="checkout")
