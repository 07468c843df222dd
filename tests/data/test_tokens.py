"""Rows of words with tags: CoNLL files, and lists in JSONL and Parquet, read as one form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from qdeploy.data.files import Stream
from qdeploy.data.rows import read_rows
from qdeploy.data.span_labels import spans_of
from qdeploy.data.tokens import items_of, read_conll
from qdeploy.errors import DataError

WORDS = [["Ada", "lives", "in", "New York", "."], ["Rain"]]
TAGS = [["B-PER", "O", "O", "B-LOC", "O"], ["O"]]
TEXTS = ("Ada lives in New\u00a0York .", "Rain")


def read(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    found = read_rows(path, task="text", columns="text=tokens,label=ner_tags")
    assert found.labels is not None
    return found.first, [items_of(label) for label in found.labels]


@pytest.mark.parametrize("suffix", [".conll", ".iob", ".iob2", ".bio"])
@pytest.mark.parametrize("between", ["\t", "\t_\t"])
def test_conll(suffix: str, between: str, tmp_path: Path) -> None:
    sentences = [
        "\n".join(f"{word}{between}{tag}" for word, tag in zip(words, tags, strict=True))
        for words, tags in zip(WORDS, TAGS, strict=True)
    ]
    path = tmp_path / f"rows{suffix}"
    path.write_text("-DOCSTART- -X- O\n\n# id = 1\n" + "\n\n\n".join(sentences) + "\n", "utf-8")
    assert read(path) == (TEXTS, TAGS)


def test_blanks_stand_for_tabs_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_bytes(b"Ada NNP I-NP B-PER\r\nlives VBZ I-VP O\r\n\r\nRain NN I-NP O\r\n")
    assert read(path) == (("Ada lives", "Rain"), [["B-PER", "O"], ["O"]])


def test_lists_of_jsonl_and_parquet(tmp_path: Path) -> None:
    lines = [
        json.dumps({"tokens": words, "ner_tags": tags})
        for words, tags in zip(WORDS, TAGS, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    assert read(tmp_path / "rows.jsonl") == (TEXTS, TAGS)
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"tokens": WORDS, "ner_tags": [[1, 0, 0, 3, 0], [0]]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == (TEXTS, [["1", "0", "0", "3", "0"], ["0"]])


@pytest.mark.parametrize(
    ("text", "line"), [("Ada\tB-PER\nlives\n", 2), ("Ada B-PER\n\n\tO\n", 3), ("Ada\t\n", 1)]
)
def test_a_word_without_a_tag(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=f"line {line}: a word and its tag"):
        read(path)


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("\n\n", "utf-8")
    with pytest.raises(DataError, match="holds no rows"):
        read(path)


def test_spans_of_characters(tmp_path: Path) -> None:
    rows = [
        {"text": "Ada lives in New York.", "spans": [[13, 21, "LOC"], [0, 3, "PER"]]},
        {"text": "Rain.", "spans": []},
        {"text": "Ada", "spans": [{"start": 0, "end": 3, "label": "PER", "id": 7}]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = read_rows(path, task="text", columns="text=text,label=spans")
    assert found.labels is not None and found.first == tuple(row["text"] for row in rows)
    assert [spans_of(label) for label in found.labels] == [
        [(0, 3, "PER"), (13, 21, "LOC")],
        [],
        [(0, 3, "PER")],
    ]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([[0, 3, "PER"], [2, 5, "LOC"]], "spans that overlap"),
        ([[0, 3]], "a span like .* was expected"),
        ([[3, 3, "PER"]], "a span like"),
        ([[-1, 3, "PER"]], "a span like"),
        ([[0, 3, 4]], "a span like"),
        ([{"start": 0, "end": 3}], "a span like"),
        ([[0, True, "PER"]], "a span like"),
    ],
)
def test_spans_that_are_none(spans: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "Ada lives", "spans": spans}), "utf-8")
    with pytest.raises(DataError, match=rf"line 1: column 'spans' h(as|olds) .*{said}"):
        read_rows(path, task="text", columns="text=text,label=spans")


def test_words_of_a_pipe() -> None:
    source = Stream(io.BytesIO(b"Ada\tB-PER\n\nRain\tO\n"), "a pipe")
    read = [values for _, values in read_conll(source).read(())]
    assert read == [
        {"tokens": ["Ada"], "ner_tags": ["B-PER"]},
        {"tokens": ["Rain"], "ner_tags": ["O"]},
    ]
