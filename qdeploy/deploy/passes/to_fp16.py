"""An FP32 graph as FP16, typed node by node as strongly typed TensorRT networks need it.

LayerNormalization keeps its FP32 statistics inside (`stash_type` 1 is the operator's default).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.passes.base import Pass, PassResult
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.structure import Structure
from qdeploy.types import Array

# Where a constant is beyond FP16 it is a mask, "never attend": far enough below any score, with
# room to add a score to it without reaching infinity.
_LARGEST, _FAR = float(np.finfo(np.float16).max), 3e4
_FP32_OPERATORS = {
    "Cos",
    "Exp",
    "Log",
    "Pow",
    "Reciprocal",
    "ReduceMean",
    "ReduceSum",
    "Sin",
    "Sqrt",
}
_F32, _F16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def half(array: Array) -> Array:
    """FP32 as FP16; what is beyond its range becomes ±3e4, infinity stays."""
    limited = np.where(
        np.isfinite(array) & (np.abs(array) > _LARGEST), np.sign(array) * _FAR, array
    )
    result: Array = limited.astype(np.float16)
    return result


@dataclass(frozen=True)
class ToFp16(Pass):
    """An FP32 graph becomes FP16; what FP16 cannot hold stays FP32 between casts.

    1. Assumes that every float of the graph is FP32, canonical or lowered. A graph with an FP16
       tensor has been here, and stays.
    2. Guarantees that graph inputs and outputs keep their types.
    3. Keeps FP32 in statistics of written-out normalizations, and in everything that leads into
       angles (rotary positions) or into an integer (DeBERTa's buckets), where a rounded position
       would be another one.
    4. Leaves nodes of `in_fp32`.
    5. Is compared with the original by tests, on the graph without rounding, and not in a build:
       behind INT8 half a unit in FP16's last place turns codes (docs/adr/0010). So lowerings apply
       it themselves, last.

    Attributes:
        in_fp32: names of nodes that stay FP32 besides those that always do.
    """

    name = "to_fp16"
    action = "FP16"
    # A rounding to FP16 is 2⁻¹¹ at most. Logits of the tiny families are 5e-4 to 1.5e-3 off.
    tolerance = 1e-2

    in_fp32: frozenset[str] = frozenset()

    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Retype nodes and constants; see `Pass.apply`."""
        del structure
        nodes = list(model.graph)
        if any(value.dtype == _F16 for node in nodes for value in node.outputs):
            return self.leave(plan, "the graph has FP16 in it")
        kept = _kept(nodes) | {node for node in nodes if node.name in self.in_fp32}
        outputs = [value for value in model.graph.outputs if value.dtype == _F32]
        # All are retyped before any input is looked at: each value's type is then its final one.
        for node in nodes:
            if node not in kept:
                _retype(node)
        editor = GraphEditor(model)
        _convert(editor, nodes, kept)
        _widen(editor, outputs)
        return PassResult(True, plan, self.nothing)


def _convert(editor: GraphEditor, nodes: list[ir.Node], kept: set[ir.Node]) -> None:
    """Give each node its inputs in its own type."""
    halved: dict[ir.Value, ir.Value] = {}  # FP32 value → its FP16 form
    widened: dict[ir.Value, ir.Value] = {}  # FP16 value → its FP32 form
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if value.is_initializer():
                if value.dtype == _F32 and node not in kept:
                    node.replace_input_with(index, _half_constant(editor, value, halved))
            elif node in kept and value.dtype == _F16:
                node.replace_input_with(index, _cast(editor, value, _F32, widened))
            # A Cast reads any type; what it makes was retyped with its `to`.
            elif node not in kept and value.dtype == _F32 and node.op_type != "Cast":
                node.replace_input_with(index, _cast(editor, value, _F16, halved))


def _widen(editor: GraphEditor, outputs: list[ir.Value]) -> None:
    """Graph outputs that were FP32 are so again, under their names."""
    for value in outputs:
        if value.dtype == _F16:
            result = _cast(editor, value, _F32, {})
            position = list(editor.graph.outputs).index(value)
            name = str(value.name)
            value.name = editor.unique(f"{name}_half")
            result.name, result.shape = name, value.shape
            editor.graph.outputs[position] = result


def _kept(nodes: list[ir.Node]) -> set[ir.Node]:
    """Nodes that compute in FP32."""
    kept = {node for node in nodes if node.op_type in _FP32_OPERATORS}
    seeds = [node for node in nodes if node.op_type in ("Cos", "Sin") or _to_integer(node)]
    seen = set(seeds)
    while seeds:
        node = seeds.pop()
        for value in node.inputs:
            before = None if value is None else value.producer()
            if value is None or before is None or value.dtype != _F32 or before in seen:
                continue
            seen.add(before)
            seeds.append(before)
            kept.add(before)
    return kept


def _to_integer(node: ir.Node) -> bool:
    """A cast of floats to integers."""
    return node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()).is_integer()


def _retype(node: ir.Node) -> None:
    """FP32 outputs become FP16, and attributes that name the type."""
    for value in node.outputs:
        if value.dtype == _F32:
            value.type = ir.TensorType(_F16)
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == _F32:
        node.attributes["to"] = ir.AttrInt64("to", int(_F16))
    if node.op_type in ("Constant", "ConstantOfShape"):
        filled = node.attributes.get_tensor("value", None)
        if filled is not None and filled.dtype == _F32:
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(half(filled.numpy())))


def _half_constant(
    editor: GraphEditor, value: ir.Value, known: dict[ir.Value, ir.Value]
) -> ir.Value:
    if value not in known:
        tensor = value.const_value
        assert tensor is not None
        known[value] = editor.constant(f"{value.name}.half", half(tensor.numpy()))
    return known[value]


def _cast(
    editor: GraphEditor, value: ir.Value, to: ir.DataType, known: dict[ir.Value, ir.Value]
) -> ir.Value:
    if value not in known:
        node = editor.node(
            "Cast", [value], f"{value.name}/to_{to.name.lower()}", to=int(to), dtype=to, like=value
        )
        known[value] = node.outputs[0]
    return known[value]
