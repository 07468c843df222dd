"""ALBERT: one layer's weights for all layers; SqueezeBERT: weights that no plan knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from qdeploy.calibrate.model import load_model
from qdeploy.deploy.build import build_engine
from qdeploy.errors import QDeployWarning
from qdeploy.graph.sites import find_structure
from tests.exports import Exports

SHARE = 0.3  # of FP32's bytes: a quarter, and the graph of layers that are written out one by one


@pytest.mark.parametrize("hidden", [32, 256])
@pytest.mark.parametrize("strategy", ["peg", "mixed"])
def test_layers_that_share_weights_are_int8_and_stored_once(
    strategy: str, hidden: int, exported: Exports, tmp_path: Path
) -> None:
    shutil.copytree(exported("albert", hidden=hidden).model_dir, tmp_path / "model")
    built = build_engine(
        tmp_path / "model",
        tmp_path / "engine",
        strategy=strategy,
        data="qnli-mini",
        calibration_rows=16,
        measure=False,
    )
    int8, (model, _) = built["int8"], load_model(tmp_path / "model")
    structure = find_structure(model)
    chosen = [g for g in structure.gemms if int8["gemms"][g.name]["planned"] == "int8"]
    assert int8["executed"] == int8["planned"] == len(chosen) > len({g.weight for g in chosen})
    written = ir.load(tmp_path / "engine" / "model.onnx").graph.initializers
    stored = sum(v.dtype == ir.DataType.INT8 and ".weight_int8" in n for n, v in written.items())
    if strategy == "peg":
        assert int8["flops_share"] == int8["planned_share"] > 0.99
        # a grouped input may meet a few columns of the weight in a second product
        assert stored <= 2 * len({g.weight for g in chosen})
        whole = (tmp_path / "model" / "model.onnx").stat().st_size
        assert hidden == 32 or built["size_mb"] * 1e6 <= SHARE * whole
    else:
        assert 0.3 < int8["flops_share"] == int8["planned_share"] < 0.99


@pytest.mark.parametrize("hidden", [32, 256])
def test_convolutions_are_reported_and_the_head_is_not_quantized_alone(
    hidden: int, exported: Exports, tmp_path: Path
) -> None:
    shutil.copytree(exported("squeezebert", hidden=hidden).model_dir, tmp_path / "model")
    with pytest.warns(QDeployWarning, match=r"% of the FLOPs .* stay in float whatever .* Conv"):
        built = build_engine(
            tmp_path / "model",
            tmp_path / "engine",
            strategy="w8a8",
            data="qnli-mini",
            calibration_rows=16,
            measure=False,
        )
    int8 = built["int8"]
    assert int8["flops_share"] == int8["planned_share"] < 0.01
    first = int8["unplanned"][0]
    assert first["kernel"] == "Conv" and first["reason"] == "Conv is not planned in 8 bits"
