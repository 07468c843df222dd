"""Rows of a task from every source, and the errors of a user's data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qdeploy.data import (
    Columns,
    parse_columns,
    read_rows,
    row_hashes,
)
from qdeploy.errors import DataError, PlanError
from tests.data.real import QNLI, needs_qnli
from tests.data.written import GLUE, write

# Real data


@needs_qnli
def test_all_rows_of_the_real_dev_set_arrive() -> None:
    """A reader with quoting drops or joins rows here."""
    rows = read_rows(str(QNLI))
    assert len(rows) == 5463
    assert rows.labels is not None and rows.second is not None
    assert rows.labels.count("entailment") == 2702
    assert rows.labels.count("not_entailment") == 2761
    assert rows.first[0] == "What came into force after the new constitution was herald?"
    assert any(text.count('"') % 2 for text in rows.second)
    assert rows.source == str(QNLI / "dev.tsv")
    assert read_rows(QNLI / "dev.tsv").content_hash() == rows.content_hash()


@needs_qnli
def test_calibration_rows_of_a_glue_directory_are_its_train_rows() -> None:
    train = read_rows(QNLI, split="calibration")
    assert len(train) == 104_743
    assert not set(row_hashes(train)) & set(row_hashes(read_rows(QNLI)))


# Columns


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'gold,premise,hypothesis\n1,"a, b",c\n0,d,e\n')
    rows = read_rows(path, columns="question=premise,sentence=hypothesis,label=gold")
    assert rows.first == ("a, b", "d")
    assert rows.second == ("c", "e")
    assert rows.labels == ("not_entailment", "entailment")
    assert rows.row_ids == (0, 1)


def test_columns_keep_their_names_where_none_is_given() -> None:
    assert parse_columns(" sentence = passage ") == Columns("question", "passage", "label")
    assert parse_columns("label=gold").label_required
    assert parse_columns("sentence=text", "sst2") == Columns("text", None, "label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question", r"'question' is not NAME=COLUMN. Write it like question=COLUMN,"),
        ("question=", "is not NAME=COLUMN"),
        ("question=sentence", "both texts of task qnli would be read from 'sentence'"),
        ("questoin=a", r"Unknown name in --columns for task qnli 'questoin'. Did you mean 'quest"),
        ("label=a,label=b", "names 'label' twice"),
    ],
)
def test_wrong_columns_option(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_columns(text)


def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "premise\thypothesis\tlabel\na\tb\t0\n")
    with pytest.raises(DataError, match=r"no column 'question'; it has: premise, hypothesis, lab"):
        read_rows(path)
    with pytest.raises(DataError, match=r"no column 'gold'; .*--columns question=COLUMN,"):
        read_rows(path, columns="question=premise,sentence=hypothesis,label=gold")


# Labels


def test_integers_are_names_for_qnli_and_stay_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows: list[dict[str, Any]] = [
        {"question": "a", "sentence": "b", "label": label} for label in (0, 1, 1.0, "0", True)
    ]
    write(path, "\n".join(map(json.dumps, rows)))
    assert read_rows(path).labels == (
        "entailment",
        "not_entailment",
        "not_entailment",
        "entailment",
        "not_entailment",
    )
    renamed = read_rows(path, task="mnli", columns="premise=question,hypothesis=sentence")
    assert renamed.labels == ("0", "1", "1", "0", "true")


def test_rows_without_a_label_column_have_no_labels(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path / "x.tsv", "question\tsentence\na\tb\n")).labels is None


@pytest.mark.parametrize("missing", ["-1", "-1.0", "null", '""', "NaN"])
def test_a_row_without_a_class_matters_to_evaluation_alone(tmp_path: Path, missing: str) -> None:
    row = '{{"question":"a","sentence":"b","label":{}}}\n'
    path = write(tmp_path / "x.jsonl", row.format(0) + row.format(missing))
    with pytest.raises(DataError, match="line 2: column 'label' holds no class"):
        read_rows(path)
    assert read_rows(path, split="calibration").labels is None
    none = write(tmp_path / "none.jsonl", 2 * row.format(missing))  # GLUE's test split
    assert read_rows(none).labels is None
    assert read_rows(none).blank == "label" and read_rows(none).take(1).blank == "label"
    with pytest.raises(DataError, match="line 1: column 'label' holds no class, and no other row"):
        read_rows(none, columns="label=label")


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.0", "entailment"), ("1", "not_entailment"), ("False", "entailment"), ("2", "2")],
)
def test_spellings_of_integers_in_a_table(tmp_path: Path, written: str, read: str) -> None:
    path = write(tmp_path / "x.csv", f"question,sentence,label\na,b,{written}\n")
    assert read_rows(path).labels == (read,)


# Sources and their errors


def test_directory_takes_the_file_of_the_split(tmp_path: Path) -> None:
    write(tmp_path / "dev.tsv", GLUE + "0\tdev\ts\tentailment\n")
    write(tmp_path / "train.tsv", GLUE + "0\ttrain\ts\tentailment\n")
    assert read_rows(tmp_path).first == ("dev",)
    assert read_rows(tmp_path, split="calibration").first == ("train",)


def test_directory_without_the_file_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "test.tsv", GLUE)
    with pytest.raises(DataError, match=r"has no dev\.tsv, .* it holds test\.tsv"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match=r"has no train\.tsv, .* calibration rows"):
        read_rows(tmp_path, split="calibration")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.tsv", r"nowhere\.tsv does not exist\. Data is a file \(\.tsv, \.csv"),
        ("qnli-mni", r"qnli-mni does not exist\. Did you mean 'qnli-mini'\?"),
        ("imdb", r"imdb does not exist\. For a hub data set write hub:imdb"),
        ("./glue/qnli/", r"does not exist"),
    ],
)
def test_missing_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_rows(source)


def test_a_mistyped_path_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="data/qnli does not exist"):
        read_rows("data/qnli")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", r"holds no rows"),
        ("0\t\ts\tentailment\n", r"line 2: column 'question' holds no text"),
        ("0\tq\t \tentailment\n", r"line 2: column 'sentence' is ' '"),
        ("0\tq\ts\n", r"line 2: 3 fields"),
    ],
)
def test_rows_that_hold_nothing(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path / "x.tsv", GLUE + body))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("7", "is 7"),
        ("null", "no text"),
        ('"\\ud800"', "surrogate"),
        ('"' + " " * 5000 + '"', "is '   "),
        ("[" * 700 + "]" * 700, r"is \[\[\["),
    ],
)
def test_json_values_that_are_no_text(tmp_path: Path, value: str, message: str) -> None:
    path = write(tmp_path / "x.jsonl", f'{{"question": {value}, "sentence": "b"}}\n')
    with pytest.raises(DataError, match=f"line 1: column 'question' .*{message}"):
        read_rows(path)


def test_a_class_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"question": "a", "sentence": "b", "label": "\\ud800"}\n')
    with pytest.raises(DataError, match=r"line 1: column 'label' is '\\ud800', and the name or"):
        read_rows(path)


@pytest.mark.parametrize("column", ["question", "label"])
def test_json_as_deep_as_python_reads_it(tmp_path: Path, column: str) -> None:
    """What can be parsed may still be too deep to be written out again."""
    values = {"question": '"a"', "sentence": '"b"', "label": "0"}
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        values[column] = "[" * depth + "]" * depth
        line = ", ".join(f'"{name}": {value}' for name, value in values.items())
        path = write(tmp_path / "x.jsonl", f"{{{line}}}\n")
        try:
            read_rows(path)
        except DataError as error:
            assert "line 1" in str(error)


@pytest.mark.parametrize("label", ["9" * 5000, "-" + "1" * 5000, "LABEL_" + "2" * 5000])
def test_labels_of_thousands_of_digits_are_names(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "x.tsv", f"question\tsentence\tlabel\na\tb\t{label}\n")
    assert read_rows(path).labels == (label,)


def test_unknown_task_and_split(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"Unknown task 'qnil'\. Did you mean 'qnli'"):
        read_rows(tmp_path, task="qnil")
    with pytest.raises(PlanError, match="Unknown split 'train'"):
        read_rows(tmp_path, split="train")


def test_a_column_that_json_lines_lack_at_first(tmp_path: Path) -> None:
    """Only the whole file tells whether a column is missing or a row."""
    first, other = '{"sentence": "s", "extra": 1}\n', '{"question": "q", "sentence": "s"}\n'
    with pytest.raises(DataError, match="line 1: column 'question' holds no text"):
        read_rows(write(tmp_path / "x.jsonl", first + other))
    with pytest.raises(DataError, match="has no column 'question'; it has: sentence, extra"):
        read_rows(write(tmp_path / "x.jsonl", first + first))
    with pytest.raises(DataError, match="has no column 'gold'; it has: question, sentence"):
        read_rows(write(tmp_path / "x.jsonl", other), columns="label=gold")
    many = "".join(json.dumps({"question": "q", f"c{i}": i}) + "\n" for i in range(5000))
    with pytest.raises(DataError, match=r"no text|has no column 'sentence'") as caught:
        read_rows(write(tmp_path / "x.jsonl", many))
    assert len(str(caught.value)) < 1000
