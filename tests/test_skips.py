"""No test skips over something of ours: what is renamed or lost has to fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def skips(tree: ast.AST) -> Iterator[str]:
    """The conditions of every skip, as they are written."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("importorskip", "skipif")
            and node.args
        ):
            yield ast.unparse(node.args[0])
        if isinstance(node, ast.If) and any("skip(" in ast.unparse(line) for line in node.body):
            yield ast.unparse(node.test)


def of_ours(condition: str) -> bool:
    """Whether a condition asks for a module or a file of this project.

    >>> of_ours("find_spec('qdeploy.deploy') is None"), of_ours("find_spec('ray') is None")
    (True, False)
    """
    return "'qdeploy." in condition or condition == "'qdeploy'" or "MINI" in condition


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda f: f.name)
def test_what_a_test_needs_of_this_project_is_imported(file: Path) -> None:
    found = skips(ast.parse(file.read_text("utf-8")))
    assert [condition for condition in found if of_ours(condition)] == []


def test_a_skip_over_a_module_of_ours_is_seen() -> None:
    code = (
        "x = pytest.importorskip('qdeploy.deploy.targets.registry')\n"
        "@pytest.mark.skipif(find_spec('qdeploy.a') is None, reason='')\n"
        "def test():\n    if not MINI.is_file():\n        pytest.skip('')\n"
        "    pytest.importorskip('ray')\n"
    )
    assert [of_ours(found) for found in skips(ast.parse(code))].count(True) == 3
