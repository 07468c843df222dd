"""`qdeploy predict` of rows without text, of no rows, of single texts where pairs belong."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.api import predict_file
from qdeploy.cli import main
from qdeploy.errors import DataError, OutputError, PlanError, QDeployWarning
from tests.evaluate.bag import engine_directory
from tests.manifests import fields

pytestmark = pytest.mark.usefixtures("numpy_engines")
PAIRS = {"source": "x.csv", "task": "qnli", "columns": None, "max_length": None}
TEXTS = PAIRS | {"task": "text"}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return engine_directory(tmp_path / "engine")


@pytest.mark.parametrize(
    ("name", "content", "first"),
    [
        ("rows.csv", "id,text\n1,yes\n2,\n3,no\n", "line 3: column 'text' holds no text"),
        ("rows.tsv", "id\ttext\n1\tyes\n2\t \n3\tno\n", "line 3: column 'text' is ' '"),
        (
            "rows.jsonl",
            '{"id": "1", "text": "yes"}\n{"id": "2", "text": 7}\n{"id": "3", "text": "no"}\n',
            "line 2: column 'text' is 7",
        ),
        (
            "rows.jsonl",
            '{"id": "1", "text": "yes"}\n{"id": "2"}\n{"id": "3", "text": "no"}\n',
            "line 2: there is no column 'text'; there are: id",
        ),
    ],
)
def test_a_row_without_text_has_null_and_the_others_an_answer(
    engine: Path, tmp_path: Path, name: str, content: str, first: str
) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    path.write_text(content)
    with pytest.warns(
        QDeployWarning, match=rf"1 of 3 rows could not be answered.*{name}, {first}\. Mend"
    ):
        done = predict_file(engine, path, out=out, keep="id", logits=True)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[1] == {"id": "2", "label": None, "score": None, "logits": None}
    assert [row["label"] for row in found] == ["entailment", None, "not_entailment"]
    assert (done["rows"], done["unanswered"]) == (3, 1)
    assert done["answers"] == {"entailment": 1, "not_entailment": 1}


def test_rows_of_which_none_has_text(engine: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out"
    path.write_text("id,text\n" + "1,\n" * 100)
    with pytest.warns(QDeployWarning, match="100 of 100 rows could not be answered"):
        predict_file(engine, path, out=out, output_format="csv")
    assert out.read_text().splitlines() == ["label,score", *[","] * 100]


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_exit_code_1_where_rows_have_no_answer(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,id\nyes,1\n,2\n")
    assert main(["predict", str(engine), str(path)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and "1 row without an answer" in err


@pytest.mark.parametrize(
    ("keep", "header"),
    [(None, "label,score"), ("id", "id,label,score"), ("all", "id,text,input_label,label,score")],
)
def test_a_csv_of_no_rows_has_its_header(
    engine: Path, tmp_path: Path, keep: str | None, header: str
) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out"
    path.write_text("id,text,label\n")
    predict_file(engine, path, out=out, output_format="csv", keep=keep)
    assert out.read_text() == f"{header}\n"
    path.write_text("id,text,label\n1,yes,x\n")
    predict_file(engine, path, out=out, output_format="csv", keep=keep)
    assert out.read_text().startswith(f"{header}\n")  # the header of rows is the same


@pytest.mark.parametrize("place", ["-", "/dev/stdout"])
def test_standard_output_by_name(
    engine: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.txt").write_text("yes\n")
    done = predict_file(engine, tmp_path / "rows.txt", out=place)
    assert json.loads(capsys.readouterr().out)["label"] == "entailment" and done["out"] is None


def test_a_directory_for_the_answers(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("yes\n")
    with pytest.raises(OutputError, match="--out .* is a directory. Name a file in it"):
        predict_file(engine, tmp_path / "rows.txt", out=tmp_path)


def test_a_limit_without_room_is_the_fault_of_the_limit(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("yes\n")
    with pytest.raises(PlanError, match=r"^--max-length is 2, and a row needs 3 tokens at least"):
        predict_file(engine, tmp_path / "rows.txt", max_length=2)
    assert predict_file(engine, tmp_path / "rows.txt", max_length=3, out=tmp_path / "o")["rows"]


def test_plain_text_on_standard_input_is_told_its_format(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, said in ((b"hello\n", True), (b'{"text": "yes"}\nhello\n', False)):
        monkeypatch.setattr(sys, "stdin", _Stdin(given))
        with pytest.raises(DataError, match="not JSON") as caught:
            predict_file(engine, "-")
        assert ("--format text" in str(caught.value)) == said


@pytest.mark.parametrize(
    ("words", "typed", "said"),
    [
        ([], b'{"text": "yes"}\n', 'Reading lines of JSON ({"text": "..."}; --format text for'),
        (["--format", "text"], b"yes\n", "Reading texts from the terminal; Ctrl-D ends them."),
    ],
)
def test_a_terminal_is_told_what_is_waited_for(
    engine: Path,
    words: list[str],
    typed: bytes,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for terminal in (True, False):
        monkeypatch.setattr(sys, "stdin", _Stdin(typed, terminal))
        assert main(["predict", str(engine), *words]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["label"] == "entailment" and (said in err) == terminal


class _Stdin:
    def __init__(self, given: bytes, terminal: bool = False) -> None:
        self.buffer, self._terminal = io.BytesIO(given), terminal

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        raise OSError


# Single texts and pairs


@pytest.mark.parametrize(
    ("data", "rows", "text"),
    [
        (PAIRS, ["yes"], "Single texts are answered, .* pairs of texts (question, sentence)"),
        (TEXTS, [("yes", "no")], "Pairs of texts are answered, .* for single texts (text)"),
        (PAIRS, [("yes", "no")], None),
        (TEXTS, ["yes"], None),
        (None, ["yes"], None),
        (None, [("yes", "no")], None),
    ],
)
def test_texts_where_pairs_belong_are_said_once(
    tmp_path: Path, data: Any, rows: list[Any], text: str | None
) -> None:
    predictor = qdeploy.load(engine_directory(tmp_path / "e", data=data))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            predictor.predict(rows)
    found = [str(warning.message) for warning in said]
    start, _, end = (text or "").partition(", .* ")
    assert len(found) == (text is not None)
    assert all(one.startswith(start) and end in one for one in found)
    assert all(warning.filename == __file__ for warning in said)


def test_an_engine_of_the_embedded_rows_is_for_pairs(tmp_path: Path) -> None:
    """Where no data were named: calibrated on qnli-mini, and with its classes by name."""
    from qdeploy.data.row_texts import text_columns

    labels = {"entailment": ["entailment", "not_entailment"], "generic": ["LABEL_0", "LABEL_1"]}
    mini, other = {"data": "qnli-mini"}, {"data": "x.csv"}

    def columns(names: str, calibration: dict[str, str] | None) -> tuple[str, ...]:
        return text_columns(fields("engine", labels=labels[names], calibration=calibration))

    assert columns("entailment", mini) == ("question", "sentence")
    assert columns("generic", mini) == ()
    assert columns("entailment", other) == ()
    assert columns("entailment", None) == ()
