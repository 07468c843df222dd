"""Options that are of TensorRT alone, and what says so elsewhere."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from qdeploy.deploy.build import build_engine
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.errors import ModelError, PlanError, QDeployWarning, TargetError
from qdeploy.files.artifact import read_json
from tests.deploy.conftest import Source
from tests.deploy.dry_runs import dry_run


def test_rounded_skip_branches_are_of_targets_that_add_in_int8(
    bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match="ort-cpu does not"):
        build_engine(bert.directory, tmp_path / "engine", int8_residuals=True)


def test_a_dry_run_needs_no_tensorrt_and_a_build_names_the_way_out(
    bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=r"--dry-run` writes the ONNX file here"):
        build_engine(bert.directory, tmp_path / "engine", target="tensorrt")
    assert not (tmp_path / "engine").exists()


def test_only_a_dry_run_can_be_simulated(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only the graph of a `build --dry-run`"):
        SimulatedEngine(tmp_path / "model.onnx")


def test_a_simulation_has_no_kernels(bert: Source) -> None:
    engine = SimulatedEngine(bert.directory / "model.onnx")
    with pytest.raises(PlanError, match="no kernels"):
        engine.trace_gemms({}, {})
    with pytest.raises(PlanError, match="no kernels"):
        engine.profile({})


def test_fp16_is_of_gpu_targets(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="fp16 is of GPU targets"):
        build_engine(bert.directory, tmp_path / "engine", strategy="fp16")


def test_options_of_a_compiler_are_refused_elsewhere(bert: Source, tmp_path: Path) -> None:
    ways = r"Leave it out, or take --target ort-tensorrt or tensorrt\."
    match = f"--max-shape, --refit: ort-cpu has no use for that. {ways}"
    with pytest.raises(TargetError, match=match):
        build_engine(bert.directory, tmp_path / "engine", max_shape="8x64", refit=True)
    for target, flag in (("ort-cuda", "--no-cuda-graph"), ("ort-tensorrt", "--no-cuda-graph")):
        with pytest.raises(TargetError, match=f"{flag}: {target} has no use"):
            dry_run(bert, tmp_path / "engine", target=target, cuda_graph=False)
    with pytest.raises(TargetError, match="--workspace-mb: ort-cuda has no use"):
        dry_run(bert, tmp_path / "engine", target="ort-cuda", workspace_mb=100)


def test_a_timing_cache_has_to_have_a_place(bert: Source, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "nowhere" / "cache"):
        with pytest.raises(PlanError, match="--timing-cache .* is a folder, or in one that"):
            dry_run(bert, tmp_path / "engine", timing_cache=wrong)
    assert not list(tmp_path.iterdir())


def test_rounded_sums_that_are_none_are_said(bert: Source, tmp_path: Path) -> None:
    with pytest.warns(QDeployWarning, match="--int8-residuals changed nothing"):
        dry_run(bert, tmp_path / "groups", groups=4, int8_residuals=True)
    dry_run(bert, tmp_path / "plain", strategy="w8a8", int8_residuals=True)


def test_an_fp32_engine_is_not_called_fp16(bert: Source, tmp_path: Path) -> None:
    directory = dry_run(bert, tmp_path / "engine", strategy="fp32")
    assert read_json(directory / "qdeploy.json")["rest_precision"] == "f32"
    types = {v.dtype for n in ir.load(directory / "model.onnx").graph for v in n.outputs}
    assert ir.DataType.FLOAT16 not in types
