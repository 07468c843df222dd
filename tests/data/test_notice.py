"""The one line of what is read, from any columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data.notice import read_text, say_read
from qdeploy.data.tasks import TASKS, Columns

NAMES = st.lists(st.text("abcdefgh_", min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@pytest.mark.parametrize(
    ("known", "task", "columns", "line"),
    [
        (
            "text,label",
            "text",
            Columns("text", None, "label"),
            "r.csv: text = text, label = label",
        ),
        (
            "id,q,a,gold",
            "text-pair",
            Columns("q", "a", "gold"),
            "r.csv: text = q, text_pair = a, label = gold; not read: id",
        ),
        (
            "index,question,sentence,label",
            "qnli",
            Columns("question", "sentence", "label"),
            "r.csv as qnli: question = question, sentence = sentence, label = label; "
            "not read: index",
        ),
        (
            "id,text",
            "text",
            Columns("text", None, "label"),
            "r.csv: text = text; not read: id; no label",
        ),
    ],
)
def test_the_line(
    known: str, task: str, columns: Columns, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "qdeploy")
    say_read("r.csv", known.split(","), TASKS[task], columns)
    assert caplog.messages == [line]


@given(names=NAMES)
def test_every_column_is_named_or_counted(names: list[str]) -> None:
    text, *unread = names
    line = read_text("rows.csv", {"text": text}, unread)
    assert line.count("\n") == 0 and line.startswith(f"rows.csv: text = {text}")
    assert ("not read" in line) == bool(unread)
    listed = line.partition("; not read: ")[2]
    shown = [name for name in listed.partition(" and ")[0].split(", ") if name]
    more = int(listed.partition(" and ")[2].split()[0]) if " and " in listed else 0
    assert shown == unread[: len(shown)] and len(shown) + more == len(unread)
