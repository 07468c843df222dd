"""Constants that operators rearrange: folded at every size, shared once, values unchanged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from qdeploy.exporter.canonical import clean
from qdeploy.exporter.fold import fold_constants
from qdeploy.exporter.trace import trace
from tests.exports import Exports
from tests.onnx_text import read_model


def graph_of(nodes: str, constants: dict[str, Any], outputs: str = "y") -> ir.Model:
    """A graph of one float input "x" whose outputs have unknown shapes."""
    given = ", ".join(f"float[] {name}" for name in outputs.split())
    return ir.from_proto(read_model(f"(float[] x) => ({given}) {{ {nodes} }}", constants))


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
        "c = Transpose<perm = [1, 0]>(w)",
        "c = Transpose(w)",
        "c = Reshape(w, shape)",
        "c = Identity(w)",
        "c = Unsqueeze(w, axes)",
        "a = Unsqueeze(w, axes) c = Squeeze(a, axes)",
        "a = Unsqueeze(w, zero) c = Squeeze(a)",
        "a = Cast<to = 10>(w) c = Cast<to = 1>(a)",
        "a = Cast<to = 6>(w) b = Transpose<perm = [1, 0]>(a) c = Cast<to = 1>(b)",
    ],
)
def test_chain_becomes_one_initializer_of_the_same_values(nodes: str) -> None:
    constants = {"w": WEIGHT * 7, "shape": [0, 2, -1], "axes": [0, 2], "zero": [0]}
    nodes = f"{nodes} y = Add(x, c)"
    expected = run(graph_of(nodes, constants), ONE)
    model = graph_of(nodes, constants)
    fold_constants(model.graph)
    assert operators(model) == ["Add"]
    assert "w" in model.graph.initializers  # the last form has the first one's name
    assert not [name for name in model.graph.initializers if name.startswith("w.")]
    assert np.array_equal(run(model, ONE)[0], expected[0])


def test_layers_that_share_a_weight_share_its_transpose() -> None:
    nodes = """
        t1 = Transpose<perm = [1, 0]>(w)
        h = MatMul(x, t1)
        i = MatMul(h, w)
        t2 = Transpose<perm = [1, 0]>(w)
        y = MatMul(i, t2)
    """
    x = np.ones((2, 4), np.float32)
    expected = run(graph_of(nodes, {"w": WEIGHT}), x)[0]
    model = graph_of(nodes, {"w": WEIGHT})
    fold_constants(model.graph)
    assert operators(model) == ["MatMul", "MatMul", "MatMul"]
    # read both ways, so both forms stay, each of them once
    assert sorted(model.graph.initializers) == ["w", "w.T"]
    assert np.array_equal(run(model, x)[0], expected)


def test_output_of_the_graph_stays_the_output_of_its_node() -> None:
    nodes = "t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)"
    model = graph_of(nodes, {"w": WEIGHT}, "y t")
    fold_constants(model.graph)
    assert operators(model) == ["Transpose", "MatMul"]
    assert run(model, np.ones((1, 4), np.float32))[1].shape == (4, 6)


def test_what_depends_on_the_input_is_left_alone() -> None:
    model = graph_of("t = Transpose<perm = [1, 0]>(x) y = MatMul(t, w)", {"w": WEIGHT})
    fold_constants(model.graph)
    assert operators(model) == ["Transpose", "MatMul"]


@pytest.mark.parametrize("hidden", [32, 256])
@pytest.mark.parametrize(("family", "groups"), [("albert", 1), ("albert-two-groups", 2)])
def test_albert_reads_each_shared_weight_directly(
    family: str, groups: int, hidden: int, exported: Exports
) -> None:
    done = exported(family, hidden=hidden)
    layers = json.loads((done.checkpoint / "config.json").read_text())["num_hidden_layers"]
    graph = ir.load(done.model_dir / "model.onnx")
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    for part in ("attention.query", "attention.dense", "ffn", "ffn_output"):
        uses = list(graph.graph.initializers[f"{layer}.{part}.weight"].uses())
        assert [use.node.op_type for use in uses] == ["MatMul"] * (layers // groups)
        assert {use.idx for use in uses} == {1}
    for node in graph.graph:
        if node.op_type in ("Transpose", "Reshape", "Cast"):
            assert node.inputs[0] is not None
            assert not node.inputs[0].is_initializer()
    weights = load_file(done.checkpoint / "model.safetensors")
    stored = sum(
        len(t.raw_data) for t in onnx.load(done.model_dir / "model.onnx").graph.initializer
    )
    # the rest is less than any weight of a layer has
    assert stored < sum(array.nbytes for array in weights.values()) + 2000


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
