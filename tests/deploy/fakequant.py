"""A plan as FP32 arithmetic: the rounding written out, with none of the project's lowering."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.plan import Grouped, PerTensor, Plan
from qdeploy.calibrate.schemes import E4M3
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.structure import Structure
from tests.deploy.seen import AS_PLANNED, seen_of

Array = npt.NDArray[Any]


def fake_quantized(
    model: ir.Model, plan: Plan, structure: Structure, cuts: GemmConstraints = AS_PLANNED
) -> ir.Model:
    """Each planned GEMM of a canonical graph reads its input rounded to 8 bits and back.

    Weights are rounded per group of input channels and output channel, on scales that FP16 holds.
    """
    editor = GraphEditor(model)
    nodes = {str(node.name): node for node in model.graph}
    for gemm in structure.gemms:
        if gemm.name not in plan.quantized_gemms:
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
            rounded[list(group)] = _rounded_weight(rounded[list(group)], plan.activations)
        whole = (scale, bounds, kept, factor, gemm.name)
        read = _rounded_e4m3 if plan.activations == E4M3 else _rounded_input
        value = read(editor, editor.values[gemm.input], *whole)
        constant = editor.constant(f"{gemm.name}.fake", rounded.T if gemm.transposed else rounded)
        node = nodes[gemm.node]
        for index, given in enumerate(node.inputs):
            assert given is not None
            if given.name == gemm.input:
                node.replace_input_with(index, value)
            elif given.name == gemm.weight:
                node.replace_input_with(index, constant)
    return editor.finish()


def _rounded_weight(weight: Array, scheme: str) -> Array:
    largest = 448 if scheme == E4M3 else 127
    scale = np.maximum(np.abs(weight).max(axis=0) / largest, np.finfo(np.float16).tiny)
    half = scale.astype(np.float16)
    half = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    steps = weight / half.astype(np.float32)
    ulp = np.exp2(np.maximum(np.frexp(steps)[1] - 1, -6) - 3.0) if scheme == E4M3 else 1.0
    result: Array = (np.rint(steps / ulp) * ulp * half).astype(np.float32)
    return result


def _rounded_e4m3(editor: GraphEditor, value: ir.Value, scale: Array, *rest: object) -> ir.Value:
    """By its definition: rounded to an eighth of the power of two below, not below 2⁻⁹."""

    def op(kind: str, *inputs: ir.Value | None) -> ir.Value:
        return editor.node(kind, list(inputs), f"{rest[-1]}/fake_{kind}", like=value).outputs[0]

    def number(name: str, array: Any) -> ir.Value:
        return editor.constant(f"{rest[-1]}.{name}", np.array(array, np.float32))

    steps = op("Div", value, number("steps", scale))
    size = op("Max", op("Abs", steps), number("normal", 2.0**-6))
    # where log₂ is off beside a power of two, both spacings round to it
    power = op("Floor", op("Div", op("Log", size), number("log2", np.log(2))))
    ulp = op("Pow", number("two", 2), op("Sub", power, number("mantissa", 3)))
    codes = op("Mul", op("Round", op("Div", steps, ulp)), ulp)
    codes = op("Clip", codes, number("low", -448), number("high", 448))
    return op("Mul", codes, number("back", scale))


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
