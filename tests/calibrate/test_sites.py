"""What is found in a graph: the hand-written one in every detail, families by their numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.context import NEGLIGIBLE_FLOPS, Context
from qdeploy.calibrate.options import PlanOptions
from qdeploy.errors import ModelError
from qdeploy.graph.gemms import module_of
from qdeploy.graph.linear import linear_sources
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import ATTENTION_OUTPUT, GEMM_INPUT, SOFTMAX, FeedForward, Table
from tests.calibrate.conftest import Synthetic
from tests.calibrate.encoder import HIDDEN, TOKENS, VOCABULARY, Writer, encoder
from tests.exports import Exports
from tests.tiny import FAMILIES, INNER, LAYERS
from tests.tiny import HIDDEN as TINY_HIDDEN

# One layer's GEMMs as (K, N), and how many more GEMMs and tables there are around the layers.
PLAIN = [(TINY_HIDDEN, TINY_HIDDEN)] * 4 + [(TINY_HIDDEN, INNER), (INNER, TINY_HIDDEN)]
QUICK = ("bert", "modernbert", "deberta-v2")  # plain; gated without biases; heads in the batch
families = pytest.mark.parametrize(
    "family",
    [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)


def test_gemms_by_name(synthetic: Synthetic) -> None:
    layer = ["query", "key", "value", "attended", "up", "down"]
    found = synthetic.structure.gemms
    assert [g.name for g in found] == [
        *(f"layer.{i}.{part}" for i in range(2) for part in layer), "classifier",
    ]  # fmt: skip
    up, head = found[4], found[-1]
    assert (up.k, up.n, up.rows, up.transposed) == (16, 32, 128, False)
    assert (up.input, up.output) == ("layer.0.norm1.out", "layer.0.up.out")
    assert (up.weight, up.bias) == ("layer.0.up.weight", "layer.0.up.bias")
    assert up.flops == 2 * 128 * 16 * 32
    assert (head.k, head.n, head.rows, head.transposed) == (16, 2, 1, True)
    assert synthetic.weights["classifier.weight"].shape == (16, 2)  # upright


def test_sites_by_name(synthetic: Synthetic) -> None:
    sites = {s.name: s for s in synthetic.structure.sites}
    assert len(sites) == len(synthetic.structure.sites)  # unique
    shared = sites["layer.0.query.input"]
    assert shared.tensor == "embeddings.norm.out" and shared.roles == {"gemm_input", "layer_norm"}
    assert (shared.channels, shared.sequence_axes) == (HIDDEN, (1,))
    assert sites["layer.0.norm1.input"].roles == {"residual"}
    assert sites["layer.1.norm2.output"].roles == {"layer_norm"}
    assert sites["layer.0.down.input"].roles == {"activation", "gemm_input"}
    shares = next(s for s in sites.values() if SOFTMAX in s.roles)
    assert (shares.channels, shares.sequence_axes) == (1, (2, 3))
    assert sites["classifier.input"].sequence_axes == ()
    assert "logits" not in synthetic.structure.by_tensor  # an output of the graph stays as it is
    assert "logits" not in {s.tensor for s in synthetic.structure.sites}


def test_a_rearranged_tensor_is_one_site(synthetic: Synthetic) -> None:
    tensors = synthetic.structure.by_tensor
    # heads are split by Reshape and Transpose: the projection's output stands for them
    assert "layer.0.query.out" in tensors and "layer.0.query.heads" not in tensors
    # attention's output is joined again: what the next GEMM reads stands for it
    assert GEMM_INPUT in tensors["layer.0.joined"].roles and "layer.0.mixed" not in tensors
    assert ATTENTION_OUTPUT in tensors["layer.0.scores"].roles


def test_tables_and_feed_forwards(synthetic: Synthetic) -> None:
    name = "embeddings.words"
    assert synthetic.structure.tables == (
        Table(name, "words/Gather", f"{name}.weight", VOCABULARY, HIDDEN),
    )
    assert synthetic.structure.feed_forwards == tuple(
        FeedForward(f"layer.{i}.norm1.out", f"layer.{i}.down.out", f"layer.{i}.sum2")
        for i in range(2)
    )


def test_scope_gemm_leaves_the_head_in_float(synthetic: Synthetic) -> None:
    gemms = synthetic.structure.gemms
    head = gemms[-1].flops / sum(g.flops for g in gemms)
    assert head < NEGLIGIBLE_FLOPS
    narrow, wide = synthetic.context(scope="gemm"), synthetic.context(scope="all")
    assert [g.name for g in gemms if g not in narrow.gemms] == ["classifier"]
    assert all(GEMM_INPUT in s.roles for s in narrow.sites) and len(narrow.sites) == 8
    assert wide.gemms == gemms and wide.sites == synthetic.structure.sites


# Graphs that are not as usual


def writer() -> tuple[Writer, ir.Value]:
    w = Writer()
    return w, w.input("x", TOKENS)


def test_gated_feed_forward_without_biases() -> None:
    w, x = writer()
    square = np.ones((16, 16), np.float32)
    one = w.op("MatMul", [x, w.weight("up.weight", square)], TOKENS, "up.out")
    gate = w.op("MatMul", [x, w.weight("gate.weight", square)], TOKENS, "gate.out")
    product = w.op("Mul", [w.op("Gelu", [one], TOKENS, "act"), gate], TOKENS, "gated")
    down = w.op("MatMul", [product, w.weight("down.weight", square)], TOKENS, "down.out")
    structure = find_structure(w.model(w.op("Add", [x, down], TOKENS, "sum")))
    assert [(g.name, g.bias) for g in structure.gemms] == [
        ("up", None), ("gate", None), ("down", None),
    ]  # fmt: skip
    assert structure.feed_forwards == (FeedForward("x", "down.out", "sum"),)
    assert structure.by_tensor["gated"].roles == {"activation", "gemm_input"}


def test_a_bias_is_only_a_vector_that_nobody_passes_by() -> None:
    w, x = writer()
    square = np.ones((16, 16), np.float32)
    product = w.op("MatMul", [x, w.weight("a.weight", square)], TOKENS, "product")
    total = w.op("Add", [product, w.weight("a.bias", np.ones(16, np.float32))], TOKENS, "total")
    other = w.op("Relu", [product], TOKENS, "other")  # reads the product without its bias
    (gemm,) = find_structure(w.model(total, other)).gemms
    assert (gemm.bias, gemm.output, gemm.name) == (None, "product", "a")


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}], ids=str)
def test_other_kinds_of_gemm_are_left_alone(attributes: dict[str, Any]) -> None:
    w = Writer()
    x = w.input("x", ("batch", 16))
    weight, bias = np.ones((16, 16), np.float32), np.ones(16, np.float32)
    a = w.op("Gemm", [x, w.weight("a.weight", weight)], ("batch", 16), "a.out")
    inputs = [a, w.weight("b.weight", weight), w.weight("b.bias", bias)]
    b = w.op("Gemm", inputs, ("batch", 16), "b.out", **attributes)
    assert [g.name for g in find_structure(w.model(b)).gemms] == ["a"]


def test_a_weight_used_twice_gives_two_names() -> None:
    w, x = writer()
    weight = w.weight("shared.weight", np.ones((16, 16), np.float32))
    a = w.op("MatMul", [x, weight], TOKENS, "a")
    b = w.op("MatMul", [a, weight], TOKENS, "b")
    assert [g.name for g in find_structure(w.model(b)).gemms] == ["shared", "shared#2"]


def test_without_a_gemm_there_is_nothing_to_do() -> None:
    w, x = writer()
    with pytest.raises(ModelError, match=r"no matrix product with a constant weight.*export"):
        find_structure(w.model(w.op("Relu", [x], TOKENS, "y")))


def test_names_from_the_trace() -> None:
    node = ir.node("MatMul", [], name="node_7")
    assert module_of(node) == "node_7"
    node.metadata_props["pkg.torch.onnx.name_scopes"] = (
        "['', 'bert', 'bert.layer.0', '_x.y.long.z']"
    )
    assert module_of(node) == "bert.layer.0"


# The families


@families
def test_gemms_of_a_family(family: str, exported: Exports) -> None:
    structure = find_structure(ir.load(exported(family).model_dir / "model.onnx"))
    sizes = PLAIN
    if family == "modernbert":
        sizes = [(32, 96), (32, 32), (32, 128), (64, 32)]
    # DeBERTa's queries and keys of the relative positions are constants: not among them
    for layer in range(LAYERS):
        marks = (f".layer.{layer}.", f".layers.{layer}.")
        found = [(g.k, g.n) for g in structure.gemms if any(m in g.name for m in marks)]
        assert found == sizes
    names = [g.name for g in structure.gemms]
    assert len(set(names)) == len(names)
    assert not [n for n in names if n.startswith(("node_", "val_"))]
    assert names[-1].split(".")[0] == "classifier"
    assert len(names) == len(sizes) * LAYERS + 2 + (family == "electra")


@families
def test_blocks_sites_and_tables_of_a_family(family: str, exported: Exports) -> None:
    structure = find_structure(ir.load(exported(family).model_dir / "model.onnx"))
    assert len(structure.feed_forwards) == LAYERS
    for block in structure.feed_forwards:
        assert GEMM_INPUT in structure.by_tensor[block.input].roles
        assert {block.output, block.residual} <= set(structure.by_tensor)
    words = structure.tables[0]
    assert "embed" in words.name and words.rows == 512
    names = [s.name for s in structure.sites]
    assert len(set(names)) == len(names)
    fused = family == "modernbert"
    readers = [len(structure.consumers(s.tensor)) for s in structure.sites]
    assert max(readers) == (1 if fused else 3)
    assert sum(SOFTMAX in s.roles for s in structure.sites) == LAYERS
    # in scope gemm the classifier's two outputs are too few to count
    context = Context(structure, {}, {}, PlanOptions())
    assert "classifier" not in {g.name.split(".out")[0] for g in context.gemms}


def test_a_weight_that_layers_share_takes_no_factors_of_one() -> None:
    """ALBERT: what folds into it would reach the other layers too."""
    model = encoder()
    gemms = find_structure(model).gemms
    assert len(linear_sources(model.graph, gemms)) == 2
    values = {gemm.name: gemm for gemm in gemms if gemm.name.endswith(".value")}
    shared = tuple(
        replace(gemm, weight="shared") if gemm.name in values else gemm for gemm in gemms
    )
    assert len(values) == 2 and linear_sources(model.graph, shared) == {}
