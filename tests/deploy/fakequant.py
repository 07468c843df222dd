"""A plan as FP32 arithmetic: the rounding written out, with none of the project's lowering."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.plan import Grouped, PerTensor, Plan
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.structure import Structure
from tests.deploy.seen import AS_PLANNED, seen_of

Array = npt.NDArray[Any]


def fake_quantized(
    model: ir.Model, plan: Plan, structure: Structure, cuts: GemmConstraints = AS_PLANNED
) -> ir.Model:
    """Each planned GEMM of a canonical graph reads its input rounded to int8 and back.

    Weights are rounded per group of input channels and output channel, on scales that FP16 holds.
    """
    editor = GraphEditor(model)
    nodes = {str(node.name): node for node in model.graph}
    for gemm in structure.gemms:
        if gemm.name not in plan.int8_gemms:
            continue
        treatment = plan.treatment(gemm.input)
        stored = model.graph.initializers[gemm.weight].const_value
        assert stored is not None
        weight = stored.numpy().T if gemm.transposed else stored.numpy()
        scale, kept, factor = np.ones(len(weight), np.float32), np.zeros(len(weight), bool), None
        groups: tuple[tuple[int, ...], ...] = (tuple(range(len(weight))),)
        bounds = np.array(-128, np.float32), np.array(127, np.float32)
        if isinstance(treatment, PerTensor):
            scale[:] = treatment.affine.scale
            if treatment.pre_quant_scale:
                factor = np.array(treatment.pre_quant_scale, np.float32)
        else:
            assert isinstance(treatment, Grouped)
            seen = seen_of(treatment, cuts)
            groups, kept, scale = seen.parts, seen.kept, seen.scale
            bounds = seen.least.astype(np.float32), seen.most.astype(np.float32)
        rounded = weight / factor[:, None] if factor is not None else weight.copy()
        for group in groups:
            rounded[list(group)] = _rounded_weight(rounded[list(group)])
        value = _rounded_input(
            editor, editor.values[gemm.input], scale, bounds, kept, factor, gemm.name
        )
        constant = editor.constant(f"{gemm.name}.fake", rounded.T if gemm.transposed else rounded)
        node = nodes[gemm.node]
        for index, given in enumerate(node.inputs):
            assert given is not None
            if given.name == gemm.input:
                node.replace_input_with(index, value)
            elif given.name == gemm.weight:
                node.replace_input_with(index, constant)
    return editor.finish()


def _rounded_weight(weight: Array) -> Array:
    scale = np.maximum(np.abs(weight).max(axis=0) / 127, np.finfo(np.float16).tiny)
    half = scale.astype(np.float16)
    half = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    result: Array = (np.rint(weight / half.astype(np.float32)) * half).astype(np.float32)
    return result


def _rounded_input(
    editor: GraphEditor,
    value: ir.Value,
    scale: Array,
    bounds: tuple[Array, Array],
    kept: Array,
    factor: Array | None,
    name: str,
) -> ir.Value:
    def op(kind: str, *inputs: ir.Value | None) -> ir.Value:
        return editor.node(kind, list(inputs), f"{name}/fake_{kind}", like=value).outputs[0]

    source = value
    if factor is not None:
        source = op("Mul", value, editor.constant(f"{name}.factor", factor))
    steps = editor.constant(f"{name}.steps", scale)
    low = editor.constant(f"{name}.low", bounds[0])
    high = editor.constant(f"{name}.high", bounds[1])
    codes = op("Min", op("Max", op("Round", op("Div", source, steps)), low), high)
    result = op("Mul", codes, steps)
    return op("Where", editor.constant(f"{name}.kept", kept), source, result)
