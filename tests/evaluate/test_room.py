"""Batches that memory does not hold are refused before they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.errors import PlanError
from qdeploy.evaluate.room import bytes_of_a_row, check_room
from tests.evaluate.bag import engine_directory, write_rows

BERT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}


def test_a_row_of_bert() -> None:
    """128 tokens of 3 × 768 + 3072 values and 12 × 128 scores, and three inputs of 8 bytes."""
    assert bytes_of_a_row(BERT, 128) == 128 * (4 * (3 * 768 + 3072 + 12 * 128) + 24)
    distilbert = {"dim": 768, "hidden_dim": 3072, "n_heads": 12}
    assert bytes_of_a_row(distilbert, 128) == bytes_of_a_row(BERT, 128)
    assert bytes_of_a_row({}, 128) == 128 * 24


def test_what_is_refused_says_what_would_do() -> None:
    row = bytes_of_a_row(BERT, 128)
    check_room(BERT, 8, 128, free=8 * row)
    with pytest.raises(PlanError, match="--batch-size 9 needs .* Give --batch-size 4 or less"):
        check_room(BERT, 9, 128, free=8 * row)
    check_room(BERT, 4, 128, free=8 * row)


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_an_evaluation_is_refused_before_it_is_killed(tmp_path: Path, numpy_engines: None) -> None:
    engine = engine_directory(tmp_path / "e", max_length=32)
    rows = write_rows(tmp_path / "rows.tsv", 40)
    large: dict[str, Any] = {"batch_size": 10**9, "seq_len": 32}
    with pytest.raises(PlanError, match="--batch-size 1000000000 needs .* memory are free here"):
        qdeploy.evaluate(engine, data=str(rows), **large)
    report = qdeploy.evaluate(engine, data=str(rows), latency=False, **large)
    assert report["metrics"]["n"] == 40
