"""The rows that a finished engine is measured on: cut as those that calibrated it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdeploy.calibrate import sample
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.sample import measuring_sample
from qdeploy.calibrate.statistics import Statistics


@pytest.mark.filterwarnings("ignore:.*were cut there:qdeploy.errors.QDeployWarning")
@pytest.mark.parametrize("limit", [16, 40])
def test_rows_are_cut_where_the_calibration_cut_them(limit: int, model_dir: Path) -> None:
    path = calibrate_model(model_dir, data="qnli-mini", calibration_rows=12, max_length=limit)
    found = measuring_sample(model_dir, observed=Statistics.load(path))
    assert found.rows == 12
    assert max(batch["input_ids"].shape[1] for batch in found.batches) == limit


def test_long_rows_are_fewer(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measuring_sample(model_dir, observed=None)
    assert whole.rows == sample.ROWS
    monkeypatch.setattr(sample, "_TOKENS", 300)
    few = measuring_sample(model_dir, observed=None)
    tokens = [int(batch["attention_mask"].sum()) for batch in few.batches]
    assert sample._FEWEST <= few.rows < whole.rows and sum(tokens) <= 300
    monkeypatch.setattr(sample, "_TOKENS", 1)
    assert measuring_sample(model_dir, observed=None).rows == sample._FEWEST
