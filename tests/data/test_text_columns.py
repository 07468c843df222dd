"""Which columns of a file of rows hold its text."""

from __future__ import annotations

import pytest

from qdeploy.data.tasks import TASKS
from qdeploy.data.text_columns import find_text_columns
from qdeploy.errors import DataError


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["id", "text", "label"], ("text",)),
        (["text_pair", "text"], ("text", "text_pair")),
        (["index", "question", "sentence", "label"], ("question", "sentence")),
        (["sentence1", "sentence2", "score"], ("sentence1", "sentence2")),
        (["context", "question", "answers"], ("question", "context")),
        (["stars", "review"], ("review",)),
        (["words"], ("words",)),
        (["words", "label"], ("words",)),
        (["Title", "score"], ("Title",)),
    ],
)
def test_usual_names(columns: list[str], found: tuple[str, ...]) -> None:
    assert find_text_columns(columns, None, "rows") == found


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_known_by_its_columns(name: str) -> None:
    task = TASKS[name]
    own = [column for column in (task.first, task.second) if column is not None]
    assert find_text_columns([*reversed(own), "label", "id"], None, "rows") == tuple(own)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a", ("a",)),
        (" b , a ", ("b", "a")),
        ("question=a,sentence=b", ("a", "b")),
        ("sentence=b,question=a,label=c", ("a", "b")),
        ("text=b", ("b",)),
    ],
)
def test_named(asked: str, found: tuple[str, ...]) -> None:
    assert find_text_columns(["a", "b", "c"], asked, "rows") == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (None, r"rows has the columns a, b, c, and their names do not say .*text\. Name it with"),
        ("d", r"rows has no column 'd'; it has: a, b, c\."),
        ("a,b,c", r"--columns is 'a,b,c', and the column of the text was expected"),
        ("a,a", "--columns is 'a,a'"),
        ("", "--columns is ''"),
        ("a,text=b", "--columns is 'a,text=b'"),
        ("premise=a,sentence=b", "--columns is 'premise=a,sentence=b'"),
    ],
)
def test_none(asked: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_text_columns(["a", "b", "c"], asked, "rows")


def test_what_the_engine_was_built_with_is_taken_where_it_is_there() -> None:
    columns = ["text", "a", "b"]
    assert find_text_columns(columns, None, "rows", ("b", "a")) == ("b", "a")
    assert find_text_columns(columns, None, "rows", ("b", "other")) == ("text",)
    assert find_text_columns(columns, "a", "rows", ("b",)) == ("a",)
