"""GitHub and Heroku as far as we ask them: a workflow is dispatched, dynos restart, a commit is told.

They answer as the vendors do: 204 and 202 where it was taken, 401 for a wrong token, 404 for what is not
there, 415 and 422 for a request of another form. What was taken is kept, the newest last.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bot.sandbox.loopback import Bell, Served, serve

REPOSITORY, WORKFLOW = "acme/checkout", "rollback.yml"
APP, DYNOS = "acme-checkout", ("web.1", "web.2", "worker.1")
MOST_INPUTS = 10


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A workflow run that was asked for."""

    workflow: str
    ref: str
    inputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit that GitHub knows."""

    message: str
    login: str
    added: int
    removed: int
    files: tuple[str, ...]

    def told(self, sha: str) -> dict[str, Any]:
        words = {
            "message": self.message,
            "author": {"name": self.login.title(), "date": "2026-06-03T09:54:00Z"},
        }
        total = self.added + self.removed
        stats = {"additions": self.added, "deletions": self.removed, "total": total}
        files = [{"filename": name, "status": "modified"} for name in self.files]
        return {"sha": sha, "commit": words, "author": {"login": self.login}, "stats": stats, "files": files}


@dataclass
class Deploys:
    """Both vendors, on one port, under /github and /heroku. *down* is a status that they answer instead."""

    github_token: str
    heroku_token: str
    dispatched: list[Dispatched] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    commits: dict[str, Committed] = field(default_factory=dict)
    down: int = 0
    bell: Bell = field(default_factory=Bell)
    _served: Served | None = None

    @property
    def github_url(self) -> str:
        return f"{self._served.url}/github" if self._served else ""

    @property
    def heroku_url(self) -> str:
        return f"{self._served.url}/heroku" if self._served else ""

    async def start(self) -> None:
        app = web.Application()
        path = "/github/repos/{owner}/{name}/actions/workflows/{workflow}/dispatches"
        app.router.add_post(path, self._dispatch)
        app.router.add_get("/github/repos/{owner}/{name}/commits/{sha}", self._commit)
        app.router.add_delete("/heroku/apps/{app}/dynos", self._restart)
        app.router.add_delete("/heroku/apps/{app}/dynos/{dyno}", self._restart)
        self._served = await serve(app)

    async def close(self) -> None:
        if self._served:
            await self._served.close()

    async def _dispatch(self, request: web.Request) -> web.Response:
        if no := self._refused(request):
            return no
        there = "/".join(request.match_info[part] for part in ("owner", "name", "workflow"))
        if there != f"{REPOSITORY}/{WORKFLOW}":
            return _said(404, "Not Found")
        asked = _dispatched(await request.text())
        if asked is None:
            return _said(422, "Invalid request.")
        self.dispatched.append(asked)
        self.bell.ring()
        return web.Response(status=204)

    async def _commit(self, request: web.Request) -> web.Response:
        if no := self._refused(request):
            return no
        sha = request.match_info["sha"]
        known = "/".join(request.match_info[part] for part in ("owner", "name")) == REPOSITORY
        commit = self.commits.get(sha) if known else None
        if commit is None:
            return _said(422 if known else 404, f"No commit found for SHA: {sha}" if known else "Not Found")
        return web.json_response(commit.told(sha))

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.github_token}":
            return _said(401, "Bad credentials")
        return _said(self.down, "Server Error") if self.down else None

    async def _restart(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.heroku_token}":
            return _said(401, "Invalid credentials provided.", "unauthorized")
        if request.headers.get("Accept") != "application/vnd.heroku+json; version=3":
            return _said(415, "Ask for version 3 in the Accept header.", "bad_request")
        if self.down:
            return _said(self.down, "Try again.", "internal_server_error")
        dyno = request.match_info.get("dyno", "")
        if request.match_info["app"] != APP or (dyno and dyno not in DYNOS):
            return _said(404, "Couldn't find that.", "not_found")
        self.restarted += [dyno] if dyno else DYNOS
        self.bell.ring()
        return web.json_response({}, status=202)


def _dispatched(text: str) -> Dispatched | None:
    """The request in *text*, or None where GitHub would not take it."""
    try:
        body: dict[str, Any] = json.loads(text)
        inputs = body.get("inputs", {})
        well = {*body} <= {"ref", "inputs"} and isinstance(body["ref"], str) and len(inputs) <= MOST_INPUTS
        strings = all(isinstance(value, str) for value in inputs.values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return Dispatched(WORKFLOW, body["ref"], inputs) if well and strings else None


def _said(status: int, message: str, kind: str = "") -> web.Response:
    body = {"id": kind, "message": message} if kind else {"message": message, "status": str(status)}
    return web.json_response(body, status=status)
