"""The repository as its tests look at it: files, imports, calls, and the README's tables and blocks."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("bot", "handlers", "detectors", "ledger", "sdk")


def modules(*packages: str) -> list[Path]:
    """The Python files of *packages*, or of all five."""
    return sorted(file for package in packages or PACKAGES for file in (ROOT / package).rglob("*.py"))


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(file: Path) -> set[str]:
    """Every module that *file* imports, wherever in it, as it is written there."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def roots(file: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(file)}


def calls(file: Path) -> Iterator[str]:
    """Every dotted name that stands in *file*: `datetime.now`, `os.environ`."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@cache
def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(title: str, of: str = "README.md") -> str:
    """What stands under the heading *title*, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text(of), re.MULTILINE)
    assert found, f"{of} has no section {title!r}"
    rest = text(of)[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(title: str) -> list[list[str]]:
    """The rows of the tables under the heading *title*, without heads and rules."""
    rows = []
    for match in re.finditer(r"(?:^\|.*\|$\n?)+", section(title), re.MULTILINE):
        cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in match[0].splitlines()]
        rows += cells[2:]
    return rows


def codes(cell: str) -> list[str]:
    """What stands between backticks in *cell*."""
    return re.findall(r"`([^`]+)`", cell)


def links(markdown: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", markdown)


def fenced(title: str, language: str) -> list[str]:
    """The code blocks of *language* under the heading *title*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def documents() -> list[str]:
    """Every text for people in the repository."""
    return [
        "README.md",
        "CHANGELOG.md",
        "sdk/README.md",
        *(name(f) for f in sorted((ROOT / "docs").rglob("*.md"))),
    ]


def defined_tests(path: str) -> set[str]:
    """The tests that the file *path* defines."""
    return {
        node.name
        for node in ast.walk(tree(ROOT / path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
