"""Sizes of the house: files that are read at once, functions that are seen at once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import qdeploy

ROOT = Path(qdeploy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LINES, CODE, PARAMETERS = 300, 50, 8

# What is above a limit today. A test fails when one of these no longer is: then it goes.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
MANY_PARAMETERS: set[str] = set()

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, those inside others too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def code_lines(function: Function, source: list[str]) -> int:
    """Lines of a function below its docstring, without blank ones and comments."""
    body = function.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        body = body[1:]
    if not body:
        return 0
    assert function.end_lineno is not None
    lines = (line.strip() for line in source[body[0].lineno - 1 : function.end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in lines)


def parameters(function: Function) -> int:
    """Parameters that a caller may give, `self` and `cls` not counted."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return sum(name not in ("self", "cls") for name in names)


@functools.cache
def measured() -> tuple[set[str], set[str], set[str]]:
    """Files, functions by their lines, and functions by their parameters that are above a limit."""
    files, long, many = set(), set(), set()
    for file in FILES:
        text, name = file.read_text("utf-8"), file.relative_to(ROOT).as_posix()
        source = text.splitlines()
        if len(source) > LINES:
            files.add(name)
        for function in functions(ast.parse(text)):
            if code_lines(function, source) > CODE:
                long.add(f"{name}:{function.name}")
            if parameters(function) > PARAMETERS:
                many.add(f"{name}:{function.name}")
    return files, long, many


# An options class is a dataclass: its constructor is not written, so that it is not counted here.
@pytest.mark.parametrize(
    ("kind", "exceptions", "limit"),
    [
        (0, LONG_FILES, f"lines of a file: {LINES}"),
        (1, LONG_FUNCTIONS, f"code lines of a function: {CODE}"),
        (2, MANY_PARAMETERS, f"parameters of a function: {PARAMETERS}"),
    ],
    ids=["files", "functions", "parameters"],
)
def test_nothing_is_above_its_limit(kind: int, exceptions: set[str], limit: str) -> None:
    found = measured()[kind]
    assert found - exceptions == set(), f"{limit}: split it by subject"
    assert exceptions - found == set(), f"{limit}: no longer an exception, remove it from the list"


def test_the_measures_see_what_they_measure() -> None:
    """Docstrings, blank lines and comments do not count, nested functions and keywords do."""
    text = (
        "def f(a, /, b, *c, d, **e):\n"
        '    """Two\n    lines."""\n'
        "    # why\n"
        "    x = 1\n\n"
        "    def inner(self, one):\n"
        "        return one\n\n"
        "    return x\n"
        'async def g():\n    """Nothing."""\n'
    )
    found = {f.name: f for f in functions(ast.parse(text))}
    source = text.splitlines()
    assert {name: code_lines(f, source) for name, f in found.items()} == {
        "f": 4,
        "inner": 1,
        "g": 0,
    }
    assert {name: parameters(f) for name, f in found.items()} == {"f": 3, "inner": 1, "g": 0}
