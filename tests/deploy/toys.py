"""Small graphs built by code with onnx_ir, and the numpy side of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import (
    Dynamic,
    GemmPlan,
    Grouped,
    PerTensor,
    Plan,
    SitePlan,
    Treatment,
)
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.profile import find_kernels, optimized_graph
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.tally import tally
from qdeploy.graph.structure import Structure
from tests.deploy.seen import AS_PLANNED, seen_of

Array = npt.NDArray[Any]
OPSET = 21  # the first whose Q/DQ takes FP16 scales beside the FP32 ones


class Toy:
    """A graph under construction: one FP32 input `x`, nodes in the order they are added."""

    def __init__(self, shape: tuple[int | str, ...], opset: int = OPSET) -> None:
        self.x = ir.Input("x", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
        self._nodes: list[ir.Node] = []
        self._constants: list[ir.Value] = []
        self._opset = opset

    def constant(self, name: str, array: Any) -> ir.Value:
        """An initializer."""
        tensor = ir.Tensor(np.ascontiguousarray(array).reshape(np.shape(array)), name=name)
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(np.shape(array))
        value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
        self._constants.append(value)
        return value

    def op(
        self,
        op_type: str,
        *inputs: ir.Value,
        name: str | None = None,
        channels: int | None = None,
        outputs: int = 1,
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        """A node; its first output, with the shape of `x` and this many channels."""
        name = name or f"node{len(self._nodes)}"
        node = ir.node(op_type, list(inputs), attributes or None, name=name, num_outputs=outputs)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}.out{index or ''}"
        first: ir.Value = node.outputs[0]
        first.type = ir.TensorType(dtype)
        if channels is not None:
            assert self.x.shape is not None
            first.shape = ir.Shape((*list(self.x.shape)[:-1], channels))
        self._nodes.append(node)
        return first

    def dequantized(
        self, value: ir.Value, name: str, scale: Any, zero: Any, **axis: Any
    ) -> ir.Value:
        """`value` through QuantizeLinear and DequantizeLinear; typed as scale and zero are."""
        pair = [self.constant(f"{name}.scale", scale), self.constant(f"{name}.zero", zero)]
        assert pair[0].dtype is not None and pair[1].dtype is not None
        codes = self.op("QuantizeLinear", value, *pair, dtype=pair[1].dtype, **axis)
        return self.op("DequantizeLinear", codes, *pair, dtype=pair[0].dtype, **axis)

    def int8_weight(self, name: str, codes: Array, scale: Array) -> ir.Value:
        """An int8 initializer [K, N] behind DequantizeLinear with one scale per column."""
        pair = [
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(scale.shape, np.int8)),
        ]
        assert pair[0].dtype is not None
        stored = self.constant(name, codes)
        return self.op("DequantizeLinear", stored, *pair, dtype=pair[0].dtype, axis=1)

    def model(self, output: ir.Value) -> ir.Model:
        """The graph with one output, named y."""
        output.name = "y"
        graph = ir.Graph(
            [self.x],
            [output],
            nodes=self._nodes,
            initializers=self._constants,
            opset_imports={"": self._opset},
            name="toy",
        )
        return ir.Model(graph, ir_version=10)


def saved(model: ir.Model, path: Path) -> Path:
    """Write the model, and return the path."""
    ir.save(model, path)
    return path


def run(model: ir.Model, path: Path, feeds: dict[str, Array]) -> list[Array]:
    """Outputs of the model in ONNX Runtime, one thread, default optimizations."""
    outputs: list[Array] = open_session(saved(model, path), session_options(1)).run(None, feeds)
    return outputs


def simulated(model: ir.Model, path: Path, x: Array) -> Array:
    """y of a graph of a GPU target, in ONNX Runtime's CPU provider without integer kernels."""
    found: Array = SimulatedEngine(saved(model, path), threads=1).run({"x": x})["y"]
    return found


def tap(model: ir.Model, names: list[str], path: Path, feeds: dict[str, Array]) -> list[Array]:
    """Values inside a graph, by name; the graph's outputs change."""
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    model.graph.outputs[:] = [values[name] for name in names]
    for value in model.graph.outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return run(model, path, feeds)


def outputs_of(model: ir.Model, name: str) -> list[str]:
    """The tensors that a node became: one, or one per block of columns."""
    nodes = {str(node.name): node for node in model.graph}
    labels = [name] if name in nodes else []
    while f"{name}/columns{len(labels) + 1}" in nodes:
        labels.append(f"{name}/columns{len(labels) + 1}")
    assert labels, name
    return [str(nodes.get(f"{at}/sum", nodes[at]).outputs[0].name) for at in labels]


def output_of(model: ir.Model, gemm: str) -> str:
    """The tensor that a GEMM which stayed whole ends in."""
    (name,) = outputs_of(model, gemm)
    return name


def plan_of(
    structure: Structure,
    treatments: Mapping[str, Treatment],
    *,
    scope: str = "gemm",
    per_channel_weights: bool = True,
    tables: tuple[str, ...] = (),
) -> Plan:
    """A plan with these treatments by tensor; the GEMMs that read one of them are int8."""
    sites = {
        site.tensor: SitePlan(site.name, site.tensor, treatments[site.tensor], "test")
        for site in structure.sites
        if site.tensor in treatments
    }
    gemms = {
        g.name: GemmPlan(g.name, g.weight, "int8" if g.input in sites else "float", "test")
        for g in structure.gemms
    }
    return Plan(
        strategy="test",
        scope=scope,
        activations="asymmetric",
        per_channel_weights=per_channel_weights,
        sites=sites,
        gemms=gemms,
        tables=tables,
    )


def planned(
    plan: Plan, structure: Structure, trace_names: dict[str, tuple[TraceName, ...]]
) -> dict[str, Any]:
    """What `tally` wants to know."""
    return {
        gemm.name: {
            "precision": plan.gemms[gemm.name].precision,
            "reason": "test",
            "flops": gemm.flops,
            "float_flops": 0,
            "marks": list(trace_names.get(gemm.name, ())),
        }
        for gemm in structure.gemms
    }


def certified(path: Path, gemms: dict[str, Any]) -> Any:
    """The certificate of a toy, from the graph that ONNX Runtime makes of it."""
    trace_names = {name: gemm["marks"] for name, gemm in gemms.items()}
    return tally(gemms, find_kernels(optimized_graph(path), trace_names), 0.0)


# The numpy side: the definition of fake quantization, written without the project's own code.


def fake_quantize(x: Array, treatment: Treatment, cuts: GemmConstraints = AS_PLANNED) -> Array:
    """x [..., C] rounded as the treatment says, and the pieces that a target multiplies; FP32."""
    if isinstance(treatment, PerTensor):
        return _rounded(x, treatment.affine)
    if isinstance(treatment, Dynamic):
        return _rounded(x, dynamic_affine(x))
    assert isinstance(treatment, Grouped)
    return seen_of(treatment, cuts).rounded(x)


def dynamic_affine(x: Array) -> Affine:
    """Scale and zero point as ONNX defines DynamicQuantizeLinear."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    return Affine(float(scale), int(np.clip(np.rint(-np.float32(low) / scale), 0, 255)))


def _rounded(x: Array, affine: Affine) -> Array:
    scale = np.float32(affine.scale)
    codes = np.clip(np.rint(x / scale) + affine.zero_point, 0, 255)
    result: Array = ((codes - affine.zero_point) * scale).astype(np.float32)
    return result


def rounded_weight(weight: Array, *, per_channel: bool = True, fits_16_bits: bool = False) -> Array:
    """[K, N] rounded to symmetric int8, one scale per column or one for all.

    Args:
        fits_16_bits: two neighbours of one sign add up to 128 at most (K is even).
    """
    peak = np.abs(weight).max(axis=0)
    if fits_16_bits:
        one, other = weight[::2].astype(np.float64), weight[1::2].astype(np.float64)
        same = np.where(one * other > 0, np.abs(one + other), 0)
        peak = np.maximum(peak, same.max(axis=0) * 127 / 128)
    if not per_channel:
        peak = peak.max()
    scale = (peak / 127).astype(np.float32)
    result: Array = np.clip(np.rint(weight / scale), -127, 127) * scale
    return result
