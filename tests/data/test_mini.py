"""The embedded set: fair pairs, and splits that share no paragraph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import read_rows, row_hashes
from qdeploy.data.mini import Paragraph, pairs, read_mini, read_paragraphs
from qdeploy.errors import DataError


def paragraph(count: int) -> Paragraph:
    numbers = range(count)
    return Paragraph("x", tuple(f"s{i}" for i in numbers), tuple(f"q{i}" for i in numbers))


@given(count=st.integers(2, 8), shift=st.integers(0, 50))
def test_every_text_stands_in_one_pair_of_each_class(count: int, shift: int) -> None:
    found = list(pairs(paragraph(count), shift))
    assert len(found) == 2 * count
    for text_at in (0, 1):
        for label in ("entailment", "not_entailment"):
            used = Counter(pair[text_at] for pair in found if pair[2] == label)
            assert set(used.values()) == {1} and len(used) == count
    for question, sentence, label in found:
        assert (question[1:] == sentence[1:]) == (label == "entailment")


def mini_file(tmp_path: Path, paragraphs: int) -> Path:
    path = tmp_path / "mini.tsv"
    lines = [f"p{p}\tp{p} s{s}\tp{p} q{s}" for p in range(paragraphs) for s in range(5)]
    path.write_text("subject\tsentence\tquestion\n" + "\n".join(lines) + "\n")
    return path


def test_every_fourth_paragraph_calibrates(tmp_path: Path) -> None:
    path = mini_file(tmp_path, 9)

    def subjects(split: str) -> set[str]:
        return {str(values["question"]).split()[0] for _, values in read_mini(split, path).read(())}

    assert subjects("calibration") == {"p3", "p7"}
    assert subjects("evaluation") == {f"p{p}" for p in range(9)} - {"p3", "p7"}


def test_order_is_mixed_and_always_the_same(tmp_path: Path) -> None:
    path = mini_file(tmp_path, 9)
    table = read_mini("evaluation", path)
    records = [values for _, values in table.read(())]
    assert records == [values for _, values in table.read(())]
    assert records == [values for _, values in read_mini("evaluation", path).read(())]
    first = Counter(values["label"] for values in records[:20])
    assert min(first["entailment"], first["not_entailment"]) >= 5
    assert len({str(values["question"]).split()[0] for values in records[:10]}) >= 4


def test_broken_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "mini.tsv"
    path.write_text("subject\tsentence\tquestion\na\ts\tq\nb\ts\tq\nb\tt\tr\n")
    with pytest.raises(DataError, match="paragraph 'a' has one sentence only"):
        read_paragraphs(path)
    path.write_text("subject\tsentence\na\ts\n")
    with pytest.raises(DataError, match="were expected"):
        read_paragraphs(path)


def test_embedded_set_has_400_pairs_of_40_paragraphs() -> None:
    assert len(read_paragraphs()) >= 40
    evaluation = read_rows("qnli-mini")
    calibration = read_rows("qnli-mini", split="calibration")
    assert len(evaluation) + len(calibration) >= 400
    assert evaluation.source == "qnli-mini"
    assert not set(row_hashes(evaluation)) & set(row_hashes(calibration))
    assert evaluation.second is not None and calibration.second is not None
    assert not set(evaluation.second) & set(calibration.second)
    assert evaluation.labels is not None
    assert 2 * evaluation.labels.count("entailment") == len(evaluation)


def test_embedded_set_repeats_nothing() -> None:
    paragraphs = read_paragraphs()
    for texts in (
        [p.subject for p in paragraphs],
        [s for p in paragraphs for s in p.sentences],
        [q for p in paragraphs for q in p.questions],
    ):
        assert [text for text, n in Counter(texts).items() if n > 1] == []
    assert all(4 <= len(p.sentences) <= 8 for p in paragraphs)


def test_columns_do_not_fit_the_embedded_set() -> None:
    with pytest.raises(DataError, match="qnli-mini has no column 'premise'; it has: question"):
        read_rows("qnli-mini", columns="question=premise")
