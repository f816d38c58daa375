"""What the README takes from the code. `python -m tests.architecture.generated` writes it there.

Each block stands between `<!-- generated: NAME -->` and `<!-- end -->`; a test keeps it true.
"""

import re
from collections.abc import Callable, Mapping

from bot.commands import COMMANDS
from ledger.diagram import diagram
from tests.architecture.house import ROOT, text


def _commands() -> str:
    rows = [f"| `/{name}` | {command.says} |" for name, command in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def _states() -> str:
    return f"```mermaid\n{diagram()}\n```"


BLOCKS: Mapping[str, Callable[[], str]] = {"commands": _commands, "states": _states}


def readme() -> str:
    """The README with every generated block as it should be now."""
    found = text("README.md")
    for name, made in BLOCKS.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        block = made()
        found, times = pattern.subn(lambda m, block=block: f"{m[1]}{block}\n{m[2]}", found)
        assert times == 1, f"README.md must hold one block {name!r}"
    return found


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
