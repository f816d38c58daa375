"""The words that nobody can keep stand nowhere that people read."""

import ast
import re

import pytest

from tests.architecture.house import ROOT, documents, modules, name, text, tree

UNKEEPABLE = re.compile(r"immutab|tamper-?proof|\bcompliant\b|SOC ?2|independent models", re.IGNORECASE)
DISOWNED = "We do not use the words *immutable, tamper-proof, compliant, SOC 2 ready* or *independent models*"


@pytest.mark.parametrize("document", documents())
def test_documents_do_not_use_them(document):
    plain = " ".join(text(document).split())
    assert not UNKEEPABLE.search(plain.replace(DISOWNED, ""))


def test_the_readme_says_that_we_do_not_use_them():
    assert DISOWNED in " ".join(text("README.md").split())


@pytest.mark.parametrize("file", modules(), ids=name)
def test_no_text_of_the_program_uses_them(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not UNKEEPABLE.search(node.value), f"{name(file)}:{node.lineno}"


def test_no_page_of_the_sandbox_uses_them():
    for file in (ROOT / "bot").rglob("*"):
        if file.suffix in {".html", ".js", ".css"}:
            assert not UNKEEPABLE.search(file.read_text(encoding="utf-8")), name(file)


@pytest.mark.parametrize("file", modules(), ids=name)
def test_the_program_refers_to_documents_that_are_here(file):
    for path in re.findall(r"docs/[\w/.-]+\.md", file.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{name(file)}: {path}"
