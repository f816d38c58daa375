"""A client that calls an ASGI app in process, and a window whose second is over when the test says so."""

import asyncio

from sdk import wire


async def call(app, method="GET", path="/", *, body=b"", headers=(), query=b"", root_path="", **scope):
    """Return (status, headers, body) of one request; exceptions of the app come through."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": root_path,
            "query_string": query,
            "headers": [(k.encode(), v.encode()) for k, v in dict(headers).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            **scope,
        },
        receive,
        send,
    )
    started = next((m for m in sent if m["type"] == "http.response.start"), {"status": None, "headers": []})
    return (
        started["status"],
        {k.decode().lower(): v.decode() for k, v in started["headers"]},
        b"".join(m.get("body", b"") for m in sent),
    )


def end_second(monitor):
    """Close the running second of a monitor, without waiting for the clock."""
    monitor._window.turn()


def slot(monitor):
    """Return everything that the monitor has counted as one slot."""
    end_second(monitor)
    return wire.merge_slots(one.slot() for one in monitor._window._ring)


def routes(monitor):
    """Return what was counted, by route."""
    return {part.name: part for part in slot(monitor).routes}


async def until(condition):
    """Wait until *condition* holds, letting other tasks run."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
