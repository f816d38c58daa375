"""What GitHub tells of a repository: pushes and deploys, read as changes.

A push counts where it reaches the default branch, and a deploy once it succeeded; all else changes nothing
that runs. Payloads: https://docs.github.com/webhooks/webhook-events-and-payloads.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from pydantic import BaseModel, Field, ValidationError

from handlers.changes import Change, kinds_of
from handlers.headers import same
from handlers.sanitise import clean

MOST = 20  # commits of one push that are kept, the newest
SHA = r"^[0-9a-f]{7,64}$"
GONE = "0" * 40
TITLE, AUTHOR = 80, 40


class Malformed(Exception):
    """It is no payload of the kind that its header names. The message says where."""


class _Author(BaseModel):
    name: str = ""
    username: str = ""


class _Commit(BaseModel):
    id: str = Field(pattern=SHA)
    message: str = ""
    author: _Author = _Author()
    added: list[str] = []
    removed: list[str] = []
    modified: list[str] = []

    def change(self, repository: str, at_ms: int) -> Change:
        paths = {*self.added, *self.removed, *self.modified}
        return Change(
            repository,
            self.id,
            at_ms,
            title=clean(self.message.partition("\n")[0], TITLE),
            author=clean(self.author.username or self.author.name, AUTHOR),
            files=len(paths),
            kinds=kinds_of(paths)[:3],
        )


class _Repository(BaseModel):
    full_name: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", max_length=140)
    default_branch: str = ""


class _Push(BaseModel):
    ref: str
    after: str
    deleted: bool = False
    forced: bool = False
    repository: _Repository
    commits: list[_Commit] = []
    head_commit: _Commit | None = None

    def changes(self, now_ms: int) -> list[Change]:
        """The newest commit first. A forced push says so: what was there before may be gone."""
        if self.deleted or self.ref != f"refs/heads/{self.repository.default_branch}":
            return []
        commits = {commit.id: commit for commit in [*self.commits, *filter(None, [self.head_commit])]}
        found = [one.change(self.repository.full_name, now_ms) for one in reversed(commits.values())]
        if not found and self.after != GONE:  # the branch was set back to a commit that was there already
            found = [Change(self.repository.full_name, self.after, now_ms, title="branch moved")]
        return found[:MOST]


class _Deployment(BaseModel):
    sha: str = Field(pattern=SHA)
    environment: str = ""
    production_environment: bool | None = None
    transient_environment: bool | None = None

    @property
    def serves(self) -> bool:
        """Whether people are served from there: GitHub says so, or its name does."""
        if self.production_environment is not None:
            return self.production_environment
        return not self.transient_environment and self.environment.lower().startswith("prod")


class _Status(BaseModel):
    state: str
    created_at: datetime | None = None


class _Deployed(BaseModel):
    deployment: _Deployment
    deployment_status: _Status
    repository: _Repository

    def changes(self, now_ms: int) -> list[Change]:
        if self.deployment_status.state != "success" or not self.deployment.serves:
            return []
        said = self.deployment_status.created_at
        at_ms = min(now_ms, int(said.timestamp() * 1000)) if said else now_ms
        return [Change(self.repository.full_name, self.deployment.sha, at_ms, live=True)]


READ: dict[str, type[_Push] | type[_Deployed]] = {"push": _Push, "deployment_status": _Deployed}


def genuine(secret: bytes, raw: bytes, signature: str) -> bool:
    """Whether *signature*, the header X-Hub-Signature-256, is that of *raw* under *secret*."""
    expected = "sha256=" + hmac.digest(secret, raw, sha256).hex()
    return same(signature, expected.encode())


def changes_of(kind: str, raw: bytes, now_ms: int) -> Sequence[Change]:
    """The changes that a payload of *kind*, the header X-GitHub-Event, tells of, newest first.

    Of a kind that changes nothing there are none. Raises Malformed.
    """
    if kind not in READ:
        return []
    try:
        return READ[kind].model_validate_json(raw).changes(now_ms)
    except ValidationError as mistakes:
        first = mistakes.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Malformed(f"{where}: {first['msg']}") from None
