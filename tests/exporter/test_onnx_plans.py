"""What is planned in INT8 of an ONNX file is what is planned of its checkpoint."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.graph.sites import find_structure
from tests import foreign_files as foreign
from tests.exporter.test_onnx_files import FAMILIES
from tests.exports import Exports

SLOW = pytest.mark.slow
# random weights may be noisy, and build says so
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def matrices(directory: Path) -> set[str]:
    """Names of the weights of all products."""
    return {gemm.weight for gemm in find_structure(ir.load(directory / "model.onnx")).gemms}


@pytest.mark.parametrize("opset", [14, pytest.param(11, marks=SLOW), pytest.param(17, marks=SLOW)])
def test_layers_of_an_albert_share_their_weights(
    opset: int, tmp_path: Path, exported: Exports
) -> None:
    """TorchScript's exporter stores a transposed matrix for every run of a layer."""
    done = exported("albert")
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx", opset=opset)
    qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert matrices(tmp_path / "out") == matrices(done.model_dir)
    assert len(matrices(file.parent / "out")) == 9


@SLOW
@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_is_that_of_the_checkpoint(family: str, tmp_path: Path, exported: Exports) -> None:
    done = exported(family)
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx")
    qdeploy.export(file, tmp_path / "file", tokenizer=done.checkpoint)
    plans = []
    for at, model in enumerate((done.model_dir, tmp_path / "file")):
        manifest = qdeploy.build(model, tmp_path / f"engine{at}", data="qnli-mini")
        plan = manifest["plan"]
        plans.append((plan["int8_gemms"], plan["float_gemms"]))
    assert plans[0] == plans[1]
