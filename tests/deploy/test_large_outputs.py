"""Heads whose outputs are prices or ages: they export, permute and build like logits do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import qdeploy
from tests.tiny import tiny_checkpoint


# An export each, of about ten seconds: the fast tests hold both units and both sizes once.
@pytest.mark.parametrize(
    ("size", "hidden"),
    [
        (1e5, 256),
        pytest.param(300, 32, marks=pytest.mark.slow),
        pytest.param(300, 256, marks=pytest.mark.slow),
        pytest.param(1e5, 32, marks=pytest.mark.slow),
    ],
)
def test_regression_head_of_any_unit(hidden: int, size: float, tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "id2label": {0: "price"},
        "label2id": {"price": 0},
        "problem_type": "regression",
    }
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", "bert", hidden=hidden, **names)
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name] * size
    save_file(tensors, file, {"format": "pt"})
    check = qdeploy.export(checkpoint, tmp_path / "model")["verification"]
    assert check["max_abs_diff"] > 1e-5
    assert check["max_rel_diff"] < 2e-5
    assert check["fp32_rounding"] < 2e-5
    qdeploy.build(
        tmp_path / "model",
        tmp_path / "engine",
        strategy="peg",
        groups=3,
        data="qnli-mini",
        calibration_rows=16,
        measure=False,  # of random weights and three groups the noise is not the matter here
    )
    plan = json.loads((tmp_path / "engine" / "plan.json").read_text())
    assert plan["channel_orders"]  # so that a permutation was compared
