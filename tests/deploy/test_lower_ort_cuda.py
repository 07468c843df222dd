"""The graph for ONNX Runtime's CUDA provider: integer products written out, run here on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from qdeploy.deploy.build import build_engine
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets.ort_cuda.engine import require
from qdeploy.deploy.targets.ort_cuda.lower import lower
from qdeploy.errors import TargetError
from qdeploy.graph.sites import find_structure
from tests.deploy.conftest import Source, sqnr_db
from tests.deploy.toys import plan_of
from tests.deploy.treated_gemm import SIGNS, TREATMENTS, one_gemm
from tests.tiny import FAMILIES, LAYERS


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
