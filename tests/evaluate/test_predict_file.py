"""`qdeploy predict`: answers to files of rows."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.api import predict_file
from qdeploy.errors import DataError, OutputError, PlanError, QDeployWarning
from tests.evaluate.bag import CLASSES, MAX_LENGTH, engine_directory
from tests.evaluate.row_files import TEXTS, answers, bag, rows_file


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return engine_directory(tmp_path / "engine")


def refused(engine: Path, file: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message):
        predict_file(engine, file, **options)


@bag
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt", ".parquet"])
def test_answers_are_those_of_predict_in_the_order_of_the_rows(
    engine: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "answers.jsonl"
    done = predict_file(engine, rows_file(tmp_path / f"rows{suffix}"), out=out, threads=1)
    expected = qdeploy.load(engine, threads=1).predict(TEXTS)
    found = answers(out)
    assert [row["label"] for row in found] == [one.label for one in expected]
    assert [row["score"] for row in found] == pytest.approx([one.score for one in expected])
    assert all(set(row) == {"label", "score"} for row in found)
    assert (done["rows"], done["threads"], done["truncated"]) == (150, 1, 0)
    assert done["answers"] == {"entailment": 100, "not_entailment": 50}


@bag
def test_pairs_columns_and_what_goes_with_them(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"q": "w1", "s": "yes", "label": "x", "n": NaN}\n{"q": "w1 no", "s": "no", "label": "y"}\n'
    )
    out = tmp_path / "answers.jsonl"
    for columns in ("q,s", "question=q,sentence=s", "sentence=s,question=q"):
        predict_file(engine, path, out=out, columns=columns, keep="label", logits=True)
        first, second = answers(out)
        assert first["input_label"] == "x" and second["input_label"] == "y"
        assert (first["label"], second["label"]) == CLASSES
        expected = qdeploy.load(engine).logits([("w1", "yes")])[0]["logits"]
        np.testing.assert_array_equal(np.float32(first["logits"]), expected)
    predict_file(engine, path, out=out, columns="s", keep="all")
    assert answers(out)[0] == answers(out)[0] | {"q": "w1", "s": "yes", "n": None}


@bag
@pytest.mark.filterwarnings("ignore:Pairs of texts are answered:qdeploy.errors.QDeployWarning")
def test_the_columns_that_the_engine_was_built_with(tmp_path: Path) -> None:
    columns = {"first": "body", "second": None, "label": "label"}
    data = {"source": "x.csv", "task": "text", "columns": columns, "max_length": None}
    path, out = tmp_path / "rows.csv", tmp_path / "o"
    path.write_text("text,body,sentence,question\nno,yes,no,yes\n")
    kept: list[tuple[Any, Any]] = [
        (data, "yes"),
        (data | {"columns": None}, "no"),  # the task's own: text
        (data | {"columns": columns | {"first": "gone"}}, ("yes", "no")),  # by their names
        (None, ("yes", "no")),
    ]
    for at, (remembered, text) in enumerate(kept):
        engine = engine_directory(tmp_path / f"e{at}", data=remembered)
        predict_file(engine, path, out=out, logits=True)
        expected = qdeploy.load(engine).logits([text])[0]["logits"]
        np.testing.assert_array_equal(np.float32(answers(out)[0]["logits"]), expected)


@bag
def test_csv_has_one_line_for_each_row(engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    path = rows_file(tmp_path / "rows.csv", ['yes "w1",\nw2', "no"])
    predict_file(engine, path, out=out, output_format="csv", keep="all", logits=True)
    first, second = csv.DictReader(io.StringIO(out.read_text()))
    assert list(first) == ["id", "text", "label", "score", "logits"]
    assert first["text"] == 'yes "w1",\nw2' and second["label"] == "not_entailment"
    assert len(json.loads(first["logits"])) == 2


@bag
def test_a_bad_line_is_named_and_no_file_is_left(engine: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    out.write_text("older")
    path.write_text('{"text": "yes"}\n' * 30 + '{"text": \n')
    refused(engine, path, rf"rows\.jsonl, line 31: not JSON.*{out} was not written", out=out)
    assert out.read_text() == "older"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        *("answers.jsonl", "engine", "rows.jsonl")
    ]


@bag
def test_what_stands_before_a_bad_line_is_answered(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "yes"}\n' * 30 + "[]\n")
    refused(engine, path, r"line 31: a JSON list.*Rows before it that were answered: 30\.")
    assert len(capsys.readouterr().out.splitlines()) == 30


@bag
def test_a_token_without_an_embedding_is_named_by_its_line(tmp_path: Path) -> None:
    engine = engine_directory(tmp_path / "e", vocabulary=8)  # w2 and above have none
    path, out = tmp_path / "rows.txt", tmp_path / "o"
    path.write_text("yes\n\nno w1\nno w9 w1\nyes\n")
    refused(engine, path, r"rows\.txt, line 4: Row 1 holds the token 'w9'", out=out)


@bag
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "sentence"}, "has no column 'sentence'; it has: b, a"),
        ({}, r"has the columns b, a, and their names do not say.*Name it with --columns"),
        ({"columns": "a,b,a"}, r"--columns is 'a,b,a', and the column of the text"),
        ({"columns": "a", "keep": "c"}, "has no column 'c', which --keep names; it has: b, a"),
        ({"format": "xml"}, "Unknown format 'xml'.*jsonl"),
    ],
)
def test_columns_that_are_not_there(
    engine: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("b,a\n1,yes\n")
    refused(engine, path, message, **options)


@bag
def test_files_that_are_none(engine: Path, tmp_path: Path) -> None:
    refused(engine, tmp_path / "none.csv", "does not exist. Name a file of rows")
    (tmp_path / "rows.dat").write_text("yes\n")
    refused(engine, tmp_path / "rows.dat", "has the suffix '.dat'.*with --format")
    assert predict_file(engine, tmp_path / "rows.dat", format="text")["rows"] == 1
    refused(engine, "-", "Parquet cannot be read from a pipe", format="parquet")
    path = rows_file(tmp_path / "rows.csv")
    with pytest.raises(OutputError, match="would replace what belongs to"):
        predict_file(engine, path, out=path)
    with pytest.raises(PlanError, match="--max-length is 64, and the model takes at most 32"):
        predict_file(engine, path, max_length=64)


@bag
def test_csv_has_the_columns_of_the_first_row(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "yes"}\n{"text": "no", "more": 1}\n')
    given = {"out": tmp_path / "o", "output_format": "csv", "keep": "all"}
    once = rf"^{path}, line 2: column 'more' is not in the first row.*jsonl"
    refused(engine, path, once, **given)


@bag
def test_what_is_read_is_said(
    engine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qdeploy")
    path, given = tmp_path / "rows.jsonl", {"out": tmp_path / "o", "keep": "date"}
    path.write_text('{"id": 1, "text": "yes", "second_text": "no", "date": "x"}\n' * 3)
    with pytest.warns(
        QDeployWarning, match="'second_text' looks like text .*--columns text,second"
    ):
        predict_file(engine, path, **given)  # type: ignore[arg-type]
    assert caplog.messages == [f"{path}: text = text; not read: id, second_text"]
    predict_file(engine, path, columns="text,second_text", **given)  # type: ignore[arg-type]
    assert caplog.messages[1:] == [f"{path}: text = text, text_pair = second_text; not read: id"]
    path.write_text('{"customer": "u1", "label": "yes"}\n' * 3)
    refused(engine, path, "'customer' would be read as text, and it holds ids.*--columns COLUMN")


@bag
def test_rows_that_are_cut_are_said(engine: Path, tmp_path: Path) -> None:
    path = rows_file(tmp_path / "rows.csv", ["yes " * 50, "no"])
    with pytest.warns(QDeployWarning, match="1 of 2 rows have more than 32 tokens.*takes no more"):
        done = predict_file(engine, path, out=tmp_path / "o")
    assert (done["truncated"], done["max_length"]) == (1, MAX_LENGTH)
    with pytest.warns(QDeployWarning, match="more than 8 tokens.*--max-length says so"):
        predict_file(engine, path, out=tmp_path / "o", max_length=8)


@bag
def test_no_rows_no_answers(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    done = predict_file(engine, tmp_path / "rows.jsonl", out=tmp_path / "o")
    assert done["rows"] == 0 and (tmp_path / "o").read_text() == ""


@bag
def test_progress_knows_how_many_there_are(engine: Path, tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        calls: list[tuple[str, int, int]] = []
        path = rows_file(tmp_path / f"rows{suffix}")
        predict_file(engine, path, out=tmp_path / "o", progress=lambda *a: calls.append(a))  # noqa: B023
        assert calls == [("predict", done, 150) for done in (64, 128, 150)]


@bag
def test_memory_does_not_grow_with_the_rows(engine: Path, tmp_path: Path) -> None:
    """Thirty times the rows: no more of them are held."""
    import tracemalloc

    peaks = []
    for count in (1, 30):
        path = rows_file(tmp_path / "rows.csv", TEXTS * count)
        tracemalloc.start()
        predict_file(engine, path, out=tmp_path / "o")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 600_000  # the file has 1.5 MB, and its rows take more
