"""Steps from a file's graph to the canonical one, each on a graph of a few nodes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.exporter.from_onnx.edit import Edit
from qdeploy.exporter.from_onnx.gelu import fuse_gelus
from qdeploy.exporter.from_onnx.layer_norm import fuse_layer_norms
from qdeploy.exporter.from_onnx.masks import choose_masks
from qdeploy.exporter.from_onnx.observe import POINTS, fit, observe, run, set_shapes
from qdeploy.exporter.from_onnx.shapes import simplify_shapes

Build = Callable[[Edit, ir.Value, Callable[[float], ir.Value]], ir.Value]


def graph_of(build: Build, *, name: str = "x", dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Model:
    """A model of one input [batch, 8] and what `build` makes of it."""
    x = ir.Input(name, ir.Shape(["batch", 8]), ir.TensorType(dtype))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 20}), ir_version=10)
    edit = Edit(model)
    out = build(edit, x, lambda n: edit.constant("number", np.array(n, np.float32)))
    out.name, out.type = "y", ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(out)
    edit.finish()
    return model


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def same(model: ir.Model, other: ir.Model) -> bool:
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    ((before,),), ((after,),) = run(model, [{"x": x}], "a"), run(other, [{"x": x}], "b")
    return bool(np.allclose(before, after, atol=1e-5))


def halved_last(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
    erf = edit.add("Erf", [edit.add("Div", [x, n(math.sqrt(2))])])
    return edit.add("Mul", [edit.add("Mul", [x, edit.add("Add", [erf, n(1)])]), n(0.5)])


def halved_first(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
    erf = edit.add("Erf", [edit.add("Mul", [x, n(math.sqrt(0.5))])])
    half = edit.add("Mul", [n(0.5), x])
    return edit.add("Mul", [edit.add("Add", [n(1), erf]), half])


def by_tanh(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
    cube = edit.add("Mul", [edit.add("Pow", [x, n(3)]), n(0.044715)])
    inner = edit.add("Mul", [edit.add("Add", [x, cube]), n(math.sqrt(2 / math.pi))])
    tail = edit.add("Add", [edit.add("Tanh", [inner]), n(1)])
    return edit.add("Mul", [edit.add("Mul", [n(0.5), x]), tail])


@pytest.mark.parametrize("form", [halved_last, halved_first, by_tanh])
def test_every_order_of_a_gelu_is_one(form: Build) -> None:
    model, before = graph_of(form), graph_of(form)
    assert fuse_gelus(model) == 1
    assert kinds(model) == ["Gelu"]
    approximate = next(iter(model.graph)).attributes["approximate"].as_string()
    assert approximate == ("tanh" if form is by_tanh else "none")
    assert same(model, before)


def test_what_only_looks_like_a_gelu_stays() -> None:
    def wrong(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
        erf = edit.add("Erf", [edit.add("Div", [x, n(1.5)])])
        return edit.add("Mul", [edit.add("Mul", [x, edit.add("Add", [erf, n(1)])]), n(0.5)])

    def rough(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
        erf = edit.add("Erf", [edit.add("Div", [x, n(1.4140625)])])  # as FP16 has it
        return edit.add("Mul", [edit.add("Mul", [x, edit.add("Add", [erf, n(1)])]), n(0.5)])

    assert fuse_gelus(graph_of(rough)) == 0
    assert fuse_gelus(graph_of(rough), halved=True) == 1
    assert fuse_gelus(graph_of(wrong)) == 0
    assert fuse_gelus(graph_of(lambda edit, x, n: edit.add("Tanh", [x]))) == 0


def normalized(*, epsilon: float = 1e-12, twice: bool = False, axis: int = -1) -> Build:
    def build(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
        axes = edit.integers("axes", [axis])
        mean = edit.add("ReduceMean", [x, axes], keepdims=1)
        gap = edit.add("Sub", [x, mean])
        again = edit.add("Sub", [x, mean]) if twice else gap
        square = edit.add("Mul", [again, again]) if twice else edit.add("Pow", [gap, n(2)])
        variance = edit.add("ReduceMean", [square, axes], keepdims=1)
        root = edit.add("Sqrt", [edit.add("Add", [n(epsilon), variance])])
        scaled = edit.add("Mul", [edit.add("Div", [gap, root]), weight(edit, 1)])
        return edit.add("Add", [weight(edit, 2), scaled])

    return build


def weight(edit: Edit, seed: int) -> ir.Value:
    return edit.constant("weight", np.random.default_rng(seed).normal(size=8).astype(np.float32))


@pytest.mark.parametrize("twice", [False, True])
def test_a_normalization_keeps_its_epsilon(twice: bool) -> None:
    """Whatever its size: 1e-12 is not nothing where a row is constant."""
    build = normalized(twice=twice)
    model, before = graph_of(build), graph_of(build)
    assert fuse_layer_norms(model) == 1
    assert kinds(model) == ["LayerNormalization"]
    node = next(iter(model.graph))
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-12)
    assert same(model, before)


def test_a_normalization_of_another_axis_stays() -> None:
    assert fuse_layer_norms(graph_of(normalized(axis=0))) == 0


def masked(lowest: float) -> Build:
    def build(edit: Edit, x: ir.Value, n: Callable[[float], ir.Value]) -> ir.Value:
        wide = edit.add("Unsqueeze", [x, edit.integers("axes", [1, 2])])
        real = edit.add("Cast", [wide], to=ir.DataType.FLOAT.value)
        return edit.add("Mul", [edit.add("Sub", [n(1), real]), n(lowest)])

    return build


@pytest.mark.parametrize("lowest", [-1e4, float(np.finfo(np.float32).min)])
def test_a_mask_that_multiplies_is_a_choice(lowest: float) -> None:
    model = graph_of(masked(lowest), name="attention_mask", dtype=ir.DataType.INT64)
    before = graph_of(masked(lowest), name="attention_mask", dtype=ir.DataType.INT64)
    assert choose_masks(model) == 1
    assert "Where" in kinds(model) and "Mul" not in kinds(model)
    feeds = {"attention_mask": np.array([[1] * 5 + [0] * 3])}
    (one,), (other,) = run(model, [feeds], "a")[0], run(before, [feeds], "b")[0]
    np.testing.assert_array_equal(one, other)


def test_other_factors_are_no_masks() -> None:
    model = graph_of(masked(-2.0), name="attention_mask", dtype=ir.DataType.INT64)
    assert choose_masks(model) == 0


def test_sizes_are_functions_of_batch_and_sequence() -> None:
    assert fit([7 for _ in POINTS]) == (7, 0, 0, 0)
    assert fit([2 * s - 1 for _, s in POINTS]) == (-1, 0, 2, 0)
    assert fit([b * s for b, s in POINTS]) == (0, 0, 0, 1)
    assert fit([s * s for _, s in POINTS]) is None
    assert fit([min(b, 3) for b, _ in POINTS]) is None


def sized(last: Callable[[Edit, ir.Value, ir.Value], ir.Value]) -> ir.Model:
    """[B, S] as FP32 in a shape that `last` makes of batch and sequence, both int64 [1]."""
    x = ir.Input("input_ids", ir.Shape(["batch", "sequence"]), ir.TensorType(ir.DataType.INT64))
    model = ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 20}), ir_version=10)
    edit = Edit(model)
    shape = edit.add("Shape", [x])
    batch, sequence = (
        edit.add("Gather", [shape, edit.integers("at", [at])], axis=0) for at in (0, 1)
    )
    values = edit.add("Cast", [x], to=ir.DataType.FLOAT.value)
    out = edit.add("Reshape", [values, last(edit, batch, sequence)])
    out.name, out.type = "y", ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(out)
    edit.finish()
    observed = observe(model, 9, "a graph")
    set_shapes(model, observed)
    simplify_shapes(model, observed)
    return model


def test_a_chain_of_sizes_is_read_once() -> None:
    def turned(edit: Edit, batch: ir.Value, sequence: ir.Value) -> ir.Value:
        one = edit.integers("one", [1])
        listed = edit.add("Concat", [sequence, one, batch], axis=0)
        # as TorchScript writes an Expand: −1 would mean "as it is"
        asis = edit.add("Equal", [listed, edit.integers("least", [-1, -1, -1])])
        return edit.add("Where", [asis, edit.integers("ones", [1, 1, 1]), listed])

    model = sized(turned)
    assert sorted(kinds(model)) == ["Cast", "Concat", "Reshape", "Shape", "Shape"]
    assert str(model.graph.outputs[0].shape) == "[sequence,1,batch]"


def test_a_choice_that_a_batch_can_change_stays() -> None:
    """No batch that was seen has as many rows as tokens, and one that comes may."""

    def square(edit: Edit, batch: ir.Value, sequence: ir.Value) -> ir.Value:
        alike = edit.add("Equal", [batch, sequence])
        total = edit.add("Mul", [batch, sequence])
        return edit.add("Where", [alike, edit.add("Add", [total, batch]), total])

    assert {"Equal", "Where"} <= set(kinds(sized(square)))
