"""Rows, labels and arguments that are for another kind of head are refused by what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.errors import DataError, PlanError
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint

pytestmark = pytest.mark.integration

TEXTS = [f"the king of year {at}" for at in range(12)]
LABELS: dict[str, list[Any]] = {
    "answers": [{"text": ["king"], "answer_start": [4]} for _ in TEXTS],
    "no answers": [{"text": [], "answer_start": []} for _ in TEXTS],
    "spans": [[[4, 8, "PER"]] for _ in TEXTS],
    "lists": [["toxic", "threat"][: at % 3] for at in range(12)],
}
SAID = {
    "answers": "is the gold answers of a question",
    "no answers": "is the gold answers of a question",
    "spans": "is a list of spans",
    "lists": "is a list, as of several classes or of tags",
}
MULTI = {"problem_type": "multi_label_classification"}
HEADS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "classifier": (("bad", "good"), {}),
    "multi-label": (("toxic", "obscene", "threat"), MULTI),
    "regression": (("value",), {"problem_type": "regression"}),
}
TAKES = {
    "classifier": "a classifier takes one class a row",
    "multi-label": "a multi-label classifier takes classes",
    "regression": "the model answers with values",
}


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(head: str, once: Once) -> Path:
    """An FP32 engine of the head; not to be changed."""

    def make(home: Path) -> None:
        labels, said = HEADS[head]
        head_checkpoint(home / "checkpoint", labels, **said)
        qdeploy.export(home / "checkpoint", home / "model")
        qdeploy.build(home / "model", home / "engine", strategy="fp32")

    return once("other forms", head, make)[0] / "engine"


def rows_file(path: Path, labels: list[Any], column: str = "label") -> Path:
    rows = [{"text": text, column: label} for text, label in zip(TEXTS, labels, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_another_head(engine: Path, head: str, form: str, tmp_path: Path) -> None:
    if (head, form) == ("multi-label", "lists"):
        return
    if form in ("answers", "no answers"):
        data = tmp_path / "rows.jsonl"
        rows = [
            {"question": "who", "context": text, "answers": label}
            for text, label in zip(TEXTS, LABELS[form], strict=True)
        ]
        data.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    else:
        data = rows_file(tmp_path / "rows.jsonl", LABELS[form])
    wanted = f"rows.jsonl, row 1: the label {SAID[form]}, and {TAKES[head]}. Name another column"
    with pytest.raises(DataError, match=wanted):
        qdeploy.evaluate(engine, data=data, latency=False)


@pytest.mark.parametrize("head", ["multi-label"], indirect=True)
def test_a_column_of_classes_that_is_not_there(engine: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,toxic,obscene,threat\n" + "".join(f"{t},1,0,0\n" for t in TEXTS))
    with pytest.raises(DataError, match="no column 'thread'; .*labels=COLUMN.COLUMN"):
        qdeploy.evaluate(
            engine, data=data, columns="text=text,labels=toxic+obscene+thread", latency=False
        )


@pytest.mark.parametrize("head", ["multi-label"], indirect=True)
@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("threat", [0, 1], "'threat' is of one class, and the model has 3.*toxic.obscene.threat"),
        ("ner_tags", [[0, 1], [1, 0]], "'ner_tags' holds the tags of words"),
    ],
)
def test_numbers_that_are_no_indices(
    engine: Path, column: str, values: list[Any], said: str, tmp_path: Path
) -> None:
    data = rows_file(tmp_path / "rows.jsonl", values * 6, column)
    with pytest.raises(DataError, match=said):
        qdeploy.evaluate(engine, data=data, columns=f"text=text,labels={column}", latency=False)


@pytest.mark.parametrize("head", ["multi-label"], indirect=True)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"threshold": "x"}, "threshold is x, and 0 to 1"),
        ({"threshold": True}, "threshold is True, and 0 to 1"),
        ({"max_length": "x"}, "max_length is 'x', and a whole number of tokens"),
        ({"max_length": 9.5}, "max_length is 9.5, and a whole number of tokens"),
        ({"function_to_apply": 3}, "Unknown function_to_apply '3'"),
    ],
)
def test_arguments_of_predict(engine: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        qdeploy.load(engine).predict(TEXTS, **given)


@pytest.mark.parametrize("dimensions", [2.5, "x", True, 0, 33])
def test_dimensions_of_embeddings(once: Once, dimensions: Any) -> None:
    def make(home: Path) -> None:
        sentence_checkpoint(home / "checkpoint")
        qdeploy.export(home / "checkpoint", home / "model")
        qdeploy.build(home / "model", home / "engine", strategy="fp32")

    engine = once("embedder of other forms", 1, make)[0] / "engine"
    with pytest.raises(PlanError, match=f"truncate_dim is {dimensions}, .*: give 1 to 32"):
        qdeploy.load(engine).encode(TEXTS, truncate_dim=dimensions)
