from aiohttp import web
from countersign_sdk import instrument


async def order(request: web.Request) -> web.Response:
    return web.json_response({"order": int(request.match_info["order"])})


def main(argv: list[str]) -> web.Application:
    app = web.Application()
    app.router.add_get("/orders/{order}", order)
    instrument(app, service="checkout")
    return app
