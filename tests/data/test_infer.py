"""`--task auto`: the columns and the task of a source, from their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.data.infer import infer as infer_from
from qdeploy.data.names import LABELS, PAIRS, SINGLES
from qdeploy.data.rows import read_rows
from qdeploy.data.sources import open_source
from qdeploy.data.tasks import TASKS, Columns, Task
from qdeploy.errors import DataError, PlanError

GENERIC = ["LABEL_0", "LABEL_1"]
OTHER = ["negative", "positive"]
OTHER_LABELS = ("negative", "positive")


def source(path: Path, header: str, *rows: str) -> str:
    path.write_text("\n".join((header, *rows)) + "\n")
    return str(path)


def infer(source: str, labels: list[str], columns: str | None = None) -> tuple[Task, Columns]:
    found = infer_from(open_source(source, "evaluation"), labels, columns)
    return found.task, found.columns


@pytest.mark.parametrize(
    ("header", "labels", "task", "columns"),
    [
        ("text,label", OTHER, "text", ("text", None, "label")),
        ("label,text", OTHER, "text", ("text", None, "label")),
        ("id,Review,Rating", OTHER, "text", ("Review", None, "Rating")),
        ("idx,anything,label", OTHER, "text", ("anything", None, "label")),
        (
            "sentence1,sentence2,score",
            ["LABEL_0"],
            "text-pair",
            ("sentence1", "sentence2", "score"),
        ),
        ("question,sentence,label", OTHER, "text-pair", ("question", "sentence", "label")),
        ("question,sentence,label", GENERIC, "qnli", ("question", "sentence", "label")),
        (
            "question,sentence,label",
            ["not_entailment", "entailment"],
            "qnli",
            ("question", "sentence", "label"),
        ),
        ("sentence,label", OTHER, "sst2", ("sentence", None, "label")),
        ("sentence,label", ["a", "b", "c"], "text", ("sentence", None, "label")),
        (
            "premise,hypothesis,label",
            ["entailment", "neutral", "contradiction"],
            "mnli",
            ("premise", "hypothesis", "label"),
        ),
        ("query,passage", ["LABEL_0"], "text-pair", ("query", "passage", "label")),
        ("text,text_pair,label", OTHER, "text-pair", ("text", "text_pair", "label")),
    ],
)
def test_the_names_of_the_columns_say_it(
    header: str,
    labels: list[str],
    task: str,
    columns: tuple[str, str | None, str],
    tmp_path: Path,
) -> None:
    found, places = infer(source(tmp_path / "rows.csv", header, "x"), labels)
    assert (found.name, (places.first, places.second, places.label)) == (task, columns)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("texts", [*PAIRS, *((name,) for name in SINGLES)])
def test_every_published_name_is_found_in_any_order(
    texts: tuple[str, ...], label: str, tmp_path: Path
) -> None:
    for names in ((*texts, label), (label, *reversed(texts))):
        path = source(tmp_path / "rows.csv", ",".join(names), ",".join(f"a {n}" for n in names))
        task, columns = infer(path, OTHER)
        rows = read_rows(path, task=task.name, columns=columns)
        assert rows.first == (f"a {texts[0]}",) and rows.labels == (f"a {label}",)
        assert rows.second == ((f"a {texts[1]}",) if len(texts) == 2 else None)


def test_glues_own_columns_give_glues_task_to_its_own_classes(tmp_path: Path) -> None:
    for task in TASKS.values():
        names = [name for name in (task.first, task.second, "label") if name is not None]
        path = source(tmp_path / "rows.csv", ",".join(names), ",".join("x" for _ in names))
        found, columns = infer(path, list(task.classes) or OTHER)
        assert (columns.first, columns.second) == (task.first, task.second)
        if task.classes:  # two tasks may share columns and classes; then either is right
            assert set(found.classes) == set(task.classes)


def test_generic_classes_are_told_by_the_labels_of_the_rows(tmp_path: Path) -> None:
    def found(name: str, label: str) -> str:
        path = source(tmp_path / f"{name}.csv", "sentence1,sentence2,label", f"a,b,{label}")
        return infer(path, GENERIC)[0].name

    assert found("mrpc", "not_equivalent") == "mrpc"
    assert found("integers", "1") == "text-pair"
    assert found("either", "entailment") == "text-pair"  # rte and wnli order it differently


def test_json_lines_are_told_by_their_first_record(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"n": 1, "comment": "x", "class": "a"}) + "\n")
    task, columns = infer(str(path), OTHER)
    assert (task.name, columns.first, columns.label) == ("text", "comment", "class")


@pytest.mark.parametrize(
    ("columns", "task", "found"),
    [
        ("text=a", "text", ("a", None, "label")),
        ("text=a,label=c", "text", ("a", None, "c")),
        ("text=a,text_pair=b", "text-pair", ("a", "b", "label")),
        ("question=a,sentence=b", "qnli", ("a", "b", "label")),
        ("sentence=a", "sst2", ("a", None, "label")),
        ("label=c", "text", ("body", None, "c")),
    ],
)
def test_columns_that_are_named_are_taken(
    columns: str, task: str, found: tuple[str, str | None, str], tmp_path: Path
) -> None:
    path = source(tmp_path / "rows.csv", "a,b,c,body", "1,2,3,a text")
    chosen, places = infer(path, OTHER, columns)
    own = (places.first, places.second if chosen.second else None, places.label)
    assert chosen.first in TASKS[chosen.name].first and own == found
    assert (chosen.second is None) == (TASKS[task].second is None)


def test_what_is_not_clear_is_asked(tmp_path: Path) -> None:
    path = source(tmp_path / "rows.csv", "a,b,label", "1,2,3")
    with pytest.raises(DataError, match="columns a, b, label.*--columns text=COLUMN,label=COLUMN"):
        infer(path, OTHER)
    with pytest.raises(DataError, match="are not the columns of one task"):
        infer(path, OTHER, "question=a,hypothesis=b")
    with pytest.raises(PlanError, match="Did you mean 'qnli'"):
        CalibrationOptions(task="qnil")


# What the values say


TEXTS = ("the film was long", "nobody liked its end", "they came back twice", "a fine day out")


def table(path: Path, header: str, *columns: tuple[str, ...]) -> str:
    """Eight rows of columns, each of which goes round its values."""
    rows = [",".join(values[at % len(values)] for values in columns) for at in range(8)]
    return source(path / "rows.csv", header, *rows)


@pytest.mark.parametrize(
    ("header", "second", "unread"),
    [
        ("text,second_text,label", TEXTS, ["second_text"]),
        ("sentence,sentence2,label", TEXTS, ["sentence2"]),
        ("question,choice,label", ("Paris", "Rome", "Oslo"), ["choice"]),
        ("query,product,label", ("red shoes", "a hat"), ["product"]),
        ("document,summary,label", TEXTS, ["summary"]),
        ("text,other,label", TEXTS, ["other"]),
        (
            "text,anderes,label",
            ("映画はとても長かった", "誰も好きではない", "とても良い一日"),
            ["anderes"],
        ),
        ("text,user_id,label", ("u1", "u2", "u3"), []),
        ("text,second_text,label", ("u1", "u2", "u3"), []),
        ("text,category,label", ("shoes and socks", "hats"), []),
        ("text,url,label", ("https://a.b/c", "https://a.b/d"), []),
        ("text,date,label", ("2024-01-01 10:00:00", "2024-01-02 11:00:00"), []),
        ("premise,hypothesis,label", TEXTS, []),  # a pair is read whole
    ],
)
def test_texts_that_are_not_read_are_found(
    header: str, second: tuple[str, ...], unread: list[str], tmp_path: Path
) -> None:
    path = table(tmp_path, header, TEXTS, second, OTHER_LABELS)
    assert infer_from(open_source(path, "evaluation"), OTHER).others == unread


@pytest.mark.parametrize(
    ("header", "columns", "labels", "label"),
    [
        ("text,target,stance", (TEXTS, ("Climate change", "Abortion"), ("favor", "against")),
         ["AGAINST", "FAVOR"], "stance"),
        ("text,target,stance", (TEXTS, ("Climate change", "The wall"), ("x", "y")),
         ["AGAINST", "FAVOR"], "stance"),
        ("text,target,opinion", (TEXTS, ("Climate change", "The wall"), ("favor", "against")),
         ["AGAINST", "FAVOR"], "opinion"),
        ("text,category,sentiment", (TEXTS, ("shoes", "hats"), OTHER_LABELS), OTHER, "sentiment"),
        ("text,label,sentiment", (TEXTS, ("0", "1"), OTHER_LABELS), OTHER, "label"),
        ("text,rating,label", (TEXTS, ("1", "5"), ("0", "1")), GENERIC, "label"),
        ("text,rating,class", (TEXTS, ("1", "5"), ("true", "false")), OTHER, "class"),
        ("text,category,prediction", (TEXTS, ("shoes", "hats"), OTHER_LABELS), OTHER, "category"),
        ("text,target,id", (TEXTS, ("0.5", "0.7"), ("a", "b")), ["LABEL_0"], "target"),
    ],
)  # fmt: skip
def test_of_several_labels_that_of_the_models_classes_is_taken(
    header: str,
    columns: tuple[tuple[str, ...], ...],
    labels: list[str],
    label: str,
    tmp_path: Path,
) -> None:
    assert infer(table(tmp_path, header, *columns), labels)[1].label == label


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("customer,label", ("u1", "u2", "u3")),
        ("customer,label", ("3f2504e0-4f89-11d3", "7c9e6679-7425-40de")),
        ("text,label", ("17", "18.5", "2024-01-01")),
    ],
)
def test_ids_are_no_text(header: str, first: tuple[str, ...], tmp_path: Path) -> None:
    path = table(tmp_path, header, first, OTHER_LABELS)
    with pytest.raises(DataError, match="it holds ids or numbers, such as .*--columns text=COLUMN"):
        infer(path, OTHER)
    column = header.partition(",")[0]
    assert infer(path, OTHER, f"text={column}")[1].first == column


@pytest.mark.parametrize("name", ["user_id", "review-id", "pairID", "userId", "uuid"])
def test_a_column_that_names_rows_is_no_text(name: str, tmp_path: Path) -> None:
    path = table(tmp_path, f"{name},label", TEXTS, OTHER_LABELS)
    with pytest.raises(DataError, match="their names do not say which holds the text"):
        infer(path, OTHER)


def test_a_first_line_that_is_a_row_is_asked_about(tmp_path: Path) -> None:
    path = source(tmp_path / "rows.csv", TEXTS[0], *TEXTS[1:])
    with pytest.raises(DataError, match="'the film was long' looks like a text. Write a line of"):
        infer(path, OTHER)
    assert infer(path, OTHER, f"text={TEXTS[0]}")[1].first == TEXTS[0]
    survey = table(tmp_path, "id,What did you like about it?,label", ("1",), TEXTS, OTHER_LABELS)
    assert infer(survey, OTHER)[1].first == "What did you like about it?"


def test_no_records_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"rows.jsonl holds no rows"):
        infer(str(tmp_path / "rows.jsonl"), OTHER)
    (tmp_path / "rows.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: not JSON"):
        infer(str(tmp_path / "rows.jsonl"), OTHER)
