"""Whole encoders of every family as TensorRT gets them, beside their plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.passes.to_fp16 import ToFp16
from qdeploy.deploy.rules import ERROR
from qdeploy.deploy.targets.tensorrt.lower import CUTS
from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from qdeploy.files.artifact import read_json
from tests.deploy.conftest import Source, sqnr_db
from tests.deploy.dry_runs import dry_run
from tests.deploy.fakequant import fake_quantized
from tests.deploy.family_cases import family_cases
from tests.deploy.toys import saved
from tests.tiny import FAMILIES, LAYERS

Array = npt.NDArray[Any]
PLANS: dict[str, dict[str, Any]] = {
    "w8a8": {"strategy": "w8a8"},
    "fp8": {"strategy": "fp8"},
    "groups": {"strategy": "peg", "groups": 3},
    "outliers": {"strategy": "peg", "groups": 1, "outlier_channels": 2},
    "factors": {"strategy": "smoothquant", "alpha": 0.5},
}


def normed(path: Path, where: Source, output: Path) -> dict[str, Array]:
    """Every LayerNorm output on a padded batch: without padding, channels of a token sorted.

    A permutation that was folded into the weights orders them otherwise.
    """
    model, feeds = ir.load(path), where.feeds()
    norms = [n.outputs[0] for n in model.graph if n.op_type == "LayerNormalization"]
    model.graph.outputs[:] = norms
    found = SimulatedEngine(saved(model, output), threads=1).run(feeds)
    mask = feeds["attention_mask"].astype(bool)
    return {
        name: np.sort(value[mask] if value.shape[:2] == mask.shape else value, axis=-1)
        for name, value in found.items()
    }


def worst_db(a: dict[str, Array], b: dict[str, Array]) -> float:
    """The least ratio of the tensors that both graphs have."""
    both = a.keys() & b.keys()
    assert len(both) > LAYERS
    return min(sqnr_db(a[name], b[name].astype(np.float32)) for name in both)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_fp16_keeps_its_hidden_states(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    where = source(family)
    directory = dry_run(where, tmp_path / "engine", strategy="fp16")
    exact = normed(where.directory / "model.onnx", where, tmp_path / "a.onnx")
    found = normed(directory / "model.onnx", where, tmp_path / "b.onnx")
    assert worst_db(exact, found) > 45


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leads_into_an_integer_or_an_angle_stays_fp32(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    """A position that FP16 rounds would be another one, or fall into another bucket."""
    graph = ir.load(dry_run(source(family), tmp_path / "engine", strategy="fp16") / "model.onnx")
    left = [n for n in graph.graph if n.op_type in ("Sin", "Cos") or to_integer(n)]
    assert bool(left) == (family in ("mpnet", "deberta-v2", "modernbert"))
    seen = set(left)
    while left:
        for value in left.pop().inputs:
            if value is None:
                continue
            assert value.dtype != ir.DataType.FLOAT16, value
            before = value.producer()
            if before is not None and before not in seen and value.dtype == ir.DataType.FLOAT:
                seen.add(before)
                left.append(before)


def to_integer(node: ir.Node) -> bool:
    """A cast of floats to integers."""
    (before,), (after,) = (node.inputs[:1], node.outputs[:1])
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    return (
        node.op_type == "Cast"
        and before is not None
        and before.dtype in floats
        and after.dtype in (ir.DataType.INT64, ir.DataType.INT32)
    )


@pytest.mark.parametrize(("family", "plan_name"), family_cases(PLANS, first="groups"))
def test_every_family_keeps_the_rules_and_computes_its_plan(
    family: str,
    plan_name: str,
    source: Callable[[str], Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left in FP32, it is the plan with the rounding written out, but for ties that FP32 breaks."""
    where = source(family)
    directory = dry_run(where, tmp_path / "half", **PLANS[plan_name])
    model = ir.load(directory / "model.onnx")
    assert [v for v in broken_rules(model) if v.severity == ERROR] == []
    plan = Plan.from_json(read_json(directory / "plan.json"))
    assert len(plan.quantized_gemms) >= 4 * LAYERS

    monkeypatch.setattr(ToFp16, "apply", lambda self, model, plan, structure: None)
    plain = dry_run(where, tmp_path / "plain", **PLANS[plan_name])
    original, structure = where.graph()
    fake = saved(fake_quantized(original, plan, structure, CUTS), tmp_path / "fake.onnx")
    found = normed(plain / "model.onnx", where, tmp_path / "a.onnx")
    expected = normed(fake, where, tmp_path / "b.onnx")
    # a third of a value is rounded before it is rounded to a step: one code in 10⁵ is its neighbour
    assert worst_db(expected, found) > (45 if plan_name in ("groups", "outliers") else 60)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_that_is_shipped_is_near_its_plan(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    """FP16 and int8 together, beside the plan's own rounding in FP32.

    Half a unit in FP16's last place may flip a code, so that only gross faults show here: a scale
    or a type that is wrong anywhere costs all of these decibels.
    """
    where = source(family)
    directory = dry_run(where, tmp_path / "half")
    plan = Plan.from_json(read_json(directory / "plan.json"))
    original, structure = where.graph()
    fake = saved(fake_quantized(original, plan, structure, CUTS), tmp_path / "fake.onnx")
    found = normed(directory / "model.onnx", where, tmp_path / "a.onnx")
    assert worst_db(normed(fake, where, tmp_path / "b.onnx"), found) > 18
