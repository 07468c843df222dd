"""Fused operators written out, each as a graph of one node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.observe import run
from qdeploy.exporter.from_onnx.unfuse import unfuse

SHAPE = (3, 4, 8)


def norm(kind: str, axis: int | None, *, known: bool = True) -> ir.Model:
    """y = kind(x [3, 4, 8], weight), the weight of the axes that are normalized."""
    first = -1 if axis is None else axis
    size = SHAPE[first:]
    weight = np.random.default_rng(1).normal(size=size).astype(np.float32)
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 20})
    x = ir.Input("x", ir.Shape(SHAPE) if known else None, ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(x)
    scale = ir.Value(name="w", const_value=ir.tensor(weight, name="w"))
    graph.register_initializer(scale)
    attributes = {"epsilon": 0.01} | ({} if axis is None else {"axis": axis})
    node = ir.node(kind, [x, scale], attributes=attributes)
    graph.append(node)
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(node.outputs[0])
    return ir.Model(graph, ir_version=10)


def expected(x: np.ndarray, weight: np.ndarray, axis: int | None) -> np.ndarray:
    """The formula of the operator's documentation (ONNX 1.19, RMSNormalization), in FP64."""
    axes = tuple(range((-1 if axis is None else axis) % x.ndim, x.ndim))
    size = np.sqrt(np.square(x.astype(np.float64)).mean(axis=axes, keepdims=True) + 0.01)
    return x / size * weight


@pytest.mark.parametrize("kind", ["RMSNormalization", "SimplifiedLayerNormalization"])
@pytest.mark.parametrize("axis", [None, -1, -2, -3, 0, 1, 2])
def test_a_norm_of_any_axis(kind: str, axis: int | None) -> None:
    model, x = norm(kind, axis), np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    scale = model.graph.initializers["w"].const_value
    assert scale is not None
    exact = expected(x, scale.numpy(), axis)
    if kind == "SimplifiedLayerNormalization":  # ONNX Runtime has it, below opset 23
        ((own,),) = run(model, [{"x": x}], "fused")
        np.testing.assert_allclose(own, exact, atol=1e-5)
    assert unfuse(model, "file") == [kind]
    assert kind not in [node.op_type for node in model.graph]
    ((found,),) = run(model, [{"x": x}], "written out")
    np.testing.assert_allclose(found, exact, atol=1e-5)


@pytest.mark.parametrize("axis", [-2, 1])
def test_a_norm_of_a_tensor_of_any_rank(axis: int) -> None:
    model = norm("RMSNormalization", axis, known=False)
    if axis < 0:
        assert unfuse(model, "file") == ["RMSNormalization"]
    else:
        with pytest.raises(CheckpointError, match="RMSNormalization .* Pass the file before it"):
            unfuse(model, "file")
