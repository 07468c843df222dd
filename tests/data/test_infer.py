"""`--task auto`: the columns and the task of a source, from their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdeploy.data.infer import LABELS, PAIRS, SINGLES, check_task, infer
from qdeploy.data.rows import read_rows
from qdeploy.data.tasks import TASKS
from qdeploy.errors import DataError, PlanError

GENERIC = ["LABEL_0", "LABEL_1"]
OTHER = ["negative", "positive"]


def source(path: Path, header: str, *rows: str) -> str:
    path.write_text("\n".join((header, *rows)) + "\n")
    return str(path)


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
    found, places = infer(source(tmp_path / "rows.csv", header, "x"), "evaluation", labels)
    assert (found.name, (places.first, places.second, places.label)) == (task, columns)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("texts", [*PAIRS, *((name,) for name in SINGLES)])
def test_every_published_name_is_found_in_any_order(
    texts: tuple[str, ...], label: str, tmp_path: Path
) -> None:
    for names in ((*texts, label), (label, *reversed(texts))):
        path = source(tmp_path / "rows.csv", ",".join(names), ",".join(f"v{n}" for n in names))
        task, columns = infer(path, "evaluation", OTHER)
        rows = read_rows(path, task=task.name, columns=columns)
        assert rows.first == (f"v{texts[0]}",) and rows.labels == (f"v{label}",)
        assert rows.second == ((f"v{texts[1]}",) if len(texts) == 2 else None)


def test_glues_own_columns_give_glues_task_to_its_own_classes(tmp_path: Path) -> None:
    for task in TASKS.values():
        names = [name for name in (task.first, task.second, "label") if name is not None]
        path = source(tmp_path / "rows.csv", ",".join(names), ",".join("x" for _ in names))
        found, columns = infer(path, "evaluation", list(task.classes) or OTHER)
        assert (columns.first, columns.second) == (task.first, task.second)
        if task.classes:  # two tasks may share columns and classes; then either is right
            assert set(found.classes) == set(task.classes)


def test_generic_classes_are_told_by_the_labels_of_the_rows(tmp_path: Path) -> None:
    def found(name: str, label: str) -> str:
        path = source(tmp_path / f"{name}.csv", "sentence1,sentence2,label", f"a,b,{label}")
        return infer(path, "evaluation", GENERIC)[0].name

    assert found("mrpc", "not_equivalent") == "mrpc"
    assert found("integers", "1") == "text-pair"
    assert found("either", "entailment") == "text-pair"  # rte and wnli order it differently


def test_json_lines_are_told_by_their_first_record(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"n": 1, "comment": "x", "class": "a"}) + "\n")
    task, columns = infer(path, "evaluation", OTHER)
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
    path = source(tmp_path / "rows.csv", "a,b,c,body", "1,2,3,4")
    chosen, places = infer(path, "evaluation", OTHER, columns)
    own = (places.first, places.second if chosen.second else None, places.label)
    assert chosen.first in TASKS[chosen.name].first and own == found
    assert (chosen.second is None) == (TASKS[task].second is None)


def test_what_is_not_clear_is_asked(tmp_path: Path) -> None:
    path = source(tmp_path / "rows.csv", "a,b,label", "1,2,3")
    with pytest.raises(DataError, match="columns a, b, label.*--columns text=COLUMN,label=COLUMN"):
        infer(path, "evaluation", OTHER)
    with pytest.raises(DataError, match="are not the columns of one task"):
        infer(path, "evaluation", OTHER, "question=a,hypothesis=b")
    with pytest.raises(PlanError, match="Did you mean 'qnli'"):
        check_task("qnil")
