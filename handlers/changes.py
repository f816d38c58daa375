"""What was changed lately: the commits and deploys of a service's repository, nearest before an incident.

1. A repository whose deploys are reported is judged by them: a commit counts from when it went live. One that
   reports none is judged by what reached its default branch.
2. The nearer before the trouble, the more suspect: after a quarter of an hour half as much, and no more after
   about eight hours. That one thing came after another is no proof, so it is advice like all else.
3. Everything in a change was written elsewhere. It is data.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch

from detectors.suspects import Candidate

NEAREST = 3
MOST_SCORE = 95.0
HALF_MS = 900_000
KINDS: Mapping[str, tuple[str, ...]] = {
    "dependencies": (
        "*requirements*.txt", "*pyproject.toml", "*package.json", "*lock*", "*go.mod", "*go.sum", "*gemfile*",
        "*pom.xml", "*build.gradle*", "*dockerfile*",
    ),
    "database": ("*migrat*", "*.sql", "*schema*", "*alembic*", "*prisma*", "*/db/*", "db/*", "*database*"),
    "network": ("*nginx*", "*proxy*", "*ingress*", "*gateway*", "*firewall*", "*network*", "*/dns*", "*tls*"),
    "config": ("*.y*ml", "*.toml", "*.ini", "*.env*", "*.cfg", "*.conf", "*config*", "*.tf", "*procfile"),
    "docs": ("*.md", "*.rst", "docs/*", "*/docs/*", "*license*"),
    "tests": ("tests/*", "*/tests/*", "test/*", "*/test/*", "*test_*", "*_test.*", "*.spec.*"),
}  # fmt: skip
"""What kind of file a path is, by its lower-cased name; the first that fits. Anything else is code."""


@dataclass(frozen=True, slots=True)
class Change:
    """One commit as it reached its default branch, or as it went *live*.

    *at_ms* is when it did, epoch ms; *kinds* says what sort of files it touched; lines are -1 where nobody
    knows how many.
    """

    repository: str
    sha: str
    at_ms: int
    live: bool = False
    title: str = ""
    author: str = ""
    files: int = 0
    kinds: tuple[str, ...] = ()
    added: int = -1
    removed: int = -1

    @property
    def text(self) -> str:
        """What it is, in one line."""
        files = f"{self.files} file{'s' * (self.files != 1)}"
        touched = f"{files}: {', '.join(self.kinds)}" if self.kinds else files
        lines = f"+{self.added} −{self.removed}" if self.added >= 0 <= self.removed else ""
        return " · ".join(
            part for part in (self.title, self.author, touched * bool(self.files), lines) if part
        )


@dataclass
class Changes:
    """The changes that are known of one tenant's repositories, in memory, newest first."""

    known: Sequence[Change] = field(default_factory=tuple)

    def live(self, repository: str) -> str:
        """The commit that is live, or an empty text where nobody knows."""
        return next((change.sha for change in self._of(repository)), "")

    def before(self, repository: str, at_ms: int) -> Sequence[Change]:
        """The changes nearest before *at_ms*, at most three, the nearest first."""
        return [change for change in self._of(repository) if change.at_ms <= at_ms][:NEAREST]

    def _of(self, repository: str) -> Sequence[Change]:
        """Rule 1. Repositories are named without regard to case, as GitHub has it."""
        name = repository.lower()
        own = [change for change in self.known if name and change.repository.lower() == name]
        return [change for change in own if change.live] or own


def merged(known: Iterable[Change], new: Change) -> Change:
    """*new* with what was said of the same commit before: a deploy names a commit and tells nothing of it."""
    said = (one for one in known if (one.repository, one.sha) == (new.repository, new.sha) and one.title)
    before = next(said, None)
    if before is None or new.title:
        return new
    return replace(before, at_ms=new.at_ms, live=new.live)


def candidates(changes: Iterable[Change], at_ms: int) -> list[Candidate]:
    """*changes* as suspects of what began *at_ms*."""
    return [
        Candidate("commit", one.sha[:12], one.text or "nothing is known of it", _score(at_ms - one.at_ms))
        for one in changes
    ]


def kinds_of(paths: Iterable[str]) -> tuple[str, ...]:
    """What sorts of files *paths* are, the sort with the most first."""
    counts: dict[str, int] = {}
    for path in paths:
        kind = _kind(path.lower())
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(sorted(counts, key=lambda kind: (-counts[kind], kind)))


def _kind(path: str) -> str:
    fits = (kind for kind, patterns in KINDS.items() if any(fnmatch(path, pattern) for pattern in patterns))
    return next(fits, "code")


def _score(before_ms: int) -> float:
    return MOST_SCORE / (1 + max(0, before_ms) / HALF_MS)
