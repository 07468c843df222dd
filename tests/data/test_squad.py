"""Questions with gold answers: SQuAD's own JSON, and the hub's flat form in JSONL and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdeploy.data.gold_answers import GoldAnswer, answers_of, label_of
from qdeploy.data.infer import infer
from qdeploy.data.rows import Rows, read_rows, sample_rows
from qdeploy.data.sources import open_source
from qdeploy.data.tasks import find_task, parse_columns
from qdeploy.data.write import write_rows
from qdeploy.errors import DataError

CONTEXT = "Ada Lovelace wrote it \u201cin 1843\u201d,\tshe said.\x1f"
GOLD = [
    [GoldAnswer("Ada Lovelace", 0), GoldAnswer("Ada", 0)],
    [],
    [GoldAnswer("\u201cin 1843\u201d,\tshe", 22)],
]
ASKED = ["Who wrote it?", "Who read it?", "When?"]


def flat(gold: list[GoldAnswer]) -> dict[str, list[Any]]:
    return {"text": [g.text for g in gold], "answer_start": [g.start for g in gold]}


def squad(*, version: int = 2, **changes: Any) -> dict[str, Any]:
    """A file of one paragraph; `changes` are of its second question."""
    asked = []
    for at, (question, gold) in enumerate(zip(ASKED, GOLD, strict=True)):
        answers = [{"text": g.text, "answer_start": g.start} for g in gold]
        one: dict[str, Any] = {"id": f"q{at}", "question": question, "answers": answers}
        if version == 2:
            one["is_impossible"] = not gold
        asked.append(one | (changes if at == 1 else {}))
    paragraphs = [{"context": CONTEXT, "qas": asked}]
    return {"version": f"v{version}.0", "data": [{"title": "Ada", "paragraphs": paragraphs}]}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path


def read(path: Path, **options: Any) -> Rows:
    return read_rows(path, task="squad", **options)


@pytest.mark.parametrize("version", [1, 2])
def test_squads_own_files(version: int, tmp_path: Path) -> None:
    found = read(write(tmp_path / "dev.json", squad(version=version)))
    assert found.first == tuple(ASKED)
    # the context stays as long as it is: places of answers are characters of it
    assert found.second == (CONTEXT.replace("\x1f", " "),) * 3
    assert found.labels is not None
    assert [answers_of(label) for label in found.labels] == GOLD


def test_the_flat_form_gives_the_same_rows(tmp_path: Path) -> None:
    wanted = read(write(tmp_path / "dev.json", squad()))
    rows = [
        {"question": q, "context": CONTEXT, "answers": flat(gold)}
        for q, gold in zip(ASKED, GOLD, strict=True)
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for path in (lines, tmp_path / "rows.parquet"):
        found = read(path)
        assert (found.first, found.second, found.labels) == (
            wanted.first,
            wanted.second,
            wanted.labels,
        )


def test_rows_that_are_written_come_back(tmp_path: Path) -> None:
    wanted = read(write(tmp_path / "dev.json", squad()))
    write_rows(wanted, find_task("squad"), tmp_path / "rows.jsonl")
    found = read(tmp_path / "rows.jsonl")
    assert (found.first, found.second, found.labels) == (wanted.first, wanted.second, wanted.labels)
    chosen = found.select([2, 0]).labels
    assert chosen is not None and [answers_of(label) for label in chosen] == [GOLD[2], GOLD[0]]


def test_no_answers_and_no_label_are_two_things(tmp_path: Path) -> None:
    assert label_of("x", {"text": [], "answer_start": []}) == label_of("x", []) == "[]"
    assert label_of("x", None) is None
    unlabelled = squad(answers=None, is_impossible=False)
    for one in unlabelled["data"][0]["paragraphs"][0]["qas"]:
        one.pop("answers"), one.pop("is_impossible")
    assert read(write(tmp_path / "test.json", unlabelled)).labels is None
    impossible = read(write(tmp_path / "dev.json", squad(answers=None)))
    assert impossible.labels is not None and answers_of(impossible.labels[1]) == []
    with pytest.raises(DataError, match="1 of 3 rows have none"):
        read(write(tmp_path / "half.json", squad(answers=None, is_impossible=False)))
    half = sample_rows(tmp_path / "half.json", 2, 0, task="squad")
    assert len(half) == 2 and half.labels is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Ada", r"column 'answers' is 'Ada', and \{\"text\""),
        (["Ada", "Ada Lovelace"], "column 'answers' is 'Ada.*was expected"),
        ({"text": ["Ada"], "answer_start": []}, "was expected"),
        ({"text": "Ada", "answer_start": 0}, "was expected"),
        ({"text": [1], "answer_start": [0]}, "holds 1 at 0, and a text"),
        ({"text": ["Ada"], "answer_start": ["0"]}, "holds 'Ada' at '0', and a text"),
    ],
)
def test_answers_of_another_form(value: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "q", "context": "c", "answers": value}), "utf-8")
    with pytest.raises(DataError, match=f"rows.jsonl, line 1: .*{said}"):
        read(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"text": "a"}], "no list 'data', and a .json file is read in SQuAD's form"),
        ({"data": [{"title": "x"}]}, "article 1: no list 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, "article 1, paragraph 1: no list 'qas'"),
        ({"data": [{"paragraphs": [{"qas": ["x"]}]}]}, "question 1: is no object"),
        (squad(answers=[{"text": "a", "answer_start": 0}]), "question 2: is_impossible, and has"),
        (squad(answers=[{"text": "a"}]), "is_impossible, and has answers"),
        (squad(answers=["a"], is_impossible=False), "has an answer without text and answer_start"),
        (squad(question=" "), "article 1, paragraph 1, question 2: column 'question' is ' '"),
    ],
)
def test_json_of_another_form(value: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(write(tmp_path / "dev.json", value))


def test_json_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"question": "q"}\n{"question": "r"}\n', "utf-8")
    with pytest.raises(DataError, match="line 2: not JSON .*It looks like JSON Lines"):
        read(path)
    path.write_text("[" * 100_000, "utf-8")
    with pytest.raises(DataError, match="rows.json is JSON that cannot be read"):
        read(path)
    path.write_text("", "utf-8")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read(path)


@pytest.mark.parametrize("labels", [[], ["LABEL_0", "LABEL_1"], ["no", "yes"]])
@pytest.mark.parametrize(
    "names", [("question", "context", "answers"), ("query", "passage", "gold")]
)
def test_the_task_is_inferred_from_the_answers(
    names: tuple[str, str, str], labels: list[str], tmp_path: Path
) -> None:
    question, context, answers = names
    rows = [
        {"id": at, context: CONTEXT, question: asked, answers: flat(gold)}
        for at, (asked, gold) in enumerate(zip(ASKED, GOLD, strict=True))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = infer(open_source(path, "evaluation"), labels)
    assert found.task.name == "squad" and found.labelled
    assert (found.columns.texts, found.columns.label) == ((question, context), answers)
    assert (
        read(path, columns=found.columns).labels
        == read(path, columns=f"question={question},context={context},answers={answers}").labels
    )


def test_columns_of_squad() -> None:
    assert parse_columns("answers=gold", "squad").label_required
    assert find_task("squad").columns.label == "answers"
    with pytest.raises(DataError, match="question=COLUMN,answers=COLUMN,context=COLUMN"):
        parse_columns("gold", "squad")


def test_auto_reads_columns_that_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.json", squad())
    found = infer(open_source(path, "evaluation"), [], "question=question,context=context")
    assert found.task.name == "squad"
    assert infer(open_source(path, "evaluation"), [], "answers=answers").task.name == "squad"
    with pytest.raises(DataError, match="has no column 'gold'; .*Task squad needs question, cont"):
        read(path, columns="answers=gold")
