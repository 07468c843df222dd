"""How fast this machine multiplies 8-bit integers, measured on an engine's own GEMMs.

Each shape that an engine multiplies is run alone, by every target of the processor that works here,
in the form that the target's lowering gives it. The fastest kernel of each is what an engine could
reach that did nothing but these GEMMs: its distance to the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, Affine
from qdeploy.calibrate.plan import INT8, GemmPlan, PerTensor, Plan, SitePlan
from qdeploy.deploy.product_flops import count_products
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.deploy.targets.base import Target
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.trial import FIELDS
from qdeploy.errors import TargetError
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.sites import find_structure
from qdeploy.schemas.certificate import Certificate
from qdeploy.types import Array

_GRAPH, _GEMM = "model.onnx", "gemm"
_TRACES, _RUNS = 3, 3  # profiles of a shape, whose least mean counts; runs in each


@dataclass(frozen=True)
class GemmShape:
    """A GEMM [rows, inner] × [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """A multiply and an add are two."""
        return 2 * self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Peak:
    """The fastest that GEMMs were seen to run here, one after the other.

    Attributes:
        flops: of all of them.
        ms: of all of them, each by its fastest kernel.
        fastest: name of the runtime by how many of the GEMMs it is the fastest of.
    """

    flops: int
    ms: float
    fastest: Mapping[str, int]


def int8_shapes(
    path: Path, certificate: Certificate, feeds: Mapping[str, Array]
) -> Counter[GemmShape]:
    """The GEMMs of 8-bit integers that an engine runs on some inputs, by their shape.

    Args:
        path: its graph, of which the certificate was made.
        feeds: int64 [B, S] by input name; rows are counted as they run, without padding that the
            graph leaves out.
    """
    planned = certificate["planned_gemms"].values()
    nodes = {node for gemm in planned if gemm["precision"] == INT8 for _, node in gemm["marks"]}
    found: Counter[GemmShape] = Counter()
    for counted in count_products(path, feeds).products:
        stored = weight_of(counted.product) if counted.product.name in nodes else None
        if stored is None or not stored.eight_bits or not counted.ran:
            continue
        inner, columns = stored.codes.shape
        found[GemmShape(counted.flops // (2 * inner * columns), inner, columns)] += 1
    return found


def measure_peak(shapes: Mapping[GemmShape, int], threads: int) -> Peak | None:
    """Time every shape alone in each runtime of this processor; None where none multiplies it.

    Args:
        shapes: how many GEMMs have each.
        threads: of a run.
    """
    total, flops = 0.0, 0
    fastest: Counter[str] = Counter()
    for shape, count in shapes.items():
        times = dict(_times(shape, threads))
        if not times:
            return None
        best = min(times, key=lambda name: times[name])
        total, flops = total + count * times[best], flops + count * shape.flops
        fastest[best] += count
    return Peak(flops, total, fastest) if flops else None


def _times(shape: GemmShape, threads: int) -> Iterator[tuple[str, float]]:
    """Name of a runtime and ms of its INT8 kernel, where it has one that works."""
    for target in TARGETS.values():
        if target.on_gpu:
            continue
        try:
            target.require()
            ms = _fastest_ms(target, shape, threads)
        except (TargetError, ImportError):  # not installed: the others are measured
            continue
        if ms is not None:
            yield target.snippet().heading, ms


def _fastest_ms(target: Target, shape: GemmShape, threads: int) -> float | None:
    """Least mean of a few profiled runs, of the kernel alone; None where it is not INT8."""
    model = _model(shape)
    structure = find_structure(model)
    (gemm,), (site,) = structure.gemms, [s for s in structure.sites if s.tensor == "hidden"]
    treatment = PerTensor(Affine(1 / 32, MIDDLE))
    sites = {site.tensor: SitePlan(site.name, site.tensor, treatment, "measured alone")}
    gemms = {gemm.name: GemmPlan(gemm.name, gemm.weight, INT8, "measured alone")}
    plan = Plan("w8a8", "gemm", target.activations, True, sites, gemms, ())
    lowered = target.lower(model, target.fit(plan, structure), structure, shape.rows)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(1, shape.rows, shape.inner)).astype(np.float32)}
    with scratch("peak") as folder:
        save_graph(lowered.model, folder / _GRAPH, f"{_GRAPH}.data")
        engine = target.open(folder, {**FIELDS, "target": target.name}, threads)
        times = []
        for _ in range(_TRACES):
            kernels = engine.trace_gemms(lowered.trace_names, feeds, _RUNS).gemms[gemm.name]
            if not kernels or not all(kernel.int8 for kernel in kernels):
                return None
            times.append(sum(kernel.ms for kernel in kernels))
    return min(times)


def _model(shape: GemmShape) -> ir.Model:
    """y = |−x| · W: the GEMM between two nodes that no runtime joins with its rounding."""
    rng = np.random.default_rng(0)
    weight = ir.Tensor(
        rng.normal(size=(shape.inner, shape.columns)).astype(np.float32), name="weight"
    )
    stored = ir.Value(
        name="weight",
        const_value=weight,
        shape=ir.Shape(weight.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    kind = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Input("x", shape=ir.Shape((1, "tokens", shape.inner)), type=kind)
    first = ir.node("Abs", [x], name="hidden")
    product = ir.node("MatMul", [first.outputs[0], stored], name=_GEMM)
    last = ir.node("Neg", [product.outputs[0]], name="y")
    for node, name, width in (
        (first, "hidden", shape.inner),
        (product, "product", shape.columns),
        (last, "y", shape.columns),
    ):
        node.outputs[0].name, node.outputs[0].type = name, kind
        node.outputs[0].shape = ir.Shape((1, "tokens", width))
    graph = ir.Graph(
        [x],
        [last.outputs[0]],
        nodes=[first, product, last],
        initializers=[stored],
        opset_imports={"": 21},
        name="gemm",
    )
    return ir.Model(graph, ir_version=10)
