"""Sizes of the house: files that are read at once, functions that are seen at once.

Beside them two shares: of annotations that name `Any`, and of comments where code is dense.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import qdeploy

ROOT = Path(qdeploy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TESTS = Path(__file__).parent
LINES, CODE, PARAMETERS = 300, 50, 8
TEST_LINES = 400
ANY_SHARE = 0.01  # of all annotations
COMMENTS = 5  # in a hundred lines of code
# Where a line stands for a case of a graph, so that code alone does not say which, or why.
DENSE = (
    "deploy/lowering/*.py",
    "deploy/passes/*.py",
    "deploy/targets/*/lower.py",
    "graph/*.py",
    "calibrate/grouping.py",
    "evaluate/run.py",
)
PLAIN = {"graph/structure.py"}  # records and their fields alone

# What is above a limit today. A test fails when one of these no longer is: then it goes.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
MANY_PARAMETERS: set[str] = set()
LONG_TESTS: set[str] = set()

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


def types_of(tree: ast.AST) -> Iterator[ast.expr]:
    """Of parameters, of results and of names."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            given = node.args
            named = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
            yield from (one.annotation for one in named if one and one.annotation)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def names_any(annotation: ast.expr) -> bool:
    """Whether `Any` stands in it, alone or within another type."""
    return re.search(r"\bAny\b", ast.unparse(annotation)) is not None


def comments_and_code(text: str) -> tuple[int, int]:
    """Lines with a comment, and lines of code; docstrings and words to tools are neither."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node):
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    comments: set[int] = set()
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not re.match(r"#\s*(noqa|type:|fmt:)", token.string):
                comments.add(token.start[0])
        elif token.string.strip():  # neither the end of a line nor an indent
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code - docstrings)


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


def test_no_file_of_tests_is_too_long() -> None:
    found = {
        file.relative_to(TESTS).as_posix()
        for file in TESTS.rglob("*.py")
        if len(file.read_text("utf-8").splitlines()) > TEST_LINES
    }
    assert found - LONG_TESTS == set(), f"lines of a file: {TEST_LINES}: split it by subject"
    assert LONG_TESTS - found == set(), "no longer an exception, remove it from the list"


def test_few_annotations_say_nothing() -> None:
    found = {
        file.relative_to(ROOT).as_posix(): [*types_of(ast.parse(file.read_text("utf-8")))]
        for file in FILES
    }
    silent = {name: sum(map(names_any, of_file)) for name, of_file in found.items()}
    share = sum(silent.values()) / sum(map(len, found.values()))
    most = sorted(silent, key=silent.__getitem__, reverse=True)[:5]
    assert share <= ANY_SHARE, f"`Any` in {share:.3f} of all annotations; most in {most}"


@pytest.mark.parametrize(
    "name",
    sorted({f.relative_to(ROOT).as_posix() for form in DENSE for f in ROOT.glob(form)} - PLAIN),
)
def test_dense_code_says_why(name: str) -> None:
    comments, code = comments_and_code((ROOT / name).read_text("utf-8"))
    assert 100 * comments >= COMMENTS * code, f"{comments} comments in {code} lines of code"


def test_the_shares_see_what_they_measure() -> None:
    """`Any` within a type, of every kind of parameter; comments behind code, not in strings."""
    text = (
        "def f(a: Any, /, b: int, *c: list[Any], d: 'dict[str, Any]' = {}, **e: Anyone) -> Any:\n"
        '    """Not\n    # this."""\n'
        "    x: Any = '# nor this'  # but this\n\n"
        "    # and this\n"
        "    return (x,\n"
        "            1)  # fmt: skip\n"
    )
    found = [*types_of(ast.parse(text))]
    assert len(found) == 7 and sum(map(names_any, found)) == 5
    assert comments_and_code(text) == (2, 4)
