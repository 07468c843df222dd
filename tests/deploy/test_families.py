"""Every encoder family through `build`: INT8 kernels, and values that are still the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.ort.kernels import INT8_KERNELS
from qdeploy.deploy.ort.profile import optimized_graph
from qdeploy.files.artifact import read_json
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Built, Source, sqnr_db
from tests.deploy.tolerances import GEMM_FLOOR_DB
from tests.deploy.toys import output_of, tap
from tests.tiny import FAMILIES, LAYERS

Array = npt.NDArray[Any]


def folded_factors(directory: Path, structure: Structure) -> dict[str, Array]:
    """By GEMM name, the factors that became part of its weight."""
    stored = read_json(directory / "plan.json")
    plan, found = Plan.from_json(stored), {}
    for tensor, name in structure.linear_sources.items():
        treatment = plan.treatment(tensor)
        if tensor in plan.sites and plan.sites[tensor].name in stored["folded_prescales"]:
            assert isinstance(treatment, PerTensor)
            found[name] = np.array(treatment.pre_quant_scale, np.float32)
    return found


@pytest.mark.parametrize("strategy", ["peg", "w8a8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_planned_gemm_is_int8_and_keeps_its_values(
    family: str,
    strategy: str,
    engine: Callable[..., Built],
    source: Callable[[str], Source],
    tmp_path: Path,
) -> None:
    where, built = source(family), engine(family, strategy=strategy)
    int8 = built.report["int8"]
    assert int8["executed"] == int8["planned"] >= 4 * LAYERS
    assert not int8["fallbacks"]
    ran = sum(
        n.op_type in INT8_KERNELS for n in optimized_graph(built.directory / "model.onnx").graph
    )
    assert ran >= int8["planned"]

    feeds = where.feeds()
    assert np.isfinite(open_engine(built.directory, threads=1).run(feeds)["logits"]).all()
    model, structure = where.graph()
    lowered = ir.load(built.directory / "model.onnx")
    whole = {str(node.name) for node in lowered.graph}  # the others are seen in what reads them
    gemms = [gemm for gemm in structure.gemms if int8["gemms"][gemm.name]["planned"] == "int8"]
    gemms = [gemm for gemm in gemms if gemm.name in whole]
    assert len(gemms) >= 3 * LAYERS
    exact = tap(model, [g.output for g in gemms], tmp_path / "a.onnx", feeds)
    names = [output_of(lowered, g.name) for g in gemms]
    found = tap(lowered, names, tmp_path / "b.onnx", feeds)
    mask = feeds["attention_mask"].astype(bool)
    factors = folded_factors(built.directory, structure)
    for gemm, a, b in zip(gemms, exact, found, strict=True):
        a = a * factors.get(gemm.name, 1)
        kept = mask if a.ndim == 3 and a.shape[:2] == mask.shape else ...
        assert sqnr_db(a[kept], b[kept]) >= GEMM_FLOOR_DB, gemm.name
