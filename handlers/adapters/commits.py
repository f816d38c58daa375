"""Asks GitHub what a commit changed: lines, files, who and why. A delivery tells no lines, a deploy nothing.

One GET with the process's token: https://docs.github.com/rest/commits/commits#get-a-commit. Ten seconds for
all of it, four megabytes at most, no redirects. The answer was written elsewhere. It is data.
"""

import asyncio
import re
from dataclasses import replace

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from handlers.adapters.github import AUTHOR, TITLE
from handlers.changes import Change, kinds_of
from handlers.ports import PortError
from handlers.sanitise import clean

TRY_S = 10.0
MOST_BYTES = 4 * 1024 * 1024
MOST_FILES = 100
NAME = re.compile(r"(?!\.+/)[\w.-]+/(?!\.+$)[\w.-]+")
HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "Countersign",
}
REFUSED = frozenset({401, 403, 429})


class _Person(BaseModel):
    name: str = ""
    login: str = ""


class _Words(BaseModel):
    message: str = ""
    author: _Person | None = None


class _Stats(BaseModel):
    additions: int = Field(ge=0, lt=2**31)
    deletions: int = Field(ge=0, lt=2**31)


class _File(BaseModel):
    filename: str


class _Commit(BaseModel):
    commit: _Words
    author: _Person | None = None
    stats: _Stats
    files: list[_File] = []

    def told(self, change: Change) -> Change:
        """*change* with what this says of it; what its delivery said stands."""
        words = self.commit.author or _Person()
        paths = {file.filename for file in self.files}
        return replace(
            change,
            title=change.title or clean(self.commit.message.partition("\n")[0], TITLE),
            author=change.author or clean((self.author or words).login or words.name, AUTHOR),
            files=change.files or len(paths),
            kinds=change.kinds or kinds_of(paths)[:3],
            added=self.stats.additions,
            removed=self.stats.deletions,
        )


class HttpCommits:
    """What GitHub at *base* tells whoever has *token*."""

    def __init__(self, base: str, token: str) -> None:
        self._base = base
        self._headers = HEADERS | {"Authorization": f"Bearer {token}"}

    async def told(self, change: Change) -> Change:
        """*change* with its lines. Raises PortError: permanent where GitHub knows no such commit."""
        if not NAME.fullmatch(change.repository):
            raise PortError("This is no name of a repository.", permanent=True)
        url = f"{self._base}/repos/{change.repository}/commits/{change.sha}"
        try:
            async with asyncio.timeout(TRY_S), aiohttp.ClientSession(headers=self._headers) as session:
                body = await _get(session, url)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise PortError(f"GitHub gave no answer ({type(error).__name__}).") from None
        try:
            return (await asyncio.to_thread(_Commit.model_validate_json, body)).told(change)
        except ValidationError:
            raise PortError("GitHub's answer is no commit.", permanent=True) from None


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, params={"per_page": str(MOST_FILES)}, allow_redirects=False) as answer:
        if answer.status != 200:
            known = answer.status not in REFUSED and answer.status < 500
            raise PortError(f"GitHub answered {answer.status}.", permanent=known, status=answer.status)
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise PortError("GitHub's answer is too long.", permanent=True)
        return bytes(body)
