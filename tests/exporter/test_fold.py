"""Constants that operators rearrange: folded at every size, shared once, values unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from qdeploy.exporter.canonical import clean
from qdeploy.exporter.fold import fold_constants
from qdeploy.exporter.trace import trace


def graph_of(nodes: list[Any], constants: dict[str, Any], outputs: list[str]) -> ir.Model:
    """A graph of one float input "x" whose outputs have unknown shapes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def run(model: ir.Model, x: Any) -> list[Any]:
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


ONE = np.ones((), np.float32)
WEIGHT = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Transpose", ["w"], ["c"], perm=[1, 0])],
        [helper.make_node("Transpose", ["w"], ["c"])],
        [helper.make_node("Reshape", ["w", "shape"], ["c"])],
        [helper.make_node("Identity", ["w"], ["c"])],
        [helper.make_node("Unsqueeze", ["w", "axes"], ["c"])],
        [
            helper.make_node("Unsqueeze", ["w", "axes"], ["a"]),
            helper.make_node("Squeeze", ["a", "axes"], ["c"]),
        ],
        [
            helper.make_node("Unsqueeze", ["w", "zero"], ["a"]),
            helper.make_node("Squeeze", ["a"], ["c"]),
        ],
        [
            helper.make_node("Cast", ["w"], ["a"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["a"], ["c"], to=TensorProto.FLOAT),
        ],
        [
            helper.make_node("Cast", ["w"], ["a"], to=TensorProto.INT32),
            helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
            helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        ],
    ],
)
def test_chain_becomes_one_initializer_of_the_same_values(nodes: list[Any]) -> None:
    constants = {"w": WEIGHT * 7, "shape": [0, 2, -1], "axes": [0, 2], "zero": [0]}
    constants = {name: np.asarray(value) for name, value in constants.items()}
    nodes = [*nodes, helper.make_node("Add", ["x", "c"], ["y"])]
    expected = run(graph_of(nodes, constants, ["y"]), ONE)
    model = graph_of(nodes, constants, ["y"])
    fold_constants(model.graph)
    assert operators(model) == ["Add"]
    assert "w" in model.graph.initializers  # the last form has the first one's name
    assert not [name for name in model.graph.initializers if name.startswith("w.")]
    assert np.array_equal(run(model, ONE)[0], expected[0])


def test_layers_that_share_a_weight_share_its_transpose() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t1"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t1"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["i"]),
        helper.make_node("Transpose", ["w"], ["t2"], perm=[1, 0]),
        helper.make_node("MatMul", ["i", "t2"], ["y"]),
    ]
    x = np.ones((2, 4), np.float32)
    expected = run(graph_of(nodes, {"w": WEIGHT}, ["y"]), x)[0]
    model = graph_of(nodes, {"w": WEIGHT}, ["y"])
    fold_constants(model.graph)
    assert operators(model) == ["MatMul", "MatMul", "MatMul"]
    # read both ways, so both forms stay, each of them once
    assert sorted(model.graph.initializers) == ["w", "w.T"]
    assert np.array_equal(run(model, x)[0], expected)


def test_output_of_the_graph_stays_the_output_of_its_node() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    model = graph_of(nodes, {"w": WEIGHT}, ["y", "t"])
    fold_constants(model.graph)
    assert operators(model) == ["Transpose", "MatMul"]
    assert run(model, np.ones((1, 4), np.float32))[1].shape == (4, 6)


def test_what_depends_on_the_input_is_left_alone() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    model = graph_of(nodes, {"w": WEIGHT}, ["y"])
    fold_constants(model.graph)
    assert operators(model) == ["Transpose", "MatMul"]


@pytest.mark.parametrize("hidden", [32, 256])
@pytest.mark.parametrize("groups", [1, 2])
def test_albert_reads_each_shared_weight_directly(hidden: int, groups: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "albert",
        vocab_size=64,
        embedding_size=16,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=4,
        num_hidden_groups=groups,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_config(config, attn_implementation="eager").eval()
    graph = clean(trace(model, ["input_ids", "attention_mask"], ["logits"]), model)
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    for part in ("attention.query", "attention.dense", "ffn", "ffn_output"):
        uses = list(graph.graph.initializers[f"{layer}.{part}.weight"].uses())
        assert [use.node.op_type for use in uses] == ["MatMul"] * (4 // groups)
        assert {use.idx for use in uses} == {1}
    for node in graph.graph:
        if node.op_type in ("Transpose", "Reshape", "Cast"):
            assert node.inputs[0] is not None
            assert not node.inputs[0].is_initializer()
    ir.save(graph, tmp_path / "model.onnx")
    loaded = onnx.load(tmp_path / "model.onnx").graph
    stored = sum(len(t.raw_data) for t in loaded.initializer)
    assert stored < 4 * sum(p.numel() for p in model.parameters()) + 1000


def test_square_weight_that_is_read_both_ways_keeps_both_layouts() -> None:
    """A square table and its transpose have one shape; the values tell them apart."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = transformers.PretrainedConfig()
            self.table = torch.nn.Embedding(40, 40)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.table(input_ids) @ self.table.weight.T

    torch.manual_seed(0)
    source = Tied().eval()
    model = clean(trace(source, ["input_ids"], ["logits"]), source)
    ids = torch.tensor([[3, 5, 39]])
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (found,) = session.run(None, {"input_ids": ids.numpy()})
    assert np.abs(found - source(ids).detach().numpy()).max() < 1e-5
