"""FP16 and BF16 files in FP32, which calibration and every other step read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, is_standard

_TYPES = ("to", "dtype", "stash_type")  # attributes that name a type
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def to_single(model: ir.Model) -> bool:
    """Convert a graph in half precision to FP32, in place; casts between the two go.

    1. Assumes a graph without functions.
    2. Recognizes initializers, constants, inputs, outputs and casts of FP16 and BF16.
    3. Guarantees the same weights, each exact in FP32; the arithmetic is FP32's.
    4. Leaves bodies of If and Loop as they are: ONNX Runtime refuses them where types differ.

    Returns:
        Whether anything was in half precision.
    """
    graph, found = model.graph, False
    for value in graph.initializers.values():
        if value.dtype in _HALF or (value.const_value and value.const_value.dtype in _HALF):
            value.const_value, found = _single(value.const_value), True
            value.dtype = ir.DataType.FLOAT
    for value in [*graph.inputs, *(v for node in graph for v in node.outputs)]:
        if value.dtype in _HALF:
            value.dtype, found = ir.DataType.FLOAT, True
    edit = Edit(model)
    for node in list(graph):
        found = _convert(node) or found
        if is_standard(node, "Cast") and _is_needless(node):
            source = node.inputs[0]
            assert source is not None
            if node.outputs[0].is_graph_output():
                continue
            node.outputs[0].replace_all_uses_with(source)
    edit.finish()
    return found


def _single(tensor: ir.TensorProtocol | None) -> ir.Tensor:
    assert tensor is not None
    return ir.Tensor(np.asarray(tensor.numpy(), np.float32), name=tensor.name)


def _convert(node: ir.Node) -> bool:
    found = False
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in _HALF:
            node.attributes[name] = ir.AttrTensor(name, _single(attribute.value))
            found = True
        elif name in _TYPES and attribute.value in [kind.value for kind in _HALF]:
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT.value)
            found = True
    return found


def _is_needless(node: ir.Node) -> bool:
    """Whether a cast is one from FP32 to FP32."""
    source = node.inputs[0]
    to = node.attributes["to"].as_int()
    if source is None or to != ir.DataType.FLOAT.value:
        return False
    return source.dtype == ir.DataType.FLOAT
