"""Labels of several classes: lists, cells with a separator, and a column of 0 and 1 for each class;
and a -1, which is a score among scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qdeploy.data.hub import _table
from qdeploy.data.infer import infer as infer_from
from qdeploy.data.rows import read_rows
from qdeploy.data.sources import open_source
from qdeploy.data.tasks import TASKS, Columns, find_task, parse_columns
from qdeploy.data.tokens import items_of, joining
from qdeploy.data.write import write_rows
from qdeploy.errors import DataError
from tests.data.written import write

TOXIC = ["toxic", "severe_toxic", "threat"]
SETS = [["a", "new class"], [], ["b"]]
HEADER = "id,comment_text,toxic,severe_toxic,threat\n"


def sets(labels: tuple[str, ...] | None) -> list[list[str]]:
    assert labels is not None
    return [items_of(label) for label in labels]


def jsonl(path: Path, values: list[Any], column: str = "labels") -> Path:
    lines = [json.dumps({"text": f"text {at}", column: v}) for at, v in enumerate(values)]
    return write(path, "\n".join(lines))


# Lists


def test_lists_of_names_and_of_numbers(tmp_path: Path) -> None:
    columns = Columns("text", None, "labels")
    names = jsonl(tmp_path / "names.jsonl", SETS)
    assert sets(read_rows(names, task="text", columns=columns).labels) == SETS
    numbers = jsonl(tmp_path / "numbers.jsonl", [[2, 0], [], [1.0, 0.0], [True, False]])
    found = sets(read_rows(numbers, task="text", columns=columns).labels)
    assert found == [["2", "0"], [], ["1", "0"], ["1", "0"]]
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"text": ["x", "y", "z"], "labels": SETS})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert sets(read_rows(tmp_path / "rows.parquet", task="text", columns=columns).labels) == SETS


def test_null_is_no_label_and_an_empty_list_is_one(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [["a"], None, []])
    with pytest.raises(DataError, match="line 2: column 'labels' holds no class; 1 of 3 rows"):
        read_rows(path, task="text", columns="label=labels")
    empty = jsonl(tmp_path / "empty.jsonl", [[], []])
    assert sets(read_rows(empty, task="text", columns="label=labels").labels) == [[], []]


def test_rows_that_are_written_are_read_again(tmp_path: Path) -> None:
    rows = read_rows(jsonl(tmp_path / "a.jsonl", SETS), task="text", columns="label=labels")
    write_rows(rows, find_task("text"), tmp_path / "b.jsonl")
    again = read_rows(tmp_path / "b.jsonl", task="text")
    assert (again.first, again.labels) == (rows.first, rows.labels)


def test_lists_of_the_hub_have_names() -> None:
    class Loaded(list[dict[str, Any]]):
        column_names = ("text", "labels")
        features = {  # noqa: RUF012  # as in datasets
            "text": SimpleNamespace(),
            "labels": SimpleNamespace(feature=SimpleNamespace(names=["joy", "anger", "fear"])),
        }

        def select_columns(self, names: list[str]) -> list[dict[str, Any]]:
            return [{name: row[name] for name in names} for row in self]

    loaded: Any = Loaded([{"text": "x", "labels": [2, 0]}, {"text": "y", "labels": []}])
    found = [values["labels"] for _, values in joining(_table("hub:x", loaded)).read(("labels",))]
    assert [items_of(str(found[0])), found[1]] == [["fear", "joy"], []]


def test_a_column_of_lists_is_the_label(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [["joy", "anger"], ["fear", "joy"], []])
    for labels in (["joy", "anger", "fear"], ["joy"], ["LABEL_0", "LABEL_1"]):
        found = infer_from(open_source(path, "evaluation"), labels)
        assert (found.columns.first, found.columns.label) == ("text", "labels")


# Cells


def test_cells_with_a_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tlabel\na\tjoy| new class\nb\t\nc\tfear\n")
    columns = Columns("text", None, "label", separator="|")
    found = read_rows(path, task="text", columns=columns)
    assert sets(found.labels) == [["joy", "new class"], [], ["fear"]]
    with pytest.raises(DataError, match="line 3: column 'label' holds no class"):
        read_rows(path, task="text")  # without a separator a blank cell is a label that is missing


@pytest.mark.parametrize("cell", ["joy||fear", "joy|", "|"])
def test_a_cell_with_a_class_too_few(cell: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"text,label\na,{cell}\n")
    with pytest.raises(DataError, match=r"line 2: .* classes with '\|' between them were expected"):
        read_rows(path, task="text", columns=Columns("text", None, "label", separator="|"))


# Columns of 0 and 1


def test_columns_of_classes_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", HEADER + "1,you are bad,1,0,1\n2,fine,0,0,0\n3,well,0,1,0\n")
    found = infer_from(open_source(path, "evaluation"), ["Toxic", "Severe Toxic", "threat"])
    assert found.columns.classes == tuple(TOXIC) and found.labelled
    assert (found.task.name, found.columns.first) == ("text", "comment_text")
    rows = read_rows(path, task="text", columns=found.columns)
    assert sets(rows.labels) == [["toxic", "threat"], [], ["severe_toxic"]]
    named = infer_from(open_source(path, "evaluation"), TOXIC, "text=comment_text")
    assert named.columns.classes == found.columns.classes


@pytest.mark.parametrize(
    "labels", [["toxic", "severe_toxic", "obscene"], ["LABEL_0", "LABEL_1"], ["toxic"]]
)
def test_columns_of_other_classes_are_not(labels: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,toxic,severe_toxic\na b,1,0\nc d,0,1\n")
    found = infer_from(open_source(path, "evaluation"), labels)
    assert found.columns.classes == () and not found.labelled


def test_a_column_of_classes_says_more_than_columns_of_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label,bad,good\na b,good,0,1\nc d,bad,1,0\n")
    found = infer_from(open_source(path, "evaluation"), ["bad", "good"])
    assert (found.columns.label, found.columns.classes) == ("label", ())


@pytest.mark.parametrize("value", ["0.7", "2", "yes", "1e400"])
def test_what_is_neither_0_nor_1(value: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"text,toxic,threat\na,0,{value}\n")
    with pytest.raises(DataError, match=f"column 'threat' is '{value}', and 0 or 1 was expected"):
        read_rows(path, task="text", columns="labels=toxic+threat")


def test_rows_that_nobody_labelled(tmp_path: Path) -> None:
    """Jigsaw's test set has -1 in rows that do not count."""
    columns = "labels=toxic+threat"
    all_of_them = write(tmp_path / "a.csv", "text,toxic,threat\na,-1,-1\n")
    found = infer_from(open_source(all_of_them, "evaluation"), ["toxic", "threat"])
    rows = read_rows(all_of_them, task="text", columns=found.columns)
    assert rows.labels is None and rows.blank == "toxic+threat"
    one = write(tmp_path / "b.csv", "text,toxic,threat\na,1,0\nb,-1,-1\n")
    with pytest.raises(DataError, match=r"line 3: column 'toxic\+threat' holds no class; 1 of 2"):
        read_rows(one, task="text", columns=columns)
    with pytest.raises(DataError, match="has no column 'insult'"):
        read_rows(one, task="text", columns="labels=toxic+insult")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels=a+", "does not name each column once"),
        ("labels=a+b+a", "does not name each column once"),
        ("labels=a+b,labels=c+d", "names 'labels' twice"),
        ("label=a,labels=b+c", "names label and labels"),
    ],
)
def test_columns_of_classes_that_are_misspelled(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_columns(text, "text")


def test_one_column_of_labels_is_the_label() -> None:
    assert parse_columns("labels=tags", "text") == parse_columns("label=tags", "text")


def test_columns_are_kept_and_come_back() -> None:
    for columns in (
        Columns("text", None, "label", classes=("a", "b")),
        Columns("text", "other", "label", separator="|"),
    ):
        assert Columns.from_json(columns.to_json()) == columns
    assert "classes" not in Columns("text", None, "label").to_json()


# Scores


def test_a_score_may_be_minus_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,score\na,0.5\nb,-1\nc,-1.0\n")
    assert read_rows(path, task="text", columns="label=score").labels == ("0.5", "-1", "-1.0")
    assert read_rows(path, task="text", columns="label=score", split="calibration").labels is None
    none = write(tmp_path / "none.csv", "text,score\na,-1\nb,-1\n")
    assert read_rows(none, task="text", columns=Columns("text", None, "score")).labels is None
    with pytest.raises(DataError, match="line 2: column 'score' holds no class, and no other row"):
        read_rows(none, task="text", columns="label=score")


def test_a_minus_one_among_classes_is_a_label_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "sentence,label\na,1\nb,-1\n")
    with pytest.raises(DataError, match="line 3: column 'label' holds no class; 1 of 2 rows"):
        read_rows(path, task="cola")


# GLUE


@pytest.mark.parametrize(
    ("task", "header"),
    [
        ("stsb", "index\tsentence1\tsentence2\tscore"),
        ("stsb", "sentence1\tsentence2\tlabel"),
        ("mnli", "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label"),
        ("mnli", "premise\thypothesis\tlabel"),
        ("mrpc", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"),
        ("qqp", "id\tquestion1\tquestion2\tis_duplicate"),
    ],
)
def test_glues_own_files_have_columns_of_their_own(task: str, header: str, tmp_path: Path) -> None:
    names = header.split("\t")
    path = write(tmp_path / "dev.tsv", header + "\n" + "\t".join(f"a {n}" for n in names) + "\n")
    columns = TASKS[task].columns_in(names)
    rows = read_rows(path, task=task)
    assert rows.second is not None and rows.labels is not None
    assert (rows.first[0], rows.second[0], rows.labels[0]) == (
        f"a {columns.first}",
        f"a {columns.second}",
        f"a {columns.label}",
    )


def test_the_matched_dev_set_of_mnli(tmp_path: Path) -> None:
    text = "premise\thypothesis\tlabel\n{}\tb\tneutral\n"
    write(tmp_path / "dev_mismatched.tsv", text.format("mismatched"))
    with pytest.raises(DataError, match=r"has no dev\.tsv"):
        read_rows(tmp_path, task="mnli")
    write(tmp_path / "dev_matched.tsv", text.format("matched"))
    assert read_rows(tmp_path, task="mnli").first == ("matched",)
    assert read_rows(tmp_path / "dev_mismatched.tsv", task="mnli").first == ("mismatched",)
