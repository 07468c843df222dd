"""Each GEMM of a lowered encoder is within the rounding errors of its own input and weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine, affine_from_range
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.groups import COARSER, column_blocks
from qdeploy.deploy.targets.ort_cpu.lower import PIECES
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Source
from tests.deploy.toys import certified, outputs_of, plan_of, planned, saved, tap
from tests.tiny import FAMILIES, LAYERS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Recipe:
    """How the input of a GEMM is treated, from its largest |value| by channel."""

    name: str

    def treatment(self, peak: Array) -> Treatment:
        order = [int(c) for c in np.argsort(peak, kind="stable")]
        if self.name == "dynamic":
            return Dynamic()
        if self.name == "outliers":
            rest = tuple(sorted(order[:-2]))
            return Grouped((rest,), self._affines(peak, [rest]), tuple(sorted(order[-2:])))
        if self.name in ("pre_quant_scale", "pre_quant_shift"):
            shifted = self.name == "pre_quant_shift"
            top = 1.25 if shifted else 1.0
            whole = affine_from_range(-top, top, "symmetric")
            shift = tuple(float(v) for v in (peak / 4).astype(np.float32)) if shifted else ()
            return PerTensor(whole, tuple(float(v) for v in (1 / peak).astype(np.float32)), shift)
        sizes = {"per tensor": (), "two": (-2,), "three": (-4, -1), "four": (-12, -4, -1)}[
            self.name
        ]
        bounds = [0, *(len(order) + size for size in sizes), len(order)]
        groups = [tuple(sorted(order[a:b])) for a, b in pairwise(bounds)]
        if len(groups) == 1:
            return PerTensor(self._affines(peak, groups)[0])
        return Grouped(tuple(groups), self._affines(peak, groups))

    def _affines(self, peak: Array, groups: list[tuple[int, ...]]) -> tuple[Affine, ...]:
        tops = [float(peak[list(group)].max()) for group in groups]
        return tuple(affine_from_range(-top, top, "symmetric") for top in tops)


def steps(treatment: Treatment, x: Array) -> Array:
    """The largest step [C] that the lowering may take for each channel."""
    channels = x.shape[-1]
    if isinstance(treatment, Dynamic):
        return np.full(channels, (x.max() - x.min()) / 255)
    if isinstance(treatment, PerTensor):
        scales = np.full(channels, treatment.affine.scale)
        return scales / np.array(treatment.pre_quant_scale) if treatment.pre_quant_scale else scales
    assert isinstance(treatment, Grouped)
    result = np.zeros(channels)
    for group, its in zip(treatment.groups, treatment.affines, strict=True):
        result[list(group)] = COARSER * its.scale  # a repeated group may be as coarse as this
    return result


RECIPES = (
    "per tensor",
    "pre_quant_scale",
    "pre_quant_shift",
    "dynamic",
    "two",
    "three",
    "four",
    "outliers",
)


def functions_of(model: ir.Model, structure: Structure) -> dict[str, tuple[str, str]]:
    """By GEMM output: name and output of the only node that reads it."""
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    found = {}
    for gemm in structure.gemms:
        nodes = [use.node for use in values[gemm.output].uses()]
        if len(nodes) == 1:
            found[gemm.output] = (str(nodes[0].name), str(nodes[0].outputs[0].name))
    return found


class Values:
    """Tensors of an FP32 graph as a lowered graph computes them, whole or in blocks."""

    def __init__(self, lowered: ir.Model, plan: Plan) -> None:
        self.model, self.plan = lowered, plan
        self.wanted: dict[str, tuple[list[str], str]] = {}

    def want(self, tensor: str, nodes: list[str], read: str) -> None:
        """Args: names in the lowered graph; the tensor whose treatment cut them."""
        self.wanted[tensor] = (nodes, read)

    def run(self, path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
        names = list(dict.fromkeys(name for nodes, _ in self.wanted.values() for name in nodes))
        taps = dict(zip(names, tap(self.model, names, path, feeds), strict=True))
        return {
            t: self._whole([taps[n] for n in nodes], r) for t, (nodes, r) in self.wanted.items()
        }

    def _whole(self, parts: list[Array], read: str) -> Array:
        if len(parts) == 1:
            return parts[0]
        treatment, joined = self.plan.treatment(read), np.concatenate(parts, axis=-1)
        assert isinstance(treatment, PerTensor | Grouped)
        total = joined.shape[-1]
        cuts = [column_blocks(treatment, total, n) for n in (1, PIECES)]
        blocks = next(cut for cut in cuts if len(cut) == len(parts))
        result = np.full_like(joined, np.nan)
        result[..., np.concatenate(blocks)] = joined
        return result


MANY = 10**9  # tokens: no tensor fits a cache


@pytest.mark.parametrize(
    ("family", "recipe", "tokens"),
    [("bert", recipe, tokens) for recipe in RECIPES for tokens in (1, MANY)]
    + [(family, "three", 1) for family in FAMILIES if family != "bert"],
)
def test_each_gemm_of_an_encoder_is_within_its_rounding_errors(
    source: Callable[[str], Source], tmp_path: Path, family: str, recipe: str, tokens: int
) -> None:
    """|y − (x·W + b)| ≤ half a step of each input and weight that meet, whatever the form.

    Each GEMM is judged by the input it really got, so errors do not add up. The bound would be
    broken by any channel that meets another row than its own.
    """
    model, structure = source(family).graph()
    feeds = source(family).feeds()
    inputs = list(dict.fromkeys(g.input for g in structure.gemms))
    observed = dict(
        zip(inputs, tap(model.clone(), inputs, tmp_path / "a.onnx", feeds), strict=True)
    )
    peaks = {t: 1.5 * np.abs(v).reshape(-1, v.shape[-1]).max(axis=0) for t, v in observed.items()}
    constants = {
        n: v.const_value.numpy() for n, v in model.graph.initializers.items() if v.const_value
    }
    plan = plan_of(structure, {t: _Recipe(recipe).treatment(p) for t, p in peaks.items()})
    functions = functions_of(model, structure)
    lowered = lower_ort_cpu(model, plan, structure, tokens)
    report = certified(
        saved(lowered.model, tmp_path / "b.onnx"), planned(plan, structure, lowered.trace_names)
    )
    assert report["executed"] == report["planned"] == len(structure.gemms)

    values = Values(lowered.model, plan)
    for tensor in inputs:
        values.want(tensor, [tensor], tensor)
    cut = 0
    for gemm in structure.gemms:
        names = outputs_of(lowered.model, gemm.name)
        node, activated = functions.get(gemm.output, ("", ""))
        values.want(gemm.output, names, activated)
        if len(names) > 1:
            values.want(activated, outputs_of(lowered.model, node), activated)
            cut += 1
    grouped = recipe in ("two", "three", "four", "outliers")
    if family == "bert":
        # the feed-forward of each layer, and the pooler's tanh
        assert cut == (LAYERS + 1) * (grouped or (tokens == MANY and recipe == "per tensor"))
    found = values.run(tmp_path / "b.onnx", feeds)
    for gemm in structure.gemms:
        weight = constants[gemm.weight].T if gemm.transposed else constants[gemm.weight]
        x, treatment = found[gemm.input].astype(np.float64), plan.treatment(gemm.input)
        expected = x @ weight + (constants[gemm.bias] if gemm.bias else 0)
        step = steps(treatment, x)
        factors, shift = np.ones(gemm.k), np.zeros(gemm.k)
        if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
            factors = np.array(treatment.pre_quant_scale)
            shift = np.array(treatment.pre_quant_shift or shift)
        weight_step = np.abs(weight / factors[:, None]).max(axis=0) / 127
        spread = (np.abs(x - shift) + step) * factors
        bound = (step / 2) @ np.abs(weight) + spread.sum(axis=-1, keepdims=True) * weight_step / 2
        assert (np.abs(found[gemm.output] - expected) <= bound + 1e-4).all(), gemm.name
