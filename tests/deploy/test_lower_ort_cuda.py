"""The graph for ONNX Runtime's CUDA provider: integer products written out, run here on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.plan import PerTensor
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets.ort_cuda.engine import require
from qdeploy.deploy.targets.ort_cuda.lower import lower
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import TargetError
from qdeploy.graph.sites import find_structure
from tests.deploy.conftest import Source, sqnr_db
from tests.deploy.test_lower_tensorrt import BIAS, FACTORS, HALF, SIGNS, TREATMENTS, X, one_gemm
from tests.deploy.toys import fake_quantize, plan_of, saved
from tests.tiny import FAMILIES, LAYERS


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_gemm_is_the_rounded_input_times_the_weight(name: str, tmp_path: Path) -> None:
    treatment = TREATMENTS[name]
    weight, x = SIGNS, -X
    if isinstance(treatment, PerTensor) and treatment.prescale:
        weight = SIGNS * FACTORS[:, None]
        expected = fake_quantize(x * FACTORS, treatment) @ SIGNS + BIAS
    else:
        expected = fake_quantize(x, treatment) @ weight + BIAS
    model = one_gemm(weight)
    structure = find_structure(model)
    plan = plan_of(structure, {g.input: treatment for g in structure.gemms})
    plan = TARGETS["ort-cuda"].fit(replace(plan, activations="symmetric"), structure)
    lowered = lower(model, plan, structure)
    operators = [node.op_type for node in lowered.model.graph]
    assert operators.count("MatMulInteger") == len(lowered.trace_names["gemm"]) >= 1
    assert "DequantizeLinear" not in operators
    path = saved(lowered.model, tmp_path / "model.onnx")
    found = SimulatedEngine(path, threads=1).run({"x": X})["y"].astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=HALF * np.abs(expected).max())


def test_sums_are_scaled_in_fp32() -> None:
    model = one_gemm(SIGNS)
    structure = find_structure(model)
    plan = plan_of(structure, {g.input: TREATMENTS["per tensor"] for g in structure.gemms})
    graph = lower(model, replace(plan, activations="symmetric"), structure).model.graph
    (product,) = [node for node in graph if node.op_type == "MatMulInteger"]
    cast = next(iter(product.outputs[0].uses())).node
    scaled = next(iter(cast.outputs[0].uses())).node
    assert (cast.op_type, scaled.op_type) == ("Cast", "Mul")
    assert cast.outputs[0].dtype == scaled.outputs[0].dtype == ir.DataType.FLOAT
    assert next(iter(scaled.outputs[0].uses())).node.outputs[0].dtype == ir.DataType.FLOAT16


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_integer_products(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    where = source(family)
    build_engine(
        where.directory,
        tmp_path / "engine",
        target="ort-cuda",
        statistics=where.statistics,
        dry_run=True,
        measure=False,  # random weights and planted outliers are noisy
    )
    graph = ir.load(tmp_path / "engine" / "model.onnx").graph
    products = [node for node in graph if node.op_type == "MatMulInteger"]
    assert len(products) >= 4 * LAYERS
    feeds = where.feeds()
    found = SimulatedEngine(tmp_path / "engine" / "model.onnx").run(feeds)["logits"]
    exact = SimulatedEngine(where.directory / "model.onnx").run(feeds)["logits"]
    assert sqnr_db(exact, found) > 5


def test_a_package_without_the_provider_is_said() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has it")
    with pytest.raises(TargetError, match=r"has no CUDAExecutionProvider .*--dry-run"):
        require()
