"""The other end of the bot's webhook: an app's recovery actions, each run exactly once per idempotency key.

In this order, and the first failure ends it:

1. the body is at most 64 KiB;
2. the Standard Webhooks signature is ours, over id, timestamp and raw body, and at most 300 s old or early;
3. the message has not been used for another key, nor the key for another action;
4. a key that has ended answers its receipt again, with ``idempotent-replayed: true``; a running one, 409;
5. the run is on disk; then the handler runs, for at most *limit_s*; its end is on disk before the answer.

The answer is a signed receipt: 200 when the handler returned, 500 when it raised, took too long, or was cut
off by the end of its process (``unknown``). A client that hangs up does not stop a run.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from . import aio, asgi, receipt, signature, wsgi
from .asgi import App, Receive, Reply, Scope, Send, body_of, headers_of, refusal
from .journal import Begun, Done, Interrupted, Journal, Misused, Running
from .receipt import Receipt, Result

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
MAX_KEY = 200
Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Run:
    """What a handler may want to know: its action, its key, and the signed body as parsed JSON."""

    action: str
    key: str
    payload: object


class Recovery:
    """The recovery actions of one app.

    *secret* verifies the bot's requests, *receipt_secret* signs receipts (default: a key derived from
    *secret*). *state_dir* keeps the journal; give one that outlives the machine's temporary files and that
    the app's workers share (default: a private folder for *service* in the system's temporary folder).
    """

    def __init__(
        self,
        secret: str | bytes,
        state_dir: str | Path | None = None,
        *,
        service: str = "app",
        prefix: str = "/recover",
        receipt_secret: str | bytes | None = None,
        limit_s: float = 8.0,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._key = signature.key_of(secret)
        self._receipt_key = (
            receipt.key(secret) if receipt_secret is None else signature.key_of(receipt_secret)
        )
        self._state_dir = None if state_dir is None else Path(state_dir)
        self._service = service
        self._prefix = prefix.rstrip("/")
        self._limit_s = limit_s
        self._wall_ms = wall_ms
        self._opening = threading.Lock()
        self._journal: Journal | None = None
        self._handlers: dict[str, Handler] = {}
        self._runs: set[asyncio.Task[Reply]] = set()
        self.endpoints: dict[str, App] = {}

    def __call__(self, name: str) -> Callable[[H], H]:
        """Be ``@recovery("restart_workers")``, the same as ``action``."""
        return self.action(name)

    def action(self, name: str) -> Callable[[H], H]:
        """Register a handler: sync (in a thread) or async, without parameters or with one, the Run."""

        def register(handler: H) -> H:
            self._handlers[name] = handler
            self.endpoints[f"{self._prefix}/{name}"] = partial(self._endpoint, name)
            return handler

        return register

    def install(self, app: Any) -> Any:
        """Answer the actions beside *app*, where ``instrument`` does not; return the app to serve."""
        if aio.is_aiohttp(app):
            return aio.beside(app, self.endpoints)
        if wsgi.is_wsgi(app):
            return wsgi.beside(app, self.endpoints)
        return asgi.install(app, asgi.Beside, self.endpoints)

    async def _endpoint(self, action: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await refusal(405, "ask with POST", allow="POST").send(send)
            return
        body = await body_of(receive, MAX_BODY)
        if body is None:
            reply = refusal(413, f"the body is over {MAX_BODY} bytes")
        else:
            reply = await self.handle(action, headers_of(scope), body)
        await reply.send(send)

    async def handle(self, action: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return the answer to a request for *action*; *headers* by lower-case name."""
        if action not in self._handlers:
            return refusal(404, "there is no such action")
        if (why := self._distrust(headers, body)) is not None:
            return refusal(401, why)
        message = headers["webhook-id"]
        key = headers.get("idempotency-key") or message
        if len(key) > MAX_KEY or len(message) > MAX_KEY:
            return refusal(400, f"the idempotency key or the message id is over {MAX_KEY} characters")
        # A run outlives the connection that asked for it.
        run = asyncio.get_running_loop().create_task(self._once(action, key, message, body))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        return await asyncio.shield(run)

    def _distrust(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return why the request is not the bot's, or None when it is."""
        id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
        signatures = headers.get("webhook-signature")
        if not (id and timestamp and signatures):
            return "webhook-id, webhook-timestamp or webhook-signature is missing"
        if not signature.is_fresh(timestamp, self._wall_ms() / 1000):
            return f"webhook-timestamp is not within {signature.TOLERANCE_S} s of this machine's clock"
        if not signature.verify(self._key, id, timestamp, body, signatures):
            return "webhook-signature is not a signature of this message with our secret"
        return None

    async def _once(self, action: str, key: str, message: str, body: bytes) -> Reply:
        journal = await asyncio.to_thread(self._open)
        now = self._wall_ms()
        until = now + int(self._limit_s * 1000)
        match await asyncio.to_thread(journal.begin, key, message, action, now, until):
            case Misused(why):
                return refusal(422, why)
            case Running():
                return refusal(409, "this idempotency key is being run", **{"retry-after": "2"})
            case Done(kept):
                return _reply(kept, replayed=True)
            case Interrupted(counter):
                return await self._finish(journal, action, key, "unknown", counter)
            case Begun(counter):
                result = await self._run(Run(action, key, _json(body)))
                return await self._finish(journal, action, key, result, counter)

    async def _finish(self, journal: Journal, action: str, key: str, result: Result, counter: int) -> Reply:
        issued = receipt.issue(self._receipt_key, action, key, result, counter, self._wall_ms())
        return _reply(await asyncio.to_thread(journal.finish, key, issued))

    async def _run(self, run: Run) -> Result:
        task = asyncio.ensure_future(_call(self._handlers[run.action], run))
        ended, _ = await asyncio.wait({task}, timeout=self._limit_s)
        if not ended:
            task.cancel()
            log.error("recovery action %s took longer than %s s", run.action, self._limit_s)
            return "failed"
        if (e := task.exception()) is not None:
            log.error("recovery action %s failed", run.action, exc_info=e)
            return "failed"
        return "ok"

    def _open(self) -> Journal:
        # Two first requests at once must not make two journals: each would think the other's run dead.
        with self._opening:
            if self._journal is None:
                folder = self._state_dir or _private_folder(self._service)
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._journal = Journal(folder)
            return self._journal


async def _call(handler: Handler, run: Run) -> None:
    arguments = (run,) if inspect.signature(handler).parameters else ()
    if inspect.iscoroutinefunction(handler):
        await handler(*arguments)
    else:
        await asyncio.to_thread(handler, *arguments)


def _private_folder(service: str) -> Path:
    """Return our folder under the temporary folder; PermissionError when another user has taken its name."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in service)
    folder = Path(tempfile.gettempdir()) / f"countersign-{user}-{safe}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise PermissionError(f"{folder} belongs to another user: give Recovery a state_dir")
    return folder


def _json(body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except ValueError:
        return None
    return parsed


def _reply(issued: Receipt, *, replayed: bool = False) -> Reply:
    headers = {"idempotent-replayed": "true"} if replayed else {}
    return Reply(200 if issued["result"] == "ok" else 500, json.dumps({"receipt": issued}).encode(), headers)
